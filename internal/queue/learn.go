package queue

import (
	"time"

	"mailout/internal/mta"
)

// What attempts teach a site's controller, and the release of what was deferred
// for a site's sake.

// learn feeds the controller with an attempt's outcome.
func (l *loop) learn(w *worker, o *outcome) {
	s, d := w.site, o.e.way.dest
	wasDead := s.ctl.Dead()
	if s.rate.rate.Count == 0 {
		s.rate = rest{} // the pace may be another after what follows
	}
	switch o.mood {
	case moodHurried:
		s.sick = false
		s.ctl.Hurried(l.now, complaint(o.verdict))
	case moodGood:
		s.sick = false
		if !w.good {
			w.good = true
			s.carrying++
		}
		s.ctl.Success(l.now)
		took := float64(max(o.took.Milliseconds(), 0))
		if s.pace == 0 {
			s.pace = took
		}
		s.pace += (took - s.pace) / 8
		l.slots.classify(s, s.pace < float64(quick.Milliseconds()))
		if d.more && d.nextDue > l.nowMS && d.sweptAt == 0 {
			s.waiting[d] = struct{}{} // found at start: it may have waited for this site
		}
		l.free(s)
	case moodBad, moodCrowded:
		s.owed = false
		if s.router {
			s.sick, s.askAt = true, l.nowMS+routerBackoff.Milliseconds()
		}
		if o.mood == moodCrowded && s.carrying > 0 && !w.good {
			s.ctl.Crowded(l.now, s.workers-s.leaving-1, complaint(o.verdict))
		} else {
			s.ctl.Failure(l.now, complaint(o.verdict))
		}
		a := o.from.a
		s.last = mta.Last{Time: l.now, Site: s.name, Host: a.Host, IP: a.IP, Result: forOthers(o.verdict, a.Host)}
		if s.ctl.Dead() {
			l.slots.classify(s, false)
		}
	default:
		s.ctl.Neutral(l.now)
	}
	if s.ctl.Dead() != wasDead {
		l.pass(s) // what waits there, or elsewhere, may have a better way now
	}
}

// forOthers is a site's bad result as it concerns mail that was not in that
// attempt: what became of another message is not theirs.
func forOthers(r mta.Result, host string) mta.Result {
	if r.Class != mta.ClassUncertain {
		return r
	}
	return mta.Result{Class: mta.ClassTemporary, Scope: r.Scope, Reason: "sessions with " + host + " broke before their end"}
}

// blames reports whether a delivery was deferred for the sake of this site.
func blames(last mta.Last, site string) bool {
	return last.Site == site && deferredFor(last)
}

// released is a destination whose deliveries a site's success makes due.
type released struct {
	d    *dest
	site string
	at   time.Time
}

// hasten makes an entry that waits due now.
func (l *loop) hasten(e *entry) {
	e.due = l.nowMS
	e.way.due.fix(int(e.index))
}

// releasePace is how many destinations are released in one turn.
const releasePace = 16

// free releases what was deferred for the site's sake, not more often than the
// growing distance allows.
func (l *loop) free(s *site) {
	s.owed = false
	if len(s.waiting) == 0 {
		return
	}
	if l.nowMS-s.lastFree < s.freeGap {
		s.owed = true
		return
	}
	if l.nowMS-s.lastFree > releaseCalm.Milliseconds() {
		s.freeGap = 0
	}
	s.lastFree = l.nowMS
	longest := releaseMax
	if s.router {
		longest = routerBackoff
	}
	s.freeGap = min(max(2*s.freeGap, releaseMin.Milliseconds()), longest.Milliseconds())
	for d := range s.waiting {
		l.releasing.push(released{d, s.name, l.now})
	}
	clear(s.waiting)
}

// release makes due, a few destinations at a time, what was deferred for a
// site's sake. What is outside memory is found by a sweep.
func (l *loop) release() {
	for range min(releasePace, l.releasing.len()) {
		r := l.releasing.pop()
		if r.d.removed || l.stopping {
			continue
		}
		var again []*entry
		for w := &r.d.first; w != nil; w = w.next {
			for _, e := range w.due {
				if e.due > l.nowMS && !e.paced && blames(e.d.Last, r.site) {
					again = append(again, e)
				}
			}
		}
		for _, e := range again {
			l.hasten(e)
		}
		if r.d.more && r.d.sweep == nil {
			r.d.sweptAt = l.nowMS
			r.d.sweep = &sweep{after: r.d.cursor, site: r.site, until: r.at}
		}
		l.advance(r.d)
	}
}
