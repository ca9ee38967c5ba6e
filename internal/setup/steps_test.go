package setup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailout/internal/config"
	"mailout/internal/dkim"
	"mailout/internal/mtatest"
)

// TestGuessedName: a reverse record that leads back, else the system's full
// name; never a name that looks made by a machine, or one of an inner network.
func TestGuessedName(t *testing.T) {
	t.Parallel()
	ptr := "5.113.0.203.in-addr.arpa. PTR "
	for name, c := range map[string]struct {
		records string
		system  []string
		want    string
	}{
		"confirmed":   {ptr + "out.widget.com.\nout.widget.com. A 203.0.113.5", []string{"host.widget.com"}, "out.widget.com"},
		"system":      {"", []string{"host", "host.local", "host.widget.com"}, "host.widget.com"},
		"unconfirmed": {ptr + "out.widget.com.", []string{"host.widget.com"}, "host.widget.com"},
		"reverse":     {ptr + "out.widget.com.", []string{"host"}, "out.widget.com"},
		"generic":     {ptr + "dsl-203-0-113-5.provider.example.\ndsl-203-0-113-5.provider.example. A 203.0.113.5", []string{"host.internal"}, ""},
		"nothing":     {"", nil, ""},
	} {
		m := newMachine(t, c.records)
		m.opts.Names = func() []string { return c.system }
		_, err := m.run(nil, m.answers(nil))
		if c.want == "" {
			var wrong *AnswerError
			if !errors.As(err, &wrong) || wrong.Flag != Hostname || m.files() != "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !strings.Contains(m.file(), "hostname = \""+c.want+"\"\n") {
			t.Errorf("%s: %v\n%s", name, err, m.out.String())
		}
	}
}

// TestClosedPortOffersTheRouter: and the router is then tried.
func TestClosedPortOffersTheRouter(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	router := m.mailServer()
	s := &script{t: t, answers: map[string][]string{"What now": {"on", "again", "router"}, "Delivery": {"", "always"}, "Router": {router}}}
	r, err := m.run(s, m.answers(Answers{Hostname: "mailout.example.com", Probes: closedPort(t)}))
	if err != nil || !r.Changed {
		t.Fatalf("%v\n%s", err, m.out.String())
	}
	c, err := config.Load(m.opts.Path)
	if err != nil || routerAddress(c.Router) != router || c.Router.Use != config.UseAlways {
		t.Errorf("%v\n%s", err, m.file())
	}
	m.says("fail port25: ", "Port 25 is closed", "Trying the router")
}

// TestClosedPortAfterNone: whoever said "none" beforehand may think better of
// it; and a port that follows from the encryption follows it again.
func TestClosedPortAfterNone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := &script{t: t, answers: map[string][]string{"What now": {"on", "router"}, "Delivery": {"always"}, "Router": {"127.0.0.1"}, "Encryption": {"opportunistic"}}}
	if _, err := m.run(s, m.answers(Answers{Hostname: "mailout.example.com", Router: "none", Probes: closedPort(t)})); err != nil {
		t.Fatalf("%v\n%s", err, m.out.String())
	}
	s = &script{t: t, answers: map[string][]string{"Encryption": {"implicit"}}}
	if _, err := m.run(s, nil); err != nil {
		t.Fatalf("%v\n%s", err, m.out.String())
	}
	if c, err := config.Load(m.opts.Path); err != nil || routerAddress(c.Router) != "127.0.0.1:465" {
		t.Errorf("%v\n%s", err, m.file())
	}
}

// TestUsualKey: RSA, which every receiver verifies.
func TestUsualKey(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	m.must(m.answers(Answers{Hostname: "mailout.example.com", DKIMKind: ""}))
	if k, err := dkim.Load(filepath.Join(m.dir, "etc/dkim/example.com.m2026.pem")); err != nil || k.Algorithm() != dkim.RSA || !k.Strong() {
		t.Error(err)
	}
}

// TestClosedPortUnattended: it is said, and nothing else is decided.
func TestClosedPortUnattended(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.must(m.answers(Answers{Hostname: "mailout.example.com", Probes: closedPort(t)}))
	m.says("Port 25 is closed", "--router")
	if strings.Contains(m.file(), "[router]") {
		t.Error(m.file())
	}
}

// TestRouterGiven: receivers see the router, so the steps about our address
// are not needed; "none" delivers directly again.
func TestRouterGiven(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	router := m.mailServer()
	m.must(m.answers(Answers{Hostname: "mailout.example.com", Router: router, RouterTLS: "none"}))
	m.says("Not needed", "Trying the router")
	c, err := config.Load(m.opts.Path)
	if err != nil || routerAddress(c.Router) != router || c.Router.Use != config.UseAlways {
		t.Errorf("%v\n%s", err, m.file())
	}
	m.must(Answers{RouterUse: "unresolved"})
	if c, err = config.Load(m.opts.Path); err != nil || routerAddress(c.Router) != router || c.Router.Use != config.UseUnresolved {
		t.Errorf("%v\n%s", err, m.file())
	}
	m.must(Answers{Router: "none"})
	if c, err = config.Load(m.opts.Path); err != nil || c.Router.Host != "" {
		t.Errorf("%v\n%s", err, m.file())
	}
}

// TestDeafServers: servers that do not do are asked for again.
func TestDeafServers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	inner := mtatest.NewDNS() // knows no outside name
	if err := inner.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inner.Stop)
	s := &script{t: t, answers: map[string][]string{"DNS servers": {m.dns.Addr().String()}, "What now": {"again", "other"}}}
	_, err := m.run(s, m.answers(Answers{Hostname: "mailout.example.com", Servers: inner.Addr().String()}))
	if err != nil {
		t.Fatalf("%v\n%s", err, m.out.String())
	}
	if c, err := config.Load(m.opts.Path); err != nil || len(c.DNS.Servers) != 1 || c.DNS.Servers[0].AddrPort != m.dns.Addr() {
		t.Errorf("%v\n%s", err, m.file())
	}
}

// TestRecordsUntilPublished: looked at again on request, and without greeting
// mail servers for it.
func TestRecordsUntilPublished(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	greeted := 0
	mx := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx.example"})
	addr, err := mx.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mx.Stop)
	s := &onAsk{script: script{t: t, answers: map[string][]string{"What now": {"again", "again"}}}, see: func(q Question) {
		if q.Prompt == "What now" {
			m.publish("mailout.widget.com. A 203.0.113.5")
			greeted++
		}
	}}
	if _, err := m.run(s, m.answers(Answers{Hostname: "mailout.widget.com", Probes: addr.String(), DKIMDomain: "none", DKIMKind: ""})); err != nil {
		t.Fatalf("%v\n%s", err, m.out.String())
	}
	m.says("missing mailout.widget.com. IN A 203.0.113.5", "published mailout.widget.com. IN A 203.0.113.5")
	if greeted != 3 {
		t.Errorf("asked %d times", greeted)
	}
	if n := mx.Stats().Sessions; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// onAsk is a script during which the world changes.
type onAsk struct {
	script
	see func(Question)
}

func (s *onAsk) Ask(ctx context.Context, q Question) (string, error) {
	s.see(q)
	return s.script.Ask(ctx, q)
}

// TestPublicAddress: given, changed, and found out again.
func TestPublicAddress(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.must(m.answers(Answers{Hostname: "mailout.example.com", PublicIP: "203.0.113.7"}))
	if !strings.Contains(m.file(), "public_ip = [\"203.0.113.7\"]") {
		t.Error(m.file())
	}
	m.must(Answers{PublicIP: "auto"})
	if strings.Contains(m.file(), "public_ip") {
		t.Error(m.file())
	}
	m.says("seen as 203.0.113.5")
}

// TestKeyIsKept: a key file that is there is used, not replaced; one that is no
// key is refused; and a second domain gets a table of its own.
func TestKeyIsKept(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	path := filepath.Join(m.dir, "etc/dkim/example.com.m2026.pem")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := m.run(nil, m.answers(Answers{Hostname: "mailout.example.com"}))
	if err == nil || !strings.Contains(err.Error(), "--dkim-domain: ") {
		t.Error(err)
	}
	key, err := dkim.Generate(dkim.Ed25519, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m.must(m.answers(Answers{Hostname: "mailout.example.com", DKIMKind: ""}))
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, text) {
		t.Error("the key was replaced")
	}
	m.must(Answers{DKIMDomain: "other.example", DKIMSelector: "s1", DKIMKind: "ed25519"})
	c, err := config.Load(m.opts.Path)
	if err != nil || len(c.DKIM) != 2 || c.DKIM[1].Domain != "other.example" || c.DKIM[1].Selector != "s1" {
		t.Errorf("%v\n%s", err, m.file())
	}
	if r := m.must(Answers{DKIMDomain: "other.example"}); r.Changed {
		t.Error(m.file())
	}
}

// TestNothingStaysOfAFailedWrite: when the configuration cannot be written, the
// key and the directories go too.
func TestNothingStaysOfAFailedWrite(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	m.opts.Path = filepath.Join(m.dir, "mailout.toml")
	text := "[tls]\nca_file = \"roots.pem\"\n" // is looked at when the file is written
	if err := os.WriteFile(m.opts.Path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	before := m.files()
	_, err := m.run(nil, m.answers(Answers{Hostname: "mailout.example.com", Spool: filepath.Join(m.dir, "var/spool")}))
	var errs config.Errors
	if !errors.As(err, &errs) || !strings.Contains(err.Error(), "roots.pem") || m.files() != before || m.file() != text {
		t.Errorf("%v\n%s", err, m.files())
	}
}

// TestWithoutPermission: told before the first question.
func TestWithoutPermission(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may do everything")
	}
	m := newMachine(t)
	if err := os.Chmod(m.dir, 0o500); err != nil {
		t.Fatal(err)
	}
	s := &script{t: t}
	if _, err := m.run(s, nil); !errors.Is(err, os.ErrPermission) || len(s.asked) > 0 || !strings.Contains(err.Error(), "--config") {
		t.Error(err)
	}
}

// TestTrusted: whoever lets others in says whom.
func TestTrusted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	s := &script{t: t, answers: map[string][]string{"Networks whose machines may send to anybody": {"192.0.2.0/24 127.0.0.0/8"}}}
	if _, err := m.run(s, m.answers(Answers{Hostname: "mailout.example.com", Listen: "0.0.0.0:2525"})); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.file(), `trusted = ["192.0.2.0/24", "127.0.0.0/8"]`) {
		t.Error(m.file())
	}
	if r := m.must(nil); r.Changed {
		t.Error(m.file())
	}
}

// TestLines: how lines become answers.
func TestLines(t *testing.T) {
	t.Parallel()
	q := Question{Prompt: "Colour", Default: "red", Choices: []Choice{{"red", "like fire"}, {"blue", "like the sea"}}}
	name := Question{Prompt: "Name", Check: func(v string) error {
		if v != "right" {
			return errors.New("is not right")
		}
		return nil
	}}
	for _, c := range []struct {
		q         Question
		typed     string
		want, out string
	}{
		{q, "\n", "red", "  1  like fire\n  2  like the sea\nColour [1]: "},
		{q, "2\n", "blue", ""},
		{q, " blue \r\n", "blue", ""},
		{q, "3\nblue\n", "blue", "none of the choices"},
		{q, "", "", ""},
		{q, "blue", "", ""},
		{name, "wrong\n\nright\n", "right", "No: is not right\nName: No: an answer is needed\n"},
	} {
		var out bytes.Buffer
		l := &Lines{Read: PlainReader(strings.NewReader(c.typed), &out), Out: &out, Wrong: func(s string) string { return "No: " + s + "\n" }}
		got, err := l.Ask(context.Background(), c.q)
		if got != c.want || !strings.Contains(out.String(), c.out) || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrStopped) {
			t.Errorf("%q: %q %v\n%s", c.typed, got, err, out.String())
		}
	}
}

// TestLinesInterrupted: a reader that waits does not hold the set-up.
func TestLinesInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	in, typed := io.Pipe()
	defer typed.Close()
	l := &Lines{Out: io.Discard, Read: func(prompt string) (string, error) {
		cancel()
		return PlainReader(in, io.Discard)(prompt)
	}}
	if _, err := l.Ask(ctx, Question{Prompt: "Name"}); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}
