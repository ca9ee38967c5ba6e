package smtpd

import (
	"context"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

// picky takes one recipient and refuses all others at RCPT.
type picky struct{ *intake }

func (picky) CheckRecipient(_ context.Context, _ *submit.Request, address string) error {
	if address == "good@bounces.example" {
		return nil
	}
	return &submit.Refusal{Reply: mta.Reply{Code: 550, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: "not here"}}
}

// TestEverybody: a door for what comes back serves strangers, offers no AUTH, and
// takes what its acceptor takes.
func TestEverybody(t *testing.T) {
	t.Parallel()
	in, l := &intake{}, newListener()
	s := New(Options{Listener: l, Acceptor: picky{in}, Settings: Settings{Hostname: "mx.example", Everybody: true, Auth: AuthNever, Users: testUsers(t, false)}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := l.dial(t, "192.0.2.77")
	p.hello()
	for _, c := range []struct{ send, want string }{
		{"AUTH PLAIN AGEAYg==", "502 5.5.1 *"}, {"MAIL FROM:<>", "250 2.1.0 *"}, {"RCPT TO:<ann@example.com>", "550 5.1.1 not here"},
		{"RCPT TO:<postmaster>", "550 5.1.1 No postmaster*"}, {"DATA", "554 5.5.1 *"}, {"RCPT TO:<good@bounces.example>", "250 2.1.5 *"},
		{"DATA", "354 *"}, {"Subject: x\r\n\r\n.", "250 2.0.0 queued as *"}, {"QUIT", "221 *"},
	} {
		p.send(c.send + "\r\n")
		p.want(c.want)
	}
	p.conn.Close()
	stopNow(t, s, in)
	if m := in.taken(); len(m) != 1 || len(m[0].request.Recipients) != 1 {
		t.Errorf("%+v", m)
	}
}

// TestRecipientsAreChecked: at an ordinary door too, behind the permission to relay.
func TestRecipientsAreChecked(t *testing.T) {
	t.Parallel()
	in, l := &intake{}, newListener()
	s := New(Options{Listener: l, Acceptor: picky{in}, Settings: testSettings()})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{trustedPeer: "550 5.1.1 not here", "192.0.2.77": "550 5.7.1 Relaying denied*"} {
		p := l.dial(t, from)
		p.hello()
		p.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<ann@example.com>\r\nQUIT\r\n")
		p.want("250 *", want, "221 *")
		p.conn.Close()
	}
	stopNow(t, s, in)
}
