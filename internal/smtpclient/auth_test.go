package smtpclient

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"mailout/internal/mta"
)

// verified is a session with a verified server that offers mechanisms.
func verified(conn net.Conn, mechanisms ...string) *Session {
	s := &Session{verified: true}
	s.init(conn)
	s.caps.Auth = mechanisms
	return s
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	const plainLine = "\t\tC: AUTH PLAIN AHVzZXIAcGFzcw==\n"
	for _, c := range []struct {
		name       string
		mechanisms []string
		script     string
		cause      mta.Cause
		code       int
		good       bool
	}{
		{name: "plain", mechanisms: []string{"LOGIN", "PLAIN"}, script: plainLine + "S: 235 2.7.0 ok\n", good: true},
		{name: "login", mechanisms: []string{"LOGIN"}, script: "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dXNlcg==\nS: 334 UGFzc3dvcmQ6\nC: cGFzcw==\nS: 235 ok\n", good: true},
		{name: "refused", mechanisms: []string{"PLAIN"}, script: plainLine + "S: 535 5.7.8 no\n", cause: mta.CauseReply, code: 535},
		{name: "later", mechanisms: []string{"PLAIN"}, script: plainLine + "S: 454 4.7.0 later\n", cause: mta.CauseReply, code: 454},
		{name: "more", mechanisms: []string{"PLAIN"}, script: plainLine + "S: 334 more\n", cause: mta.CauseProtocol, code: 334},
		{name: "another yes", mechanisms: []string{"PLAIN"}, script: plainLine + "S: 250 ok\n", cause: mta.CauseProtocol, code: 250},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, c.script, func(t *testing.T, conn net.Conn) {
				s := verified(conn, c.mechanisms...)
				s.opt.Observe = func(step Step) { t.Error("credentials were shown:", step.Command) }
				f := s.Authenticate("user", "pass")
				if c.good != (f == nil) || f != nil && (f.Stage != mta.StageAuth || f.Cause != c.cause || f.Reply.Code != c.code) {
					t.Errorf("%+v", f)
				}
				s.Close()
			})
		})
	}
}

// TestAuthenticateSaysNothing: no octet of a password to a server that was not
// verified, nor to one whose mechanisms are not known.
func TestAuthenticateSaysNothing(t *testing.T) {
	t.Parallel()
	for mechanism, trusted := range map[string]bool{"PLAIN": false, "GSSAPI": true} {
		conn := &tape{in: bytes.NewReader([]byte("235 ok\r\n"))}
		s := verified(conn, mechanism)
		s.verified = trusted
		f := s.Authenticate("user", "pass")
		if f == nil || f.Cause != mta.CauseNeed || conn.out.Len() > 0 || strings.Contains(f.Error(), "pass") {
			t.Errorf("%s: %v, sent %q", mechanism, f, conn.out.String())
		}
	}
}
