package queue

import (
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

// The gate: direct mail that the guard of the identity holds (identity.guard =
// "hold").
//
// Who judges the sources gives it to the planner, whose routes say what holds
// them (mta.Route.HeldBy), and tells the queue by SetGuard that they are to be
// planned anew. A destination with such a route keeps its deliveries where they
// are: due, and never ready. Nothing is written for it, so that closing and
// opening costs the same with one delivery and with a million; a session under
// way ends its transaction and finds no more work.
//
// The time in which the guard holds direct mail does not count: meanwhile no
// direct mail expires or owes a notice, and afterwards each message has as much
// time left as before. The spans are what SetGuard told; daemon keeps them over
// a restart. Rejected: a state written for each delivery (a million writes, and
// as many to undo), and a clock for each source (one more fact to keep with each
// delivery, to expire a little mail of the other sources a little earlier).

// Span is a time in which the guard held direct mail.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"` // zero: still
}

// keepSpans bounds how many are remembered. Beyond, the two with the shortest
// time between them become one, so that mail gets a little more time, never less.
const keepSpans = 32

// joined bounds spans, which are this function's to change.
func joined(spans []Span) []Span {
	for len(spans) > keepSpans {
		at := 1
		for i := 2; i < len(spans); i++ {
			if spans[i].From.Sub(spans[i-1].To) < spans[at].From.Sub(spans[at-1].To) {
				at = i
			}
		}
		spans[at-1].To = spans[at].To
		spans = append(spans[:at], spans[at+1:]...)
	}
	return spans
}

// SetGuard tells that the guard holds some direct mail now, or none (any more),
// or other sources than before: every route is planned anew. The planner must
// know first. It returns when that is so, and at once when the queue has ended;
// call it after Start.
func (q *Queue) SetGuard(holds bool) {
	done := make(chan struct{})
	if q.send(event{kind: evCall, call: func(l *loop) { l.setGuard(holds); close(done) }}) {
		select {
		case <-done:
		case <-q.done:
		}
	}
}

// Guarded gives the times in which the guard held direct mail, the oldest
// first: for Options.Guarded after a restart.
func (q *Queue) Guarded() []Span {
	if p := q.guarded.Load(); p != nil {
		return *p
	}
	return nil
}

// holding reports whether the last of some spans goes on.
func holding(spans []Span) bool { return len(spans) > 0 && spans[len(spans)-1].To.IsZero() }

func (l *loop) setGuard(holds bool) {
	spans := append([]Span(nil), l.q.Guarded()...)
	switch {
	case holds && !l.guarded:
		spans = joined(append(spans, Span{From: l.now.UTC()}))
	case !holds && l.guarded:
		spans[len(spans)-1].To = l.now.UTC()
	}
	l.guarded = holds
	l.q.guarded.Store(&spans)
	for _, d := range l.dests {
		d.check = 0 // what may expire has changed
	}
	l.replan()
}

// timeless reports that a way's waiting does not count now: the guard or an
// operator holds its mail. Where nobody knows how it is routed it may be direct.
func (l *loop) timeless(w *way) bool {
	return l.standing(w.dest.key) != nil || l.guarded && !w.relayed()
}

// allTimeless reports that none of a destination's waiting counts.
func (l *loop) allTimeless(d *dest) bool {
	for w := &d.first; w != nil; w = w.next {
		if !l.timeless(w) {
			return false
		}
	}
	return true
}

// schedule is a message's: its stream's, and its own expiry, which is a moment
// wherever its arrival is counted from.
func (set *settings) schedule(m *mta.Message, arrived time.Time) retry.Schedule {
	s := set.schedules.For(m.Stream)
	if !m.Expires.IsZero() {
		s = s.Within(m.Expires.Sub(arrived))
	}
	return s
}

// arrived is a message's arrival as notices and expiry count it: when it was to
// be sent at the earliest, and later by the time that the guard took since.
func (q *Queue) arrived(m *mta.Message) time.Time {
	spans, start := q.Guarded(), m.Start()
	if len(spans) == 0 {
		return start
	}
	var taken time.Duration
	for _, s := range spans {
		to := s.To
		if to.IsZero() {
			to = q.opts.Now()
		}
		from := s.From
		if start.After(from) {
			from = start
		}
		taken += max(to.Sub(from), 0)
	}
	return start.Add(taken)
}

// whyGated explains what the guard holds.
func whyGated(x *Explanation, w *way) {
	x.Limit = "identity.guard"
	x.Reason = w.berth.route.HeldBy
}
