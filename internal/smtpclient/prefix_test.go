package smtpclient

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"mailout/internal/mta"
)

// TestPrefixGoesOutFirst: fields that were added on the way stand before the
// content on every road, dots are doubled in them too, and they count in what the
// server is told of the size.
func TestPrefixGoesOutFirst(t *testing.T) {
	const prefix, rest = "DKIM-Signature: v=1\r\n.\r\n", "Subject: x\r\n\r\n.hi\r\n"
	whole, stuffed := prefix+rest, "DKIM-Signature: v=1\r\n..\r\nSubject: x\r\n\r\n..hi\r\n"
	long := rest + strings.Repeat("0123456789abcde\r\n", 4000)
	tx := func(c Content) *Transaction {
		return &Transaction{Recipients: to("b@example.net").Recipients, Prefix: []byte(prefix), Content: c}
	}
	data := "C: MAIL FROM:<>%s\nC: RCPT TO:<b@example.net>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\ndata\nS: 250 ok"
	sized := strings.Replace(pipelined, "S: 250 PIPELINING", "S: 250-SIZE\nS: 250 PIPELINING", 1)
	for _, c := range []sent{
		{name: "memory", tx: tx(text(rest)), script: sized + fmt.Sprintf(data, fmt.Sprintf(" SIZE=%d", len(whole))), data: stuffed},
		{name: "disk", tx: tx(file(rest)), script: sized + fmt.Sprintf(data, fmt.Sprintf(" SIZE=%d", len(whole))), data: stuffed},
		{name: "large", tx: tx(text(long)), script: chunked + fmt.Sprintf(data, ""), data: stuffed + strings.TrimPrefix(long, rest)},
		{name: "large on disk", tx: tx(file(long)), script: chunked + fmt.Sprintf(data, ""), data: stuffed + strings.TrimPrefix(long, rest)},
		{name: "one flight", tx: tx(text(rest)), data: whole,
			script: chunked + "C: MAIL FROM:<>\nC: RCPT TO:<b@example.net>\n" + fmt.Sprintf("C: BDAT %d LAST\ndata %d\nS: 250 ok\nS: 250 ok\nS: 250 ok", len(whole), len(whole))},
		{name: "one flight from disk", tx: tx(file(rest)), data: whole,
			script: chunked + "C: MAIL FROM:<>\nC: RCPT TO:<b@example.net>\n" + fmt.Sprintf("C: BDAT %d LAST\ndata %d\nS: 250 ok\nS: 250 ok\nS: 250 ok", len(whole), len(whole))},
	} {
		c.usable, c.want = true, "delivered 250 ok"
		t.Run(c.name, c.test)
	}
}

func TestPrefixOverLMTP(t *testing.T) {
	tx := to("b@example.net")
	tx.Prefix = []byte("DKIM-Signature: v=1\r\n")
	script := lmtp + "C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\ndata\nS: 250 b"
	got := play(t, script, func(t *testing.T, conn net.Conn) {
		s := opened(t, conn, lmtpOptions())
		o := s.Send(tx)
		wantOutcome(t, o, "delivered 250 b")
		s.Close()
	})
	if len(got) != 1 || got[0] != string(tx.Prefix)+note {
		t.Errorf("%q", got)
	}
}

// TestPrefixCounts: a prefix that makes the message too large, or that would grow
// together with the content, is found before anything is said.
func TestPrefixCounts(t *testing.T) {
	for prefix, want := range map[string]mta.Cause{"X: " + strings.Repeat("y", 30) + "\r\n": mta.CauseNeed, "X: y": mta.CauseLocal} {
		t.Run(prefix, func(t *testing.T) {
			tx := to("b@example.net")
			tx.Prefix = []byte(prefix)
			play(t, "S: 220 mx\nC: EHLO out.example.org\nS: 250-mx\nS: 250 SIZE 50\nC: QUIT\n", func(t *testing.T, conn net.Conn) {
				s := opened(t, conn, plain)
				if f := s.Send(tx).Verdicts[0].Failure; f == nil || f.Cause != want {
					t.Errorf("%v", f)
				}
				s.Quit()
			})
		})
	}
}
