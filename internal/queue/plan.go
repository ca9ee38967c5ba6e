package queue

import (
	"fmt"
	"time"

	"mailout/internal/mta"
)

// Planning: where a destination's mail goes now. Never two plans at once for
// one destination; a plan counts until its route expires.

// wantPlan asks for a plan unless one is under way.
func (l *loop) wantPlan(d *dest) {
	if d.planQueued || d.planning || l.stopping {
		return
	}
	d.planQueued = true
	d.planSince = l.nowMS
	l.plans.push(d)
	l.serveHelpers()
}

func (l *loop) startPlan(d *dest) {
	d.planQueued = false
	if d.removed {
		return
	}
	d.planning = true
	l.planning[d] = l.nowMS
	l.young.push(planned{d, l.nowMS})
	q, key, epoch := l.q, d.key, l.epoch
	l.help(func() func(*loop) {
		route, refusal := q.plan(key)
		return func(l *loop) { l.onPlanned(d, epoch, route, refusal) }
	})
}

// plan asks the planner; a panic in it, or no answer at all, is our trouble
// and refuses for now.
func (q *Queue) plan(key mta.Destination) (route *mta.Route, refusal *mta.Attempt) {
	start := q.opts.Now()
	err := q.guard("planning "+key.Domain, func() error {
		var plan *mta.Plan
		plan, refusal = q.opts.Planner.Plan(q.work, key, "")
		if refusal != nil {
			return nil
		}
		if plan == nil || len(plan.Routes) == 0 {
			return fmt.Errorf("no route for %s was made", key.Domain)
		}
		route = plan.Routes[0]
		return nil
	})
	if err != nil {
		return nil, q.ownTrouble(start, err.Error())
	}
	return route, refusal
}

// ownTrouble is the attempt that failed because of us.
func (q *Queue) ownTrouble(start time.Time, reason string) *mta.Attempt {
	return &mta.Attempt{Start: start, End: q.opts.Now(), Results: []mta.Result{{
		Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: reason,
		Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 0},
	}}}
}

func (l *loop) onPlanned(d *dest, epoch int, route *mta.Route, refusal *mta.Attempt) {
	l.endPlan(d)
	if l.guarded {
		d.check = 0 // whether its time counts depends on the route
	}
	switch {
	case l.stopping: // a look-up that the stop cut short says nothing
	case epoch != l.epoch:
		l.wantPlan(d) // the configuration changed meanwhile
	case route != nil:
		l.routed(d, route)
	default:
		l.unreadyAll(d)
		l.leaveSite(d)
		d.plan, d.route, d.refusal = planRefused, nil, refusal
		d.routeUntil = l.nowMS + failedPlan.Milliseconds()
		if firstResult(refusal).Class != mta.ClassPermanent {
			d.routeUntil = l.nowMS + failedLookUp.Milliseconds()
		}
	}
	l.advance(d)
}

// routed sends a destination's mail by a route from now on.
func (l *loop) routed(d *dest, route *mta.Route) {
	s := l.siteOf(route)
	if d.site != s {
		l.unreadyAll(d)
		l.leaveSite(d)
		d.site = s
		s.dests++
	}
	d.plan, d.route, d.refusal = planRouted, route, nil
	d.routeUntil = l.nowMS + leastRoute.Milliseconds()
	if !route.Expires.IsZero() {
		d.routeUntil = max(d.routeUntil, route.Expires.UnixMilli())
	}
}

// refuse gives a failed plan's result to what is due, a batch at a time.
func (l *loop) refuse(d *dest) {
	if d.failing > 0 {
		return
	}
	batch := make([]*entry, 0, min(failBatch, len(d.due)))
	for len(batch) < failBatch && len(d.due) > 0 && d.due.top().due <= l.nowMS {
		e := d.due.top()
		l.take(e)
		batch = append(batch, e)
	}
	d.failing = len(batch)
	refusal := d.refusal
	l.clerkWork.push(func() {
		for _, e := range batch {
			o := l.q.conclude(e, fitted(refusal, len(e.d.Recipients)), mta.Last{})
			o.refused = true
			l.q.settle(o)
		}
	})
	l.serveHelpers()
}

// fitted is an attempt with its one result given to each of n recipients.
func fitted(a *mta.Attempt, n int) *mta.Attempt {
	fit := *a
	fit.Results = make([]mta.Result, n)
	for i := range fit.Results {
		fit.Results[i] = firstResult(a)
	}
	return &fit
}

// replan drops every route: what has not started goes back to be planned.
func (l *loop) replan() {
	l.epoch++
	for _, d := range l.dests {
		if d.plan == planNone {
			continue
		}
		l.unplan(d)
	}
}

// unplan drops a destination's route.
func (l *loop) unplan(d *dest) {
	l.unreadyAll(d)
	d.plan, d.routeUntil = planNone, 0
	l.advance(d)
}
