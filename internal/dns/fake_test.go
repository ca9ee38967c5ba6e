package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	wire "github.com/miekg/dns"
)

// fakeNet is a network of name servers in memory. Its sockets are pipes, so
// that deadlines run in virtual time.
type fakeNet struct {
	t  *testing.T
	mu struct {
		sync.Mutex
		servers map[string]handler
		asked   []string // "udp 192.0.2.1:53 example.test. MX"
	}
}

// handler answers one query: with a message, or with raw octets when it gives
// a reply of its own; nothing of both is silence.
type handler func(network string, q *wire.Msg) (*wire.Msg, []byte)

var (
	serverA = netip.MustParseAddrPort("192.0.2.1:53")
	serverB = netip.MustParseAddrPort("192.0.2.2:53")
)

func newFakeNet(t *testing.T) *fakeNet {
	n := &fakeNet{t: t}
	n.mu.servers = make(map[string]handler)
	return n
}

func (n *fakeNet) serve(server netip.AddrPort, h handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.servers[server.String()] = h
}

// asked gives the queries so far, and forgets them.
func (n *fakeNet) asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.mu.asked
	n.mu.asked = nil
	return out
}

func (n *fakeNet) dial(_ context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	h := n.mu.servers[address]
	n.mu.Unlock()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	go n.handle(network, address, server, h)
	return client, nil
}

func (n *fakeNet) handle(network, address string, conn net.Conn, h handler) {
	defer conn.Close()
	raw, err := readQuery(network, conn)
	if err != nil {
		return
	}
	q := new(wire.Msg)
	if err := q.Unpack(raw); err != nil {
		n.t.Errorf("the query does not unpack: %v", err)
		return
	}
	n.mu.Lock()
	n.mu.asked = append(n.mu.asked, strings.Join([]string{network, address, q.Question[0].Name, wire.TypeToString[q.Question[0].Qtype]}, " "))
	n.mu.Unlock()
	m, reply := h(network, q)
	if m != nil {
		if reply, err = m.Pack(); err != nil {
			n.t.Errorf("the reply does not pack: %v", err)
			return
		}
	}
	if reply == nil {
		io.Copy(io.Discard, conn) // until the resolver gives up
		return
	}
	if network == "tcp" {
		reply = append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)
	}
	conn.Write(reply)
}

func readQuery(network string, conn net.Conn) ([]byte, error) {
	buf := make([]byte, 4096)
	if network == "udp" {
		k, err := conn.Read(buf)
		return buf[:k], err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return nil, err
	}
	buf = make([]byte, binary.BigEndian.Uint16(buf))
	_, err := io.ReadFull(conn, buf)
	return buf, err
}

// reply makes an answer from records in zone-file form.
func reply(q *wire.Msg, rcode int, ad bool, answers ...string) *wire.Msg {
	m := new(wire.Msg)
	m.SetRcode(q, rcode)
	m.RecursionAvailable, m.AuthenticatedData = true, ad
	for _, a := range answers {
		m.Answer = append(m.Answer, rr(a))
	}
	return m
}

func rr(text string) wire.RR {
	r, err := wire.NewRR(text)
	if err != nil {
		panic(err)
	}
	return r
}

// withSOA adds what makes a denial one that may be kept.
func withSOA(m *wire.Msg, ttl, minimum string) *wire.Msg {
	m.Ns = append(m.Ns, rr("test. "+ttl+" IN SOA a.nic.test. h.nic.test. 1 3600 600 86400 "+minimum))
	return m
}

// zone answers from records in zone-file form; other types of their names get
// NODATA, other names NXDOMAIN.
func zone(ad bool, rrs ...string) handler {
	type qkey struct {
		name  string
		qtype uint16
	}
	byKey, names := map[qkey][]string{}, map[string]bool{}
	for _, text := range rrs {
		r := rr(text)
		h := r.Header()
		byKey[qkey{h.Name, h.Rrtype}] = append(byKey[qkey{h.Name, h.Rrtype}], text)
		names[h.Name] = true
	}
	return func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		name := strings.ToLower(q.Question[0].Name)
		if found := byKey[qkey{name, q.Question[0].Qtype}]; found != nil {
			return reply(q, wire.RcodeSuccess, ad, found...), nil
		}
		if alias := byKey[qkey{name, wire.TypeCNAME}]; alias != nil {
			return reply(q, wire.RcodeSuccess, ad, alias...), nil
		}
		if names[name] {
			return withSOA(reply(q, wire.RcodeSuccess, ad), "60", "60"), nil
		}
		return withSOA(reply(q, wire.RcodeNameError, ad), "60", "60"), nil
	}
}

// silence never answers.
func silence(string, *wire.Msg) (*wire.Msg, []byte) { return nil, nil }

// rcode answers everything with one response code.
func rcode(code int) handler {
	return func(_ string, q *wire.Msg) (*wire.Msg, []byte) { return reply(q, code, false), nil }
}

// newResolver makes a resolver that asks A, then B, and closes it at the end.
func (n *fakeNet) newResolver(o Options) *Resolver {
	o.Dialer = n.dial
	if o.Servers == nil && o.ResolvConf == "" {
		o.Servers = []netip.AddrPort{serverA, serverB}
	}
	r := New(o)
	n.t.Cleanup(func() { r.Close() })
	return r
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
