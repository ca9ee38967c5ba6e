package queue

import (
	"fmt"
	"time"

	"mailout/internal/mta"
)

// Planning: where a way's mail goes now. Never two plans at once for one way; a
// plan counts until it expires.

// wantPlan asks for a plan unless one is being made.
func (l *loop) wantPlan(w *way) {
	if w.asking() || l.stopping {
		return
	}
	w.planQueued = true
	w.planSince = l.nowMS
	l.plans.push(w)
	l.serveHelpers()
}

func (l *loop) startPlan(w *way) {
	w.planQueued = false
	if w.gone {
		return
	}
	w.planning, w.planAgain = true, false
	l.planning[w] = l.nowMS
	l.young.push(planned{w, l.nowMS})
	q, key, variant, asked := l.q, w.dest.key, w.variant, asked{l.epoch, l.replans, l.nowMS}
	l.help(func() func(*loop) {
		plan, refusal := q.plan(key, variant)
		return func(l *loop) {
			l.endPlan(w)
			l.onPlanned(w, plan, refusal, asked)
		}
	})
}

// plan asks the planner; a panic in it, or no answer at all, is our trouble
// and refuses for now.
func (q *Queue) plan(key mta.Destination, variant string) (plan *mta.Plan, refusal *mta.Attempt) {
	start := q.opts.Now()
	err := q.guard("planning "+key.Domain, func() error {
		plan, refusal = q.opts.Planner.Plan(q.work, key, variant)
		if refusal == nil && (plan == nil || plan.Stop == nil && len(plan.Routes) == 0) {
			return fmt.Errorf("no route for %s was made", key.Domain)
		}
		return nil
	})
	if err != nil {
		return nil, q.ownTrouble(start, err.Error())
	}
	return plan, refusal
}

// ownTrouble is the attempt that failed because of us.
func (q *Queue) ownTrouble(start time.Time, reason string) *mta.Attempt {
	return &mta.Attempt{Start: start, End: q.opts.Now(), Results: []mta.Result{{
		Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: reason,
		Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 0},
	}}}
}

// asked is when a plan was asked for: in which epoch and turn, and the time.
type asked struct {
	epoch int
	turn  uint64
	since millis
}

// onPlanned takes in a plan.
func (l *loop) onPlanned(w *way, plan *mta.Plan, refusal *mta.Attempt, asked asked) {
	if w.gone {
		return
	}
	d := w.dest
	if l.guarded {
		d.check = 0 // whether its time counts depends on the routes
	}
	switch {
	case l.stopping: // a look-up that the stop cut short says nothing
	case asked.epoch != l.epoch || w.planAgain || plan != nil && l.outdated(plan, asked.turn):
		l.wantPlan(w) // what it was asked has changed meanwhile
	case refusal != nil:
		l.unroute(w)
		w.plan, w.refusal = planRefused, refusal
		w.routeUntil = l.nowMS + failedPlan.Milliseconds()
		if firstResult(refusal).Class != mta.ClassPermanent {
			w.routeUntil = l.nowMS + failedLookUp.Milliseconds()
		}
		l.noRouter(w)
	case plan.Stop != nil:
		l.found(w)
		l.unroute(w)
		w.plan, w.stop = planStopped, plan.Stop
		w.routeUntil = l.life(plan.Expires)
	default:
		l.routed(w, plan, asked.since)
	}
	l.advance(d)
}

// unroute takes a way's mail from the sites of its routes.
func (l *loop) unroute(w *way) {
	l.unreadyWay(w)
	l.leaveSites(w)
	w.refusal, w.stop = nil, nil
}

// routed sends a way's mail by the routes of a plan from now on.
func (l *loop) routed(w *way, plan *mta.Plan, since millis) {
	l.berths(w, len(plan.Routes))
	b := &w.berth
	until := never
	if !plan.Expires.IsZero() {
		until = l.life(plan.Expires)
	}
	for _, route := range plan.Routes {
		s := l.siteOf(route, since)
		if old := b.site; old != s {
			l.unreadyBerth(b)
			l.leaveSite(b)
			b.site = s
			s.dests++
			l.leftRouter(w, old)
		}
		s.share(b, len(plan.Routes) > 1)
		if s.wasShut {
			l.rearm(s) // the end of that concerns those who share it
		}
		b.route = route
		until = min(until, l.life(route.Expires))
		b = b.next
	}
	l.found(w)
	w.plan, w.refusal, w.stop = planRouted, nil, nil
	w.routeUntil = until
	l.rechoose(w)
	l.unpaceWay(w)
}

// life is until when a plan with this end counts; without an end for a while.
func (l *loop) life(expires time.Time) millis {
	least := l.nowMS + leastRoute.Milliseconds()
	if expires.IsZero() {
		return least
	}
	return max(least, expires.UnixMilli())
}

// refuse gives a failed plan's result to what is due, a batch at a time.
func (l *loop) refuse(w *way) {
	if w.failing > 0 {
		return
	}
	batch := l.dueBatch(w)
	w.failing = len(batch)
	refusal := w.refusal
	l.clerkWork.push(func() {
		for _, e := range batch {
			o := l.q.conclude(e, fitted(refusal, len(e.d.Recipients)), mta.Last{})
			o.refused = true
			l.q.settle(o)
		}
	})
	l.serveHelpers()
}

// dueBatch takes some of what is due into flight.
func (l *loop) dueBatch(w *way) []*entry {
	batch := make([]*entry, 0, min(failBatch, len(w.due)))
	for len(batch) < failBatch && !l.waits(w) {
		e := w.due.top()
		l.take(e)
		batch = append(batch, e)
	}
	return batch
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

// replan drops every plan: what has not started goes back to be planned, on the
// ways that the planner names now, and rates and quotas are asked anew.
func (l *loop) replan() {
	l.epoch++
	for _, s := range l.sites {
		l.unbound(s)
	}
	for _, d := range l.dests {
		for w := &d.first; w != nil; w = w.next {
			l.unplan(w)
		}
		l.sort(d)
		l.advance(d)
	}
}

// unbound forgets what rates and quotas said: they may be others now. Where they
// are not they say it again.
func (l *loop) unbound(s *site) {
	s.quota, s.rate, s.allRest, s.streamsAt = shut{}, rest{}, 0, 0
	for _, st := range s.byStream {
		st.quota, st.rested = shut{}, rest{}
	}
	l.pass(s)
}

// unplan drops a way's plan; the caller advances its destination.
func (l *loop) unplan(w *way) {
	l.unreadyWay(w)
	l.unpaceWay(w)
	w.plan, w.routeUntil = planNone, 0
	w.planAgain = w.planning
}
