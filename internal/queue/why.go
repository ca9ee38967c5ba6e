package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
)

// Explanation says where a delivery stands and what holds it.
type Explanation struct {
	State  mta.State
	Active bool      // an attempt is under way, or its result waits for the disk
	Site   string    // empty when not known (yet)
	Next   time.Time // when it is tried next; zero when now, or when nobody can say
	Reason string    // one sentence: the limit, reply or check that holds it
	Limit  string    // the name of the limit that holds it: "connections", "delivery.connections", "memory"; else empty
	Via    string    // the route that an operator gave it or its destination; empty: none
}

// Summary counts the queue. Active, Sites and Uncertain are the scheduler's
// own; the rest is the spool's.
type Summary struct {
	Queued       int64 `json:"queued"` // never attempted
	Deferred     int64 `json:"deferred"`
	Held         int64 `json:"held"`
	Active       int64 `json:"active"`       // attempts under way
	Destinations int64 `json:"destinations"` // with open deliveries; of those not in memory as last counted
	Sites        int64 `json:"sites"`        // known to be theirs
	OldestS      int64 `json:"oldest_s"`     // age of the oldest message, in seconds
	Uncertain    int64 `json:"uncertain"`    // final replies lost since the start
	// Holds are the destinations whose mail is held, also what comes later.
	Holds []Hold `json:"holds,omitempty"`
	// Reroutes are the destinations with an operator's route.
	Reroutes []Reroute `json:"reroutes,omitempty"`
}

// SiteState is one site × source as the scheduler sees it.
type SiteState struct {
	Site        string    `json:"site"`
	Connections int       `json:"connections"`
	Idle        int       `json:"idle"`
	Allowed     int       `json:"allowed"`
	Limit       int       `json:"limit"`
	Pace        float64   `json:"pace,omitempty"` // messages a second that it was found to take; 0: no bound was found
	Ready       int       `json:"ready"`
	Probe       time.Time `json:"probe,omitzero"` // of a site that is not reachable
	// Avoided is until when mail with other routes does not go there from this
	// source, because of what the receiver said (AvoidWhy).
	Avoided  time.Time `json:"avoided,omitzero"`
	AvoidWhy string    `json:"avoid_why,omitempty"`
	// Quota is until when the source, which is being warmed up, has nothing left
	// to send there.
	Quota    time.Time   `json:"quota,omitzero"`
	QuotaWhy string      `json:"quota_why,omitempty"`
	Rates    []RateState `json:"rates,omitempty"`
	Reason   string      `json:"reason"` // why Allowed is what it is
}

// Why explains one open delivery, as the spool shows it.
func (q *Queue) Why(ctx context.Context, d *mta.Delivery) (Explanation, error) {
	list, err := q.WhyAll(ctx, []*mta.Delivery{d})
	if err != nil {
		return Explanation{}, err
	}
	return list[0], nil
}

// WhyAll explains many open deliveries at once, by index. The loop works on
// nothing else meanwhile: at most a few hundred at a time.
func (q *Queue) WhyAll(ctx context.Context, list []*mta.Delivery) ([]Explanation, error) {
	out := make([]Explanation, len(list))
	err := q.ask(ctx, func(l *loop) {
		for i, d := range list {
			out[i] = l.why(d)
		}
	})
	if err != nil {
		return nil, err // the loop may still write to out
	}
	return out, nil
}

// Summary counts what is in the queue.
func (q *Queue) Summary(ctx context.Context) (Summary, error) {
	var s Summary
	err := q.ask(ctx, func(l *loop) {
		s.Active = int64(l.flying - l.ordering)
		s.Uncertain = l.uncertain
		// Counted, not looked through: with a million of them that would hold
		// every delivery up for half a second.
		s.Destinations = l.destinations()
		for _, site := range l.sites {
			if site.ready > 0 || site.workers > 0 || site.dests > 0 {
				s.Sites++
			}
		}
	})
	if err != nil {
		return Summary{}, err
	}
	stats, err := q.opts.Store.Stats(ctx)
	if err != nil {
		return Summary{}, fmt.Errorf("counting the spool: %w", err)
	}
	s.Queued, s.Deferred, s.Held = stats.Queued, stats.Deferred, stats.Held
	s.Holds, s.Reroutes = q.Holds(), q.Reroutes()
	if !stats.Oldest.IsZero() {
		s.OldestS = max(int64(q.opts.Now().Sub(stats.Oldest).Seconds()), 0)
	}
	return s, nil
}

// Sites lists the sites that the scheduler knows, by name.
func (q *Queue) Sites(ctx context.Context) ([]SiteState, error) {
	var out []SiteState
	err := q.ask(ctx, func(l *loop) {
		for _, s := range l.sites {
			state := l.state(s)
			state.Site = s.key
			out = append(out, state)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b SiteState) int { return strings.Compare(a.Site, b.Site) })
	return out, nil
}

// why explains a delivery by what is in memory of it or of its destination.
func (l *loop) why(m *mta.Delivery) Explanation {
	x := Explanation{State: m.State, Site: m.Last.Site, Via: l.q.via(m.Destination)}
	if m.State == mta.Held {
		if x.Reason = m.HeldBy; x.Reason == "" {
			x.Reason = "held"
		}
		return x
	}
	d := l.dests[m.Destination]
	e := l.entries[m.Key()]
	var w *way
	if e != nil {
		w = e.way
	} else if d != nil {
		w = d.wayFor(l.variant(m))
	}
	if w != nil && w.berth.site != nil {
		x.Site = w.berth.site.name
	}
	if e != nil && e.berth != nil {
		x.Site = e.berth.site.name
	}
	switch {
	case l.stopping:
		x.Reason = "the queue is stopping"
	case e == nil:
		l.whyOutside(&x, m, d, w)
	case e.phase == phaseFlight:
		x.Active = true
		x.Reason = "being delivered to " + x.Site
		switch {
		case e.doing != nil:
			x.Active = false
			x.Reason = e.doing.owner() + e.doing.Verb.String() + " is being stored"
		case e.settling:
			x.Reason = "attempted; the outcome is being stored"
		}
	case e.phase == phaseReady:
		l.whyReady(&x, e.berth.site, e.berth.stream)
	case e.paced:
		x.Next = time.UnixMilli(e.due).UTC()
		l.whyPaced(&x, e)
	case e.due > l.nowMS:
		x.Next = time.UnixMilli(e.due).UTC()
		x.Reason = deferredBecause(m)
	case l.standing(d.key) != nil:
		x.Reason = l.standing(d.key).Reason
	case w.gated():
		whyGated(&x, w)
	default:
		l.whyUnplanned(&x, w)
	}
	return x
}

func deferredBecause(m *mta.Delivery) string {
	if m.Last.Result.Reason != "" {
		return "deferred: " + m.Last.Result.Reason
	}
	if m.Last.Result.Reply.Code != 0 {
		return "deferred: " + m.Last.Result.Reply.String()
	}
	if m.Attempts == 0 && !m.Message.NotBefore.IsZero() {
		return "not to be sent before " + mta.FormatTime(m.Message.NotBefore)
	}
	return "waits for its time"
}

// whyOutside explains what is only in the spool.
func (l *loop) whyOutside(x *Explanation, m *mta.Delivery, d *dest, w *way) {
	switch {
	case ms(m.Due) > l.nowMS:
		x.Next = m.Due
		x.Reason = deferredBecause(m)
	case d == nil && !l.scanned:
		x.Reason = "the spool is being read after the start"
	case d == nil && l.nowMS >= l.horizon:
		x.Reason = "the spool is being looked through for what has come due"
	case d == nil:
		x.Reason = "just settled, or about to be scheduled"
	default:
		x.Limit = "memory"
		x.Reason = fmt.Sprintf("waits in the spool behind %d earlier deliveries to %s", d.inMemory(), d.key)
		if w == nil {
			return
		}
		if s := w.berth.site; w.gated() {
			whyGated(x, w)
		} else if s != nil && s.ready > 0 {
			var y Explanation
			l.whyReady(&y, s, s.byStream[d.key.Stream])
			x.Reason += "; " + y.Reason
			x.Next = y.Next
		}
	}
}

// whyReady explains what is ready and not handed out, of a stream when it is
// given.
func (l *loop) whyReady(x *Explanation, s *site, st *stream) {
	switch {
	case l.storeDown():
		x.Reason = "the spool cannot store outcomes; nothing new is started"
	case s.quota.until > l.nowMS:
		x.Limit, x.Next = "quota", time.UnixMilli(s.quota.until).UTC()
		x.Reason = s.quota.why + ", until " + mta.FormatTime(x.Next)
	case s.rate.until > l.nowMS:
		x.Limit, x.Next = "rate", time.UnixMilli(s.rate.until).UTC()
		x.Reason = s.name + " takes " + rateWords(&s.rate.rate)
		if s.rate.rate.Count == 0 {
			x.Reason = s.name + " takes what it has been found to take: " + s.ctl.Explain(l.now)
		}
	case st != nil && st.quota.until > l.nowMS:
		x.Limit, x.Next = "quota", time.UnixMilli(st.quota.until).UTC()
		x.Reason = st.quota.why + ", until " + mta.FormatTime(x.Next)
	case st != nil && st.rested.until > l.nowMS:
		x.Limit, x.Next = "rate", time.UnixMilli(st.rested.until).UTC()
		x.Reason = s.name + " takes " + rateWords(&st.rested.rate) + " of the stream " + st.name
	case s.ctl.Dead():
		x.Next = s.ctl.ProbeAt()
		x.Limit = "connections"
		x.Reason = s.name + " is " + s.ctl.Explain(l.now)
	case s.workers >= s.ctl.Allowed(l.now):
		x.Limit = "connections"
		x.Reason = fmt.Sprintf("waits for a connection to %s (%s)", s.name, s.ctl.Explain(l.now))
	case s.hungry:
		x.Limit = "delivery.connections"
		x.Reason = fmt.Sprintf("all %d connections are in use", l.set.limits.Connections)
	default:
		x.Reason = "a session to " + s.name + " is being opened"
	}
}

// whyUnplanned explains what is due and has no route.
func (l *loop) whyUnplanned(x *Explanation, w *way) {
	switch {
	case w.planQueued:
		x.Reason = "waits for a look-up of where " + w.mailFor() + " goes"
	case w.planning:
		x.Reason = "looking up where " + w.mailFor() + " goes"
	case w.plan == planRefused:
		x.Reason = "no route: " + complaint(firstResult(w.refusal))
	case w.plan == planStopped:
		x.Reason = stopOrder(w.stop).Reason
	default:
		x.Reason = "about to be scheduled"
	}
}

// watch runs every minute: it reports what is due and does not move, a line a
// site or destination, with the reason.
func (l *loop) watch() {
	lines := 0
	tell := func(since millis, reason string, args ...any) {
		if l.nowMS-since < stuckAfter.Milliseconds() {
			return
		}
		if lines++; lines <= watchLines {
			wait := l.nowMS - since
			l.q.opts.Logger.Warn("mail is due and does not move", append(args, mta.KeyReason, reason, mta.KeyDuration, wait)...)
		}
	}
	for _, s := range l.sites {
		if s.ready > 0 && s.closedUntil() <= l.nowMS { // else it waits as it was told
			var x Explanation
			l.whyReady(&x, s, nil)
			tell(s.moved, x.Reason, mta.KeySite, s.name, mta.KeyCount, s.ready)
		}
	}
	if l.walking {
		tell(l.walkSince, "the spool is being looked through")
	}
	for w := range l.planning {
		tell(w.planSince, "looking up where its mail goes", mta.KeyDestination, w.dest.key.String())
	}
	for _, w := range l.plans.longest(watchLines) {
		tell(w.planSince, "waits for a look-up", mta.KeyDestination, w.dest.key.String())
	}
	for d, since := range l.paging {
		tell(since, "the spool does not answer", mta.KeyDestination, d.key.String())
	}
	if lines > watchLines {
		l.q.opts.Logger.Warn("more mail is due and does not move", mta.KeyCount, lines-watchLines)
	}
}
