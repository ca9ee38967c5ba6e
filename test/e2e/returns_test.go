package e2e

import (
	"fmt"
	"io"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// returning is a daemon whose mail goes out with return paths of its own, and
// the address that serves them.
func (w *world) returning(more string) (*daemon, string) {
	w.t.Helper()
	door := fmt.Sprintf("127.0.0.1:%d", freePort(w.t))
	d := w.daemon("")
	d.write(d.text() + fmt.Sprintf("\n[returns]\ndomain = \"bounces.sender.example\"\ncomplaints = [\"fbl@bounces.sender.example\"]\n\n[[listen]]\naddress = %q\nreturns = true\n%s", door, more))
	return d.start(), door
}

func (d *daemon) text() string {
	d.t.Helper()
	b, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// sendBack is what another server does with a report: one transaction from the
// null return path. It gives the reply that refused it; empty: it was taken.
func sendBack(t *testing.T, door, to, report string) string {
	t.Helper()
	c, err := smtp.Dial(door)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail(""); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(to); err != nil {
		return err.Error()
	}
	data, err := c.Data()
	if err != nil {
		return err.Error()
	}
	if _, err := io.WriteString(data, report); err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		return err.Error()
	}
	return ""
}

// lateBounce is a report as Postfix writes one.
func lateBounce(rcpt, reply, status string) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: MAILER-DAEMON@mx.later.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.later.example

Final-Recipient: rfc822; %s
Action: failed
Status: %s
Diagnostic-Code: smtp; %s

--x--
`, rcpt, status, reply), "\n", "\r\n")
}

// TestWhatComesBack: a receiver takes a message and sends it back later. Journal,
// listings and the application hear of it, the address is suppressed, and the
// next message for it is answered as configured.
func TestWhatComesBack(t *testing.T) {
	w := newWorld(t)
	later := w.mx(mtatest.MXConfig{}, "later.example")
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	d, door := w.returning("[suppress]\nsure = 1\n")
	id := d.submit("app@sender.example", []string{"Gone@later.example"}, "Subject: hello\r\n\r\nhi\r\n")
	d.waitEvent(id, "delivered")
	path := later.Messages()[0].From
	if !strings.HasPrefix(path, "b+") || !strings.HasSuffix(path, "@bounces.sender.example") {
		t.Fatalf("the return path is %q", path)
	}

	// Junk, and tags that were touched, are refused at RCPT.
	forged := []byte(path)
	if forged[20]++; forged[20] > 'z' {
		forged[20] = 'a'
	}
	for _, to := range []string{"someone@else.example", "nobody@bounces.sender.example", "postmaster@bounces.sender.example", string(forged), "x" + path} {
		if reply := sendBack(t, door, to, "junk"); !strings.HasPrefix(reply, "550") || !strings.Contains(reply, "5.1.1") {
			t.Errorf("RCPT TO:<%s>: %q", to, reply)
		}
	}
	if reply := sendBack(t, door, path, "Subject: hello\r\n\r\nI am a person.\r\n"); reply != "" {
		t.Error("an answer of a person is refused:", reply)
	}

	if reply := sendBack(t, door, strings.ToUpper(path), lateBounce("gone@later.example", "550 5.1.1 User unknown", "5.1.1")); reply != "" {
		t.Fatal(reply)
	}
	var back record
	for _, r := range d.trace(id) {
		if r.text("event") == "bounced" {
			back = r
		}
	}
	if back.text("bounce_class") != "user_unknown" || back.text("class") != "permanent" || back.text("reply") != "550 5.1.1 User unknown" || back.text("recipient") != "Gone@later.example" {
		t.Fatalf("%v", back)
	}
	if out := d.must("trace", "--messages", "--state", "failed", "--json"); !strings.Contains(out, id) {
		t.Errorf("the message is not shown as failed:\n%s", out)
	}
	mtatest.Eventually(t, 30*time.Second, "the report at the application", func() bool { return len(home.Messages()) == 1 })
	if m := home.Messages()[0]; m.From != "" || m.To[0].Address != "app@sender.example" || !strings.Contains(string(m.Data), "Final-Recipient: rfc822; Gone@later.example") {
		t.Errorf("%+v\n%s", m, m.Data)
	}

	// The address is listed, and the next message is recorded as suppressed.
	if out := d.must("suppress", "list", "--json"); !strings.Contains(out, `"address":"gone@later.example","reason":"dead","class":"user_unknown"`) || !strings.Contains(out, id) {
		t.Errorf("the list: %s", out)
	}
	next := d.submit("app@sender.example", []string{"gone@later.example", "here@later.example"}, "Subject: again\r\n\r\nhi\r\n")
	d.waitEvent(next, "delivered")
	events := map[string][]string{}
	for _, r := range d.trace(next) {
		events[r.text("recipient")] = append(events[r.text("recipient")], r.text("event"))
	}
	if got := fmt.Sprint(events); got != "map[gone@later.example:[accepted suppressed bounced] here@later.example:[accepted delivered]]" {
		t.Error(got)
	}
	if n := len(later.Messages()); n != 2 {
		t.Errorf("the receiver got %d messages", n)
	}

	// Refused, when that is configured; and free again, when it is taken off.
	d.replace("sure = 1", "sure = 1\nanswer = \"refuse\"")
	d.must("config", "reload")
	out, err := d.client().Send("app@sender.example", []string{"gone@later.example"}, []byte("Subject: x\r\n\r\n"))
	if err != nil || len(out.Rcpts) != 1 || out.Rcpts[0].Code != 550 || !strings.Contains(out.Rcpts[0].String(), "suppression list") {
		t.Errorf("%v %+v", err, out)
	}
	d.must("suppress", "remove", "Gone@Later.Example")
	d.waitEvent(d.submit("app@sender.example", []string{"gone@later.example"}, "Subject: x\r\n\r\nx\r\n"), "delivered")
}

// TestComplaintsComeBack: a feedback report at the mailbox for complaints finds
// its message by the return path inside; what was queued before the complaint is
// not sent any more.
func TestComplaintsComeBack(t *testing.T) {
	w := newWorld(t)
	isp := w.mx(mtatest.MXConfig{}, "isp.example")
	w.mx(mtatest.MXConfig{}, "sender.example")
	d, door := w.returning("")
	id := d.submit("app@sender.example", []string{"ann@isp.example"}, "Subject: news\r\n\r\nhi\r\n")
	d.waitEvent(id, "delivered")
	d.must("queue", "hold", "--destination", "isp.example", "--yes")
	waiting := d.submit("app@sender.example", []string{"ann@isp.example"}, "Subject: more news\r\n\r\nhi\r\n")
	d.waitEvent(waiting, "accepted")

	m := isp.Messages()[0]
	report := "From: feedback@isp.example\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=x\r\n\r\n--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nReturn-Path: <" + m.From + ">\r\n" + string(m.Data) + "\r\n--x--\r\n"
	if reply := sendBack(t, door, "fbl@bounces.sender.example", report); reply != "" {
		t.Fatal(reply)
	}
	last := d.trace(id)[len(d.trace(id))-1]
	if last.text("event") != "complained" || !strings.Contains(last.text("reason"), "abuse") {
		t.Errorf("%v", last)
	}
	if out := d.must("suppress", "list", "--reason", "complained"); !strings.HasPrefix(out, "ann@isp.example") {
		t.Errorf("the list: %s", out)
	}
	d.must("queue", "release", "--destination", "isp.example", "--yes")
	d.waitEvent(waiting, "suppressed")
	if n := len(isp.Messages()); n != 1 {
		t.Errorf("%d messages were sent to somebody who complained", n)
	}
	if out := d.must("trace", "--messages", "--state", "failed", "--json"); !strings.Contains(out, waiting) || strings.Contains(out, id) {
		t.Errorf("failed: %s", out)
	}
}

// TestDeadAddressesAreLearned: a refusal at RCPT lists the address by itself, and
// the list outlives kill -9.
func TestDeadAddressesAreLearned(t *testing.T) {
	w := newWorld(t)
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{
		{Stage: mtatest.StageRcpt, Match: "dead@*", Action: mtatest.Action{Reply: "550 5.1.1 No such user here"}},
		{Stage: mtatest.StageRcpt, Match: "full@*", Action: mtatest.Action{Reply: "552 5.2.2 Mailbox full"}},
		{Stage: mtatest.StageRcpt, Match: "blocked@*", Action: mtatest.Action{Reply: "550 5.7.1 Blocked by policy"}},
	}}, "receiver.example")
	w.mx(mtatest.MXConfig{}, "sender.example")
	d := w.daemon("[suppress]\nsure = 1\n").start()
	for _, who := range []string{"dead", "full", "blocked"} {
		d.waitEvent(d.submit("app@sender.example", []string{who + "@receiver.example"}, "Subject: x\r\n\r\nx\r\n"), "failed")
	}
	mtatest.Eventually(t, 30*time.Second, "the dead address on the list", func() bool {
		out, _, _ := d.run("suppress", "list")
		return strings.HasPrefix(out, "dead@receiver.example  dead")
	})
	d.kill()
	d.start()
	if out := d.must("suppress", "list"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "dead@") {
		t.Errorf("the list after kill -9:\n%s", out)
	}
	id := d.submit("app@sender.example", []string{"DEAD@receiver.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent(id, "suppressed")

	// Export and import.
	list := d.dir + "/list.csv"
	if err := os.WriteFile(list, []byte(d.must("suppress", "export")), 0o600); err != nil {
		t.Fatal(err)
	}
	d.must("suppress", "remove", "dead@receiver.example")
	if out, _, status := d.run("suppress", "remove", "dead@receiver.example"); status != 1 {
		t.Errorf("status %d: %s", status, out)
	}
	if out := d.must("suppress", "import", list); out != "1 address added\n" {
		t.Error(out)
	}
	if again := d.must("suppress", "export"); !strings.Contains(again, ",dead,user_unknown,") {
		t.Errorf("what was exported is not what was imported:\n%s", again)
	}
	if err := os.WriteFile(list, []byte("address\nok@receiver.example\nno address\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := d.run("suppress", "import", list); status != 65 || !strings.Contains(errs, list+":3: ") {
		t.Errorf("status %d: %s", status, errs)
	}
	if out := d.must("suppress", "list"); strings.Contains(out, "ok@receiver.example") {
		t.Error("a part of a file with wrong lines was imported")
	}
}
