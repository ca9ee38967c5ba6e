package transport

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/smtpclient"
	"mailout/internal/tlspolicy"
)

// Carrier carries deliveries to their hosts; it implements queue.Carrier. Its
// methods are safe for concurrent use.
type Carrier struct {
	opt      Options
	settings atomic.Pointer[settings]
	noTLS    brokenTLS
	counts   counts
}

var _ queue.Carrier = (*Carrier)(nil)

// New makes a Carrier. Options.Content is required.
func New(o Options) *Carrier {
	c := &Carrier{opt: o.filled()}
	c.Reconfigure(o.Settings)
	return c
}

// Reconfigure replaces the settings; open sessions keep what they were opened
// with.
func (c *Carrier) Reconfigure(s Settings) { c.settings.Store(compile(s)) }

// Carry implements queue.Carrier: one worker with at most one open session.
// Connecting and greeting end with either context, a transaction only with
// abandon.
func (c *Carrier) Carry(ctx, abandon context.Context, _ *mta.Route, work queue.Work) {
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(abandon, cancel)()
	w := &worker{c: c, opening: opening, abandon: abandon}
	defer w.drop() // after a panic, which the queue catches
	for {
		idle := time.Duration(0)
		if w.session != nil {
			idle = c.settings.Load().IdleWait
		}
		d, route, ok := work.Next(ctx, idle)
		if !ok {
			w.quit()
			return
		}
		work.Report(d, w.attempt(d, route))
		if w.session != nil && w.spent(route) {
			w.quit()
		}
	}
}

// worker is one call of Carry. One goroutine owns it.
type worker struct {
	c       *Carrier
	opening context.Context // ends with no-new-work and with abandon
	abandon context.Context

	session *smtpclient.Session // nil: none is open
	key     sessionKey          // of the open session
	route   *mta.Route          // the route that the open session was last used for
	unhook  func() bool         // takes the session off abandon

	delivery mta.DeliveryKey // in hand, for the observer
	att      attempt         // in hand; kept for its memory
}

// sessionKey is everything that a session was chosen by. Another delivery may
// use the session only when all of it is the same (trap 19). Credentials are the
// same when they are the same object: changed ones are another.
type sessionKey struct {
	target mta.Target
	port   uint16
	demand mta.TLSDemand
	auth   *mta.Credentials
	speaks mta.Protocol
}

// is compares what matters of a route's target with the key's: not the
// preference, nor the host's other addresses.
func (k *sessionKey) is(route *mta.Route, t *mta.Target) bool {
	return t.IP == k.target.IP && t.Source == k.target.Source && t.Host.Name == k.target.Host.Name &&
		t.Host.Socket == k.target.Host.Socket && route.PortOf(&t.Host) == k.port
}

// fits reports whether the open session may carry a delivery by route.
func (w *worker) fits(route *mta.Route, at *attempt) bool {
	if !w.session.Usable() || w.spent(route) ||
		w.key.speaks != route.Protocol || w.key.auth != route.Auth ||
		at.utf8 && !w.session.Capabilities().SMTPUTF8 {
		return false
	}
	host := at.hostOf(&w.key.target)
	if demand := at.demand(host); !w.key.demand.Same(&demand) || at.barred(host) != nil {
		return false
	}
	if route == w.route {
		return true
	}
	if route.Helo == w.route.Helo && slices.Equal(route.Sources, w.route.Sources) {
		// From the same sources: what is left is the host. (The common case of
		// many domains on one MX set costs no allocation.)
		return w.key.named(route)
	}
	return slices.ContainsFunc(route.Targets(nil), func(t mta.Target) bool { return w.key.is(route, &t) })
}

// named reports whether a route names the key's host with its address and port.
func (k *sessionKey) named(route *mta.Route) bool {
	t := &k.target
	for i := range route.Hosts {
		h := &route.Hosts[i]
		switch {
		case h.Name != t.Host.Name || h.Socket != t.Host.Socket || route.PortOf(h) != k.port:
		case h.Socket != "":
			return true
		case slices.Contains(h.Addresses, t.IP):
			return route.IPv6 || t.IP.Unmap().Is4()
		}
	}
	return false
}

// spent reports whether the session has carried what one may carry.
func (w *worker) spent(route *mta.Route) bool {
	limit := route.Limits.MessagesPerConnection
	if limit <= 0 {
		limit = DefaultMessagesPerConnection
	}
	return !w.session.Usable() || w.session.Messages() >= limit
}

// keep makes s the worker's session.
func (w *worker) keep(s *smtpclient.Session, key sessionKey) {
	w.session, w.key = s, key
	w.unhook = context.AfterFunc(w.abandon, s.Abort)
}

// quit ends the session in order.
func (w *worker) quit() {
	if w.session != nil {
		w.session.Quit()
		w.drop()
	}
}

// drop ends the session without a word.
func (w *worker) drop() {
	if w.session != nil {
		w.unhook()
		w.session.Close()
		w.session, w.route = nil, nil
	}
}

// connect opens a session to a target as the demand for it is. Opportunistic TLS
// that fails is given up on a new connection (trap 15), and remembered for a
// while; nothing else ever is.
func (w *worker) connect(at *attempt, t *mta.Target) *mta.Failure {
	demand := at.demand(&t.Host)
	if f := at.barred(&t.Host); f != nil {
		at.try(t, f, time.Now())
		return f
	}
	tls := demand.Requirement
	where := netip.AddrPortFrom(t.IP, at.route.PortOf(&t.Host))
	var before *mta.TLSFault
	if tls == mta.TLSOpportunistic {
		if t.Host.Socket != "" {
			tls = mta.TLSNone // nobody listens between two processes
		} else if before = w.c.noTLS.of(where, time.Now()); before != nil {
			tls = mta.TLSNone
		}
	}
	start := time.Now()
	s, seen, f := w.open(at, t, &demand, tls)
	if f != nil && f.Cause == mta.CauseTLS && tls == mta.TLSOpportunistic && w.opening.Err() == nil {
		why := fault(f)
		at.secured(t, &demand, &seen, why)
		at.try(t, f, start)
		start = time.Now()
		if s, seen, f = w.open(at, t, &demand, mta.TLSNone); f == nil {
			w.c.noTLS.add(where, start, why)
			w.c.counts.clear.Add(1)
		}
	} else if f == nil {
		at.secured(t, &demand, &seen, verdict(s, t.Host.Name, &demand, before))
	} else if why := fault(f); before == nil && (why != nil || seen.secured) {
		at.secured(t, &demand, &seen, why)
	}
	if f != nil {
		if before != nil {
			w.c.noTLS.forget(where)
		}
		at.certain(f)
		demandedBy(f, &demand)
		at.try(t, f, start)
		w.c.counts.failed.Add(1)
		return f
	}
	w.c.counts.opened.Add(1)
	if before != nil {
		w.c.counts.clear.Add(1)
	}
	all := time.Since(start)
	at.a.Durations.Connect += (all - s.TLSTime()).Milliseconds()
	at.a.Durations.TLS += s.TLSTime().Milliseconds()
	if w.c.opt.Greeted != nil && at.route.Router == "" {
		w.c.opt.Greeted(t, s.Local(), s.Hello())
	}
	key := sessionKey{*t, at.route.PortOf(&t.Host), demand, at.route.Auth, at.route.Protocol}
	key.target.Host.Port = key.port // whatever the next route's is
	w.keep(s, key)
	return nil
}

// open dials and greets once. tls is the demand's requirement, or TLSNone
// instead of opportunistic.
func (w *worker) open(at *attempt, t *mta.Target, d *mta.TLSDemand, tls mta.TLSRequirement) (*smtpclient.Session, sight, *mta.Failure) {
	var seen sight
	if auth := at.route.Auth; auth != nil && auth.Trouble != "" {
		return nil, seen, &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseRouter, Text: auth.Trouble}
	}
	conn, f := w.c.dial(w.opening, t, at.route.PortOf(&t.Host))
	w.observe(t, smtpclient.Step{Stage: mta.StageConnect}, f)
	if f != nil {
		return nil, seen, f
	}
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		seen.local = a.AddrPort().Addr().Unmap()
	}
	opt := w.options(at, t, d, tls)
	if w.c.opt.Observer != nil || w.c.opt.Secured != nil {
		target := *t
		opt.Observe = func(step smtpclient.Step) {
			seen.observe(&step)
			w.observe(&target, step, nil)
		}
	}
	s, f := smtpclient.Open(w.opening, conn, opt)
	if f != nil && f.Cause != mta.CauseReply {
		w.observe(t, smtpclient.Step{Stage: f.Stage}, f)
	}
	if f != nil || at.route.Auth == nil || !at.route.Auth.SignsIn() {
		return s, seen, f
	}
	s, f = w.signIn(s, t, at.route.Auth)
	return s, seen, f
}

// options are those of one session.
func (w *worker) options(at *attempt, t *mta.Target, d *mta.TLSDemand, tls mta.TLSRequirement) smtpclient.Options {
	set := w.c.settings.Load()
	opt := smtpclient.Options{
		Hello:        t.Source.Hostname,
		LMTP:         at.route.Protocol == mta.LMTP,
		Host:         t.Host.Name,
		TLS:          tls,
		Audit:        d.Audit,
		MinVersion:   set.MinTLS,
		RootCAs:      set.RootCAs,
		SessionCache: set.resume(t, at.route.PortOf(&t.Host), d),
		NeedESMTP:    at.utf8 || at.tx.RequireTLS || at.route.Auth != nil && at.route.Auth.SignsIn(),
		ReplyTimeout: set.ReplyTimeout,
	}
	if dane := d.DANE; dane != nil {
		opt.Match = func(chain []*x509.Certificate, now time.Time) error { return tlspolicy.Match(dane, chain, now) }
		if len(dane.Names) > 0 {
			opt.ServerName = dane.Names[0] // RFC 7672 8.1
		}
	}
	if at.route.Auth != nil {
		opt.Certificate = at.route.Auth.Certificate
	}
	return opt
}

func (w *worker) observe(t *mta.Target, step smtpclient.Step, f *mta.Failure) {
	if w.c.opt.Observer == nil {
		return
	}
	w.c.opt.Observer.Observe(Event{Time: time.Now(), Delivery: w.delivery, Target: *t, Step: step, Failure: f})
}

// place is where the open session, or a target, is.
func place(route *mta.Route, t *mta.Target) Place {
	return Place{Host: t.Host.Name, IP: t.IP.Unmap(), Router: route.Router != ""}
}
