package lab

import (
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestPostfixSendsBackLater: Postfix takes a message, forwards it, meets a
// refusal, and sends its report to the return path with the tag. The journal
// tells of it, the sender gets a report, and the address is on the list.
func TestPostfixSendsBackLater(t *testing.T) {
	needLab(t)
	m, err := startMailout("returns", "127.0.1.8:2527", `
[suppress]
sure = 1

[returns]
domain = "bounces.origin.test"

[[listen]]
address = "127.0.1.8:25"
returns = true
`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("serve's log:\n%s", m.process.Log(40))
		}
		m.process.Kill()
	})
	id := m.send(t, "sender@origin.test", "From: sender@origin.test\r\nSubject: to be sent back\r\n\r\nx\r\n", "late@pf.test")
	m.await(t, id, "late@pf.test", "delivered")
	back := m.await(t, id, "late@pf.test", "bounced")
	if back.text("bounce_class") != "user_unknown" || !strings.HasPrefix(back.text("reason"), "came back from ") || back.text("reply") == "" {
		t.Errorf("%v", back)
	}
	report := string(mailbox(t, "out/origin.test/sender", back.text("report")))
	if !strings.Contains(report, "Final-Recipient: rfc822; late@pf.test") || !strings.Contains(report, "Subject: to be sent back") {
		t.Errorf("the report:\n%s", report)
	}
	if strings.Contains(report, "b+") && strings.Contains(report, "Return-Path: <b+") {
		t.Errorf("the report tells the tag:\n%s", report)
	}
	mtatest.Eventually(t, 30*time.Second, "the address on the list", func() bool {
		out, _ := m.run(t, "suppress", "list", "--address", "late@pf.test", "--json")
		return strings.Contains(out, `"reason":"dead"`)
	})
	next := m.send(t, "sender@origin.test", "From: sender@origin.test\r\nSubject: again\r\n\r\nx\r\n", "late@pf.test")
	m.await(t, next, "late@pf.test", "suppressed")
}
