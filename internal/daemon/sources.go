package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/smtpclient"
	"mailout/internal/transport"
)

// The sources of mail are watched: one whose address is not on this machine, or
// whose proxy does not serve us, is left out of all plans until it is back. A
// connection that fails for such a reason tells it at once.

// How often the sources are looked at, and how often while one is down.
const (
	sourcesEvery     = time.Minute
	sourcesEveryDown = 10 * time.Second
)

// avoidStuck is how long a site is not tried from a source that failed there
// for the source's own reason, while there are others.
const avoidStuck = time.Minute

// sources watches them. Its goroutine is the daemon's housekeeping.
type sources struct {
	log     *slog.Logger
	present func(netip.Addr) error                   // nil: the address is this machine's
	proxy   func(context.Context, *mta.Egress) error // nil: the proxy serves us
	tell    func(down map[netip.Addr]string)         // the planner
	replan  func()
	wake    chan struct{} // of capacity 1

	mu struct {
		sync.Mutex
		list []mta.Source
		down map[netip.Addr]string
	}
}

// newSources makes the watch; carrier and planner are joined later.
func newSources(c *config.Config, log *slog.Logger) *sources {
	s := &sources{
		log: log, present: onThisMachine, wake: make(chan struct{}, 1),
		tell: func(map[netip.Addr]string) {}, replan: func() {},
	}
	s.mu.list = c.LocalSources()
	return s
}

// join gives the watch what it tells and asks, and looks at addresses for the
// first time, before mail moves.
func (s *sources) join(d *Daemon) {
	s.tell, s.proxy = d.planner.Down, d.carrier.CheckEgress
	s.check(context.Background(), false)
	s.replan = d.queue.Replan
}

// onThisMachine says why an address cannot be sent from: it is tried. That a
// network interface has it is neither enough nor needed.
func onThisMachine(a netip.Addr) error {
	network := "udp4"
	if a.Unmap().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err == nil {
		return conn.Close()
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return errors.New("it is not an address of this machine")
	}
	// No descriptors, or no such family here: connections will say.
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) {
		return nil
	}
	return errors.New("it cannot be used: " + smtpclient.Words(err))
}

// configure takes other sources, and looks at them soon.
func (s *sources) configure(c *config.Config) {
	s.mu.Lock()
	s.mu.list = c.LocalSources()
	s.mu.Unlock()
	s.look()
}

// look has the sources looked at soon.
func (s *sources) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// stuck takes in that a source could not be used; it is called by workers.
func (s *sources) stuck(source mta.Source, f *mta.Failure) {
	s.mu.Lock()
	_, known := s.mu.down[source.IP]
	ours := func(of mta.Source) bool { return of.IP == source.IP && of.Egress == source.Egress }
	if known || !slices.ContainsFunc(s.mu.list, ours) { // an old route's
		s.mu.Unlock()
		return
	}
	down := maps.Clone(s.mu.down)
	if down == nil {
		down = map[netip.Addr]string{}
	}
	down[source.IP] = f.Text
	s.mu.down = down
	s.mu.Unlock()
	s.log.Warn("a source is left out until it can be used again", mta.KeySource, source.IP.String(), mta.KeyReason, f.Text)
	s.tell(down)
	s.replan()
	s.look()
}

// watch looks at the sources until ctx ends.
func (s *sources) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		every := sourcesEvery
		if s.check(ctx, true) > 0 {
			every = sourcesEveryDown
		}
		timer.Reset(every)
	}
}

// check looks at all sources once and tells what changed. Without proxies only
// addresses are looked at, which takes no time. It gives how many are down.
func (s *sources) check(ctx context.Context, proxies bool) int {
	s.mu.Lock()
	list, downs := s.mu.list, len(s.mu.down)
	s.mu.Unlock()
	found := make([]error, len(list))
	var wg sync.WaitGroup
	for i, source := range list {
		switch {
		case source.Egress == nil:
			found[i] = s.present(source.IP)
		case proxies:
			wg.Go(func() { found[i] = s.proxy(ctx, source.Egress) })
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return downs
	}
	down := map[netip.Addr]string{}
	for i, source := range list {
		if err := found[i]; err != nil {
			down[source.IP] = err.Error()
			if source.Egress != nil {
				down[source.IP] = "its " + source.Egress.Kind.String() + " proxy " + source.Egress.Address + " cannot be used: " + err.Error()
			}
		}
	}
	s.replace(list, down)
	return len(down)
}

// replace takes over what check found, unless a reload came between. What was
// stuck meanwhile was told, and is told to be over.
func (s *sources) replace(list []mta.Source, down map[netip.Addr]string) {
	s.mu.Lock()
	if !slices.Equal(list, s.mu.list) {
		s.mu.Unlock()
		s.look()
		return
	}
	before := s.mu.down
	s.mu.down = down
	s.mu.Unlock()
	changed := len(before) != len(down)
	for _, source := range list {
		was, wasDown := before[source.IP]
		why, isDown := down[source.IP]
		switch {
		case isDown && !wasDown:
			s.log.Warn("a source is left out until it can be used again", mta.KeySource, source.IP.String(), mta.KeyReason, why)
		case wasDown && !isDown:
			s.log.Info("a source can be used again", mta.KeySource, source.IP.String())
		}
		changed = changed || wasDown != isDown || was != why
	}
	s.tell(down)
	if changed {
		s.replan()
	}
}

// states gives every source and why it is down, in the file's order.
func (s *sources) states() []sourceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]sourceState, len(s.mu.list))
	for i, source := range s.mu.list {
		out[i] = sourceState{source, s.mu.down[source.IP]}
	}
	return out
}

// sourceState is a source, and why it is down; empty when it is not.
type sourceState struct {
	source mta.Source
	down   string
}

// up gives the sources for the metrics, in words.
func (s *sources) up() map[string]bool {
	out := map[string]bool{}
	for _, st := range s.states() {
		out[st.source.IP.String()] = st.down == ""
	}
	return out
}

// around has the planner learn what attempts say of sources: mail that failed for
// its source's sake goes out from another at once, where there is one.
func (s *sources) around(p queue.Planner) queue.Planner { return &sourcePlanner{p, s} }

type sourcePlanner struct {
	queue.Planner
	sources *sources
}

// Learn implements queue.Planner. What is Elsewhere ends: the site is avoided
// from this source for a while, so that each source is tried once.
func (p *sourcePlanner) Learn(r *mta.Route, d *mta.Delivery, a *mta.Attempt) queue.Lesson {
	lesson := p.Planner.Learn(r, d, a)
	if a.SourceTrouble == "" {
		return lesson
	}
	if until := a.End.Add(avoidStuck); lesson.Avoid.Before(until) {
		lesson.Avoid, lesson.Why = until, a.SourceTrouble
	}
	lesson.Replan = true
	if len(r.Others) == 0 {
		return lesson
	}
	for i := range a.Results {
		if res := &a.Results[i]; res.Class == mta.ClassTemporary && res.Scope == mta.ScopeLocal && res.Reply.Code == 0 {
			res.Elsewhere = true
		}
	}
	return lesson
}

// SourceID is the id of the findings about each [[source]].
const SourceID = "source"

const whySource = "A source that cannot be used is left out: the others carry its mail, and when it is the last one mail waits."

// SourceChecks looks at each source of a configuration: whether its address is on
// this machine, or, unless offline, its proxy serves us.
func SourceChecks(ctx context.Context, c *config.Config, offline bool) []doctor.Check {
	s := newSources(c, slog.New(slog.DiscardHandler))
	s.proxy = proxyCheck
	s.check(ctx, !offline)
	out := s.checks()
	for i, st := range s.states() {
		if offline && st.source.Egress != nil {
			out[i].Status, out[i].Seen = doctor.Skip, "not asked without network"
		}
	}
	return out
}

// ThroughProxies has an examination's connections from sources with a proxy go
// out by it. sources gives those of the configuration.
func ThroughProxies(w doctor.World, sources func() []config.Source) doctor.World {
	direct := w.Dial
	w.Dial = func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
		list := sources()
		i := slices.IndexFunc(list, func(s config.Source) bool { return s.IP == source && s.Egress != nil })
		if i < 0 {
			return direct(ctx, source, network, address)
		}
		remote, err := netip.ParseAddrPort(address)
		if err != nil || !strings.HasPrefix(network, "tcp") {
			return nil, errors.New("not asked from a source that goes out by a proxy")
		}
		return transport.DialEgress(ctx, list[i].Egress, source, remote)
	}
	return w
}

// proxyTime bounds asking one proxy, without a daemon.
const proxyTime = 10 * time.Second

// proxyCheck asks proxies over the network as the system sees it.
func proxyCheck(ctx context.Context, e *mta.Egress) error {
	ctx, cancel := context.WithTimeout(ctx, proxyTime)
	defer cancel()
	return transport.CheckEgress(ctx, e)
}

// checks are the findings about each source as they are known now.
func (s *sources) checks() []doctor.Check {
	var out []doctor.Check
	for _, st := range s.states() {
		c := doctor.Check{ID: SourceID, Subject: st.source.IP.String(), Status: doctor.Pass, Why: whySource,
			Asked: "whether " + st.source.IP.String() + " is an address of this machine", Seen: "it is an address of this machine; mail says hello from it as " + st.source.Hostname}
		if e := st.source.Egress; e != nil {
			c.Asked = "whether the " + e.Kind.String() + " proxy " + e.Address + " serves us"
			c.Seen = "it answers; mail goes out by it, and says hello as " + st.source.Hostname
		}
		if st.down != "" {
			c.Status, c.Seen, c.Who = doctor.Fail, st.down, doctor.You
			c.Fix = &doctor.Fix{Text: "Give this machine the address " + st.source.IP.String() + ", or take its [[source]] out of the configuration."}
			if st.source.Egress != nil {
				c.Fix.Text = "Mend the proxy, or what [[source]] says of it."
			}
		}
		out = append(out, c)
	}
	return out
}

// resolveProxy finds the addresses of proxies' names as mail servers' are found.
func (d *Daemon) resolveProxy(ctx context.Context, host string) ([]netip.Addr, error) {
	a, err := d.resolver.Addresses(ctx, host)
	return a.Records, err
}

// sourceChecks are the findings about sources for /v1/doctor.
func (d *Daemon) sourceChecks() []doctor.Check {
	return append(d.sources.checks(), d.warmupChecks()...)
}
