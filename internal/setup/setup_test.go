package setup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/config"
	"mailout/internal/dkim"
	"mailout/internal/mtatest"
)

// TestUnattended: a machine without a configuration gets one that is whole.
func TestUnattended(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	r := m.must(m.answers(Answers{Hostname: "mailout.ofc.widget.com", Probes: m.mailServer()}))
	if !r.Changed || !r.Created {
		t.Errorf("%+v", r)
	}
	c, err := config.Load(m.opts.Path)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(m.dir, "etc/dkim/widget.com.m2026.pem")
	if c.Hostname != "mailout.ofc.widget.com" || c.Postmaster != "postmaster@widget.com" || c.Spool != filepath.Join(m.dir, "spool") ||
		len(c.Listen) != 1 || c.Listen[0].Address.String() != "127.0.0.1:2525" || c.Router.Host != "" ||
		len(c.DKIM) != 1 || c.DKIM[0].Domain != "widget.com" || c.DKIM[0].Selector != "m2026" || c.DKIM[0].Key != key ||
		len(c.DNS.Servers) != 1 || c.DNS.Servers[0].AddrPort != m.dns.Addr() || c.Given("identity.public_ip") {
		t.Errorf("%s", m.file())
	}
	if k, err := dkim.Load(key); err != nil || k.Algorithm() != dkim.Ed25519 {
		t.Error(err)
	}
	if !strings.HasPrefix(m.file(), "# The configuration of mailout") {
		t.Error(m.file())
	}
	if got, want := m.files(), `drwxr-xr-x /etc
drwx------ /etc/dkim
-rw------- /etc/dkim/widget.com.m2026.pem
-rw-r--r-- /etc/mailout.toml
drwx------ /spool
`; got != want {
		t.Errorf("%s", got)
	}
	m.says("203.0.113.5", "missing mailout.ofc.widget.com. IN A 203.0.113.5", "pass port25", "m2026._domainkey.widget.com. IN TXT", "Mail is signed as soon as every server of the zone has")
}

// TestAgain: a second set-up changes what is asked, and nothing else.
func TestAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.must(m.answers(Answers{Hostname: "mailout.ofc.widget.com"}))
	text := strings.Replace(m.file(), "postmaster =", "# who reads it\npostmaster =", 1) + "\n# the end\n"
	if err := os.WriteFile(m.opts.Path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	before := m.files()
	if r := m.must(nil); r.Changed || m.file() != text {
		t.Errorf("%+v\n%s", r, m.file())
	}
	m.says("Nothing has changed")
	if r := m.must(m.answers(Answers{Hostname: "mailout.ofc.widget.com", DKIMKind: ""})); r.Changed || m.file() != text {
		t.Errorf("the same answers changed something: %+v\n%s", r, m.file())
	}
	r := m.must(Answers{Postmaster: "ops@widget.com"})
	if want := strings.Replace(text, "postmaster@widget.com", "ops@widget.com", 1); !r.Changed || r.Created || m.file() != want {
		t.Errorf("%s", m.file())
	}
	m.says("- postmaster = \"postmaster@widget.com\"", "+ postmaster = \"ops@widget.com\"")
	if after := m.files(); after != before {
		t.Errorf("%s\nwas\n%s", after, before)
	}
	all := &script{t: t}
	if r, err := m.run(all, nil); err != nil || r.Changed {
		t.Errorf("Enter everywhere changed something: %v\n%s", err, m.out.String())
	}
}

// TestLeanFileStaysLean: what a file leaves to the defaults is not written into
// it unasked.
func TestLeanFileStaysLean(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	lean := "hostname = \"mailout.example.com\"\n"
	if err := os.MkdirAll(filepath.Dir(m.opts.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.opts.Path, []byte(lean), 0o644); err != nil {
		t.Fatal(err)
	}
	m.opts.Offline = true
	if r := m.must(nil); r.Changed || m.file() != lean {
		t.Errorf("%s", m.file())
	}
	if r := m.must(Answers{Listen: "127.0.0.1:2525"}); !r.Changed || m.file() != lean+"\n[[listen]]\naddress = \"127.0.0.1:2525\"\n" {
		t.Errorf("%s", m.file())
	}
	if r := m.must(Answers{Listen: "none"}); !r.Changed || strings.TrimSpace(m.file()) != strings.TrimSpace(lean) {
		t.Errorf("%s", m.file())
	}
}

// TestImpossibleAnswers: one clear error, and nothing is written.
func TestImpossibleAnswers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	file := filepath.Join(m.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := m.files()
	for _, c := range []struct {
		flag, value, says string
	}{
		{Hostname, "mail_out.example.com", "underscore"},
		{Hostname, "localhost", "every machine to itself"},
		{Hostname, "mailout", "no domain"},
		{Hostname, "192.0.2.1", "address, not a name"},
		{Hostname, "", "is empty"},
		{Servers, "here", "here"},
		{Router, "a b", "a b"},
		{RouterUse, "sometimes", "sometimes"},
		{RouterUse, "always", "there is no router"},
		{RouterTLS, "maybe", "maybe"},
		{PublicIP, "203.0.113", "203.0.113"},
		{Reflectors, "whoami", "not a reflector"},
		{Probes, "a b", "a b"},
		{OutsideNames, "*", "not a domain"},
		{DKIMDomain, "a b", "a b"},
		{DKIMSelector, "a b", "a b"},
		{DKIMKind, "dsa", "no algorithm"},
		{Postmaster, "postmaster", "not a mailbox"},
		{Listen, "127.0.0.1", "127.0.0.1"},
		{Trusted, "all", "all"},
		{Spool, "postgres://db/x", "cluster"},
		{Spool, file, "not a directory"},
		{"colour", "red", "no such answer"},
	} {
		a := Answers{Hostname: "mailout.example.com", Spool: filepath.Join(m.dir, "spool"), Listen: "127.0.0.1:2525"}
		a[c.flag] = c.value
		_, err := m.run(nil, a)
		var wrong *AnswerError
		if !errors.As(err, &wrong) || wrong.Flag != c.flag || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("--%s %q: %v", c.flag, c.value, err)
		}
		if after := m.files(); after != before {
			t.Fatalf("--%s %q left\n%s", c.flag, c.value, after)
		}
	}
	_, err := m.run(nil, Answers{Hostname: "mailout.example.com", DKIMDomain: "none", DKIMSelector: "m1"})
	if err == nil || !strings.Contains(err.Error(), "--dkim-domain") {
		t.Error(err)
	}
	_, err = m.run(nil, Answers{Hostname: "mailout.example.com", Router: "mailout.example.com"})
	if err == nil || !strings.Contains(err.Error(), "circle") {
		t.Error(err)
	}
	_, err = m.run(nil, Answers{Spool: filepath.Join(m.dir, "spool")})
	if err == nil || !strings.Contains(err.Error(), "--hostname: is not known") || m.files() != before {
		t.Error(err)
	}
}

// TestStopAtEachQuestion: whoever stops on the way leaves no trace.
func TestStopAtEachQuestion(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	before := m.files()
	answers := m.answers(Answers{Listen: "", Spool: "", Probes: closedPort(t)})
	for stop := 1; ; stop++ {
		s := &script{t: t, stop: stop, answers: map[string][]string{
			"Host name": {"mailout.ofc.widget.com"}, "Delivery": {"always"}, "Router": {"router.widget.com"}, "Directory": {filepath.Join(m.dir, "spool")},
			"Address and port, or \"none\"": {"0.0.0.0:2525"},
		}}
		if stop%2 == 0 { // the way without a router
			s.answers["Delivery"], s.answers["Router"] = nil, nil
		}
		_, err := m.run(s, answers)
		if len(s.asked) < stop {
			if err != nil || stop < 12 {
				t.Errorf("%d questions, and %v", len(s.asked), err)
			}
			return
		}
		if !errors.Is(err, ErrStopped) || m.files() != before {
			t.Fatalf("stopped at %q: %v\n%s", s.asked[stop-1].Prompt, err, m.files())
		}
	}
}

// TestInterruptedLook: an interruption while something is being looked for ends
// the set-up.
func TestInterruptedLook(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.dns.Script("*", 0, mtatest.Script{Silent: true})
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	o := m.opts
	o.Answers = m.answers(Answers{Hostname: "mailout.example.com"})
	if _, err := Run(ctx, o); !errors.Is(err, ErrStopped) || m.files() != "" {
		t.Errorf("%v\n%s", err, m.files())
	}
}

// TestNoIsNo: whoever says no at the end leaves no trace.
func TestNoIsNo(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	s := &script{t: t, answers: map[string][]string{"Write " + m.opts.Path: {"no"}}}
	if _, err := m.run(s, m.answers(Answers{Hostname: "mailout.example.com"})); !errors.Is(err, ErrStopped) || m.files() != "" {
		t.Errorf("%v\n%s", err, m.files())
	}
}

// TestOfflineAsksNothing: neither DNS nor mail servers hear of it.
func TestOfflineAsksNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	m.must(m.answers(Answers{Hostname: "mailout.example.com", PublicIP: "203.0.113.9", Probes: m.mailServer()}))
	if n := m.dns.Count("", ""); n != 0 {
		t.Errorf("%d questions: %v", n, m.dns.Queries())
	}
	m.says("IN A 203.0.113.9")
}

// TestBrokenFile: mistakes are told as the daemon tells them, and stay.
func TestBrokenFile(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"hostname = \"mail_out.example.com\"\n":              "mailout.toml:1:12: hostname: ",
		"nonsense = 1\n":                                     "nonsense",
		"hostname = \"mailout.example.com\"\n[dns\n":         ":2:",
		"[[listen]]\naddress = \"127.0.0.1\"\n":              "127.0.0.1",
		"hostname = \"mailout.example.com\"\nspool = \"\"\n": ":2:9: spool: is empty",
	} {
		m := newMachine(t)
		m.opts.Offline = true
		if err := os.MkdirAll(filepath.Dir(m.opts.Path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.opts.Path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := m.run(nil, m.answers(Answers{Hostname: "mailout.example.com"}))
		var errs config.Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), says) || m.file() != text {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestUnfinishedFile: a file with all but the host name is finished, and keeps
// what it says.
func TestUnfinishedFile(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.opts.Offline = true
	text := "# ours\nspool = \"../spool\"\n\n[delivery]\nport = 2025\n"
	if err := os.MkdirAll(filepath.Dir(m.opts.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.opts.Path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	m.must(Answers{Hostname: "mailout.example.com", Listen: "none", DKIMDomain: "none"})
	for _, line := range []string{"# ours\n", "port = 2025\n", "hostname = \"mailout.example.com\"\n", "postmaster = \"postmaster@example.com\"\n"} {
		if !strings.Contains(m.file(), line) {
			t.Errorf("no %q in\n%s", line, m.file())
		}
	}
	if c, err := config.Load(m.opts.Path); err != nil || c.Spool != filepath.Join(m.dir, "spool") {
		t.Error(err)
	}
}
