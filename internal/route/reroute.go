package route

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"mailout/internal/mta"
)

// Routes that an operator gives instead of the configuration's: one for a single
// delivery stands in its destination (mta.Destination.Via), one for all mail of
// a destination is a Reroute. What holds for a configured route holds for them:
// nothing goes to ourselves or to an impossible address, a host that cannot be
// found defers its mail, and Hold applies to what is direct.

// The words of Via beside hosts.
const (
	ViaDirect = Direct   // by the domain's mail exchangers, whatever is configured
	ViaRouter = "router" // by [router], whatever its use
)

// Reroute gives all mail of a destination another route, but for deliveries
// with one of their own.
type Reroute struct {
	Domain string
	Stream string // empty: every stream without a Reroute of its own
	To     string // as ParseVia gave it
	Why    string // who and why, for Route.Matched
}

// ParseVia reads where an operator sends mail: "direct", "router", or a host as
// Rule.Host has it. It gives the form that mta.Destination.Via has.
func ParseVia(text string) (string, error) {
	via := strings.ToLower(strings.TrimSpace(text))
	if via == ViaDirect || via == ViaRouter {
		return via, nil
	}
	if len(via) > mta.MaxVia || !mta.Printable(via) || strings.Contains(via, bySocket) {
		return "", fmt.Errorf("host: this is neither a host name nor an address")
	}
	_, err := parseRelay(via, 0, smtpPort)
	return via, err
}

// Reroute replaces the operator's routes for destinations, for the calls that
// follow.
func (p *Planner) Reroute(list []Reroute) {
	rules := make(map[mta.Destination]Reroute, len(list))
	for _, r := range list {
		rules[mta.Destination{Domain: r.Domain, Stream: r.Stream}] = r
	}
	p.reroutes.Store(&rules)
}

// rerouted finds the operator's route for a destination.
func (p *Planner) rerouted(d mta.Destination) (via, matched string) {
	if d.Via != "" {
		return d.Via, "rerouted to " + d.Via
	}
	rules := p.reroutes.Load()
	if rules == nil || len(*rules) == 0 {
		return "", ""
	}
	r, ok := (*rules)[d]
	if !ok {
		r = (*rules)[mta.Destination{Domain: d.Domain}]
	}
	return r.To, r.Why
}

// RouteFor is PlanFor for mail that meets no rule by sender, user or tag. It
// gives the first route; where a rule ends the mail's way the failure has the
// cause rule.
func (p *Planner) RouteFor(ctx context.Context, d mta.Destination) (*mta.Route, *mta.Failure) {
	variant := ""
	if c := p.settings.Load(); c.dependent && d.Via == "" {
		variant = c.none
	}
	plan, failure := p.PlanFor(ctx, d, variant)
	switch {
	case failure != nil:
		return nil, failure
	case plan.Stop != nil:
		return nil, fail(mta.CauseRule, nil, "%s", plan.Stop.Reason)
	}
	return plan.Routes[0], nil
}

func (q *plan) decideVia(ctx context.Context, via, matched string) (*mta.Route, *mta.Failure) {
	switch {
	case via == ViaDirect:
		return q.direct(ctx, matched, q.c.Port, own{tls: q.c.TLS})
	case via != ViaRouter:
		to, err := q.p.vias.relay(via, q.c)
		if err != nil {
			return nil, fail(mta.CauseRouter, err, "rerouted to %s: %v", via, err)
		}
		return q.byRelay(ctx, to, matched)
	case q.c.router == nil:
		return nil, fail(mta.CauseRouter, nil, "rerouted to the router, and no [router] is configured")
	}
	return q.byRelay(ctx, q.c.router, matched)
}

// maxVias bounds how many of an operator's hosts are remembered.
const maxVias = 256

// vias are an operator's hosts, parsed once so that warnings about each are
// rare.
type vias struct {
	mu struct {
		sync.Mutex
		under *compiled // the settings they were parsed under
		known map[string]*relay
	}
}

func (v *vias) relay(text string, c *compiled) (*relay, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.under != c || len(v.mu.known) >= maxVias {
		v.mu.under, v.mu.known = c, make(map[string]*relay)
	}
	if r := v.mu.known[text]; r != nil {
		return r, nil
	}
	r, err := parseRelay(text, 0, c.Port)
	if err != nil {
		return nil, err
	}
	r.tls = c.TLS
	v.mu.known[text] = r
	return r, nil
}
