package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pickedUp makes a row of a file in a pickup directory; the answer is what the
// daemon writes beside it.
func pickedUp(name, want string, fill func(path string) error) abuseRow {
	return abuseRow{"Pickup", name, want, func(a *abuse) string {
		room := filepath.Join(a.dir, "outbox")
		stem := fmt.Sprintf("row-%d", a.next.Add(1))
		temp := filepath.Join(room, stem)
		if err := fill(temp); err != nil {
			return err.Error()
		}
		if err := os.Rename(temp, temp+".eml"); err != nil {
			return err.Error()
		}
		return awaitReason(filepath.Join(room, "bad", stem+"*.reason"))
	}}
}

// awaitReason gives the first line of a file of a pattern, when there is one,
// without the time and the name.
func awaitReason(pattern string) string {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(rowTime); time.Now().Before(end); <-tick.C {
		found, _ := filepath.Glob(pattern)
		if len(found) == 0 {
			continue
		}
		if reason, err := os.ReadFile(found[0]); err == nil && len(reason) > 0 {
			line, _, _ := strings.Cut(string(reason), "\n")
			if _, text, ok := strings.Cut(line, "\": "); ok {
				line = text
			}
			return line
		}
	}
	return "the file stays"
}

func abusivePickups() []abuseRow {
	text := func(name, want, content string) abuseRow {
		return pickedUp(name, want, func(path string) error { return os.WriteFile(path, []byte(content), 0o600) })
	}
	beside := func(name, want, envelope string) abuseRow {
		return pickedUp(name, want, func(path string) error {
			if err := os.WriteFile(path+".json", []byte(envelope), 0o600); err != nil {
				return err
			}
			return os.WriteFile(path, []byte("Subject: x\n\nx\n"), 0o600)
		})
	}
	const sender, receiver = "X-Sender: <sender@sender.example>\n", "X-Receiver: <victim@abuse.example>\n"
	const form = "not a message to send: …"
	rows := []abuseRow{
		text("a loop", "554 5.4.6 a loop: …", sender+receiver+strings.Repeat("Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\n", 40)+"\nx\n"),
		text("NUL in the body", "554 5.6.0 …", sender+receiver+"Subject: x\n\na\x00b\n"),
		text("a stranger as return path", "550 5.7.1 erp may not send from …", "X-Sender: <boss@other.example>\n"+receiver+"Subject: x\n\nx\n"),
		text("a stranger as author", "550 5.7.1 erp may not send from …", sender+receiver+"From: boss@other.example\n\nx\n"),
		text("101 recipients", "452 4.5.3 more than 100 recipients", sender+manyReceivers(101)+"Subject: x\n\nx\n"),
		pickedUp("100 MB", "552 5.3.4 the message is larger than …", func(path string) error {
			return os.WriteFile(path, []byte(sender+receiver+"Subject: x\n\n"+hundred()), 0o600)
		}),
		pickedUp("a directory", "not a message to send: it is no regular file", func(path string) error { return os.Mkdir(path, 0o700) }),
		pickedUp("a link to a secret", "not a message to send: it is no regular file", func(path string) error { return os.Symlink("/etc/shadow", path) }),
		pickedUp("a FIFO that nobody writes to", "not a message to send: it is no regular file", func(path string) error { return syscall.Mkfifo(path, 0o600) }),
	}
	for name, content := range map[string]string{
		"nothing": "", "no sender": receiver + "Subject: x\n\nx\n", "no recipients": sender + "Subject: x\n\nx\n", "two senders": sender + sender + receiver + "\nx\n", "a receiver behind other fields": sender + "Subject: x\n" + receiver + "\nx\n",
		"a receiver that is none": sender + "X-Receiver: <a..b@abuse.example>\n\nx\n", "a receiver at localhost": sender + "X-Receiver: <victim@localhost>\n\nx\n", "a percent hack": sender + "X-Receiver: <x%y.example@abuse.example>\n\nx\n", "an option as receiver": sender + "X-Receiver: <-oQ@abuse.example>\n\nx\n",
		"a sender that is none": "X-Sender: <a@b@sender.example>\n" + receiver + "\nx\n", "a parameter that is none": sender + "X-Receiver: <victim@abuse.example> EVIL=1\n\nx\n", "UTF-16": "\xff\xfeX\x00-\x00", "To that cannot be taken apart": "From: sender@sender.example\nTo: <<x@abuse.example\n\nx\n",
	} {
		rows = append(rows, text(name, form, content))
	}
	for name, envelope := range map[string]string{
		"no JSON": "hello", "a list": "[]", "an unknown key": `{"from":"sender@sender.example","to":"victim@abuse.example","exec":"id"}`, "two objects": `{"from":"sender@sender.example","to":"victim@abuse.example"}{}`,
		"a recipient with a line end": `{"from":"sender@sender.example","to":"victim@abuse.example\r\nRCPT TO:<x>"}`, "an empty list": `{"from":"sender@sender.example","to":[]}`, "notify of never and always": `{"from":"sender@sender.example","to":"victim@abuse.example","notify":["never","failure"]}`,
		"an envelope of 9 MB": `{"from":"` + strings.Repeat("x", 9_000_000) + `"}`, "JSON ten thousand deep": strings.Repeat("[", 10_000),
	} {
		rows = append(rows, beside("envelope: "+name, form, envelope))
	}
	return rows
}

func manyReceivers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-Receiver: <victim%d@abuse.example>\n", i)
	}
	return b.String()
}
