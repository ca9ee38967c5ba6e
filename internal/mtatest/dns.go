package mtatest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// maxQueries bounds how many queries a DNS remembers; later ones are counted
// and shown to OnQuery, but not kept.
const maxQueries = 100_000

// DNS is a resolver that answers from records it was given, for the whole
// name space: a name that it does not know does not exist. Answers can be
// scripted by name and type, and changed while it runs. The zero value is not
// usable; see NewDNS.
type DNS struct {
	// OnQuery, when set before Start, sees each query with its answer before
	// the answer is sent, from several goroutines.
	OnQuery func(Query)
	// Tree, when set before Start, is answered from instead of the records.
	Tree *Tree
	// Alter, when set before Start, may change answers: they are its own, but for
	// the records, which are shared.
	Alter func(*dns.Msg)

	mu struct {
		sync.RWMutex
		zone    map[string]map[uint16][]dns.RR // by canonical name
		nodes   map[string]int                 // names that exist, empty non-terminals included: how many names are at or under them
		scripts []*dnsScript
		secure  []string
		queries []Query
		count   int
		updates int
		conns   map[net.Conn]struct{}
		done    bool
	}
	primary *Primary // nil: a resolver
	stop    chan struct{}
	servers []*dns.Server
	addr    netip.AddrPort
	wg      sync.WaitGroup
}

// Query is one question that came, and how it was answered.
type Query struct {
	Name    string // lower case, without the trailing dot
	Type    string // "MX", "A", …
	Network string // "udp" or "tcp"
	DO      bool   // the client asked for DNSSEC (RFC 3225)
	Rcode   string // "NOERROR", "NXDOMAIN", …; empty when no answer was sent
	Answers []string
}

// Script departs from the records for some questions.
type Script struct {
	Rcode    int           // other than 0: answer this alone (dns.RcodeServerFailure, …)
	Silent   bool          // never answer
	Truncate bool          // over UDP: no records and the TC bit
	Delay    time.Duration // before the answer
	Times    int           // how many questions it serves; 0 means all
}

type dnsScript struct {
	name  string // canonical, or "*" for every name
	qtype uint16 // 0: every type
	Script
	left int
}

// NewDNS makes an empty DNS.
func NewDNS() *DNS {
	d := &DNS{stop: make(chan struct{})}
	d.mu.zone = make(map[string]map[uint16][]dns.RR)
	d.mu.nodes = make(map[string]int)
	d.mu.conns = make(map[net.Conn]struct{})
	return d
}

// Add adds records in zone-file form ("fine.example. 300 IN MX 10
// mx.fine.example."); names without a trailing dot are taken as complete, and
// the time to live defaults to 60 seconds.
func (d *DNS) Add(zone string) error {
	// The directive, unlike SetDefaultTTL, also holds behind a record with a
	// TTL of its own. Errors count its line.
	p := dns.NewZoneParser(strings.NewReader("$TTL 60\n"+zone), ".", "")
	var all []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		all = append(all, rr)
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("zone text: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, rr := range all {
		d.insert(rr)
	}
	return nil
}

func (d *DNS) insert(rr dns.RR) {
	name := dns.CanonicalName(rr.Header().Name)
	if d.mu.zone[name] == nil {
		d.mu.zone[name] = make(map[uint16][]dns.RR)
		d.touch(name, 1)
	}
	t := rr.Header().Rrtype
	d.mu.zone[name][t] = append(d.mu.zone[name][t], rr)
}

// touch counts name at itself and at every name above it.
func (d *DNS) touch(name string, by int) {
	for {
		if d.mu.nodes[name] += by; d.mu.nodes[name] == 0 {
			delete(d.mu.nodes, name)
		}
		i, end := dns.NextLabel(name, 0)
		if end {
			return
		}
		name = name[i:]
	}
}

// Remove forgets the records of name: all of them, or those of the types
// named. A name that keeps no record does not exist any more.
func (d *DNS) Remove(name string, types ...uint16) {
	name = dns.CanonicalName(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(name, types...)
}

func (d *DNS) drop(name string, types ...uint16) {
	sets, ok := d.mu.zone[name]
	if !ok {
		return
	}
	for _, t := range types {
		delete(sets, t)
	}
	if len(types) == 0 || len(sets) == 0 {
		delete(d.mu.zone, name)
		d.touch(name, -1)
	}
}

// Script makes questions for name ("*" for every name) and qtype (0 for every
// type) be answered by s. The newest script that fits wins.
func (d *DNS) Script(name string, qtype uint16, s Script) {
	if name != "*" {
		name = dns.CanonicalName(name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.scripts = append(d.mu.scripts, &dnsScript{name: name, qtype: qtype, Script: s, left: s.Times})
}

// Unscript removes every script.
func (d *DNS) Unscript() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.scripts = nil
}

// Secure makes answers for these names, and all names under them, carry the
// AD bit, as a validating resolver's would; those about the root do then, too.
func (d *DNS) Secure(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range names {
		d.mu.secure = append(d.mu.secure, dns.CanonicalName(n))
	}
}

// Start answers over UDP and TCP at addr; "127.0.0.1:0" takes one free port
// for both.
func (d *DNS) Start(addr string) error {
	var err error
	for range 20 { // the port that UDP got may be taken for TCP
		if err = d.listen(addr); err == nil {
			return nil
		}
	}
	return fmt.Errorf("fake DNS on %s: %w", addr, err)
}

func (d *DNS) listen(addr string) error {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		pc.Close()
		return err
	}
	d.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	d.serve(&dns.Server{PacketConn: pc, Handler: d, UDPSize: dns.MaxMsgSize})
	d.serve(&dns.Server{Listener: l, Handler: d})
	return nil
}

func (d *DNS) serve(s *dns.Server) {
	d.servers = append(d.servers, s)
	if d.primary != nil {
		s.TsigSecret = map[string]string{d.primary.Key: d.primary.Secret}
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept } // updates too
	}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	d.wg.Go(func() { _ = s.ActivateAndServe() }) // ends by Shutdown
	<-started
}

// Addr is where Start listens.
func (d *DNS) Addr() netip.AddrPort { return d.addr }

// Stop ends the listeners and connections, and waits.
func (d *DNS) Stop() {
	d.mu.Lock()
	if !d.mu.done {
		d.mu.done = true
		close(d.stop)
	}
	for c := range d.mu.conns {
		c.Close()
	}
	d.mu.Unlock()
	for _, s := range d.servers {
		_ = s.Shutdown()
	}
	d.wg.Wait()
}

// Queries gives the questions so far, in order, at most 100,000.
func (d *DNS) Queries() []Query {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return append([]Query(nil), d.mu.queries...)
}

// Count is how many questions came: all of them, or those for name (and
// qtype, "" meaning every type) among the first 100,000.
func (d *DNS) Count(name, qtype string) int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if name == "" {
		return d.mu.count
	}
	name = strings.TrimSuffix(dns.CanonicalName(name), ".")
	n := 0
	for _, q := range d.mu.queries {
		if q.Name == name && (qtype == "" || q.Type == qtype) {
			n++
		}
	}
	return n
}

// ServeDNS implements dns.Handler.
func (d *DNS) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if q.Opcode == dns.OpcodeUpdate {
		d.update(w, q)
		return
	}
	network := "udp"
	if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		network = "tcp"
	}
	if m := d.answer(q, network); m != nil {
		_ = w.WriteMsg(m) // the client asks again when it is lost
	}
}

// ServeConn answers the questions of one connection until it ends: with the
// two-octet length before each (RFC 1035 4.2.2), or one a message when conn
// is a net.PacketConn as Net.DialContext("udp") gives.
func (d *DNS) ServeConn(conn net.Conn) {
	if !d.enter(conn) {
		return
	}
	defer d.leave(conn)
	_, packets := conn.(net.PacketConn)
	buf := make([]byte, 2+dns.MaxMsgSize)
	for {
		q, err := readQuestion(conn, buf, packets)
		if err != nil {
			return
		}
		network := "tcp"
		if packets {
			network = "udp"
		}
		m := d.answer(q, network)
		if m == nil {
			continue
		}
		if err := writeAnswer(conn, m, packets); err != nil {
			return
		}
	}
}

func (d *DNS) enter(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.done {
		conn.Close()
		return false
	}
	d.mu.conns[conn] = struct{}{}
	return true
}

func (d *DNS) leave(conn net.Conn) {
	conn.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mu.conns, conn)
}

func readQuestion(conn net.Conn, buf []byte, packets bool) (*dns.Msg, error) {
	n := 0
	var err error
	if packets {
		n, err = conn.Read(buf)
	} else if _, err = io.ReadFull(conn, buf[:2]); err == nil {
		n = int(binary.BigEndian.Uint16(buf))
		_, err = io.ReadFull(conn, buf[:n])
	}
	if err != nil {
		return nil, err
	}
	q := new(dns.Msg)
	return q, q.Unpack(buf[:n])
}

func writeAnswer(conn net.Conn, m *dns.Msg, packets bool) error {
	out, err := m.Pack()
	if err != nil {
		return err
	}
	if !packets {
		out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
	}
	_, err = conn.Write(out)
	return err
}

// DialContext connects to this server in memory, whatever the address; see
// Net for several. The network "udp" keeps message boundaries. The server's
// side ends with the connection, or with Stop.
func (d *DNS) DialContext(_ context.Context, network, address string) (net.Conn, error) {
	here, there := textAddr{network, "client"}, textAddr{network, address}
	client, server := Pipe(here, there)
	if strings.HasPrefix(network, "udp") {
		client, server = packetPipe(here, there)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.done {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: there, Err: syscall.ECONNREFUSED}
	}
	d.wg.Go(func() { d.ServeConn(server) })
	return client, nil
}
