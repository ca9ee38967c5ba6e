package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// The fake world: one recursive server and one authoritative one, which know
// the same records unless a test says otherwise; connections are made by dial.
var (
	recursive     = netip.MustParseAddrPort("192.0.2.53:53")
	authoritative = netip.MustParseAddrPort("198.51.100.53:53")
)

type fakeWorld struct {
	t     *testing.T
	zones map[netip.AddrPort]map[string][]wire.RR // by server and canonical name
	// ask, when set, may answer first: nil, nil leaves it to the zones.
	ask  func(p dns.Probe) (*wire.Msg, error)
	dial func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error)
	// local are the machine's addresses; the first of a family routes out.
	local   []netip.Addr
	learned []Learned
	now     time.Time

	mu    sync.Mutex
	asked []dns.Probe
}

// newWorld is a world in which widget.com is served by ns.widget.com and
// mailout.ofc.widget.com (192.0.2.10) is in perfect order.
func newWorld(t *testing.T, records ...string) *fakeWorld {
	w := &fakeWorld{t: t, zones: map[netip.AddrPort]map[string][]wire.RR{recursive: {}, authoritative: {}},
		local: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.publish("widget.com. 3600 SOA ns.widget.com. hostmaster.widget.com. 1 7200 3600 604800 300",
		"widget.com. 3600 NS ns.widget.com.", "ns.widget.com. 3600 A 198.51.100.53",
		"mailout.ofc.widget.com. 300 A 192.0.2.10", "10.2.0.192.in-addr.arpa. 300 PTR mailout.ofc.widget.com.")
	w.publish(records...)
	return w
}

// publish adds records everywhere.
func (w *fakeWorld) publish(records ...string) {
	w.publishAt(recursive, records...)
	w.publishAt(authoritative, records...)
}

func (w *fakeWorld) publishAt(server netip.AddrPort, records ...string) {
	w.t.Helper()
	for _, text := range records {
		rr, err := wire.NewRR(text)
		if err != nil {
			w.t.Fatal(err)
		}
		name := wire.CanonicalName(rr.Header().Name)
		w.zones[server][name] = append(w.zones[server][name], rr)
	}
}

// withdraw removes a name's records of one type everywhere.
func (w *fakeWorld) withdraw(name string, qtype uint16) {
	for server := range w.zones {
		w.withdrawAt(server, name, qtype)
	}
}

func (w *fakeWorld) withdrawAt(server netip.AddrPort, name string, qtype uint16) {
	name = wire.CanonicalName(name)
	var kept []wire.RR
	for _, rr := range w.zones[server][name] {
		if rr.Header().Rrtype != qtype {
			kept = append(kept, rr)
		}
	}
	w.zones[server][name] = kept
}

func (w *fakeWorld) answer(_ context.Context, p dns.Probe) (*dns.ProbeReply, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, p)
	if w.ask != nil {
		if m, err := w.ask(p); m != nil || err != nil {
			return &dns.ProbeReply{Msg: m, TCP: p.TCP}, err
		}
	}
	zone, ok := w.zones[p.Server]
	if !ok {
		return nil, errors.New("i/o timeout")
	}
	return &dns.ProbeReply{Msg: fromZone(zone, p), TCP: p.TCP}, nil
}

// fromZone answers as a server that knows everything: along CNAMEs, NXDOMAIN
// for what is neither there nor above something.
func fromZone(zone map[string][]wire.RR, p dns.Probe) *wire.Msg {
	m := new(wire.Msg).SetQuestion(wire.Fqdn(p.Name), p.Type)
	m.Response = true
	name := wire.CanonicalName(p.Name)
	for range 8 {
		next := ""
		for _, rr := range zone[name] {
			if t := rr.Header().Rrtype; t == p.Type {
				m.Answer = append(m.Answer, rr)
			} else if t == wire.TypeCNAME {
				m.Answer, next = append(m.Answer, rr), wire.CanonicalName(rr.(*wire.CNAME).Target)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(m.Answer) == 0 && !exists(zone, name) {
		m.Rcode = wire.RcodeNameError
	}
	return m
}

func exists(zone map[string][]wire.RR, name string) bool {
	for n, rrs := range zone {
		if len(rrs) > 0 && (n == name || strings.HasSuffix(n, "."+name)) {
			return true
		}
	}
	return false
}

// world gives what Examine takes.
func (w *fakeWorld) world() World {
	return World{
		Ask: w.answer,
		Dial: func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
			if w.dial == nil {
				return nil, errors.New("connection refused")
			}
			return w.dial(ctx, source, network, address)
		},
		Addresses: func() ([]netip.Addr, error) { return w.local, nil },
		Outgoing: func(_ context.Context, v6 bool) (netip.Addr, error) {
			for _, a := range w.local {
				if a.Is6() == v6 {
					return a, nil
				}
			}
			return netip.Addr{}, errors.New("network is unreachable")
		},
		Learned: func() []Learned { return w.learned },
		Now:     func() time.Time { return w.now },
	}
}

// goodIdentity is the one that newWorld's records are right for.
func goodIdentity() Identity {
	return Identity{
		Hostname: "mailout.ofc.widget.com", IPv6: true, Port: 25, Servers: []netip.AddrPort{recursive},
		Sources:    []mta.Source{{IP: netip.MustParseAddr("192.0.2.10"), Hostname: "mailout.ofc.widget.com"}},
		PublicIP:   []netip.Addr{netip.MustParseAddr("192.0.2.10")},
		Postmaster: "postmaster@widget.com", Domains: []string{"widget.com"},
	}
}

// find gives the one check with an id and subject; an empty subject takes the
// only one there is.
func find(t *testing.T, r *Report, id, subject string) Check {
	t.Helper()
	var hits []Check
	for _, c := range r.Checks {
		if c.ID == id && (subject == "" || c.Subject == subject) {
			hits = append(hits, c)
		}
	}
	if len(hits) != 1 {
		t.Fatalf("%d checks %s %q among %+v", len(hits), id, subject, r.Checks)
	}
	return hits[0]
}
