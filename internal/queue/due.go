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
	d.first.dest, d.first.berth.way = d, &d.first
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
	e := &entry{d: m, announced: announced, index: -1}
	l.entries[m.Key()] = e
	l.enter(d, e, due)
	return true
}

// enter puts an entry into the heap of its way.
func (l *loop) enter(d *dest, e *entry, due millis) {
	e.phase, e.due, e.since = phaseDue, due, l.nowMS
	e.way = l.wayOf(d, e.d)
	e.way.due.push(e)
	d.still++
	d.check = min(d.check, l.checkAt(e.d))
}

// undue takes an entry out of its way's heap.
func (l *loop) undue(e *entry) {
	e.way.due.remove(e)
	l.unpace(e)
}

// unpace notes that an entry that was put back waits no longer for that.
func (l *loop) unpace(e *entry) {
	if e.paced {
		e.paced = false
		e.way.dest.paced--
		if e.rate != nil {
			e.rate.waiting--
			e.rate = nil
		}
	}
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
	for w := &d.first; w != nil; w = w.next {
		for _, e := range w.due {
			// What waits for a rate is due in the spool, and would come back at once.
			if e.due > l.nowMS && e.due > due && !e.paced && (last == nil || e.due > last.due) {
				last = e
			}
		}
	}
	if last == nil {
		return false
	}
	l.undue(last)
	d.still--
	d.outside(last.d.Due)
	l.forgetEntry(last)
	return true
}

// forgetEntry drops an entry that is in no heap (any more).
func (l *loop) forgetEntry(e *entry) {
	key := e.d.Key()
	delete(l.entries, key)
	e.way.dest.touch(key)
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
		for w := &d.first; w != nil; w = w.next {
			l.moveDue(w)
		}
		l.wantPage(d)
	}
	l.prune(d)
	l.rest(d)
	switch {
	case d.removed:
	case l.stopping:
		l.setAlarm(&d.alarm, never)
	default:
		l.setAlarm(&d.alarm, l.wake(d))
	}
}

// waits reports that nothing of the way is due.
func (l *loop) waits(w *way) bool { return len(w.due) == 0 || w.due.top().due > l.nowMS }

// moveDue takes what is due to a site, to a clerk, or asks for a plan.
func (l *loop) moveDue(w *way) {
	if l.waits(w) {
		return
	}
	order := l.standing(w.dest.key)
	switch {
	case order != nil:
		l.holdDue(w, order)
	case w.gated(): // until SetGuard says otherwise
	case !w.fresh(l.nowMS):
		l.wantPlan(w)
	case w.plan == planRouted:
		l.berthDue(w)
	case w.plan == planRefused:
		l.refuse(w)
	default:
		l.holdDue(w, stopOrder(w.stop))
	}
}

// berthDue takes what is due to the sites of the way's routes.
func (l *loop) berthDue(w *way) {
	for !l.waits(w) {
		e := w.due.pop()
		l.unpace(e)
		b := l.choose(w, e)
		if at := b.site.avoided.until; at > l.nowMS && w.several() {
			l.paceAt = at // all are avoided: it waits for the one that ends first
			l.pace(e, nil)
			continue
		}
		l.makeReady(e, b)
	}
	if !w.several() {
		l.dispatch(w.berth.site)
		return
	}
	for b := &w.berth; b != nil; b = b.next {
		if len(b.ready) > 0 {
			l.dispatch(b.site)
		}
	}
}

// inspect looks for deliveries that have waited past their notice or expiry
// and hands them to a clerk.
func (l *loop) inspect(d *dest) {
	var overdue []*entry
	d.check = never
	look := func(list heap[*entry]) {
		for _, e := range list {
			if at := l.checkAt(e.d); at <= l.nowMS {
				overdue = append(overdue, e)
			} else {
				d.check = min(d.check, at)
			}
		}
	}
	for w := &d.first; w != nil; w = w.next {
		if l.timeless(w) {
			continue
		}
		look(w.due)
		for b := &w.berth; b != nil; b = b.next {
			look(b.ready)
		}
	}
	if len(overdue) == 0 {
		return
	}
	blames := make([]mta.Last, len(overdue))
	for i, e := range overdue {
		blames[i] = blamed(e)
		l.take(e)
	}
	l.clerkWork.push(func() {
		for i, e := range overdue {
			l.q.settle(l.q.conclude(e, nil, blames[i]))
		}
	})
	l.serveHelpers()
}

// blamed is what holds an entry up that was not attempted: its site's last word,
// or the plan's.
func blamed(e *entry) mta.Last {
	b := e.berth
	if b == nil {
		b = &e.way.berth
	}
	switch {
	case b.site != nil:
		return b.site.last
	case e.way.plan == planRefused:
		return mta.Last{Time: e.way.refusal.End, Result: firstResult(e.way.refusal)}
	}
	return mta.Last{}
}

// take moves an entry that has not started from its heap into flight.
func (l *loop) take(e *entry) {
	if e.phase == phaseReady {
		l.unready(e)
	} else {
		l.undue(e)
	}
	l.fly(e)
}

// fly takes an entry into flight that is in no heap (any more).
func (l *loop) fly(e *entry) {
	e.phase, e.since = phaseFlight, l.nowMS
	e.routed = e.way.relayed()
	if b := e.berth; b != nil {
		e.routed, e.berth = b.route.Router != "", nil
	}
	d := e.way.dest
	if !e.guest {
		d.still--
	}
	d.flying++
	e.way.flying++
	l.flying++
}

// unfly takes an entry out of flight.
func (l *loop) unfly(e *entry) {
	e.way.dest.flying--
	e.way.flying--
	l.flying--
}

// land takes an entry back out of flight that was not attempted.
func (l *loop) land(e *entry, due millis) {
	if l.comesBack(e, e.d) {
		return
	}
	l.unfly(e)
	e.guest = false
	l.enter(e.way.dest, e, due)
	l.advance(e.way.dest)
}

// wake is when the destination must be looked at again.
func (l *loop) wake(d *dest) millis {
	at, until := never, millis(0)
	for w := &d.first; w != nil; w = w.next {
		if len(w.due) > 0 && w.due.top().due > l.nowMS {
			at = min(at, w.due.top().due)
		}
		until = max(until, w.routeUntil)
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
		at = min(at, max(until, l.nowMS+1))
	}
	return at
}

// rest lets a destination of which nothing is in memory go: at once when
// nothing is outside either and there is no route to keep, else when the route
// expires or too many are idle.
func (l *loop) rest(d *dest) {
	asking, routed := false, false
	for w := &d.first; w != nil; w = w.next {
		asking = asking || w.asking()
		routed = routed || w.plan == planRouted && l.nowMS < w.routeUntil
	}
	busy := d.inMemory() > 0 || d.paging || d.wanted || asking ||
		d.sweep != nil || d.more && d.nextDue <= l.nowMS
	owing := d.more && !d.vague
	switch {
	case busy:
		l.setIdle(d, false, false)
	case l.stopping, !owing && !routed:
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
	for w := &d.first; w != nil; w = w.next {
		l.leaveSites(w)
		w.gone = true
	}
	delete(l.dests, d.key)
}

func firstResult(a *mta.Attempt) mta.Result {
	if a == nil || len(a.Results) == 0 {
		return mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "no route was found"}
	}
	return a.Results[0]
}
