package queue

import (
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

// The first stage: destinations, what of them is in memory, and what is due.

// destination gives the destination's place in memory, new or old.
func (l *loop) destination(key mta.Destination) *dest {
	if d := l.dests[key]; d != nil {
		return d
	}
	d := &dest{key: key, check: never, dropped: never}
	d.alarm = alarm{index: -1, dest: d}
	l.dests[key] = d
	l.mostDests = max(l.mostDests, len(l.dests))
	if r := l.resting[key]; r != nil {
		l.awaken(r)
		d.outside(time.UnixMilli(r.due))
	} else if l.horizon != never {
		d.more, d.vague, d.nextDue = true, true, l.horizon
	}
	return d
}

// onAdd takes a delivery that was just stored.
func (l *loop) onAdd(m *mta.Delivery) {
	if m.State == mta.Held || l.stopping {
		return
	}
	key := m.Key()
	if e := l.entries[key]; e != nil {
		e.announced = true // a page was faster
		return
	}
	if _, seen := l.unannounced[key]; seen {
		delete(l.unannounced, key) // a page was faster, and it has left memory again
		return
	}
	d := l.destination(m.Destination)
	if l.late(m) || d.more && d.nextDue <= ms(m.Due) {
		// Of a late one only the spool knows whether it is still there; and what is
		// outside already goes first.
		d.outside(m.Due)
	} else if !l.admit(d, m, ms(m.Due), true) {
		d.outside(m.Due)
		d.page = max(d.page, d.inMemory()) // so many it could use
	}
	l.advance(d)
}

// late reports whether an Add of this message may be of something that a page
// has seen and that was forgotten since.
func (l *loop) late(m *mta.Delivery) bool {
	age := l.high - ms(m.Message.Arrived)
	return age > lateAdd.Milliseconds() || age < -lateAdd.Milliseconds()
}

// far reports whether something due then is better left in the spool, because
// memory is half full.
func (l *loop) far(due millis) bool {
	return due > l.nowMS+nearHorizon.Milliseconds() && len(l.entries) >= l.set.limits.InMemory/2
}

// admit takes a delivery into memory, or reports false: it stays outside.
func (l *loop) admit(d *dest, m *mta.Delivery, due millis, announced bool) bool {
	if !l.room(d, due) {
		return false
	}
	e := &entry{d: m, dest: d, announced: announced, index: -1}
	l.entries[m.Key()] = e
	l.enter(e, due)
	return true
}

// enter puts an entry into its destination's heap.
func (l *loop) enter(e *entry, due millis) {
	e.phase, e.due, e.since = phaseDue, due, l.nowMS
	e.dest.due.push(e)
	e.dest.check = min(e.dest.check, l.checkAt(e.d))
}

// room finds place for something due then, if need be by leaving to the spool
// what is due later.
func (l *loop) room(d *dest, due millis) bool {
	n := d.inMemory()
	if n == 0 {
		return !l.far(due)
	}
	if n < l.set.limits.PerDestination && len(l.entries) < l.set.limits.InMemory {
		return !l.far(due)
	}
	last := (*entry)(nil)
	for _, e := range d.due {
		if e.due > l.nowMS && e.due > due && (last == nil || e.due > last.due) {
			last = e
		}
	}
	if last == nil {
		return false
	}
	d.due.remove(last)
	d.outside(last.d.Due)
	l.forgetEntry(last)
	return true
}

// forgetEntry drops an entry that is in no heap (any more).
func (l *loop) forgetEntry(e *entry) {
	key := e.d.Key()
	delete(l.entries, key)
	e.dest.touch(key)
	if !e.announced && !l.late(e.d) {
		l.unannounced[key] = struct{}{}
		l.forget.push(forgetting{key, max(ms(e.d.Message.Arrived), l.high) + lateAdd.Milliseconds()})
	}
}

// checkAt is when a delivery that merely waits owes a notice or expires.
func (l *loop) checkAt(m *mta.Delivery) millis {
	arrived, since := l.q.arrived(m.Message), l.q.started
	s := l.set.schedule(m.Message, arrived)
	if l.releasedLate(m, s) && m.Due.After(since) {
		since = m.Due
	}
	at := ms(s.Overdue(arrived, since))
	if notice, ok := l.noticeAt(m, s); ok {
		at = min(at, notice)
	}
	if end := m.Message.Expires; !end.IsZero() {
		at = min(at, ms(end)) // to the moment: nobody wants it later
	}
	return at
}

// releasedLate reports that a delivery was made due by an operator past its
// deadline (no attempt is planned there): it gets an attempt before it expires.
func (l *loop) releasedLate(m *mta.Delivery, s retry.Schedule) bool {
	return !m.Due.After(l.now) && m.Due.After(s.Deadline(l.q.arrived(m.Message)))
}

func (l *loop) noticeAt(m *mta.Delivery, s retry.Schedule) (millis, bool) {
	if m.DelaySent || m.Message.Envelope.Sender == "" || l.releasedLate(m, s) {
		return 0, false // sent, or nobody to tell (RFC 3464 2), or no delay any more
	}
	t, ok := s.NoticeWaiting(l.q.arrived(m.Message), l.q.started)
	return ms(t), ok
}

// advance does for a destination what its time and state allow, and sets its
// alarm.
func (l *loop) advance(d *dest) {
	if d.removed {
		return
	}
	if !l.stopping {
		if l.nowMS >= d.check {
			l.inspect(d)
		}
		l.moveDue(d)
		l.wantPage(d)
	}
	l.rest(d)
	switch {
	case d.removed:
	case l.stopping:
		l.setAlarm(&d.alarm, never)
	default:
		l.setAlarm(&d.alarm, l.wake(d))
	}
}

// moveDue takes what is due to the site, to a clerk, or asks for a plan.
func (l *loop) moveDue(d *dest) {
	if len(d.due) == 0 || d.due.top().due > l.nowMS {
		return
	}
	fresh := l.nowMS < d.routeUntil
	order := l.standing(d.key)
	switch {
	case order != nil:
		l.holdDue(d, order)
	case d.gated(): // until SetGuard says otherwise
	case d.plan == planRouted && fresh:
		for len(d.due) > 0 && d.due.top().due <= l.nowMS {
			l.makeReady(d.due.pop())
		}
		l.dispatch(d.site)
	case d.plan == planRefused && fresh:
		l.refuse(d)
	default:
		l.wantPlan(d)
	}
}

// inspect looks for deliveries that have waited past their notice or expiry
// and hands them to a clerk.
func (l *loop) inspect(d *dest) {
	var overdue []*entry
	d.check = never
	if l.timeless(d) {
		return
	}
	look := func(e *entry) {
		if at := l.checkAt(e.d); at <= l.nowMS {
			overdue = append(overdue, e)
		} else {
			d.check = min(d.check, at)
		}
	}
	for _, e := range d.due {
		look(e)
	}
	for _, e := range d.ready {
		look(e)
	}
	if len(overdue) == 0 {
		return
	}
	var blame mta.Last
	if d.site != nil {
		blame = d.site.last
	} else if d.plan == planRefused {
		blame = mta.Last{Time: d.refusal.End, Result: firstResult(d.refusal)}
	}
	for _, e := range overdue {
		l.take(e)
	}
	l.clerkWork.push(func() {
		for _, e := range overdue {
			l.q.settle(l.q.conclude(e, nil, blame))
		}
	})
	l.serveHelpers()
}

// take moves an entry that has not started from its heap into flight.
func (l *loop) take(e *entry) {
	if e.phase == phaseReady {
		l.unready(e)
	} else {
		e.dest.due.remove(e)
	}
	l.fly(e)
}

func (l *loop) fly(e *entry) {
	e.phase, e.since = phaseFlight, l.nowMS
	e.routed = e.dest.plan == planRouted && e.dest.route.Router != ""
	e.dest.flying++
	l.flying++
}

// land takes an entry back out of flight that was not attempted.
func (l *loop) land(e *entry, due millis) {
	if l.comesBack(e, e.d) {
		return
	}
	e.dest.flying--
	l.flying--
	l.enter(e, due)
	l.advance(e.dest)
}

// wake is when the destination must be looked at again.
func (l *loop) wake(d *dest) millis {
	at := never
	if len(d.due) > 0 && d.due.top().due > l.nowMS {
		at = d.due.top().due
	}
	if d.sweep != nil && d.retryAt > l.nowMS {
		at = min(at, d.retryAt)
	}
	if d.more && !d.paging && !d.wanted {
		if t := max(d.nextDue, d.retryAt); t > l.nowMS {
			at = min(at, t)
		}
	}
	if d.inMemory() > 0 {
		at = min(at, max(d.check, l.nowMS+1))
	} else if d.idle && !d.owing {
		at = min(at, max(d.routeUntil, l.nowMS+1))
	}
	return at
}

// rest lets a destination of which nothing is in memory go: at once when
// nothing is outside either and there is no route to keep, else when the route
// expires or too many are idle.
func (l *loop) rest(d *dest) {
	busy := d.inMemory() > 0 || d.paging || d.wanted || d.planning || d.planQueued ||
		d.sweep != nil || d.more && d.nextDue <= l.nowMS
	owing := d.more && !d.vague
	switch {
	case busy:
		l.setIdle(d, false, false)
	case l.stopping, !owing && (d.plan != planRouted || l.nowMS >= d.routeUntil):
		l.letGo(d)
	default:
		l.setIdle(d, true, owing)
		l.keepIdle(d)
	}
}

// setIdle counts the idle destinations.
func (l *loop) setIdle(d *dest, idle, owing bool) {
	step := func(was, is bool) int {
		switch {
		case is && !was:
			return 1
		case was && !is:
			return -1
		}
		return 0
	}
	l.idleCount += step(d.idle, idle)
	l.idleOwing += step(d.owing, owing)
	d.idle, d.owing = idle, owing
}

// keepIdle remembers an idle destination, and drops the longest idle ones
// beyond the limit.
func (l *loop) keepIdle(d *dest) {
	if !d.inIdle {
		d.inIdle = true
		l.idleDests.push(d)
	}
	limit := l.set.limits.IdleDestinations
	for l.idleDests.len() > 0 && (l.idleCount > limit || !l.idleDests.at(0).idle) {
		old := l.idleDests.pop()
		old.inIdle = false
		if old.idle {
			l.letGo(old)
		}
	}
	if l.idleDests.len() > 2*limit+16 {
		l.idleDests.drop(func(d *dest) bool {
			d.inIdle = d.idle
			return !d.idle
		})
	}
}

// remove takes a destination of which nothing is in memory out of the loop.
func (l *loop) remove(d *dest) {
	l.setIdle(d, false, false)
	d.removed = true
	l.setAlarm(&d.alarm, never)
	l.leaveSite(d)
	delete(l.dests, d.key)
}

func firstResult(a *mta.Attempt) mta.Result {
	if a == nil || len(a.Results) == 0 {
		return mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "no route was found"}
	}
	return a.Results[0]
}
