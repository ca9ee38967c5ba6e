package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

const letter = "From: a@sender.example\r\nTo: b@fine.example\r\nSubject: hello\r\n" +
	"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n" +
	"first line\r\n.\r\n..two dots\r\nlast line\r\n"

func TestDirectDeliveryByteForByte(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"b@fine.example"}, letter)
	records := d.waitEvent(id, "delivered")

	got := mx.Messages()
	if len(got) != 1 {
		t.Fatalf("%d messages arrived", len(got))
	}
	received, rest, found := bytes.Cut(got[0].Data, []byte("\r\nFrom: "))
	if !found || !bytes.HasPrefix(received, []byte("Received: from ")) || !bytes.Contains(received, []byte(id)) {
		t.Errorf("the Received field is not in front or lacks the ID:\n%s", received)
	}
	if string(rest) != strings.TrimPrefix(letter, "From: ") {
		t.Errorf("the content changed:\n%q", rest)
	}
	if got[0].Helo != "mailout.sender.example" || got[0].From != "a@sender.example" {
		t.Errorf("EHLO %s, MAIL FROM %s", got[0].Helo, got[0].From)
	}
	if len(records) != 2 || records[0].text("event") != "accepted" {
		t.Fatalf("journal: %v", records)
	}
	last := records[1]
	for key, want := range map[string]string{
		"id": id, "recipient": "b@fine.example", "destination": "fine.example", "helo": "mailout.sender.example",
		"ip": "127.0.2.2", "class": "delivered", "sender": "a@sender.example", "message_id": "<1@sender.example>",
	} {
		if last.text(key) != want {
			t.Errorf("%s is %q, want %q", key, last.text(key), want)
		}
	}
	if last["code"] != float64(250) || !strings.Contains(last.text("host"), "world.example") {
		t.Errorf("record: %v", last)
	}
	noViolations(t, mx)
	d.stop()
}

func noViolations(t *testing.T, mx *mtatest.MX) {
	t.Helper()
	for _, v := range mx.Violations() {
		t.Errorf("breach of the protocol seen by the receiver: %s", v)
	}
}

func TestSendRemovesTheFileOnlyAfterAcceptance(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example", "other.example")
	d := w.daemon("")
	file := filepath.Join(d.dir, "note.eml")
	if err := os.WriteFile(file, []byte("From: erp@sender.example\nTo: b@fine.example\nSubject: LF only\n\nline\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"send", "-f", "erp@sender.example", file, "to:b@fine.example", "bcc:c@other.example"}
	if _, _, status := d.run(args...); status != 75 && status != 69 {
		t.Errorf("without a daemon: status %d", status)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal("the file is gone although nobody took the message")
	}
	d.start()
	if _, stderr, status := d.run("send", "-f", "erp@sender.example", file, "b@single"); status == 0 || stderr == "" {
		t.Errorf("a single-label domain was taken (status %d)", status)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal("the file is gone although the message was refused")
	}
	id := strings.TrimSpace(d.must(args...))
	if len(id) != 26 {
		t.Errorf("printed %q", id)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("the file is still there after acceptance")
	}
	mtatest.Eventually(t, 20*time.Second, "both copies arrive", func() bool { return len(mx.Messages()) == 2 })
	if data := mx.Messages()[0].Data; !bytes.Contains(data, []byte("Subject: LF only\r\n")) || bytes.Contains(data, []byte("c@other.example>")) && bytes.Contains(data, []byte("Bcc")) {
		t.Errorf("content:\n%s", data)
	}
	d.stop()
}

func TestDeferralThenDelivery(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Greylist: 1, Reply: "451 4.7.1 greylisted, come back"}}}}, "grey.example")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"b@grey.example"}, letter)
	records := d.waitEvent(id, "delivered")
	if len(records) != 3 || records[1].text("event") != "deferred" {
		t.Fatalf("journal: %v", records)
	}
	if records[1]["code"] != float64(451) || records[1].text("next") == "" || records[2]["attempt"] != float64(2) {
		t.Errorf("deferred: %v\ndelivered: %v", records[1], records[2])
	}
	noViolations(t, mx)
	d.stop()
}

func TestQueueShowsWhatHoldsAMessage(t *testing.T) {
	w := newWorld(t)
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.1 mailbox busy"}}}}, "busy.example")
	d := w.daemon("expire = \"1h\"\n").start()
	id := d.submit("a@sender.example", []string{"b@busy.example"}, letter)
	d.waitEvent(id, "deferred")
	list := d.must("queue", "list", "--json", "--destination", "busy.example")
	for _, want := range []string{id, `"state":"deferred"`, `"destination":"busy.example"`, "450 4.2.1", `"next":"`, `"reason":"`} {
		if !strings.Contains(list, want) {
			t.Errorf("%s is not in %s", want, list)
		}
	}
	show := d.must("queue", "show", id)
	for _, want := range []string{id, "127.0.2.2", "mailout.sender.example", "450 4.2.1", "mailbox busy"} {
		if !strings.Contains(show, want) {
			t.Errorf("%s is not in %s", want, show)
		}
	}
	if s := d.summary(); s["deferred"] != 1 {
		t.Errorf("summary: %v", s)
	}
	// The message survives an orderly restart and keeps its count of attempts.
	d.stop()
	d.start()
	if out := d.must("queue", "list"); !strings.Contains(out, id) {
		t.Errorf("after the restart: %s", out)
	}
	d.stop()
}

func TestUnknownUserMakesABounce(t *testing.T) {
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	w.mx(mtatest.MXConfig{Users: []string{"known@users.example"}}, "users.example")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"known@users.example", "nobody@users.example"}, letter)
	d.waitEvent(id, "failed")
	mtatest.Eventually(t, 20*time.Second, "the bounce arrives", func() bool { return len(home.Messages()) == 1 })
	bounce := home.Messages()[0]
	if bounce.From != "" || bounce.To[0].Address != "a@sender.example" {
		t.Errorf("bounce from <%s> to %s", bounce.From, bounce.To[0].Address)
	}
	for _, want := range []string{"multipart/report", "Auto-Submitted: auto-", "Final-Recipient: rfc822; nobody@users.example",
		"Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1"} {
		if !bytes.Contains(bounce.Data, []byte(want)) {
			t.Errorf("%q is not in the bounce:\n%s", want, bounce.Data)
		}
	}
	if bytes.Contains(bounce.Data, []byte("Final-Recipient: rfc822; known@")) {
		t.Error("the bounce names a recipient that was delivered")
	}
	d.stop()
}

func TestNullReturnPathGoesToPostmasterOnce(t *testing.T) {
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	d := w.daemon("").start()
	w.records("null.example. MX 0 .")
	id := d.submit("", []string{"b@null.example"}, letter)
	records := d.waitEvent(id, "failed")
	if last := records[len(records)-1]; last.text("enhanced") != "5.1.10" && records[1].text("enhanced") != "5.1.10" {
		t.Errorf("records: %v", records)
	}
	mtatest.Eventually(t, 20*time.Second, "the operator is told", func() bool { return len(home.Messages()) == 1 })
	if to := home.Messages()[0].To[0].Address; to != "postmaster@sender.example" {
		t.Errorf("the report went to %s", to)
	}
	d.stop()
}

func TestExpiryReportsTheLastReply(t *testing.T) {
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.2 over quota"}}}}, "full.example")
	d := w.daemon("expire = \"3s\"\n").start()
	id := d.submit("a@sender.example", []string{"b@full.example"}, letter)
	d.waitEvent(id, "expired")
	mtatest.Eventually(t, 20*time.Second, "the bounce arrives", func() bool { return len(home.Messages()) == 1 })
	for _, want := range []string{"Status: 5.4.7", "450 4.2.2 over quota"} {
		if data := home.Messages()[0].Data; !bytes.Contains(data, []byte(want)) {
			t.Errorf("%q is not in the bounce:\n%s", want, data)
		}
	}
	d.stop()
}

func TestDeadFirstMXThenRouter(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{})
	w.records("two.example. MX 10 dead.two.example.\ntwo.example. MX 20 mx3.world.example.\ndead.two.example. A 127.0.2.250")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"b@two.example"}, letter)
	records := d.waitEvent(id, "delivered")
	if len(records) != 2 { // no deferral: the second host took it in the same attempt
		t.Errorf("journal: %v", records)
	}
	if tries, _ := records[1]["tries"].([]any); len(tries) != 2 {
		t.Errorf("tries: %v", records[1]["tries"])
	}
	// With a router set, the same domain goes there; and back.
	d.must("config", "set", "router.port", "25")
	d.must("config", "set", "router", mxAddress(w))
	d.must("config", "reload")
	id = d.submit("a@sender.example", []string{"b@nowhere.example"}, letter)
	relayed := d.waitEvent(id, "relayed")
	if last := relayed[len(relayed)-1]; last.text("ip") != "127.0.2.2" {
		t.Errorf("relayed: %v", last)
	}
	d.must("config", "set", "router", "none")
	d.must("config", "reload")
	id = d.submit("a@sender.example", []string{"b@nowhere.example"}, letter)
	d.waitEvent(id, "failed")
	if len(mx.Messages()) != 2 {
		t.Errorf("%d messages arrived", len(mx.Messages()))
	}
	d.stop()
}

// mxAddress is the world's first receiving server as router.host takes it.
func mxAddress(w *world) string {
	return "127.0.2.2:" + strconv.Itoa(w.port)
}
