package dkim

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// The servers of the fake world: a resolver, and two of the zone widget.com.
var (
	resolver = netip.MustParseAddrPort("192.0.2.53:53")
	first    = netip.MustParseAddrPort("198.51.100.1:53")
	second   = netip.MustParseAddrPort("198.51.100.2:53")
)

// names is a world of DNS servers. Each has TXT records of its own; the zone's
// servers are known everywhere.
type names struct {
	mu     sync.Mutex
	texts  map[netip.AddrPort]map[string]string // by server and canonical name; "CNAME x" is an alias
	silent map[netip.AddrPort]bool              // it does not answer in time
	rcode  map[netip.AddrPort]int
	humble map[netip.AddrPort]bool // it answers without authority
	lost   bool                    // nobody knows the zone's servers
	asked  int
}

func newNames() *names {
	return &names{texts: map[netip.AddrPort]map[string]string{resolver: {}, first: {}, second: {}},
		silent: map[netip.AddrPort]bool{}, rcode: map[netip.AddrPort]int{}, humble: map[netip.AddrPort]bool{}}
}

// publish puts a text at a name; "" takes it away.
func (n *names) publish(name, text string, at ...netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, server := range at {
		n.texts[server][wire.CanonicalName(name)] = text
	}
}

// everywhere are all servers.
func everywhere() []netip.AddrPort { return []netip.AddrPort{resolver, first, second} }

// has reports whether each of the zone's servers has the text.
func (n *names) has(name, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.texts[first][wire.CanonicalName(name)] == text && n.texts[second][wire.CanonicalName(name)] == text
}

// set changes something.
func (n *names) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *names) ask(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) {
	n.mu.Lock()
	silent := n.silent[p.Server]
	n.asked++
	n.mu.Unlock()
	if silent {
		t := time.NewTimer(p.Timeout)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		return nil, errors.New("i/o timeout")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &dns.ProbeReply{Msg: n.answer(p)}, nil
}

func (n *names) answer(p dns.Probe) *wire.Msg {
	m := new(wire.Msg).SetQuestion(wire.Fqdn(p.Name), p.Type)
	m.Response, m.Rcode, m.Authoritative = true, n.rcode[p.Server], p.Server != resolver && !n.humble[p.Server]
	if m.Rcode != 0 {
		return m
	}
	name := wire.CanonicalName(p.Name)
	text := n.texts[p.Server][name]
	add := func(s string) {
		rr, err := wire.NewRR(s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	switch {
	case strings.HasPrefix(text, "CNAME "):
		add(name + " 60 " + text)
	case p.Type == wire.TypeTXT && text != "":
		for t := range strings.SplitSeq(text, "\n") {
			m.Answer = append(m.Answer, &wire.TXT{Hdr: wire.RR_Header{Name: name, Rrtype: wire.TypeTXT, Class: wire.ClassINET}, Txt: Split(t)})
		}
	case n.lost:
	case p.Type == wire.TypeSOA && (name == "widget.com." || name == "other.example."):
		add(name + " 60 SOA ns.widget.com. h.widget.com. 1 2 3 4 60")
	case p.Type == wire.TypeNS && (name == "widget.com." || name == "other.example."):
		add(name + " 60 NS ns1.widget.com.")
		add(name + " 60 NS ns2.widget.com.")
	case p.Type == wire.TypeA && name == "ns1.widget.com.":
		add(name + " 60 A 198.51.100.1")
	case p.Type == wire.TypeA && name == "ns2.widget.com.":
		add(name + " 60 A 198.51.100.2")
	}
	if len(m.Answer) == 0 {
		m.Rcode = wire.RcodeNameError
	}
	return m
}

// memory is the notes of a spool.
type memory struct {
	mu     sync.Mutex
	m      map[string][]byte
	broken bool
	writes int // of notes
}

// wrote counts the notes that were written.
func (m *memory) wrote() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

func (m *memory) Notes(_ context.Context, prefix, _ string, f func(string, []byte) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("the disk is gone")
	}
	for name, value := range m.m {
		if strings.HasPrefix(name, prefix) {
			f(name, value)
		}
	}
	return nil
}

func (m *memory) SetNotes(_ context.Context, changes map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("the disk is gone")
	}
	m.writes += len(changes)
	for name, value := range changes {
		if value == nil {
			delete(m.m, name)
		} else {
			m.m[name] = value
		}
	}
	return nil
}

var oneRSA = sync.OnceValue(func() *Key {
	k, err := Generate(RSA, 0)
	if err != nil {
		panic(err)
	}
	return k
})

// scene is a ring in the fake world.
type scene struct {
	t     *testing.T
	names *names
	notes *memory
	dir   string
	ring  *Ring
	log   strings.Builder
}

func newScene(t *testing.T) *scene {
	return &scene{t: t, names: newNames(), notes: &memory{m: map[string][]byte{}}, dir: t.TempDir()}
}

// key makes a key file.
func (s *scene) key(selector string, a Algorithm) (Entry, *Key) {
	s.t.Helper()
	k := oneRSA()
	if a == Ed25519 {
		var err error
		if k, err = Generate(a, 0); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.file("widget.com", selector, k), k
}

func (s *scene) file(domain, selector string, k *Key) Entry {
	s.t.Helper()
	text, err := k.PEM()
	if err != nil {
		s.t.Fatal(err)
	}
	e := Entry{Domain: domain, Selector: selector, Path: filepath.Join(s.dir, domain+"."+selector+".pem")}
	if err := os.WriteFile(e.Path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return e
}

// start runs a ring; it is stopped by the next start, and at the end.
func (s *scene) start(entries ...Entry) {
	s.t.Helper()
	s.stop()
	s.ring = NewRing(RingOptions{Entries: entries, Notes: s.notes, Ask: s.names.ask,
		Servers: func() []netip.AddrPort { return []netip.AddrPort{resolver} }, Logger: slog.New(slog.NewTextHandler(&s.log, nil))})
	s.ring.Start(s.t.Context())
}

func (s *scene) stop() {
	if s.ring != nil {
		s.ring.Stop()
		s.ring = nil
	}
}

// signs gives the selectors that sign mail from a domain.
func (s *scene) signs(domain string) string {
	var out []string
	for _, k := range s.ring.For(domain) {
		out = append(out, k.Selector)
	}
	return strings.Join(out, " ")
}

// states are those of all keys.
func (s *scene) states() string {
	var out []string
	for _, k := range s.ring.Status() {
		out = append(out, k.Selector+" "+string(k.State))
	}
	return strings.Join(out, ", ")
}

func (s *scene) want(signs, states string) {
	s.t.Helper()
	if got := s.signs("widget.com"); got != signs {
		s.t.Errorf("%q sign, want %q", got, signs)
	}
	if got := s.states(); got != states {
		s.t.Errorf("%q, want %q", got, states)
	}
}
