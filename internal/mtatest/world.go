package mtatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// WorldOptions say what world a seed makes. The same options make the same
// sites with the same faults; in which order things happen at one instant is
// the scheduler's.
type WorldOptions struct {
	Seed  uint64
	Sites int // default 60
	// Patience is for how long the sender tries: a fault that ends does so well
	// before. Default 75 minutes.
	Patience time.Duration
	// Connections, MessagesPerConnection and RecipientsPerMessage are the limits
	// that the sender is to keep; 0: not checked. AllConnections is for all
	// sites together.
	Connections, MessagesPerConnection, RecipientsPerMessage, AllConnections int
}

// World is a small internet made from one seed: sites with faults, a DNS, and
// a record of everything that its receivers took. Make and use it inside a
// testing/synctest bubble; everything happens in its time.
//
// The sender under test sees it through a Machine, one for each run of its
// process, so that a crash can be played: Machine.Cut.
type World struct {
	Sites []*WorldSite
	DNS   *DNS

	opts      WorldOptions
	start     time.Time
	authority *Authority
	net       Net
	byIP      map[netip.Addr]*WorldSite
	byDomain  map[string]*WorldSite
	timers    []*time.Timer
	mu        struct {
		sync.Mutex
		arrivals []Arrival
		broken   []string // limits not kept, mail for somebody else
	}
}

// WorldSite is one receiver: domains that share a set of servers.
type WorldSite struct {
	Number  int
	Domains []string
	Faults  []string // their names, for people
	Fate    Fate     // of mail to its ordinary recipients

	world *World
	hosts []*worldHost
	rules []Rule
	zone  []string // records of its own instead of the usual
}

type worldHost struct {
	name   string
	addrs  []netip.Addr
	cfg    MXConfig
	mx     *MX
	dead   time.Duration // refuses connections until then; below 0: for ever
	silent bool          // hangs instead
}

// Arrival is a message that a receiver took.
type Arrival struct {
	Time      time.Time
	Site      *WorldSite
	Host      string
	Machine   int // whose connection it was
	MessageID string
	From      string
	To        []string
	Reply     string // what was to be answered; whether it arrived nobody knows
	Chunked   bool
	Data      []byte // of messages with the null return path; else nil
	Whole     bool   // the content has the mark of its end
}

// WorldMark ends the content of every message that is handed in, so that a cut
// one is noticed: the line "-- world mark --".
const WorldMark = "-- world mark --\r\n"

// NewWorld makes the world of a seed. Close ends it.
func NewWorld(o WorldOptions) (*World, error) {
	if o.Sites <= 0 {
		o.Sites = 60
	}
	if o.Patience <= 0 {
		o.Patience = 75 * time.Minute
	}
	authority, err := NewAuthority()
	if err != nil {
		return nil, err
	}
	w := &World{
		DNS: NewDNS(), opts: o, start: time.Now(), authority: authority,
		byIP: make(map[netip.Addr]*WorldSite), byDomain: make(map[string]*WorldSite),
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	for n := range o.Sites {
		s := w.plan(n, rng)
		w.Sites = append(w.Sites, s)
		if err := s.open(); err != nil {
			return nil, fmt.Errorf("site %d %v: %w", n, s.Faults, err)
		}
	}
	return w, nil
}

// Site gives the site of a domain; nil when there is none.
func (w *World) Site(domain string) *WorldSite { return w.byDomain[strings.ToLower(domain)] }

// Arrivals gives what was taken so far, in order.
func (w *World) Arrivals() []Arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.mu.arrivals)
}

// Broken gives every breach of limits and of the protocol seen so far.
func (w *World) Broken() []string {
	w.mu.Lock()
	out := slices.Clone(w.mu.broken)
	w.mu.Unlock()
	for _, s := range w.Sites {
		for _, h := range s.hosts {
			for _, v := range h.mx.Violations() {
				out = append(out, h.name+": "+v)
			}
		}
	}
	return out
}

// Close ends all servers and connections, and waits.
func (w *World) Close() {
	for _, t := range w.timers {
		t.Stop()
	}
	w.net.Close()
	for _, s := range w.Sites {
		for _, h := range s.hosts {
			h.mx.Stop()
		}
	}
	w.DNS.Stop()
}

func (w *World) breach(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.broken) < maxViolations {
		w.mu.broken = append(w.mu.broken, fmt.Sprintf(format, args...))
	}
}

// after does f at an age of the world.
func (w *World) after(d time.Duration, f func()) {
	w.timers = append(w.timers, time.AfterFunc(d-time.Since(w.start), f))
}

// open makes the site's servers and records.
func (s *WorldSite) open() error {
	w := s.world
	for _, h := range s.hosts {
		h.cfg.Hostname, h.cfg.Discard = h.name, true
		h.cfg.Rules = append(h.cfg.Rules, s.rules...)
		h.cfg.OnMessage = func(m *Message) { s.arrive(h, m) }
		h.mx = NewMX(h.cfg)
		for _, a := range h.addrs {
			w.byIP[a] = s
			at := netip.AddrPortFrom(a, 25)
			switch {
			case h.dead == 0:
				w.net.Handle(at, h.mx.ServeConn)
				continue
			case h.silent:
				w.net.Silence(at, true)
			}
			if h.dead > 0 {
				w.after(h.dead, func() {
					w.net.Handle(at, h.mx.ServeConn)
					w.net.Silence(at, false)
				})
			}
		}
	}
	for _, d := range s.Domains {
		w.byDomain[d] = s
	}
	return w.DNS.Add(strings.Join(s.records(), "\n"))
}

// records are the site's in DNS.
func (s *WorldSite) records() []string {
	list := slices.Clone(s.zone)
	for _, h := range s.hosts {
		for _, a := range h.addrs {
			kind := "A"
			if a.Is6() {
				kind = "AAAA"
			}
			list = append(list, fmt.Sprintf("%s. 300 IN %s %s", h.name, kind, a))
		}
	}
	if s.zone != nil {
		return list
	}
	for _, d := range s.Domains {
		for i, h := range s.hosts {
			list = append(list, fmt.Sprintf("%s. 300 IN MX %d %s.", d, 10*(i+1), h.name))
		}
	}
	return list
}

// arrive records a message that a host of the site takes.
func (s *WorldSite) arrive(h *worldHost, m *Message) {
	w := s.world
	a := Arrival{
		Time: time.Now(), Site: s, Host: h.name, Machine: -1, MessageID: m.Header("Message-ID"),
		From: m.From, Reply: m.Reply, Chunked: m.Chunked, Whole: strings.HasSuffix(string(m.Data), WorldMark),
	}
	if from, ok := m.Remote.(*net.TCPAddr); ok {
		a.Machine = machineOf(from.AddrPort().Addr())
	}
	if m.From == "" {
		a.Data = slices.Clone(m.Data)
	}
	for _, r := range m.To {
		a.To = append(a.To, r.Address)
		if domain := r.Address[strings.LastIndexByte(r.Address, '@')+1:]; w.byDomain[domain] != s {
			w.breach("%s took mail for %s, which is not its", h.name, r.Address)
		}
	}
	if limit := w.opts.MessagesPerConnection; limit > 0 && m.InSession > limit {
		w.breach("%s took message %d of one session; the limit is %d", h.name, m.InSession, limit)
	}
	if limit := w.opts.RecipientsPerMessage; limit > 0 && len(m.To) > limit {
		w.breach("%s took %d recipients at once; the limit is %d", h.name, len(m.To), limit)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.arrivals = append(w.mu.arrivals, a)
}

// Machine is the network as one run of the process under test sees it.
type Machine struct {
	world  *World
	number int
	mu     struct {
		sync.Mutex
		cut   bool
		conns map[*worldConn]struct{}
		open  map[*WorldSite]int
		peak  int
	}
}

// Machine plugs a new run of the process into the network; number tells its
// mail from that of other runs.
func (w *World) Machine(number int) *Machine {
	m := &Machine{world: w, number: number}
	m.mu.conns = make(map[*worldConn]struct{})
	m.mu.open = make(map[*WorldSite]int)
	return m
}

func (m *Machine) address() netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, byte(m.number >> 8), byte(m.number)})
}

func machineOf(a netip.Addr) int {
	b := a.Unmap().As4()
	return int(b[2])<<8 | int(b[3])
}

var errCut = errors.New("the machine is off the network")

// Dial connects to a receiver. It holds the sender to its limits: they count
// connections from the dial to the sender's Close.
func (m *Machine) Dial(ctx context.Context, network string, _ netip.Addr, remote string) (net.Conn, error) {
	m.mu.Lock()
	cut := m.mu.cut
	m.mu.Unlock()
	if cut {
		return nil, errCut
	}
	conn, err := m.world.net.DialFrom(ctx, network, m.address(), remote)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return nil, err
	}
	c := &worldConn{Conn: conn, machine: m, site: m.world.byIP[at.Addr()]}
	if !m.enter(c) {
		c.reset()
		return nil, errCut
	}
	return c, nil
}

// DialDNS connects to the name server.
func (m *Machine) DialDNS(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	cut := m.mu.cut
	m.mu.Unlock()
	if cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
	}
	return m.world.DNS.DialContext(ctx, network, address)
}

func (m *Machine) enter(c *worldConn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.cut {
		return false
	}
	m.mu.conns[c] = struct{}{}
	m.mu.open[c.site]++
	m.mu.peak = max(m.mu.peak, len(m.mu.conns))
	o := &m.world.opts
	if n := m.mu.open[c.site]; o.Connections > 0 && n > o.Connections {
		m.world.breach("site %d has %d connections; the limit is %d", c.site.Number, n, o.Connections)
	}
	if n := len(m.mu.conns); o.AllConnections > 0 && n > o.AllConnections {
		m.world.breach("there are %d connections; the limit is %d", n, o.AllConnections)
	}
	return true
}

// Peak is the most connections there were at once.
func (m *Machine) Peak() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.peak
}

// Cut ends the machine: every connection is reset, none can be made any more.
func (m *Machine) Cut() {
	m.mu.Lock()
	m.mu.cut = true
	conns := m.mu.conns
	m.mu.conns = make(map[*worldConn]struct{})
	m.mu.Unlock()
	for c := range conns {
		c.reset()
	}
}

// worldConn is one connection of a machine.
type worldConn struct {
	net.Conn
	machine *Machine
	site    *WorldSite
}

// Close implements net.Conn.
func (c *worldConn) Close() error {
	m := c.machine
	m.mu.Lock()
	if _, open := m.mu.conns[c]; open {
		delete(m.mu.conns, c)
		m.mu.open[c.site]--
	}
	m.mu.Unlock()
	return c.Conn.Close()
}

func (c *worldConn) reset() {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // never fails in memory
	}
	_ = c.Conn.Close()
}
