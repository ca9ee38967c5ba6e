package route

import (
	"context"

	"mailout/internal/mta"
)

// The router that stands in for direct delivery ([router] use = "fallback"):
// mail that no rule sends elsewhere goes directly, and by the router where the
// receiver refuses us. Where it does is known to package standing; the guard of
// the identity is asked too, since mail by routers is never held.

// Fallback is what is known of direct delivery to a site.
type Fallback struct {
	On  bool   // the router stands in
	Why string // a sentence
	// Probe says that a delivery may try the direct way once in a while.
	Probe bool
}

// probeWeight puts the direct way before the router where both are open: the
// quota of probes closes it.
const probeWeight = 1 << 20

// ProbeOrigin is mta.Warming.Origin of a way to be probed whose source is warm.
const ProbeOrigin = "[router] fallback_probe"

// fallback notes on a direct route that the router may stand in for it, or sends
// by the router what DNS does not place.
func (q *plan) fallback(ctx context.Context, r *mta.Route, failure *mta.Failure) (*mta.Route, *mta.Failure) {
	c := q.c
	switch {
	case failure == nil:
		r.Fallback = true
		return r, nil
	case !c.Router.Unresolved || !q.unresolved(failure) || ctx.Err() != nil:
		return nil, failure
	}
	return q.byRelay(ctx, c.router, at("[router]", c.Router.Line)+" for what DNS does not place")
}

// standIn gives the plan of mail that would go by direct, the plan of the route
// base, when the router stands in for it; otherwise that plan. Of its routes one
// stays, to be probed.
func (q *plan) standIn(ctx context.Context, base *mta.Route, direct *mta.Plan, stream string) (*mta.Plan, *mta.Failure) {
	if base == nil || !base.Fallback || direct == nil {
		return direct, nil
	}
	f := q.p.standsIn(base.Site)
	if held := allHeld(direct); held != "" {
		f = Fallback{On: true, Why: held}
	}
	if !f.On {
		return direct, nil
	}
	r, failure := q.byRelay(ctx, q.c.router, at("[router]", q.c.Router.Line)+" instead of direct delivery: "+f.Why)
	if failure != nil {
		return nil, failure
	}
	r.Instead, r.Fallback = base.Site, true
	plan, failure := q.p.spread(r, stream)
	if failure != nil {
		return nil, failure
	}
	out := *plan
	out.LeftOut = append(out.LeftOut[:len(out.LeftOut):len(out.LeftOut)], direct.LeftOut...)
	if direct.Expires.Before(out.Expires) {
		out.Expires = direct.Expires
	}
	if f.Probe {
		out.Routes = append(out.Routes[:len(out.Routes):len(out.Routes)], probeOf(direct))
	}
	return &out, nil
}

func (p *Planner) standsIn(site string) Fallback {
	if p.fallback == nil {
		return Fallback{}
	}
	return p.fallback(site)
}

// allHeld says why nothing goes directly; empty when something does.
func allHeld(plan *mta.Plan) (why string) {
	for _, r := range plan.Routes {
		if why = r.HeldBy; why == "" {
			return ""
		}
	}
	return why
}

// probeOf is the first direct route, for one delivery now and then.
func probeOf(direct *mta.Plan) *mta.Route {
	r := *direct.Routes[0]
	r.Probe, r.Weight = true, probeWeight
	if r.Warming == nil {
		r.Warming = &mta.Warming{Provider: r.Site, Origin: ProbeOrigin}
	}
	return &r
}
