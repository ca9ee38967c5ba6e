package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/route"
	"mailout/internal/spool"
	"mailout/internal/standing"
	"mailout/internal/tlspolicy"
	"mailout/internal/transport"
	"mailout/internal/warmup"
)

// Explain says how mail for an address would be delivered by what the file and
// DNS say. No daemon is asked: nothing is known of what was learnt and what
// waits.
func Explain(ctx context.Context, c *config.Config, r admin.ExplainRequest) (*admin.Explanation, error) {
	resolver := dns.New(dnsOptions(c))
	defer resolver.Close()
	sts := newSTS(c, resolver, tlspolicy.STSOptions{})
	defer sts.Stop()
	planner, err := route.New(route.Options{Resolver: resolver, Settings: routeSettings(c), Secret: config.ReadSecret, STS: sts})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	sources := newSources(c, slog.New(slog.DiscardHandler))
	sources.tell = planner.Down
	sources.check(ctx, false)
	e := explainer{config: c, planner: planner, dnssec: resolver.DNSSEC}
	return e.explain(ctx, r)
}

// Explain says how mail for an address would be delivered now.
func (d *Daemon) Explain(ctx context.Context, r admin.ExplainRequest) (*admin.Explanation, error) {
	d.mu.Lock()
	c := d.mu.config
	d.mu.Unlock()
	e := explainer{config: c, planner: d.planner, dnssec: d.resolver.DNSSEC, queue: d.queue, store: d.store, warmup: d.warmup, standing: d.standing, trouble: d.routers.alarms.why, listed: d.suppression.words}
	return e.explain(ctx, r)
}

// explainer joins what the parts know. queue and store are nil without a
// daemon.
type explainer struct {
	config  *config.Config
	dnssec  func(context.Context) dns.DNSSECState
	planner *route.Planner
	queue   *queue.Queue
	store   spool.Store
	trouble func(router string) string // why it cannot be used
	listed  func(ctx context.Context, address, stream string) string
	warmup  *warmup.Ledger

	standing *standing.Standing
}

func (e *explainer) explain(ctx context.Context, r admin.ExplainRequest) (*admin.Explanation, error) {
	out := &admin.Explanation{
		Recipient: r.Address.String(), Destination: r.Address.Domain, Daemon: e.queue != nil,
		Hosts: []admin.ExplainedHost{}, Sources: []admin.ExplainedFrom{}, Limits: []admin.ExplainedLimit{}, Policies: []admin.ExplainedPolicy{}, Helo: e.config.Hostname,
	}
	if e.listed != nil {
		out.Suppressed = e.listed(ctx, out.Recipient, r.Mail.Stream)
	}
	plan := e.plan(ctx, out, r)
	if e.dnssec != nil {
		out.DNSSEC = dnssecWords(e.dnssec(ctx))
	}
	if e.queue != nil {
		if err := e.waiting(ctx, out, plan); err != nil {
			return nil, err
		}
	} else if plan != nil {
		out.Limits = e.limits(plan, nil)
	}
	if r.Probe && plan != nil {
		test, err := e.probe(ctx, plan, r)
		if err != nil {
			return nil, err
		}
		out.Probe = test
	}
	return out, nil
}

// refusalWords says what becomes of mail without a route.
func refusalWords(f *mta.Failure) string {
	result := transport.JudgeRoute(f, 1).Results[0]
	fate := "mail waits and is tried again"
	if result.Class == mta.ClassPermanent {
		fate = "mail is returned to its sender"
	}
	return fmt.Sprintf("%s (%s: %s)", result.Reason, result.Enhanced, fate)
}

// route fills in what the route says, to mail with REQUIRETLS or without.
func (e *explainer) route(out *admin.Explanation, r *mta.Route, requireTLS bool) {
	out.Route, out.Matched, out.Site = "direct", r.Matched, r.Site
	if r.Router != "" {
		out.Route = r.Router
		if e.trouble != nil {
			out.RouterTrouble = e.trouble(r.Router)
		}
	}
	for _, h := range r.Hosts {
		host := admin.ExplainedHost{Name: h.Name, Preference: h.Preference, Addresses: []string{}, DNSSEC: dnssec(r, &h)}
		for _, a := range h.Addresses {
			host.Addresses = append(host.Addresses, a.String())
		}
		if h.Failure != nil {
			host.Failure = h.Failure.Text
		} else {
			tls := e.tls(r, &h, requireTLS)
			host.TLS = &tls
		}
		out.Hosts = append(out.Hosts, host)
	}
	out.TLS = e.tls(r, nil, requireTLS)
	if t := &e.config.TLS; t.DANE || t.STS { // else nobody looked
		out.Policies = policies(r, time.Now())
	}
	if targets := r.Targets(nil); len(targets) > 0 {
		out.Helo = targets[0].Source.Hostname
		if ip := targets[0].Source.IP; ip.IsValid() {
			out.Source = ip.String()
		}
	}
}

// dnssec says what the answers that led to a host were worth. A configured
// host is not found by MX records.
func dnssec(r *mta.Route, h *mta.Host) string {
	if _, err := netip.ParseAddr(h.Name); err == nil {
		return "none"
	}
	if h.Secure && (r.Secure || r.Router != "") {
		return "secure"
	}
	return "insecure"
}

// tlsOrigin names the key that decides. A [[route]] without tls has that of
// [tls] outbound, but one with a host has a default of its own.
func (e *explainer) tlsOrigin(r *mta.Route) string {
	key := "tls.outbound"
	var n int
	switch {
	case strings.HasPrefix(r.Matched, "[router]"):
		key = "router.tls"
	default:
		if _, err := fmt.Sscanf(r.Matched, "[[route]] %d", &n); err != nil || n < 1 || n > len(e.config.Routes) {
			break
		}
		if of := &e.config.Routes[n-1]; r.Router != "" && !of.To() && of.Table == "" {
			key = "router.tls"
		} else if of.To() || e.config.Given(fmt.Sprintf("route.%d.tls", n)) {
			key = fmt.Sprintf("route.%d.tls", n)
		}
	}
	return e.origin(key)
}

// origin is a key, marked when its value is a default.
func (e *explainer) origin(key string) string {
	if e.config.Given(key) {
		return key
	}
	return key + " (default)"
}

func or(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// waiting fills in what the scheduler and the spool know: limits, and what
// holds the destination.
func (e *explainer) waiting(ctx context.Context, out *admin.Explanation, r *mta.Route) error {
	var site *queue.SiteState
	if r != nil {
		state, known, err := e.queue.Site(ctx, r)
		if err != nil {
			return err
		}
		if known {
			site = &state
		}
		out.Limits = e.limits(r, site)
	}
	waits, err := e.waits(ctx, out.Destination)
	if err != nil {
		return err
	}
	held := e.heldDestination(out.Destination)
	switch {
	case held != "":
		out.HeldBy = held
	case r != nil && r.HeldBy != "":
		out.HeldBy = r.HeldBy
	case waits != nil:
		out.HeldBy = waits.Reason
		if !waits.Next.IsZero() {
			out.Next = mta.FormatTime(waits.Next)
		}
	case site != nil && !site.Probe.IsZero():
		out.HeldBy, out.Next = out.Site+" is "+site.Reason, mta.FormatTime(site.Probe)
	}
	return nil
}

// heldDestination says what holds a domain by an operator's order; of holds for
// streams it names each.
func (e *explainer) heldDestination(domain string) string {
	var words []string
	for _, h := range e.queue.Holds() {
		if h.Destination == domain {
			words = append(words, h.String())
		}
	}
	return strings.Join(words, "; ")
}

// Bounds of looking for what waits for a destination: deliveries of a stream,
// and the time for streams that the configuration does not name.
const (
	waitsPage = 20
	waitsTime = 2 * time.Second
)

// waits finds the delivery of a domain that comes first, and what holds it;
// nil when none waits.
func (e *explainer) waits(ctx context.Context, domain string) (*queue.Explanation, error) {
	var list []*mta.Delivery
	for _, dest := range e.destinations(ctx, domain) {
		page, err := e.store.Page(ctx, dest, spool.Cursor{}, waitsPage)
		if err != nil {
			return nil, err
		}
		list = append(list, page...)
	}
	if held := e.held(ctx, domain); held != nil {
		list = append(list, held)
	}
	why, err := e.queue.WhyAll(ctx, list)
	if err != nil {
		return nil, err
	}
	var first *queue.Explanation
	for i := range why {
		if w := &why[i]; !w.Active && (first == nil || sooner(w, first)) {
			first = w
		}
	}
	return first, nil
}

// sooner tells which of two deliveries tells more of a destination: what waits
// for a limit, then what is due first, then what is held.
func sooner(a, b *queue.Explanation) bool {
	if ah, bh := a.State == mta.Held, b.State == mta.Held; ah != bh {
		return bh
	}
	return a.Next.Before(b.Next)
}

// destinations are those of a domain that have mail. Streams are labels that
// senders choose: those that the file does not name are looked for in the
// spool, not for long.
func (e *explainer) destinations(ctx context.Context, domain string) []mta.Destination {
	out := []mta.Destination{{Domain: domain, Stream: mta.DefaultStream}}
	add := func(d mta.Destination) {
		for _, known := range out {
			if known == d {
				return
			}
		}
		out = append(out, d)
	}
	for _, s := range e.config.Streams {
		add(mta.Destination{Domain: domain, Stream: s.Name})
	}
	ctx, cancel := context.WithTimeout(ctx, waitsTime)
	defer cancel()
	// An error is the end of the time: what was found is used.
	_ = e.store.Destinations(ctx, func(p spool.Pending) bool {
		if p.Destination.Domain == domain {
			add(p.Destination)
		}
		return len(out) < waitsPage
	})
	return out
}

// held finds one held delivery of a domain. They are not in the due order; the
// list is looked through, not for long, and only when there are any.
func (e *explainer) held(ctx context.Context, domain string) (found *mta.Delivery) {
	stats, err := e.store.Stats(ctx)
	if err != nil || stats.Held == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitsTime)
	defer cancel()
	state := mta.Held
	_ = e.store.List(ctx, spool.Filter{Destination: domain, State: &state}, func(d *mta.Delivery) bool {
		found = d
		return false
	})
	return found
}
