package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/daemon"
	"mailout/internal/doctor"
	"mailout/internal/mtatest"
)

// machine is one without a configuration, in a small world: a DNS server that
// knows everything, a service that sees it as 203.0.113.5, and a mail server.
type machine struct {
	t    *testing.T
	dir  string
	dns  *mtatest.DNS
	opts Options
	out  bytes.Buffer
}

const usualRecords = `
example.com. A 192.0.2.80
whoami.example. A 203.0.113.5
widget.com. SOA ns.widget.com. hostmaster.widget.com. 1 7200 3600 604800 300
widget.com. NS ns.widget.com.
ns.widget.com. A 127.0.0.1
`

func newMachine(t *testing.T, records ...string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), dns: mtatest.NewDNS()}
	m.publish(usualRecords)
	m.publish(records...)
	if err := m.dns.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.dns.Stop)
	same := func(text string) string { return text + "\n" }
	m.opts = Options{
		Path: filepath.Join(m.dir, "etc", "mailout.toml"), Out: &m.out, Identity: daemon.Identity,
		World: doctor.SystemWorld(nil), Names: func() []string { return []string{"machine"} },
		Now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) },
		Style: Style{Heading: same, Text: same,
			Check: func(c doctor.Check) string { return fmt.Sprintf("%s %s: %s\n", c.Status, c.ID, c.Seen) },
			Plan: func(p *doctor.Plan) string {
				text := ""
				for _, r := range p.All() {
					text += string(r.Status) + " " + r.Zoned() + "\n"
				}
				return text
			}},
	}
	m.opts.World.Outgoing = func(_ context.Context, v6 bool) (netip.Addr, error) {
		if v6 {
			return netip.Addr{}, errors.New("network is unreachable")
		}
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	m.opts.World.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil }
	return m
}

func (m *machine) publish(records ...string) {
	m.t.Helper()
	for _, r := range records {
		if err := m.dns.Add(r); err != nil {
			m.t.Fatal(err)
		}
	}
}

// mailServer is one that greets.
func (m *machine) mailServer() string {
	m.t.Helper()
	mx := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx.example"})
	addr, err := mx.Listen("127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(mx.Stop)
	return addr.String()
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// answers are those that keep a set-up inside this world; more come on top.
func (m *machine) answers(more Answers) Answers {
	a := Answers{
		Servers: m.dns.Addr().String(), OutsideNames: "example.com", Reflectors: "dns:whoami.example/A@" + m.dns.Addr().String(),
		Probes: "none", Spool: filepath.Join(m.dir, "spool"), Listen: "127.0.0.1:2525", DKIMKind: "ed25519",
	}
	for flag, v := range more {
		if a[flag] = v; v == "" {
			delete(a, flag)
		}
	}
	return a
}

// run goes through a set-up.
func (m *machine) run(asker Asker, answers Answers) (*Result, error) {
	m.out.Reset()
	o := m.opts
	o.Asker, o.Answers = asker, answers
	return Run(context.Background(), o)
}

// must is run without an error and without anybody to ask.
func (m *machine) must(answers Answers) *Result {
	m.t.Helper()
	r, err := m.run(nil, answers)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.out.String())
	}
	return r
}

// file is the configuration as it stands there.
func (m *machine) file() string {
	m.t.Helper()
	text, err := os.ReadFile(m.opts.Path)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// files are all there are, with their modes.
func (m *machine) files() string {
	m.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == m.dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s\n", info.Mode(), strings.TrimPrefix(path, m.dir))
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

// says fails unless the account has each of the texts.
func (m *machine) says(texts ...string) {
	m.t.Helper()
	for _, text := range texts {
		if !strings.Contains(m.out.String(), text) {
			m.t.Errorf("there is no %q in\n%s", text, m.out.String())
		}
	}
}

// script answers by prompt: each question takes the next answer to its prompt,
// "" being Enter; one that has none takes Enter.
type script struct {
	t       *testing.T
	answers map[string][]string
	asked   []Question
	stop    int // stop at this question; 0: at none
}

func (s *script) Ask(_ context.Context, q Question) (string, error) {
	s.asked = append(s.asked, q)
	if len(s.asked) == s.stop {
		return "", ErrStopped
	}
	first, _, _ := strings.Cut(q.Prompt, " (")
	line := ""
	if left := s.answers[first]; len(left) > 0 {
		line, s.answers[first] = left[0], left[1:]
	}
	v, err := q.read(line)
	if err != nil {
		s.t.Fatalf("%s %q: %v", q.Prompt, line, plain(err))
	}
	return v, nil
}
