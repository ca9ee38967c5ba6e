package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// The bounds of a route's life.
const (
	minLife     = time.Second
	maxLife     = time.Hour
	partialLife = 5 * time.Minute // when some host's look-up failed
)

// warnEvery is the least time between two warnings about one router.
const warnEvery = time.Minute

// Options are what a Planner is made of.
type Options struct {
	Resolver *dns.Resolver
	Settings Settings
	// Interfaces gives the addresses of this machine, to find ourselves when we
	// listen on all of them. nil means the system's.
	Interfaces func() ([]netip.Addr, error)
	// Unresolved, when set, is told each time that none of a router's hosts can be
	// found. It is called by many at once and must be quick.
	Unresolved func(router string, f *mta.Failure)
	Logger     *slog.Logger // gets warnings about routers that do not resolve, and tables; nil means none
	// Secret reads the file of a token (Table.TokenFile). Without it there are no
	// tables with one.
	Secret func(file string) (string, error)
	// Warming is asked about every source of a direct route; nil: all are warm.
	Warming Warming
	// Slowed is asked about every route; nil: nothing is slowed.
	Slowed Slowed
	// Fallback is asked with UseFallback about every direct site: whether the
	// router stands in. It must be quick. nil: it never does.
	Fallback func(site string) Fallback
	// STS knows the MTA-STS policies of recipient domains; nil: nobody asks for
	// them.
	STS STS
}

// Planner makes routes. It is safe for concurrent use.
type Planner struct {
	resolver   *dns.Resolver
	interfaces func() ([]netip.Addr, error)
	log        *slog.Logger
	unresolved func(router string, f *mta.Failure) // may be nil
	settings   atomic.Pointer[compiled]
	holds      atomic.Pointer[[]Hold]                      // nil: none
	reroutes   atomic.Pointer[map[mta.Destination]Reroute] // nil: none
	down       atomic.Pointer[map[netip.Addr]string]       // nil: none
	warming    Warming                                     // nil: all sources are warm
	fallback   func(site string) Fallback                  // nil: no router stands in
	slowed     Slowed                                      // nil: nothing is
	sts        STS                                         // nil: nobody asks
	dane       [4]atomic.Uint64                            // look-ups, by tlspolicy.DANEState
	unsigned   atomic.Bool                                 // plans were made while nobody authenticated answers
	vias       vias
	generation atomic.Uint64 // of the settings compiled last
	secret     func(file string) (string, error)
	transport  http.RoundTripper // to services, in tests; nil: the network
	trouble    map[string]bool   // services known to be in trouble; Refresh's
}

// New makes a planner. It fails when a rule or the router cannot be understood,
// naming all that is wrong. A table that cannot be read is told in the log, and
// mail that it may know waits.
func New(o Options) (*Planner, error) {
	p := &Planner{resolver: o.Resolver, interfaces: o.Interfaces, log: o.Logger, secret: o.Secret, warming: o.Warming, slowed: o.Slowed, fallback: o.Fallback, sts: o.STS, trouble: map[string]bool{}, unresolved: o.Unresolved}
	if p.interfaces == nil {
		p.interfaces = systemAddresses
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	c, err := p.compile(o.Settings)
	if err != nil {
		return nil, err
	}
	p.use(c)
	p.Refresh()
	return p, nil
}

// compile prepares settings, with the tables that the planner has already.
func (p *Planner) compile(s Settings) (*compiled, error) {
	have := tables{secret: p.secret, roots: s.Roots, transport: p.transport}
	if before := p.settings.Load(); before != nil {
		have.before = before.tables.now
	}
	c, err := compile(s, have, p.generation.Add(1))
	if c != nil {
		c.tables.before = nil
	}
	return c, err
}

// Route decides where mail for a recipient domain goes now: A-labels in lower
// case or an address literal (other spellings are tolerated). It is PlanFor for
// mail of the default stream that meets no rule by sender, user or tag, and
// gives the first route.
func (p *Planner) Route(ctx context.Context, domain string) (*mta.Route, *mta.Failure) {
	return p.RouteFor(ctx, mta.Destination{Domain: domain, Stream: mta.DefaultStream})
}

// plan begins a call of PlanFor.
func (p *Planner) plan(domain string, c *compiled) (*plan, *mta.Failure) {
	name, err := ascii(domain)
	if err != nil {
		return nil, fail(mta.CauseNoDomain, err, "%q is no domain name", domain)
	}
	return &plan{p: p, c: c, domain: name, now: time.Now()}, nil
}

// unresolved reports the failures that send mail to a router with
// UseUnresolved: DNS does not say where else. Where it says that, and only leaves
// open how safe it is there, mail waits. Mail with REQUIRETLS waits for DNS too:
// it would come back from a router that cannot do that.
func (q *plan) unresolved(f *mta.Failure) bool {
	switch f.Cause {
	case mta.CauseNoDomain, mta.CauseNoAddress:
		return true
	case mta.CauseDNS:
		return !q.requireTLS && !errors.As(f, new(*mta.TLSUnmet))
	}
	return false
}

// plan is one call of PlanFor.
type plan struct {
	p      *Planner
	c      *compiled
	domain string
	pool   string // of sources, as a rule names it; empty: none does
	now    time.Time
	// What the message says of TLS (RFC 8689).
	requireTLS, anyTLS bool
}

// route fills in what all routes share.
func (q *plan) route(matched string, hosts []mta.Host, port uint16) *mta.Route {
	return &mta.Route{
		Domain: q.domain, Matched: matched, Hosts: hosts, Port: port,
		Pool: q.pool, Helo: q.c.Hostname, Limits: q.c.Limits, IPv6: q.c.IPv6,
		MaxHosts: q.c.MaxHosts, MaxAddresses: q.c.MaxAddresses,
	}
}

// finish completes a route but for its source.
func (q *plan) finish(r *mta.Route, expires time.Time) (*mta.Route, *mta.Failure) {
	r.Provider = provider(r)
	r.Expires = clamp(expires, q.now.Add(minLife), q.now.Add(maxLife))
	return r, nil
}

func clamp(t, least, most time.Time) time.Time {
	switch {
	case t.Before(least):
		return least
	case t.After(most):
		return most
	}
	return t
}

// addresses asks for the families in use. Without IPv6 only A is asked for.
func (q *plan) addresses(ctx context.Context, name string) (dns.Answer[netip.Addr], *dns.Error) {
	ask := q.p.resolver.Addresses
	if !q.c.IPv6 {
		ask = q.p.resolver.A
	}
	a, err := ask(ctx, name)
	return a, dns.AsError(err)
}

// keep gives the addresses without reason against them; when there are none,
// the last reason in words.
func keep(addrs []netip.Addr, against func(netip.Addr) string) (kept []netip.Addr, why string) {
	for _, a := range addrs {
		if reason := against(a); reason != "" {
			why = a.String() + " is " + reason
			continue
		}
		kept = append(kept, a)
	}
	if len(kept) > 0 {
		why = ""
	}
	return kept, why
}

// listening is the set of addresses on which we accept connections at one port.
type listening struct {
	addrs map[netip.Addr]bool
	// any4 adds all of 127.0.0.0/8: who listens on every IPv4 address accepts
	// there too, though interfaces name only one.
	any4 bool
}

func (l listening) has(a netip.Addr) bool {
	a = a.Unmap()
	return l.addrs[a] || l.any4 && a.Is4() && a.IsLoopback()
}

// listening gives where we listen at port. An unspecified IPv6 address takes
// IPv4 connections as well.
func (c *compiled) listening(port uint16, interfaces func() ([]netip.Addr, error)) listening {
	l := listening{}
	any6 := false
	for _, at := range c.Listen {
		if at.Port() != port {
			continue
		}
		if l.addrs == nil {
			l.addrs = map[netip.Addr]bool{}
		}
		l.addrs[at.Addr().Unmap().WithZone("")] = true
		l.any4 = l.any4 || at.Addr().IsUnspecified()
		any6 = any6 || at.Addr() == netip.IPv6Unspecified()
	}
	if !l.any4 {
		return l
	}
	// Without the list we still know our name and the loopback addresses.
	local, _ := interfaces()
	for _, a := range append(local, netip.IPv6Loopback()) {
		a = a.Unmap().WithZone("")
		if a.Is4() || any6 {
			l.addrs[a] = true
		}
	}
	return l
}

// systemAddresses gives the addresses of all interfaces.
func systemAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, n := range list {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}

// fail makes a failure of this stage.
func fail(cause mta.Cause, err error, format string, args ...any) *mta.Failure {
	return &mta.Failure{Stage: mta.StageRoute, Cause: cause, Text: fmt.Sprintf(format, args...), Err: err}
}
