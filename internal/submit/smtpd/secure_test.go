package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"

	"mailout/internal/account"
	"mailout/internal/mtatest"
)

// cheapHash is an argon2id hash that costs a test nothing.
func cheapHash(t testing.TB, password string) account.Verifier {
	t.Helper()
	salt := []byte("saltsaltsaltsalt")
	enc := base64.RawStdEncoding.EncodeToString
	v, err := account.ParseVerifier("$argon2id$v=19$m=8,t=1,p=1$" + enc(salt) + "$" + enc(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// testUsers holds erp with the password secret, at most two messages an hour,
// from *@example.com.
func testUsers(t testing.TB, forSCRAM bool) *account.Book {
	t.Helper()
	hash := cheapHash(t, "secret")
	if forSCRAM {
		var err error
		if hash, err = account.Hash("secret", true); err != nil {
			t.Fatal(err)
		}
	}
	book := account.NewBook(nil)
	book.Configure([]account.User{{Name: "erp", Password: hash, From: account.Senders{"*@example.com"}, Stream: "invoices", Rate: account.Rate{Messages: 2, Per: time.Hour}}})
	return book
}

// testTLS makes a server's rules and the client's.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certificate(true, "mx.example.com", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{*cert}}, &tls.Config{RootCAs: ca.Pool(), ServerName: "mx.example.com"}
}

// startSecure runs a server on a port of loopback, which it does not trust.
func startSecure(t testing.TB, a *intake, change func(*Settings)) (*Server, *tls.Config) {
	t.Helper()
	set := testSettings()
	set.Trusted = nil
	set.Users = testUsers(t, true)
	var client *tls.Config
	set.TLS, client = testTLS(t)
	if change != nil {
		change(&set)
	}
	s := New(Options{Address: "127.0.0.1:0", Acceptor: a, Settings: set})
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, client
}

func dialClient(t testing.TB, s *Server) *mtatest.Client {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *mtatest.Client {
	t.Helper()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	c, err := mtatest.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	hello(t, c)
	return c
}

func hello(t testing.TB, c *mtatest.Client) {
	t.Helper()
	if err := c.Hello("client.example"); err != nil {
		t.Fatal(err)
	}
}

// wantCode says a command and checks the reply's code.
func wantCode(t testing.TB, c *mtatest.Client, code int, format string, args ...any) mtatest.Reply {
	t.Helper()
	r, err := c.Cmd(format, args...)
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	if r.Code != code {
		t.Fatalf("%s: %v; want %d", format, r, code)
	}
	return r
}

const plainErp = "AUTH PLAIN AGVycABzZWNyZXQ="

// TestSTARTTLS: what was said in clear text is forgotten, AUTH appears, and the
// message tells how it came.
func TestSTARTTLS(t *testing.T) {
	t.Parallel()
	a := &intake{}
	s, rules := startSecure(t, a, nil)
	c := dialClient(t, s)
	if _, there := c.Extensions["AUTH"]; there {
		t.Error("AUTH is offered in clear text")
	}
	if err := c.StartTLS(rules); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c, 503, "MAIL FROM:<erp@example.com>") // EHLO is forgotten
	hello(t, c)
	if _, there := c.Extensions["STARTTLS"]; there || c.Extensions["AUTH"] != "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" {
		t.Errorf("under TLS: %v", c.Extensions)
	}
	wantCode(t, c, 503, "STARTTLS")
	wantCode(t, c, 235, plainErp)
	send(t, c, "erp@example.com")
	if m := a.taken(); len(m) != 1 || m[0].request.Origin.Protocol != "ESMTPSA" || m[0].request.Origin.User != "erp" {
		t.Errorf("%+v", m)
	}
	if n := s.Counts(); n.TLS != 1 || n.SignedIn != 1 {
		t.Errorf("%+v", n)
	}
}

func send(t testing.TB, c *mtatest.Client, from string) {
	t.Helper()
	out, err := c.Send(from, []string{"b@example.net"}, []byte("Subject: x\r\n\r\nx\r\n"))
	if err != nil || !out.Accepted() {
		t.Fatalf("%v %v", err, out.Err())
	}
}

// TestSTARTTLSForgetsTheUser: who signed in before the handshake may have been
// somebody else.
func TestSTARTTLSForgetsTheUser(t *testing.T) {
	t.Parallel()
	s, rules := startSecure(t, &intake{}, func(set *Settings) { set.Auth = AuthAlways })
	c := dialClient(t, s)
	wantCode(t, c, 235, plainErp)
	if err := c.StartTLS(rules); err != nil {
		t.Fatal(err)
	}
	hello(t, c)
	wantCode(t, c, 530, "MAIL FROM:<erp@example.com>")
	wantCode(t, c, 235, plainErp)
}

// TestImplicitTLS: port 465.
func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	a := &intake{}
	s, rules := startSecure(t, a, func(set *Settings) { set.TLSMode = TLSImplicit })
	conn, err := tls.Dial("tcp", s.Addr().String(), rules)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn)
	wantCode(t, c, 502, "STARTTLS")
	wantCode(t, c, 235, plainErp)
	send(t, c, "erp@example.com")
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	if len(a.taken()) != 1 {
		t.Error(a.taken())
	}
}

// TestRate: the third message of two an hour waits, refused before its content.
func TestRate(t *testing.T) {
	t.Parallel()
	a := &intake{}
	s, _ := startSecure(t, a, func(set *Settings) { set.Auth = AuthAlways })
	c := dialClient(t, s)
	wantCode(t, c, 235, plainErp)
	send(t, c, "erp@example.com")
	send(t, c, "erp@example.com")
	r := wantCode(t, c, 450, "MAIL FROM:<erp@example.com>")
	if !strings.Contains(r.String(), "4.7.1 erp has sent its 2/h, try again in ") {
		t.Error(r)
	}
	// Two sessions that passed MAIL together are told apart at DATA.
	s2, _ := startSecure(t, a, func(set *Settings) { set.Auth = AuthAlways })
	var all []*mtatest.Client
	for range 3 {
		c := dialClient(t, s2)
		wantCode(t, c, 235, plainErp)
		wantCode(t, c, 250, "MAIL FROM:<erp@example.com>")
		wantCode(t, c, 250, "RCPT TO:<b@example.net>")
		all = append(all, c)
	}
	wantCode(t, all[0], 354, "DATA")
	wantCode(t, all[1], 354, "DATA")
	wantCode(t, all[2], 450, "DATA")
}

// TestReloadTakesTheUserAway: a session does not outlive its right.
func TestReloadTakesTheUserAway(t *testing.T) {
	t.Parallel()
	book := testUsers(t, false)
	s, _ := startSecure(t, &intake{}, func(set *Settings) { set.Auth, set.Users = AuthAlways, book })
	c := dialClient(t, s)
	wantCode(t, c, 235, plainErp)
	wantCode(t, c, 250, "MAIL FROM:<erp@example.com>")
	wantCode(t, c, 250, "RSET")
	book.Configure([]account.User{{Name: "erp", Password: cheapHash(t, "other"), From: account.Senders{"*"}}})
	wantCode(t, c, 530, "MAIL FROM:<erp@example.com>")
}

// TestGuardPutsOff: after five failures of a name, the right password waits too.
func TestGuardPutsOff(t *testing.T) {
	t.Parallel()
	s, _ := startSecure(t, &intake{}, func(set *Settings) { set.Auth, set.Users = AuthAlways, testUsers(t, false) })
	for i := range 5 {
		c := dialClient(t, s)
		wantCode(t, c, 535, "AUTH PLAIN AGVycAB3cm9uZw==")
		if i == 4 {
			r := wantCode(t, c, 454, plainErp)
			if !strings.Contains(r.String(), "4.7.0 Too many failed sign-ins from your address, try again in 30s") {
				t.Error(r)
			}
		}
	}
}

// TestTLSNotReady: while there is no certificate STARTTLS is not there, nothing
// goes in clear text that must not, and what is refused may come again.
func TestTLSNotReady(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	s, rules := startSecure(t, &intake{}, func(set *Settings) { set.TLSMode, set.TLSReady = TLSRequired, ready.Load })
	c := dialClient(t, s)
	if _, there := c.Extensions["STARTTLS"]; there {
		t.Error("STARTTLS is offered")
	}
	for _, command := range []string{"STARTTLS", "MAIL FROM:<erp@example.com>", plainErp} {
		if r := wantCode(t, c, 454, "%s", command); !strings.Contains(r.String(), "4.7.0 TLS is not available yet") {
			t.Error(r)
		}
	}
	ready.Store(true)
	hello(t, c)
	if _, there := c.Extensions["STARTTLS"]; !there {
		t.Error("STARTTLS is not offered")
	}
	wantCode(t, c, 530, "MAIL FROM:<erp@example.com>")
	if err := c.StartTLS(rules); err != nil {
		t.Error(err)
	}
}

// TestTrustedOnly: a listener with broken TLS is not for strangers.
func TestTrustedOnly(t *testing.T) {
	t.Parallel()
	s, _ := startSecure(t, &intake{}, func(set *Settings) { set.TrustedOnly = true })
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if out, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(out), "554 5.7.1 ") {
		t.Errorf("%q %v", out, err)
	}
}

// TestHalfOpenTLS: a peer that begins a handshake and stays silent is dropped
// after its time, without a word; and so is one that says no PROXY header.
func TestHalfOpenTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first string
		limit time.Duration
		set   func(*Settings)
	}{
		"implicit, silent":  {"", handshakeTime, func(s *Settings) { s.TLSMode = TLSImplicit }},
		"implicit, a piece": {"\x16\x03\x01\x02", handshakeTime, func(s *Settings) { s.TLSMode = TLSImplicit }},
		"proxy, silent":     {"", headerTime, func(s *Settings) { s.Proxies = s.Trusted }},
		"proxy, a piece":    {"PROX", headerTime, func(s *Settings) { s.Proxies = s.Trusted }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				set := testSettings()
				set.TLS, _ = testTLS(t)
				c.set(&set)
				a := &intake{}
				s, l := start(t, set, a)
				began := time.Now()
				p := l.dial(t, trustedPeer)
				p.send(c.first)
				p.wantClosed()
				if took := time.Since(began); took != c.limit {
					t.Errorf("dropped after %v, want %v", took, c.limit)
				}
				p.conn.Close()
				stopNow(t, s, a)
			})
		})
	}
}

// TestSlowHandshakeIsStopped: Stop does not wait for a peer that dawdles in TLS.
func TestSlowHandshakeIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := testSettings()
		set.TLS, _ = testTLS(t)
		set.TLSMode = TLSImplicit
		a := &intake{}
		s, l := start(t, set, a)
		p := l.dial(t, trustedPeer)
		synctest.Wait()
		began := time.Now()
		stopNow(t, s, a)
		if time.Since(began) != 0 {
			t.Error("Stop waited")
		}
		p.wantClosed()
		p.conn.Close()
	})
}

// TestInjectionBehindSTARTTLS: octets that reach us behind the reply but before
// the handshake are no commands.
func TestInjectionBehindSTARTTLS(t *testing.T) {
	t.Parallel()
	a := &intake{}
	s, _ := startSecure(t, a, nil)
	c := dialClient(t, s)
	wantCode(t, c, 220, "STARTTLS")
	io.WriteString(c.Conn(), "EHLO x\r\nMAIL FROM:<erp@example.com>\r\n")
	out, _ := io.ReadAll(c.Conn())
	if bytes.Contains(out, []byte("250")) {
		t.Errorf("%q", out)
	}
	if s.Counts().TLSFailed != 1 {
		t.Error("no failed handshake is counted")
	}
}

// TestProxyHeader: the client of the header is the peer, for trust, limits and
// the message's origin; a balancer that names nobody brings nobody.

func TestOpenssl(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	for _, mode := range []TLSMode{TLSOffered, TLSImplicit} {
		s, _ := startSecure(t, &intake{}, func(set *Settings) { set.TLSMode = mode })
		args := []string{"s_client", "-quiet", "-crlf", "-connect", s.Addr().String(), "-tls1_2"}
		if mode == TLSOffered {
			args = append(args, "-starttls", "smtp")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		cmd := exec.CommandContext(ctx, openssl, args...)
		in, _ := cmd.StdinPipe()
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(in, "EHLO x\n"+plainErp+"\nQUIT\n")
		cmd.Wait()
		in.Close()
		cancel()
		if !strings.Contains(out.String(), "235 2.7.0") {
			t.Errorf("mode %d: %s", mode, out.String())
		}
	}
}
