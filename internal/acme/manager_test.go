package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mtatest"
)

// The library's client of the authority keeps a connection until the authority
// ends it, who keeps its lock files fresh sees within 5 s that they are gone, and
// its rate limiter of an authority and account is there for the process's life.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// authority is a real ACME server, and what a Manager needs to ask it.
type authority struct {
	*mtatest.Pebble
	dns   *mtatest.DNS
	opts  Options
	roots *x509.CertPool // of what it issues
	log   *lines
}

// lines is a log that tests read while others write.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startAuthority(t *testing.T, challenge Challenge, life time.Duration, names ...string) *authority {
	t.Helper()
	program, err := mtatest.FindPebble()
	if err != nil {
		t.Skip(err)
	}
	a := &authority{dns: mtatest.NewDNS(), log: &lines{}}
	if err := a.dns.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.dns.Stop)
	for _, name := range names {
		if err := a.dns.Add(name + ". A 127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	port, err := mtatest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if a.Pebble, err = mtatest.StartPebble(program, mtatest.PebbleConfig{Dir: dir, DNS: a.dns.Addr().String(), HTTPPort: port, TLSPort: port, Validity: life}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log := a.Stop(); t.Failed() {
			t.Logf("%s\n%s", a.log, log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if a.roots, err = a.Roots(ctx); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	a.opts = Options{
		Names: names, Directory: a.Directory, Email: "hostmaster@example.com", Challenge: challenge, Folder: filepath.Join(dir, "acme"),
		Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), Roots: pool, Logger: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return a
}

// shown asks a Manager for the certificate that a client sees, and verifies it.
func (a *authority) shown(t *testing.T, m *Manager, name string) *x509.Certificate {
	t.Helper()
	pair, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	inter := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		inter.AddCert(c)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.roots, Intermediates: inter}); err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// TestObtained: from nothing to a certificate of a real authority, for each
// name, by each challenge; it lives through a restart without asking again.
func TestObtained(t *testing.T) {
	t.Parallel()
	for challenge, word := range map[Challenge]string{HTTP: "http-01", TLSALPN: "tls-alpn-01"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			a := startAuthority(t, challenge, 90*24*time.Hour, "mail.example.com", "smtp.example.com")
			got := make(chan string, 2)
			a.opts.Obtained = func(name string) { got <- name }
			m := New(a.opts)
			if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "mail.example.com"}); err == nil || m.Ready() {
				t.Error("a certificate from nowhere")
			}
			m.Start(t.Context())
			for range 2 {
				select {
				case <-got:
				case <-time.After(time.Minute):
					m.Stop()
					t.Fatal("no certificate")
				}
			}
			serial := a.shown(t, m, "mail.example.com").SerialNumber
			a.shown(t, m, "smtp.example.com")
			for _, stranger := range []string{"", "other.example.com", "MAIL.example.COM."} {
				if pair, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: stranger}); err != nil || pair.Leaf.SerialNumber.Cmp(serial) != 0 {
					t.Errorf("%q: %v", stranger, err)
				}
			}
			m.Stop()
			a.Pebble.Stop()
			again := New(a.opts)
			again.Start(t.Context())
			if a.shown(t, again, "mail.example.com").SerialNumber.Cmp(serial) != 0 {
				t.Error("another certificate after the restart")
			}
			again.Stop()
			entries, err := os.ReadDir(a.opts.Folder)
			if err != nil || len(entries) == 0 {
				t.Fatal(err)
			}
			filepath.WalkDir(a.opts.Folder, func(path string, e os.DirEntry, err error) error {
				if info, bad := e.Info(); err == nil && bad == nil && info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s: %v", path, info.Mode())
				}
				return nil
			})
		})
	}
}

// TestRenewed: a certificate is replaced before its end.
func TestRenewed(t *testing.T) {
	t.Parallel()
	a := startAuthority(t, HTTP, 9*time.Second, "mail.example.com")
	got := make(chan struct{}, 100)
	a.opts.Obtained = func(string) { got <- struct{}{} }
	m := New(a.opts)
	m.Start(t.Context())
	defer m.Stop()
	var serials []string
	for range 2 {
		select {
		case <-got:
		case <-time.After(time.Minute):
			t.Fatal("no certificate")
		}
		leaf := a.shown(t, m, "mail.example.com")
		serials = append(serials, leaf.SerialNumber.String())
		if time.Now().After(leaf.NotAfter) {
			t.Error("the certificate has expired before it was replaced")
		}
	}
	if serials[0] == serials[1] {
		t.Error("it is the same")
	}
}

// TestRefused: a name that the authority does not find is told in one line, and
// Stop does not wait for the next try.
func TestRefused(t *testing.T) {
	t.Parallel()
	a := startAuthority(t, HTTP, time.Hour, "mail.example.com")
	a.opts.Names = []string{"elsewhere.example.com"}
	m := New(a.opts)
	m.Start(t.Context())
	mtatest.Eventually(t, time.Minute, "the refusal is told", func() bool {
		return strings.Contains(a.log.String(), "the authority gave no certificate; asking again")
	})
	m.Stop()
	if m.Ready() {
		t.Error("ready")
	}
}

// TestUnreachable: an authority that is not there keeps nobody waiting.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	log := &lines{}
	m := New(Options{
		Names: []string{"mail.example.com"}, Directory: "https://127.0.0.1:1/dir", Folder: t.TempDir(), Address: netip.MustParseAddrPort("127.0.0.1:1"),
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	m.Start(t.Context())
	mtatest.Eventually(t, time.Minute, "the failure is told", func() bool { return strings.Contains(log.String(), "asking again") })
	m.Stop()
	if n := strings.Count(log.String(), "\n"); n > 2 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}

// TestNext: when a certificate is looked at again.
func TestNext(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		from, to, want time.Duration
	}{
		{0, 90 * 24 * time.Hour, atTheLatest},
		{-60*24*time.Hour + time.Hour, 30*24*time.Hour + time.Hour, time.Hour},
		{-80 * 24 * time.Hour, 10 * 24 * time.Hour, atTheSoonest},
		{-2 * time.Hour, -time.Hour, atTheSoonest},
		{0, time.Hour, 40 * time.Minute},
	} {
		leaf := &x509.Certificate{NotBefore: now.Add(c.from), NotAfter: now.Add(c.to)}
		if got := next(leaf, now).Round(time.Minute); got != c.want.Round(time.Minute) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
