package smtpclient

import (
	"net"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// TestTryNeverSends: a trial asks about the recipient and takes it back.
func TestTryNeverSends(t *testing.T) {
	const hello = "S: 220 mx\nC: EHLO out.example.org\nS: 250 mx\n"
	known := smtp.Mailbox{Local: "bob", Domain: "example.net"}
	for _, c := range []struct {
		name, script string
		rcpt         smtp.Mailbox
		stage        mta.Stage
		cause        mta.Cause
		code         int // 0 with a cause other than reply, or when there is no failure
		fails        bool
	}{
		{name: "taken", rcpt: known, script: "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<bob@example.net>\nS: 250 ok\nC: RSET\nS: 250 ok\nC: QUIT\nS: 221 bye"},
		{name: "refused", rcpt: known, script: "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<bob@example.net>\nS: 550 5.1.1 who\nC: RSET\nS: 250 ok\nC: QUIT\nS: 221 bye", stage: mta.StageRcpt, code: 550, fails: true},
		{name: "no null path", rcpt: known, script: "C: MAIL FROM:<>\nS: 550 no\nC: RSET\nS: 250 ok\nC: QUIT\nS: 221 bye", stage: mta.StageMail, code: 550, fails: true},
		{name: "no RSET", rcpt: known, script: "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<bob@example.net>\nS: 250 ok\nC: RSET\nS: 500 what\nC: QUIT\nS: 221 bye", stage: mta.StageReset, code: 500, fails: true},
		{name: "closed", rcpt: known, script: "C: MAIL FROM:<>\nS: 421 later\nclose", stage: mta.StageMail, code: 421, fails: true},
		{name: "no SMTPUTF8", rcpt: smtp.Mailbox{Local: "b\u00f6b", Domain: "example.net"}, script: "C: QUIT\nS: 221 bye", stage: mta.StageMail, cause: mta.CauseNeed, fails: true},
		{name: "two commands", rcpt: smtp.Mailbox{Local: "bob>\r\nDATA", Domain: "example.net"}, script: "C: QUIT\nS: 221 bye", stage: mta.StageRcpt, cause: mta.CauseLocal, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, hello+c.script, func(t *testing.T, conn net.Conn) {
				s := opened(t, conn, plain)
				f := s.Try(c.rcpt)
				if (f != nil) != c.fails || f != nil && (f.Stage != c.stage || f.Cause != c.cause || f.Reply.Code != c.code) {
					t.Errorf("got %v", f)
				}
				s.Quit()
			})
		})
	}
}
