package route

import (
	"context"
	"sort"
	"strings"
	"time"

	"mailout/internal/mta"
)

// decision is what the rules say.
type decision struct {
	target  *target
	matched string
	until   time.Time // a table's answer is good until then; zero: no end
}

// decide finds the first rule that holds for mail of a destination, with those
// noted of its messages. For mail that was released from a hold it passes over
// those that hold.
func (c *compiled) decide(ctx context.Context, domain, stream string, list []noted, released bool) (d decision, failure *mta.Failure) {
	var lists room
	w := walk{lists: lists[:0]}
	c.index.begin(&w, domain, stream)
	w.add(numbers(list))
	for i, ok := w.next(); ok; i, ok = w.next() {
		rule := &c.rules[i]
		n := find(list, i)
		if rule.dependent && n == nil || !rule.meetsStream(stream) {
			continue
		}
		if rule.table == nil {
			if released && rule.target.way == wayHold {
				continue
			}
			d.target, d.matched = &rule.target, rule.matched
			return d, nil
		}
		a, failure := rule.table.answer(ctx, domain, stream, n)
		if failure != nil {
			return d, failure
		}
		d.until = sooner(d.until, a.until)
		if !a.found {
			continue
		}
		matched := rule.matched + ", " + a.place
		target, failure := c.resolve(rule, a.spec, matched)
		if failure == nil && released && target.way == wayHold {
			continue
		}
		d.target, d.matched = target, matched
		return d, failure
	}
	d.target = &c.unmatched
	return d, nil
}

func numbers(list []noted) []int32 {
	if len(list) == 0 {
		return nil
	}
	out := make([]int32, len(list))
	for i, n := range list {
		out[i] = n.rule
	}
	return out
}

// find finds a rule among those noted, which are in its order.
func find(list []noted, rule int32) *noted {
	i := sort.Search(len(list), func(i int) bool { return list[i].rule >= rule })
	if i < len(list) && list[i].rule == rule {
		return &list[i]
	}
	return nil
}

// sooner gives the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// PlanFor decides where mail of a destination and variant goes now: it gives
// what Variant's rules and, before them all, an operator's route say. It takes
// as long as DNS and a table's service do; when ctx ends the cause is dns or
// local. The failures are those of Route; further cause rule (a rule refuses the
// mail) and local (a table cannot be asked).
//
// A direct route is subject to Hold: it may have HeldBy set, or IPv6 not.
func (p *Planner) PlanFor(ctx context.Context, d mta.Destination, variant string) (*mta.Plan, *mta.Failure) {
	variant, released := strings.CutPrefix(variant, mta.VariantReleased)
	variant, requireTLS, anyTLS := byMessage(variant)
	if via, matched := p.rerouted(d); via != "" {
		q, failure := p.plan(d.Domain, p.settings.Load())
		if failure != nil {
			return nil, failure
		}
		q.requireTLS, q.anyTLS = requireTLS, anyTLS
		r, failure := q.decideVia(ctx, via, matched)
		return p.planOf(r, failure, d.Stream)
	}
	c, list, current, ok := p.under(variant)
	if !ok {
		return nil, fail(mta.CauseLocal, nil, "the routes were changed while this mail was looked at")
	}
	q, failure := p.plan(d.Domain, c)
	if failure != nil {
		return nil, failure
	}
	q.requireTLS, q.anyTLS = requireTLS, anyTLS
	decided, failure := c.decide(ctx, q.domain, d.Stream, list, released)
	if failure != nil {
		return nil, failure
	}
	plan, failure := q.carryOut(ctx, decided, d.Stream)
	if failure != nil {
		return nil, failure
	}
	if !decided.until.IsZero() {
		plan.Expires = clamp(plan.Expires, q.now.Add(minLife), latest(decided.until, q.now.Add(minLife)))
	}
	if !current {
		plan.Expires = q.now.Add(minLife)
	}
	return plan, nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// planOf makes a plan of a route.
func (p *Planner) planOf(r *mta.Route, failure *mta.Failure, stream string) (*mta.Plan, *mta.Failure) {
	if failure != nil {
		return nil, failure
	}
	return p.spread(r, stream)
}

// carryOut makes the plan of a decision.
func (q *plan) carryOut(ctx context.Context, d decision, stream string) (*mta.Plan, *mta.Failure) {
	t := d.target
	q.pool = t.pool
	switch t.way {
	case wayHold:
		return q.stop(mta.StopHold, d.matched, "held by "+d.matched), nil
	case wayDiscard:
		return q.stop(mta.StopDiscard, d.matched, "discarded by "+d.matched), nil
	case wayFail:
		return nil, fail(mta.CauseRule, nil, "%s", or(t.text, DefaultText))
	}
	r, failure := q.send(ctx, t, d.matched)
	plan, failure := q.p.planOf(r, failure, stream)
	if failure != nil {
		return nil, failure
	}
	return q.standIn(ctx, r, plan, stream)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// stop makes the plan that ends the mail's way.
func (q *plan) stop(a mta.StopAction, matched, reason string) *mta.Plan {
	return &mta.Plan{Stop: &mta.Stop{Action: a, Reason: reason, Matched: matched}, Expires: q.now.Add(maxLife)}
}

// send makes the route to a target.
func (q *plan) send(ctx context.Context, t *target, matched string) (*mta.Route, *mta.Failure) {
	switch t.way {
	case wayDirect:
		return q.direct(ctx, matched, t.port, own{t.tls, t.ruled})
	case wayRouter:
		return q.byRelay(ctx, q.c.router, matched)
	case wayHost:
		return q.byRelay(ctx, t.relay, matched)
	}
	r, failure := q.byDefault(ctx)
	if r != nil && matched != "" {
		r.Matched = matched + ", then " + r.Matched
	}
	return r, failure
}

// byDefault makes the route of mail that no rule sends elsewhere.
func (q *plan) byDefault(ctx context.Context) (*mta.Route, *mta.Failure) {
	c := q.c
	if c.router == nil {
		return q.direct(ctx, "direct (default)", c.Port, own{tls: c.TLS})
	}
	matched := at("[router]", c.Router.Line)
	if c.Router.Use == UseAlways {
		return q.byRelay(ctx, c.router, matched)
	}
	r, failure := q.direct(ctx, "direct (before [router])", c.Port, own{tls: c.TLS})
	if c.Router.Use == UseFallback {
		return q.fallback(ctx, r, failure)
	}
	if failure == nil || !q.unresolved(failure) || ctx.Err() != nil {
		return r, failure
	}
	return q.byRelay(ctx, c.router, matched)
}
