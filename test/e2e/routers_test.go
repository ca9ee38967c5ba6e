package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// smartHost is a router with users, all of which a test may spoil and mend.
type smartHost struct {
	t         *testing.T
	authority *mtatest.Authority
	caFile    string
	mx        *mtatest.MX
	port      int

	mu    sync.Mutex
	pass  string
	token string // that is good; empty: none is
	cert  *tls.Certificate
}

const smartName = "smart.world.example"

func (w *world) smartHost(mechanisms ...string) *smartHost {
	w.t.Helper()
	authority, err := mtatest.NewAuthority()
	if err != nil {
		w.t.Fatal(err)
	}
	s := &smartHost{t: w.t, authority: authority, pass: "right horse", port: freePort(w.t), caFile: filepath.Join(w.t.TempDir(), "ca.pem")}
	if err := os.WriteFile(s.caFile, authority.PEM(), 0o600); err != nil {
		w.t.Fatal(err)
	}
	s.certify(true, smartName)
	s.mx = mtatest.NewMX(mtatest.MXConfig{
		Hostname: smartName,
		TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.cert, nil
		}},
		SASL: &mtatest.SASL{
			Mechanisms: mechanisms,
			Password: func(user string) (string, bool) {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.pass, user == "widget"
			},
			Token: func(user, token string) bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return user == "widget" && token == s.token && token != ""
			},
		},
	})
	w.t.Cleanup(s.mx.Stop)
	return s
}

func (s *smartHost) certify(valid bool, name string) {
	s.t.Helper()
	cert, err := s.authority.Certificate(valid, name)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.cert = cert
	s.mu.Unlock()
}

func (s *smartHost) open() {
	s.t.Helper()
	if _, err := s.mx.Listen(net.JoinHostPort("127.0.2.200", strconv.Itoa(s.port))); err != nil {
		s.t.Fatal(err)
	}
}

func (s *smartHost) set(pass, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass, s.token = pass, token
}

// router is the configuration of a router; further lines say how to sign in.
func (s *smartHost) router(lines string) string {
	return fmt.Sprintf("\n[tls]\nca_file = %q\n[router]\nhost = %q\nport = %d\nusername = \"widget\"\n%s", s.caFile, smartName, s.port, lines)
}

// secret writes a file beside the configuration, whole at any time.
func (d *daemon) secret(name, content string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path+".new", []byte(content+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// tokens is a token server: what it answers can be changed.
type tokens struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	answer map[string]any
	asked  int
}

func newTokens(t *testing.T) *tokens {
	t.Helper()
	s := &tokens{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(s.status)
		_ = json.NewEncoder(w).Encode(s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *tokens) give(token string) {
	s.say(200, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

func (s *tokens) say(status int, answer map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.answer = status, answer
}

// TestRouterTroubles: whatever is wrong with a router, nothing is returned, it is
// told once, and what waits goes out once it is mended, though each message's own
// next attempt is an hour away.
func TestRouterTroubles(t *testing.T) {
	t.Parallel()
	byPassword := `password_file = "router.pass"` + "\n"
	var all sync.WaitGroup // they wait most of the time: all at once, in one of the places for parallel tests
	for _, c := range []struct {
		name    string
		offers  string
		prepare func(w *world, s *smartHost, d *daemon, ts *tokens) (signIn string)
		mend    func(w *world, s *smartHost, d *daemon, ts *tokens)
		trouble string // of the alarm
		reason  string // in the queue
	}{
		{
			name: "wrong password in the file", offers: "SCRAM-SHA-256 PLAIN", trouble: "credentials", reason: "535 5.7.8",
			prepare: func(w *world, s *smartHost, d *daemon, _ *tokens) string {
				s.open()
				d.secret("router.pass", "wrong")
				return byPassword
			},
			mend: func(_ *world, _ *smartHost, d *daemon, _ *tokens) { d.secret("router.pass", "right horse") },
		},
		{
			name: "account closed at the router", offers: "CRAM-MD5", trouble: "credentials", reason: "535 5.7.8",
			prepare: func(w *world, s *smartHost, d *daemon, _ *tokens) string {
				s.open()
				s.set("another", "")
				d.secret("router.pass", "right horse")
				return byPassword
			},
			mend: func(_ *world, s *smartHost, _ *daemon, _ *tokens) { s.set("right horse", "") },
		},
		{
			name: "expired token", offers: "XOAUTH2", trouble: "credentials", reason: "invalid_token",
			prepare: func(w *world, s *smartHost, d *daemon, ts *tokens) string {
				s.open()
				s.set("", "ya29.fresh")
				ts.give("ya29.expired")
				return fmt.Sprintf("oauth = \"custom\"\noauth_client_id = \"i\"\noauth_client_secret = \"shh secret\"\noauth_token_url = %q\n", ts.URL)
			},
			mend: func(_ *world, _ *smartHost, _ *daemon, ts *tokens) { ts.give("ya29.fresh") },
		},
		{
			name: "refresh token withdrawn", offers: "OAUTHBEARER", trouble: "token", reason: "invalid_grant",
			prepare: func(w *world, s *smartHost, d *daemon, ts *tokens) string {
				s.open()
				s.set("", "ya29.fresh")
				ts.say(400, map[string]any{"error": "invalid_grant"})
				d.secret("refresh", "1//old-grant")
				return fmt.Sprintf("oauth = \"custom\"\noauth_client_id = \"i\"\noauth_refresh_token_file = \"refresh\"\noauth_token_url = %q\n", ts.URL)
			},
			mend: func(_ *world, _ *smartHost, d *daemon, ts *tokens) {
				ts.give("ya29.fresh")
				d.secret("refresh", "1//new-grant")
			},
		},
		{
			name: "expired certificate", offers: "PLAIN", trouble: "certificate", reason: "expired",
			prepare: func(w *world, s *smartHost, d *daemon, _ *tokens) string {
				s.open()
				s.certify(false, smartName)
				d.secret("router.pass", "right horse")
				return byPassword
			},
			mend: func(_ *world, s *smartHost, _ *daemon, _ *tokens) { s.certify(true, smartName) },
		},
		{
			name: "wrong name", offers: "PLAIN", trouble: "certificate", reason: "other.example",
			prepare: func(w *world, s *smartHost, d *daemon, _ *tokens) string {
				s.open()
				s.certify(true, "other.example")
				d.secret("router.pass", "right horse")
				return byPassword
			},
			mend: func(_ *world, s *smartHost, _ *daemon, _ *tokens) { s.certify(true, smartName) },
		},
		{
			name: "router down", offers: "LOGIN", trouble: "down", reason: "refused",
			prepare: func(w *world, s *smartHost, d *daemon, _ *tokens) string {
				d.secret("router.pass", "right horse")
				return byPassword
			},
			mend: func(_ *world, s *smartHost, _ *daemon, _ *tokens) { s.open() },
		},
		{
			name: "unresolvable", offers: "PLAIN", trouble: "name", reason: smartName,
			prepare: func(w *world, s *smartHost, d *daemon, _ *tokens) string {
				s.open()
				d.secret("router.pass", "right horse")
				w.dns.Remove(smartName)
				return byPassword
			},
			mend: func(w *world, _ *smartHost, _ *daemon, _ *tokens) { w.records(smartName + ". A 127.0.2.200") },
		},
	} {
		all.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				w := newWorld(t)
				s := w.smartHost(strings.Fields(c.offers)...)
				w.records(smartName + ". A 127.0.2.200")
				ts := newTokens(t)
				d := w.daemon("")
				text, err := os.ReadFile(d.config)
				if err != nil {
					t.Fatal(err)
				}
				d.write(strings.Replace(string(text), `retry = ["1s"]`, `retry = ["1h"]`, 1) + s.router(c.prepare(w, s, d, ts)))
				d.start()
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("serve's log:\n%s", d.log())
					}
				})

				var ids []string
				for i := range 3 {
					ids = append(ids, d.submit("app@sender.example", []string{fmt.Sprintf("b%d@far%d.example", i, i)}, "Subject: x\r\n\r\nhello\r\n"))
				}
				for _, id := range ids {
					d.waitEvent(id, "deferred")
				}
				mtatest.Eventually(t, time.Minute, "the alarm", func() bool { return strings.Contains(d.log(), "the router cannot be used; its mail waits") })
				if !strings.Contains(d.log(), "trouble="+c.trouble) && !strings.Contains(d.log(), `"trouble":"`+c.trouble) {
					t.Errorf("the alarm does not name %q:\n%s", c.trouble, d.log())
				}
				if list := d.must("queue", "list", "--json"); !strings.Contains(list, c.reason) {
					t.Errorf("queue list does not say %q: %s", c.reason, list)
				}
				if e, _, _ := d.run("explain", "--json", "b@far0.example"); !strings.Contains(e, "router_trouble") && !strings.Contains(e, "no such domain") {
					t.Errorf("explain says nothing of it: %s", e)
				}
				if s.mx.Stats().Messages != 0 {
					t.Error("mail went out")
				}

				c.mend(w, s, d, ts)
				mtatest.Eventually(t, 2*time.Minute, "all mail relayed", func() bool { return s.mx.Stats().Messages == 3 })
				for _, id := range ids {
					for _, r := range d.waitEvent(id, "relayed") {
						if e := r.text("event"); e != "accepted" && e != "deferred" && e != "relayed" {
							t.Errorf("%s of %s: %v", e, id, r)
						}
					}
				}
				mtatest.Eventually(t, 10*time.Second, "the all-clear", func() bool { return strings.Contains(d.log(), "the router can be used again") })
				if alarms, clear := strings.Count(d.log(), "the router cannot be used; its mail waits"), strings.Count(d.log(), "the router can be used again"); alarms != 1 || clear != 1 {
					t.Errorf("%d alarms and %d all-clears:\n%s", alarms, clear, d.log())
				}
				events := d.trace("router")
				if len(events) != 2 || events[0].text("event") != "router" || events[0].text("host") != smartName || !strings.Contains(events[1].text("reason"), "can be used again") {
					t.Errorf("%v", events)
				}
				for _, secret := range []string{"right horse", "ya29.", "shh secret", "1//"} {
					if all := d.log() + fmt.Sprint(events) + d.must("config", "show"); strings.Contains(all, secret) {
						t.Errorf("%q is shown", secret)
					}
				}
				for _, v := range s.mx.Violations() {
					t.Error(v)
				}
				d.stop()
			})
		})
	}
	all.Wait()
}
