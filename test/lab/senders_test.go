package lab

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestPostfixAsNullClient: the lab's null client relays everything to mailout,
// as an IBM i with MAILROUTER set does.
func TestPostfixAsNullClient(t *testing.T) {
	lab(t)
	conf := state("out", "conf")
	for _, setting := range []string{"relayhost=[127.0.1.8]:2526", "smtp_tls_security_level=may", "default_transport=smtp"} {
		command(t, "postconf", "-c", conf, "-e", setting)
	}
	command(t, "postfix", "-c", conf, "reload")
	for _, r := range receivers[:3] {
		messageID := fmt.Sprintf("<null.%s.%d@origin.test>", r.domain, time.Now().UnixNano())
		command(t, "swaks", "--server", "127.0.1.9:2525", "--from", "sender@origin.test", "--to", "alice@"+r.domain,
			"--header", "Message-ID: "+messageID, "--body", "from the null client", "--hide-all")
		got := mailbox(t, r.dir, messageID)
		if !bytes.Contains(got, []byte("by "+mailoutName)) || !bytes.Contains(got, []byte("from the null client")) {
			t.Errorf("%s:\n%s", r.domain, got)
		}
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// swaks knows no parameters of MAIL and RCPT: it writes its addresses between
// angle brackets. A bracket inside the text ends the address early, and swaks'
// own closes the last parameter, whose value may hold one (RFC 5321 4.1.2).
func TestSwaksWithDSNParameters(t *testing.T) {
	m := lab(t)
	out := command(t, "swaks", "--server", door, "--from", "sender@origin.test> RET=HDRS ENVID=env+2B1", "--to",
		"nobody@pf.test> NOTIFY=FAILURE ORCPT=rfc822;first+2Bone@origin.test", "--body", "dsn", "--h-Subject", "with DSN")
	id := queueID(t, out)
	rec := m.await(t, id, "nobody@pf.test", "bounced")
	report := string(mailbox(t, "out/origin.test/sender", rec.text("report")))
	for _, want := range []string{"Original-Envelope-Id: env+1>", "Original-Recipient: rfc822;", "first+one@origin.test", "text/rfc822-headers", "Status: 5.1.1"} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not in the report:\n%s", want, report)
		}
	}
	// NOTIFY=NEVER: no report, but the failure is on record.
	out = command(t, "swaks", "--server", door, "--from", "sender@origin.test", "--to", "nobody@pf.test> NOTIFY=NEVER ORCPT=rfc822;a@origin.test", "--body", "never")
	id = queueID(t, out)
	m.await(t, id, "nobody@pf.test", "failed")
	for _, r := range m.trace(t, id) {
		if r.text("event") == "bounced" {
			t.Errorf("a report was made although NOTIFY=NEVER: %v", r)
		}
	}
}

func TestSwaksWithSMTPUTF8(t *testing.T) {
	m := lab(t)
	messageID := fmt.Sprintf("<utf8.%d@origin.test>", time.Now().UnixNano())
	content := "From: Jürgen <sender@origin.test>\r\nTo: alice@pf.test\r\nSubject: Grüße\r\nMessage-ID: " + messageID + "\r\n\r\nzażółć\r\n"
	out := command(t, "swaks", "--server", door, "--from", "sender@origin.test> SMTPUTF8 BODY=8BITMIME ENVID=x", "--to", "alice@pf.test", "--data", content)
	id := queueID(t, out)
	m.await(t, id, "alice@pf.test", "delivered")
	if got := mailbox(t, "pf/pf.test/alice", messageID); !bytes.Contains(got, []byte("Subject: Grüße")) {
		t.Errorf("the header changed:\n%s", got)
	}
}

// queueID takes the ID out of swaks' transcript.
func queueID(t *testing.T, transcript string) string {
	t.Helper()
	_, rest, found := strings.Cut(transcript, "queued as ")
	if !found || len(rest) < 26 {
		t.Fatalf("no ID in\n%s", transcript)
	}
	return rest[:26]
}

// TestSmtpSourceToSmtpSink is the load of the acceptance by the peers' own
// tools: nothing is lost and nothing arrives twice.
func TestSmtpSourceToSmtpSink(t *testing.T) {
	lab(t)
	before := sinkCount(t)
	command(t, "smtp-source", "-s", "20", "-m", "10000", "-l", "4096", "-f", "sender@origin.test", "-t", "x@ok.sink.test", door)
	var got int
	mtatest.Eventually(t, 2*time.Minute, "10,000 delivered", func() bool {
		got = sinkCount(t) - before
		return got >= 10000
	}, func() string { return fmt.Sprintf("%d are", got) })
	if got != 10000 {
		t.Errorf("%d arrived", got)
	}
}

// sinkCount counts the messages that smtp-sink stored for ok.sink.test.
func sinkCount(t *testing.T) int {
	t.Helper()
	out := command(t, "sh", "-c", "ls -f '"+state("mail", "sink", "ok.sink.test")+"' | wc -l")
	var n int
	if _, err := fmt.Sscan(out, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
