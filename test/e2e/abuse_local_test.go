package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailout/internal/mta"
)

// program makes a row of one run of sendmail: its status, and the first line
// that it says on standard error.
func program(name, want, input string, args ...string) abuseRow {
	return abuseRow{"sendmail", name, want, func(a *abuse) string {
		stderr, status := a.daemon.sendmail(a.sendmail, input, args...)
		line, _, _ := strings.Cut(stderr, "\n")
		return fmt.Sprintf("%d %s", status, line)
	}}
}

func abusiveSendmail() []abuseRow {
	const text = "Subject: x\n\nx\n"
	const usage, recipient, data = "64 mailout: sendmail: …", "67 mailout: the recipient …", "65 mailout: …"
	var rows []abuseRow
	for name, args := range map[string][]string{
		"an option that is none": {"-Z", "victim@abuse.example"}, "a long option that is none": {"--exec=id", "victim@abuse.example"}, "-f without a value": {"-f"}, "-t, then -f without a value": {"-t", "-f"},
		"an option inside a cluster": {"-tiZ", "victim@abuse.example"}, "--config without a value": {"--config"}, "-N that is none": {"-N", "always", "victim@abuse.example"}, "-R that is none": {"-R", "some", "victim@abuse.example"},
		"-B that is none": {"-B", "9BIT", "victim@abuse.example"}, "-b that is none": {"-bz"}, "the daemon, -bd": {"-bd"}, "the daemon, -bD": {"-bD"}, "-bl": {"-bl"}, "-V of control characters": {"-V", "a\nb", "victim@abuse.example"},
		"-V of 500 octets": {"-V", strings.Repeat("x", 500), "victim@abuse.example"}, "Exim's string expansion": {"-be", "${run{/bin/id}}"}, "Exim's -D": {"-DROOT=/tmp/x", "victim@abuse.example"},
	} {
		rows = append(rows, program(name, usage, text, args...))
	}
	for name, args := range map[string][]string{
		"a recipient like an option, behind --": {"--", "-oQ/tmp/x"}, "a recipient like an option, behind another": {"victim@abuse.example", "-be"},
		"an include": {"--", ":include:/etc/passwd"}, "a line end in a recipient": {"victim@abuse.example\nBcc: x@abuse.example"}, "CR LF RCPT in a recipient": {"x@abuse.example>\r\nRCPT TO:<victim@abuse.example"},
		"a recipient of 10 KB": {strings.Repeat("a", 10_000) + "@abuse.example"}, "a percent hack": {"x%victim.example@abuse.example"}, "a bang path": {"host!victim@abuse.example"}, "no UTF-8 in a recipient": {"a\xff@abuse.example"},
		"localhost": {"victim@localhost"}, "one good and one bad": {"victim@abuse.example", "a..b@abuse.example"}, "a domain of one label": {"victim@intranet"},
	} {
		rows = append(rows, program(name, recipient, text, args...))
	}
	for name, from := range map[string]string{"a line end": "a@b.example\nX: y", "two addresses": "a@b.example,c@d.example", "a command": "a@b.example> SIZE=1", "no UTF-8": "\xff@b.example"} {
		rows = append(rows, program("-f: "+name, "64 mailout: the sender …", text, "-f", from, "victim@abuse.example"))
	}
	rows = append(rows,
		program("-F: a header", "64 mailout: the name in -F: …", text, "-F", "x\nBcc: victim2@abuse.example", "victim@abuse.example"),
		program("-F: NUL-like control characters", "64 mailout: the name in -F: …", text, "-F", "x\x01\x1b[2J", "victim@abuse.example"),
		program("no recipients", "64 mailout: no recipients: name them, or use -t", text, "-i"),
		program("-C of a file that is not there", "78 /nowhere/mailout.toml:1:1: file: does not exist; …", text, "-C", "/nowhere/mailout.toml", "victim@abuse.example"),
		program("-t: no recipients in the header", data, text, "-t"),
		program("-t: To that cannot be taken apart", data, "To: <<victim@abuse.example\n\nx\n", "-t"),
		program("-t: a recipient of no domain form", "67 mailout: the recipient …", "To: victim@-bad-.example\n\nx\n", "-t"),
		program("-t: 101 recipients", data, "To: "+strings.TrimSuffix(manyAddresses(101), ", ")+"\n\nx\n", "-t"),
		program("NUL in the header", data, "Subject: a\x00b\n\nx\n", "victim@abuse.example"),
		program("NUL in the body", data, "Subject: a\n\nx\x00y\n", "victim@abuse.example"),
		program("a loop", data, strings.Repeat("Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\n", 40)+"\nx\n", "victim@abuse.example"),
		program("a header of 4 MB", data, strings.Repeat("X-Fill: "+strings.Repeat("x", 900)+"\n", 4600)+"\nx\n", "victim@abuse.example"),
		program("a stream that is none", data, text, "--stream", "../../x", "victim@abuse.example"),
		abuseRow{"sendmail", "100 MB", data, func(a *abuse) string { return program("", "", hundred(), "victim@abuse.example").run(a) }},
	)
	return rows
}

func manyAddresses(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "victim%d@abuse.example, ", i)
	}
	return b.String()
}

// dropped makes a row of a file in the drop folder; the answer is what the
// daemon writes beside it.
func dropped(name, want string, fill func(path, id string) error) abuseRow {
	return abuseRow{"Drop folder", name, want, func(a *abuse) string {
		var random [10]byte
		rand.Read(random[:])
		id := mta.NewID(time.Now(), random).String()
		room := filepath.Join(a.dir, "spool/drop")
		temp := filepath.Join(room, "new", "."+id)
		if err := fill(temp, id); err != nil {
			return err.Error()
		}
		if err := os.Rename(temp, filepath.Join(room, "new", id)); err != nil {
			return err.Error()
		}
		return awaitReason(filepath.Join(room, "bad", id+"*.reason"))
	}}
}

func abusiveDrops() []abuseRow {
	text := func(name, want, envelope, content string) abuseRow {
		return dropped(name, want, func(path, id string) error {
			return os.WriteFile(path, []byte(strings.ReplaceAll(envelope, "ID", id)+"\n"+content), 0o600)
		})
	}
	entry := func(rest string) string {
		return `{"version":1,"id":"ID","sender":"sender@sender.example",` + rest + `}`
	}
	to := func(address string) string { return entry(`"recipients":[{"address":"` + address + `"}]`) }
	const mail = "Subject: x\n\nx\n"
	rows := []abuseRow{
		text("a loop", "554 5.4.6 a loop: …", to("victim@abuse.example"), strings.Repeat("Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\n", 40)+"\nx\n"),
		text("NUL in the body", "554 5.6.0 …", to("victim@abuse.example"), "Subject: x\n\na\x00b\n"),
		text("NUL in the header", "554 5.6.0 …", to("victim@abuse.example"), "Subject: a\x00b\n\nx\n"),
		text("no recipients", "554 5.5.1 no recipients", entry(`"recipients":[]`), mail),
		text("a stream that is none", "501 5.5.4 …", entry(`"stream":"../x","recipients":[{"address":"victim@abuse.example"}]`), mail),
		dropped("100 MB", "552 5.3.4 …", func(path, id string) error {
			return os.WriteFile(path, []byte(strings.ReplaceAll(to("victim@abuse.example"), "ID", id)+"\n\n"+hundred()), 0o600)
		}),
		text("101 recipients", "452 4.5.3 more than 100 recipients", entry(`"recipients":[`+manyEntries(101)+`]`), mail),
		dropped("a directory", "not an entry: it is no regular file", func(path, _ string) error { return os.Mkdir(path, 0o700) }),
		dropped("a link to a secret", "not an entry: it is no regular file", func(path, _ string) error { return os.Symlink("/etc/shadow", path) }),
		dropped("a file with another name too", "not an entry: it has other names as well", func(path, id string) error {
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(to("victim@abuse.example"), "ID", id)+"\n"+mail), 0o600); err != nil {
				return err
			}
			return os.Link(path, filepath.Join(filepath.Dir(path), "../../second-"+id))
		}),
		text("the ID of another message", "not an entry: the ID in it, …, is not its name", strings.Replace(to("victim@abuse.example"), "ID", "01J00000000000000000000000", 1), mail),
	}
	for name, envelope := range map[string]string{
		"nothing": "", "no JSON": "hello", "half JSON": `{"version":1,"id":"ID"`, "a list": "[]", "an unknown key": entry(`"recipients":[],"exec":"id"`), "another version": `{"version":9,"id":"ID","recipients":[]}`, "no ID": `{"version":1,"recipients":[]}`,
		"a number for the sender": `{"version":1,"id":"ID","sender":7,"recipients":[]}`, "JSON ten thousand deep": strings.Repeat("[", 10_000), "a first line of 9 MB": `{"version":1,"user":"` + strings.Repeat("x", 9_000_000) + `"}`,
		"ret that is none": entry(`"ret":"all","recipients":[]`), "an envid with a line end": entry(`"envid":"a\nb","recipients":[]`), "a sender with a line end": `{"version":1,"id":"ID","sender":"a@b.example\r\nX: y","recipients":[]}`,
		"a recipient with a line end": to(`victim@abuse.example\r\nRCPT TO:<x>`), "a recipient at localhost": to("victim@localhost"), "a percent hack": to("x%victim.example@abuse.example"), "no UTF-8": to("a\xff@abuse.example"),
		"notify that is impossible": entry(`"recipients":[{"address":"victim@abuse.example","notify":99}]`), "orcpt with a line end": entry(`"recipients":[{"address":"victim@abuse.example","orcpt":"rfc822;a\nb"}]`),
	} {
		rows = append(rows, text(name, "not an entry: …", envelope, mail))
	}
	return rows
}

func manyEntries(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"address":"victim%d@abuse.example"}`, i))
	}
	return strings.Join(all, ",")
}
