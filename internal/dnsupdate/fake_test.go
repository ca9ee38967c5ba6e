package dnsupdate

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

const (
	testKey    = "mailout."
	testSecret = "bWFpbG91dCB0ZXN0IHNlY3JldCwgMzIgb2N0ZXRzISE="
)

// primary is a small primary server of widget.com on loopback: it answers
// questions, makes updates by RFC 2136 3, and checks signatures.
type primary struct {
	addr netip.AddrPort

	mu      sync.Mutex
	records []wire.RR
	before  func()                                   // runs when an update has come, before it is looked at
	reply   func(w wire.ResponseWriter, m *wire.Msg) // may spoil the reply to an update; it sends it
	updates int
}

func newPrimary(t *testing.T, records ...string) *primary {
	t.Helper()
	p := &primary{}
	p.put(t, "widget.com. 3600 SOA ns.widget.com. hostmaster.widget.com. 1 7200 3600 604800 120", "widget.com. 3600 NS ns.widget.com.")
	p.put(t, records...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().(*net.TCPAddr).AddrPort()
	accept := func(wire.Header) wire.MsgAcceptAction { return wire.MsgAccept }
	s := &wire.Server{Listener: l, Handler: p, TsigSecret: map[string]string{testKey: testSecret}, MsgAcceptFunc: accept}
	started, ended := make(chan struct{}), make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() { defer close(ended); _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	return p
}

func (p *primary) put(t *testing.T, records ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range records {
		rr, err := wire.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		p.records = append(p.records, rr)
	}
}

// has gives the values of a name and type, with the wildcard's where there is
// no such name.
func (p *primary) has(name string, qtype uint16) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return values(p.find(name, qtype))
}

func (p *primary) find(name string, qtype uint16) []wire.RR {
	var out []wire.RR
	for _, rr := range p.records {
		if h := rr.Header(); strings.EqualFold(h.Name, name) && (h.Rrtype == qtype || qtype == wire.TypeANY) {
			out = append(out, rr)
		}
	}
	return out
}

func (p *primary) ServeDNS(w wire.ResponseWriter, q *wire.Msg) {
	if q.Opcode == wire.OpcodeUpdate {
		p.update(w, q)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := new(wire.Msg).SetReply(q)
	name, qtype := wire.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	if !wire.IsSubDomain("widget.com.", name) {
		m.Rcode = wire.RcodeRefused
		_ = w.WriteMsg(m)
		return
	}
	m.Authoritative = true
	m.Answer = p.find(name, qtype)
	if len(m.Answer) == 0 {
		m.Answer = p.find(name, wire.TypeCNAME)
	}
	if _, rest, _ := strings.Cut(name, "."); len(p.find(name, wire.TypeANY)) == 0 {
		for _, rr := range p.find("*."+rest, qtype) {
			rr = wire.Copy(rr)
			rr.Header().Name = name
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = p.find("widget.com.", wire.TypeSOA)
	}
	_ = w.WriteMsg(m)
}

func (p *primary) update(w wire.ResponseWriter, q *wire.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updates++
	if p.before != nil {
		p.before()
	}
	m := new(wire.Msg).SetReply(q)
	m.Question = nil
	m.Rcode = p.make(q, w.TsigStatus())
	if t := q.IsTsig(); t != nil && w.TsigStatus() == nil {
		m.SetTsig(t.Hdr.Name, t.Algorithm, 300, time.Now().Unix())
	}
	if p.reply != nil {
		p.reply(w, m)
		return
	}
	_ = w.WriteMsg(m)
}

// make does it (RFC 2136 3.2, 3.4) and gives the response code.
func (p *primary) make(q *wire.Msg, signature error) int {
	switch {
	case q.IsTsig() == nil || signature != nil:
		return wire.RcodeRefused
	case q.Question[0].Name != "widget.com.":
		return wire.RcodeNotAuth
	}
	want := map[string][]wire.RR{}
	for _, rr := range q.Answer {
		h := rr.Header()
		if h.Class == wire.ClassNONE && len(p.find(h.Name, h.Rrtype)) > 0 {
			return wire.RcodeYXRrset
		}
		if h.Class == wire.ClassINET {
			k := h.Name + " " + wire.TypeToString[h.Rrtype]
			want[k] = append(want[k], rr)
		}
	}
	for _, set := range want {
		if h := set[0].Header(); !slices.Equal(values(set), values(p.find(h.Name, h.Rrtype))) {
			return wire.RcodeNXRrset
		}
	}
	for _, rr := range q.Ns {
		h := rr.Header()
		switch h.Class {
		case wire.ClassANY:
			p.records = slices.DeleteFunc(p.records, func(o wire.RR) bool {
				return strings.EqualFold(o.Header().Name, h.Name) && o.Header().Rrtype == h.Rrtype
			})
		case wire.ClassINET:
			if len(p.find(h.Name, wire.TypeCNAME)) == 0 { // else ignored in silence
				p.records = append(p.records, rr)
			}
		}
	}
	return wire.RcodeSuccess
}

// updater is one for this primary.
func (p *primary) updater(change func(o *Options)) *Updater {
	o := Options{
		Server: p.addr.String(), Zone: "widget.com", TTL: 300 * time.Second,
		Key:     Key{"mailout", "hmac-sha256", testSecret},
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{p.addr.Addr()}, nil },
	}
	if change != nil {
		change(&o)
	}
	return New(o)
}
