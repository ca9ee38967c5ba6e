package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mailout/internal/mta"
)

// verified is a session with a verified server that offers mechanisms.
func verified(conn net.Conn, mechanisms ...string) *Session {
	s := &Session{verified: true}
	s.opt.Host = "smtp.example.net"
	s.init(conn)
	s.caps.Auth = mechanisms
	return s
}

func password(name, pass string, mechanisms ...string) *mta.Credentials {
	return &mta.Credentials{Username: name, Password: pass, Mechanisms: mechanisms}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func unb64(t *testing.T, s string) string {
	t.Helper()
	if s == "=" {
		return ""
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Errorf("%q is not base64", s)
	}
	return string(b)
}

// authenticate plays a script against a session that signs in.
func authenticate(t *testing.T, script string, c *mta.Credentials, offered ...string) (f *mta.Failure, s *Session) {
	t.Helper()
	play(t, script, func(t *testing.T, conn net.Conn) {
		s = verified(conn, offered...)
		s.opt.Observe = func(step Step) {
			if words := strings.Fields(step.Command); len(words) != 2 || strings.Contains(step.Reply.Text, "pass") {
				t.Errorf("credentials were shown: %q %q", step.Command, step.Reply.Text)
			}
		}
		f = s.Authenticate(context.Background(), c)
		s.Close()
	})
	return f, s
}

const cramChallenge = "<1896.697170952@postoffice.example.net>"

// TestAuthenticate is a row a way that an exchange goes.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	const plainLine = "C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\n" // of tim, tanstaaftanstaaf
	tim := password("tim", "tanstaaftanstaaf")
	for _, c := range []struct {
		name    string
		offered string
		creds   *mta.Credentials
		script  string
		cause   mta.Cause
		code    int
		says    string // in the failure
		good    bool
	}{
		{name: "plain", offered: "LOGIN PLAIN", script: plainLine + "S: 235 2.7.0 ok", good: true},
		{name: "login", offered: "LOGIN", script: "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dGlt\nS: 334 UGFzc3dvcmQ6\nC: dGFuc3RhYWZ0YW5zdGFhZg==\nS: 235 ok", good: true},
		{name: "login, questions that are no base64", offered: "LOGIN", script: "C: AUTH LOGIN\nS: 334 Username:\nC: dGlt\nS: 334\nC: dGFuc3RhYWZ0YW5zdGFhZg==\nS: 235 ok", good: true},
		// RFC 2195 section 2 has this exchange.
		{name: "cram-md5", offered: "PLAIN CRAM-MD5", script: "C: AUTH CRAM-MD5\nS: 334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\nC: dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\nS: 235 ok", good: true},
		{name: "the operator's order", offered: "PLAIN CRAM-MD5", creds: password("tim", "tanstaaftanstaaf", Login, Plain), script: plainLine + "S: 235 ok", good: true},
		{name: "external", offered: "EXTERNAL PLAIN", creds: &mta.Credentials{Certificate: &mta.Certificate{}, Mechanisms: []string{External}}, script: "C: AUTH EXTERNAL =\nS: 235 ok", good: true},
		{name: "refused", offered: "PLAIN", script: plainLine + "S: 535 5.7.8 no", cause: mta.CauseReply, code: 535, says: "535 5.7.8 no"},
		{name: "refused: the next mechanism is not tried", offered: "PLAIN LOGIN", script: plainLine + "S: 535 5.7.8 no", cause: mta.CauseReply, code: 535},
		{name: "mechanism not taken after all", offered: "PLAIN LOGIN", script: plainLine + "S: 504 5.5.4 unrecognized\nC: AUTH LOGIN\nS: 334\nC: dGlt\nS: 334\nC: dGFuc3RhYWZ0YW5zdGFhZg==\nS: 235 ok", good: true},
		{name: "mechanism too weak", offered: "PLAIN", script: plainLine + "S: 534 5.7.9 too weak", cause: mta.CauseReply, code: 534},
		{name: "later", offered: "PLAIN", script: plainLine + "S: 454 4.7.0 later", cause: mta.CauseReply, code: 454},
		{name: "closing", offered: "PLAIN LOGIN", script: plainLine + "S: 421 4.7.0 too many failures", cause: mta.CauseReply, code: 421},
		{name: "more than plain has", offered: "PLAIN", script: plainLine + "S: 334 more", cause: mta.CauseProtocol},
		{name: "more than login has", offered: "LOGIN", script: "C: AUTH LOGIN\nS: 334\nC: dGlt\nS: 334\nC: dGFuc3RhYWZ0YW5zdGFhZg==\nS: 334", cause: mta.CauseProtocol},
		{name: "an empty challenge of cram-md5", offered: "CRAM-MD5", script: "C: AUTH CRAM-MD5\nS: 334", cause: mta.CauseProtocol},
		{name: "a challenge that is no base64", offered: "CRAM-MD5", script: "C: AUTH CRAM-MD5\nS: 334 ???", cause: mta.CauseProtocol},
		{name: "a challenge of 64 KB", offered: "CRAM-MD5", script: "C: AUTH CRAM-MD5\nS: 334 " + strings.Repeat("QUFB", 16000), cause: mta.CauseProtocol, says: "longer than AUTH allows"},
		{name: "a challenge beyond a reply", offered: "CRAM-MD5", script: "C: AUTH CRAM-MD5\nS: 334 " + strings.Repeat("QUFB", 20000), cause: mta.CauseProtocol},
		{name: "another yes", offered: "PLAIN", script: plainLine + "S: 250 ok", cause: mta.CauseProtocol, code: 250},
		{name: "the command quoted", offered: "PLAIN", script: plainLine + "S: 500 what is AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", cause: mta.CauseReply, code: 500, says: "AUTH PLAIN (hidden)"},
		{name: "the password quoted", offered: "PLAIN", script: plainLine + "S: 535 5.7.8 tanstaaftanstaaf is wrong", cause: mta.CauseReply, code: 535, says: "(hidden) is wrong"},
		{name: "a NUL in the password", offered: "PLAIN", creds: password("tim", "a\x00b"), cause: mta.CauseRouter},
		{name: "nothing in common", offered: "GSSAPI NTLM", cause: mta.CauseNeed, says: "offered: GSSAPI NTLM"},
		{name: "no AUTH", cause: mta.CauseNeed, says: "offered: no AUTH"},
		{name: "external without a certificate", offered: "EXTERNAL", creds: password("tim", "", External), cause: mta.CauseNeed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.creds == nil {
				c.creds = tim
			}
			f, s := authenticate(t, c.script, c.creds, strings.Fields(c.offered)...)
			switch {
			case c.good != (f == nil):
				t.Fatalf("%v", f)
			case f == nil:
				return
			}
			words := f.Error() + f.Text
			if f.Stage != mta.StageAuth || f.Cause != c.cause || f.Reply.Code != c.code || !strings.Contains(words, c.says) {
				t.Errorf("%+v", f)
			}
			if strings.Contains(words, "tanstaaf") || strings.Contains(words, "AHRpbQB0") {
				t.Errorf("a failure tells the secret: %s", words)
			}
			if c.cause == mta.CauseProtocol && !s.Broken() {
				t.Error("the session goes on")
			}
		})
	}
}

// TestTrap16_NothingToStrangers: no octet of a password to a server that was not
// verified.
func TestTrap16_NothingToStrangers(t *testing.T) {
	t.Parallel()
	for _, mechanism := range Mechanisms {
		conn := &tape{in: bytes.NewReader([]byte("235 ok\r\n"))}
		s := verified(conn, mechanism)
		s.verified = false
		f := s.Authenticate(context.Background(), &mta.Credentials{
			Username: "user", Password: "pass", Certificate: &mta.Certificate{}, Mechanisms: []string{mechanism},
			Token: func(context.Context, bool) (string, error) { t.Error("a token was asked for"); return "", nil },
		})
		if f == nil || f.Cause != mta.CauseNeed || conn.out.Len() > 0 {
			t.Errorf("%s: %v, sent %q", mechanism, f, conn.out.String())
		}
	}
}

// peer answers line after line until answer gives "", over a pipe.
func peer(t *testing.T, answer func(line string) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		br := bufio.NewReader(theirs)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			reply := answer(strings.TrimRight(line, "\r\n"))
			if reply == "" {
				return
			}
			if _, err := fmt.Fprintf(theirs, "%s\r\n", reply); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { ours.Close(); <-done })
	return ours
}

// scramServer is a server of SCRAM-SHA-256; spoil changes its messages.
func scramServer(t *testing.T, user, pass string, spoil func(step int, message string) string) func(line string) string {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, pass, "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "a salt", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		t.Fatal(err)
	}
	conv, step := server.NewConversation(), 0
	return func(line string) string {
		if line, ok := strings.CutPrefix(line, "AUTH SCRAM-SHA-256 "); ok {
			return scramStep(t, conv, line, spoil, &step)
		}
		if step == 2 {
			step++
			if conv.Valid() {
				return "235 2.7.0 welcome"
			}
			return "535 5.7.8 no"
		}
		return scramStep(t, conv, line, spoil, &step)
	}
}

func scramStep(t *testing.T, conv *scram.ServerConversation, line string, spoil func(int, string) string, step *int) string {
	*step++
	message, err := conv.Step(unb64(t, line))
	if err != nil && message == "" {
		message = "e=other-error"
	}
	if spoil != nil {
		if message = spoil(*step, message); strings.HasPrefix(message, "235") {
			return message
		}
	}
	return "334 " + b64(message)
}

// TestScram: the exchange with a server, and every way in which one may cheat.
func TestScram(t *testing.T) {
	t.Parallel()
	swap := func(step int, from, to string) func(int, string) string {
		return func(n int, m string) string {
			if n == step {
				return strings.Replace(m, from, to, 1)
			}
			return m
		}
	}
	for _, c := range []struct {
		name       string
		pass       string
		spoil      func(int, string) string
		cause      mta.Cause
		says       string
		good       bool
		theirsIsIn string
	}{
		{name: "right", pass: "pencil", good: true},
		{name: "prepared", pass: "I\u00adX", theirsIsIn: "IX", good: true}, // RFC 4013 section 3
		{name: "wrong", pass: "crayon", cause: mta.CauseReply, says: "AUTH SCRAM-SHA-256"},
		{name: "no proof", pass: "pencil", spoil: func(n int, m string) string {
			if n == 2 {
				return "235 2.7.0 just believe me"
			}
			return m
		}, cause: mta.CauseProtocol, says: "did not prove"},
		{name: "a false proof", pass: "pencil", spoil: func(n int, m string) string {
			if n == 2 {
				return "v=" + b64(strings.Repeat("x", 32))
			}
			return m
		}, cause: mta.CauseProtocol},
		{name: "too few iterations", pass: "pencil", spoil: swap(1, "i=4096", "i=4095"), cause: mta.CauseProtocol, says: "too few"},
		{name: "too many iterations", pass: "pencil", spoil: swap(1, "i=4096", "i=1000001"), cause: mta.CauseProtocol, says: "million"},
		{name: "endless iterations", pass: "pencil", spoil: swap(1, "i=4096", "i="+strings.Repeat("9", 99)), cause: mta.CauseProtocol, says: "million"},
		{name: "another's nonce", pass: "pencil", spoil: swap(1, "r=", "r=x"), cause: mta.CauseProtocol},
		{name: "an extension that must be known", pass: "pencil", spoil: func(n int, m string) string { return "m=x," + m }, cause: mta.CauseProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			theirs := "pencil"
			if c.theirsIsIn != "" {
				theirs = c.theirsIsIn
			}
			s := verified(peer(t, scramServer(t, "user", theirs, c.spoil)), Plain, Scram)
			f := s.Authenticate(context.Background(), password("user", c.pass))
			if c.good != (f == nil) || f != nil && (f.Cause != c.cause || !strings.Contains(f.Error()+f.Text, c.says)) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestScramForbiddenPassword: what RFC 4013 forbids is our trouble, not theirs.
func TestScramForbiddenPassword(t *testing.T) {
	t.Parallel()
	conn := &tape{in: bytes.NewReader(nil)}
	f := verified(conn, Scram).Authenticate(context.Background(), password("user", "a\u0007b"))
	if f == nil || f.Cause != mta.CauseRouter || conn.out.Len() > 0 {
		t.Errorf("%+v, sent %q", f, conn.out.String())
	}
}

// tokens gives a, then b after a refusal.
func tokens(asked *[]bool, fail error) *mta.Credentials {
	return &mta.Credentials{Username: "me=you,all@example.com", Token: func(_ context.Context, refused bool) (string, error) {
		*asked = append(*asked, refused)
		if fail != nil && (refused || len(*asked) > 1 || fail == errFirst || fail == errGone) {
			return "", fail
		}
		if refused {
			return "ya29.second", nil
		}
		return "ya29.first-token", nil
	}}
}

var errGone = fmt.Errorf("changed: %w", context.Canceled)

var errFirst = errors.New("the token server says invalid_grant")

func TestTokens(t *testing.T) {
	t.Parallel()
	xoauth := func(token string) string {
		return b64("user=me=you,all@example.com\x01auth=Bearer " + token + "\x01\x01")
	}
	bearer := func(token string) string {
		return b64("n,a=me=3Dyou=2Call@example.com,\x01host=smtp.example.net\x01port=25\x01auth=Bearer " + token + "\x01\x01")
	}
	const oops = `{"status":"invalid_token","scope":"example_scope ya29.first-token"}`
	refusal := func(line, dummy string) string {
		return line + "\nS: 334 " + b64(oops) + "\nC: " + dummy + "\nS: 535 5.7.8 expired"
	}
	first, second := refusal("C: AUTH XOAUTH2 "+xoauth("ya29.first-token"), ""), "C: AUTH XOAUTH2 "+xoauth("ya29.second")
	for _, c := range []struct {
		name, offered, script string
		fail                  error
		asked                 string
		cause                 mta.Cause
		says                  string
		good                  bool
	}{
		{name: "xoauth2", offered: XOAuth2, script: "C: AUTH XOAUTH2 " + xoauth("ya29.first-token") + "\nS: 235 ok", asked: "[false]", good: true},
		{name: "oauthbearer first", offered: "XOAUTH2 OAUTHBEARER PLAIN", script: "C: AUTH OAUTHBEARER " + bearer("ya29.first-token") + "\nS: 235 ok", asked: "[false]", good: true},
		{name: "renewed once", offered: XOAuth2, script: first + "\n" + second + "\nS: 235 ok", asked: "[false true]", good: true},
		{name: "refused twice", offered: XOAuth2, script: first + "\n" + refusal(second, ""), asked: "[false true]", cause: mta.CauseReply, says: `{"status":"invalid_token","scope":"example_scope`},
		{name: "oauthbearer refused", offered: OAuthBearer, script: refusal("C: AUTH OAUTHBEARER "+bearer("ya29.first-token"), "AQ==") + "\n" + refusal("C: AUTH OAUTHBEARER "+bearer("ya29.second"), "AQ=="), asked: "[false true]", cause: mta.CauseReply, says: "invalid_token"},
		{name: "for a while", offered: XOAuth2, script: "C: AUTH XOAUTH2 " + xoauth("ya29.first-token") + "\nS: 454 4.7.0 later", asked: "[false]", cause: mta.CauseReply},
		{name: "no token", offered: XOAuth2, fail: errFirst, asked: "[false]", cause: mta.CauseRouter, says: "invalid_grant"},
		{name: "given up", offered: XOAuth2, fail: errGone, asked: "[false]", cause: mta.CauseLocal},
		{name: "no second token", offered: XOAuth2, script: first, fail: errors.New("none left"), asked: "[false true]", cause: mta.CauseReply, says: "no other access token: none left"},
		{name: "passwords only", offered: "PLAIN LOGIN SCRAM-SHA-256", asked: "[]", cause: mta.CauseNeed, says: "OAUTHBEARER, XOAUTH2"},
		{name: "challenged again and again", offered: XOAuth2, script: "C: AUTH XOAUTH2 *\nS: 334 " + b64(oops) + "\nC: \nS: 334 " + b64(oops), asked: "[false]", cause: mta.CauseProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := []bool{}
			f, _ := authenticate(t, c.script, tokens(&asked, c.fail), strings.Fields(c.offered)...)
			if c.good != (f == nil) || f != nil && (f.Cause != c.cause || !strings.Contains(f.Text, c.says) || strings.Contains(f.Text, "ya29.first")) {
				t.Errorf("%+v", f)
			}
			if fmt.Sprint(asked) != c.asked {
				t.Errorf("asked for tokens: %v, want %s", asked, c.asked)
			}
		})
	}
}

// TestLongToken: an AUTH line that would be too long waits for a challenge (RFC
// 4954 section 4).
func TestLongToken(t *testing.T) {
	token := strings.Repeat("x", 2000)
	c := &mta.Credentials{Username: "me@example.com", Token: func(context.Context, bool) (string, error) { return token, nil }}
	f, _ := authenticate(t, "C: AUTH XOAUTH2\nS: 334 \nC: "+b64("user=me@example.com\x01auth=Bearer "+token+"\x01\x01")+"\nS: 235 ok", c, XOAuth2)
	if f != nil {
		t.Error(f)
	}
	for _, token = range []string{strings.Repeat("x", 10000), "a\r\nMAIL FROM:<x@example.com>", ""} {
		conn := &tape{in: bytes.NewReader(nil)}
		if f := verified(conn, XOAuth2).Authenticate(context.Background(), c); f == nil || f.Cause != mta.CauseRouter || conn.out.Len() > 0 {
			t.Errorf("%+v", f)
		}
	}
}

// TestCramMD5 computes the answer another way.
func TestCramMD5(t *testing.T) {
	mac := hmac.New(md5.New, []byte("pässword"))
	mac.Write([]byte(cramChallenge))
	want := "ünser " + hex.EncodeToString(mac.Sum(nil))
	f, _ := authenticate(t, "C: AUTH CRAM-MD5\nS: 334 "+b64(cramChallenge)+"\nC: "+b64(want)+"\nS: 235 ok", password("ünser", "pässword"), CramMD5)
	if f != nil {
		t.Error(f)
	}
}

// FuzzAuthenticate: whatever a server answers, Authenticate ends, sends no more
// than an exchange has, and quotes no secret.
func FuzzAuthenticate(f *testing.F) {
	for _, replies := range []string{
		"235 ok\r\n", "535 5.7.8 no\r\n", "334 \r\n334 \r\n235 ok\r\n", "334 " + b64(cramChallenge) + "\r\n235 ok\r\n",
		"334 " + b64("r=x,s=QUFB,i=4096") + "\r\n334 " + b64("v=QUFB") + "\r\n235 ok\r\n", "504 no\r\n504 no\r\n504 no\r\n",
		strings.Repeat("334 QUFB\r\n", 50), "334-QUFB\r\n334 QUFB\r\n", "535 topsecret\r\n", "250 ok\r\n", "421 bye\r\n", "334 e=x\r\n",
	} {
		for i := range Mechanisms {
			f.Add([]byte(replies), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, replies []byte, which uint8) {
		name := Mechanisms[int(which)%len(Mechanisms)]
		conn := &tape{in: bytes.NewReader(replies)}
		s := verified(conn, name)
		failure := s.Authenticate(context.Background(), &mta.Credentials{
			Username: "user", Password: "topsecret", Certificate: &mta.Certificate{}, Mechanisms: []string{name},
			Token: func(context.Context, bool) (string, error) { return "topsecret", nil },
		})
		if n := strings.Count(conn.out.String(), "\r\n"); n > 2*(maxChallenges+1) {
			t.Errorf("%d lines were sent", n)
		}
		if failure == nil {
			if name == Scram || name == ScramPlus {
				t.Error("a server that knows nothing was believed")
			}
			return
		}
		if failure.Stage != mta.StageAuth || strings.Contains(failure.Error()+failure.Text, "topsecret") {
			t.Errorf("%+v", failure)
		}
	})
}
