package queue

import (
	"context"
	"errors"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// worker is one run of Carrier.Carry, and the Work that it sees.
type worker struct {
	q     *Queue
	route *mta.Route
	reply chan handout // holds one: there is never more than one question open

	// Of the carrier's goroutine.
	wait     time.Duration // set before a question is sent
	taken    []handout
	owing    bool        // it has reported since it asked last
	patience *time.Timer // for what it reported

	// Of the loop.
	site    *site
	fresh   bool   // has not asked yet
	until   millis // idle until then
	carried int
	began   millis
	left    bool // was told to leave
	good    bool // has carried something
	// unsettled counts the outcomes reported since age, that are not durable
	// yet; asking says that its question waits for them.
	unsettled int
	asking    bool
	age       int
}

// handout is the answer to Next; without an entry the worker is to leave.
type handout struct {
	e     *entry
	route *mta.Route
}

// startWorker opens one more connection to a site.
func (l *loop) startWorker(s *site, route *mta.Route) {
	w := &worker{q: l.q, route: route, reply: make(chan handout, 1), site: s, fresh: true, began: l.nowMS}
	s.starting++
	l.slots.count(s, 1)
	l.q.wg.Go(func() { l.q.carry(w) })
}

// carry runs the carrier and answers for what it leaves behind.
func (q *Queue) carry(w *worker) {
	err := q.guard("carrying", func() error {
		q.opts.Carrier.Carry(q.work, q.abandoned, w.route, w)
		return nil
	})
	reason := "the session ended without telling the outcome"
	if err != nil {
		reason = err.Error()
	}
	for len(w.taken) > 0 {
		// The content may have been sent, so a duplicate is possible.
		e := w.taken[0].e
		q.opts.Logger.Error("a delivery has no outcome; it is deferred", mta.KeyID, e.d.Message.ID.String(), mta.KeyReason, reason)
		a := q.ownTrouble(q.opts.Now(), reason)
		a.Site = w.route.Site
		a.Results[0].Class = mta.ClassUncertain
		w.Report(e.d, fitted(a, len(e.d.Recipients)))
	}
	q.send(event{kind: evDone, w: w})
}

// Next implements Work.
func (w *worker) Next(ctx context.Context, idle time.Duration) (*mta.Delivery, *mta.Route, bool) {
	for {
		w.wait = idle
		h := w.ask(ctx)
		if h.e == nil {
			return nil, nil, false
		}
		if !w.begin(h.e) {
			continue
		}
		w.taken = append(w.taken, h)
		return h.e.d, h.route, true
	}
}

// ask puts the question to the loop, which answers it when what this session
// reported is on stable storage. So a crash can repeat at most what one session
// had under way: one delivery a session, not all that its settlements were
// behind. It waits settleMax for that at most: with a store that fails the loop
// hands nothing out, and one record that cannot be stored must not cost its
// site a session.
func (w *worker) ask(ctx context.Context) handout {
	if ctx.Err() != nil || !w.q.send(event{kind: evNext, w: w}) {
		return handout{}
	}
	patience := w.impatience()
	for {
		select {
		case h := <-w.reply:
			if patience != nil {
				w.patience.Stop()
			}
			return w.orBack(ctx, h)
		case <-patience:
			patience = nil
			w.q.send(event{kind: evCall, call: func(l *loop) { l.onImpatient(w) }})
			continue
		case <-w.q.done:
			return handout{}
		case <-ctx.Done():
		}
		break
	}
	w.q.send(event{kind: evCancel, w: w})
	select {
	case h := <-w.reply:
		return w.orBack(ctx, h)
	case <-w.q.done:
		return handout{}
	}
}

// impatience rings after settleMax; nil when nothing was reported.
func (w *worker) impatience() <-chan time.Time {
	if !w.owing {
		return nil
	}
	w.owing = false
	if w.patience == nil {
		w.patience = time.NewTimer(settleMax)
	} else {
		w.patience.Reset(settleMax)
	}
	return w.patience.C
}

// orBack gives a delivery back that came when ctx had ended.
func (w *worker) orBack(ctx context.Context, h handout) handout {
	if h.e != nil && ctx.Err() != nil {
		w.q.giveBack(h.e, 0)
		return handout{}
	}
	return h
}

// begin records an attempt before its first octet when the process has crashed
// before: a crash loop must follow the retry schedule (spool.Store.Begin). A
// message that arrived since the start was not there in the crash.
func (w *worker) begin(e *entry) bool {
	q := w.q
	if q.opts.Store.Streak() == 0 || e.d.Message.Arrived.After(q.started) {
		return true
	}
	set := q.settings.Load()
	m := e.d.Message
	next := set.schedule(m, q.arrived(m)).Next(e.d.Attempts+1, q.opts.Now(), q.arrived(m), 0, q.opts.Rand())
	err := q.guard("beginning an attempt", func() error { return q.opts.Store.Begin(q.force, e.d.Key(), next) })
	switch {
	case err == nil:
		return true
	case errors.Is(err, spool.ErrNotFound):
		q.send(event{kind: evCall, call: func(l *loop) { l.vanish(e) }})
	default:
		q.opts.Logger.Error("the start of an attempt could not be recorded; it waits", mta.KeyID, m.ID.String(), mta.KeyError, err)
		q.giveBack(e, settleMax)
	}
	return false
}

// giveBack returns a delivery that was not attempted.
func (q *Queue) giveBack(e *entry, after time.Duration) {
	q.send(event{kind: evCall, call: func(l *loop) {
		l.land(e, max(e.due, l.nowMS+after.Milliseconds()))
	}})
}

// vanish forgets a delivery that the store does not have any more.
func (l *loop) vanish(e *entry) {
	l.unfly(e)
	e.order = nil
	l.forgetEntry(e)
	l.advance(e.way.dest)
}

// Report implements Work.
func (w *worker) Report(d *mta.Delivery, a *mta.Attempt) {
	e, route := w.untake(d)
	if e == nil {
		w.q.opts.Logger.Error("internal error", mta.KeyReason, "an outcome was reported of a delivery that was not taken, or twice",
			mta.KeyID, d.Message.ID.String())
		return
	}
	lesson := w.q.learn(route, d, a)
	o := w.q.conclude(e, a, mta.Last{})
	if lesson != (Lesson{}) {
		kept := lesson // on the heap only when there is one
		o.lesson = &kept
	}
	o.w, w.owing = w, true
	w.q.send(event{kind: evReport, w: w, o: o}) // before evSettled can follow
	w.q.settle(o)
}

func (w *worker) untake(d *mta.Delivery) (*entry, *mta.Route) {
	for i, h := range w.taken {
		if h.e.d == d {
			w.taken = append(w.taken[:i], w.taken[i+1:]...)
			return h.e, h.route
		}
	}
	return nil, nil
}

// learn tells the planner what an attempt came to.
func (q *Queue) learn(route *mta.Route, d *mta.Delivery, a *mta.Attempt) (lesson Lesson) {
	err := q.guard("learning from an attempt", func() error {
		lesson = q.opts.Planner.Learn(route, d, a)
		return nil
	})
	if err != nil {
		return Lesson{}
	}
	return lesson
}

// onNext answers a worker that asks for a delivery, now or when there is one;
// not before its last outcome is durable.
func (l *loop) onNext(w *worker) {
	s := w.site
	if w.fresh {
		w.fresh = false
		s.starting--
	}
	if w.asking = w.unsettled > 0; w.asking {
		return
	}
	if l.stopping || w.left || s.workers-s.leaving > s.ctl.Allowed(l.now) || l.yields(w) {
		l.dismiss(w)
		return
	}
	if !l.storeDown() {
		if e := l.next(s); e != nil {
			l.hand(w, e)
			return
		}
	}
	if w.wait <= 0 || l.wanted(s) {
		l.dismiss(w)
		return
	}
	w.until = l.nowMS + max(w.wait.Milliseconds(), 1)
	s.idle = append(s.idle, w)
	l.keepSpare(s)
	l.rearm(s)
}

// onDurable counts an outcome that a worker may have to wait for.
func (l *loop) onDurable(o *outcome) {
	w := o.w
	if w == nil || o.age != w.age {
		return
	}
	if w.unsettled--; w.unsettled == 0 && w.asking {
		l.onNext(w)
	}
}

// onImpatient lets a worker wait no longer for its outcomes.
func (l *loop) onImpatient(w *worker) {
	w.unsettled = 0
	w.age++
	if w.asking {
		l.onNext(w)
	}
}

// onCancel answers a worker that waits no more.
func (l *loop) onCancel(w *worker) {
	if w.asking {
		w.asking = false
		l.dismiss(w)
		return
	}
	for i, other := range w.site.idle {
		if other == w {
			w.site.idle = append(w.site.idle[:i], w.site.idle[i+1:]...)
			l.dismiss(w)
			return
		}
	}
	// It was answered meanwhile.
}

// hand gives an entry to a worker that asks.
func (l *loop) hand(w *worker, e *entry) {
	route := e.berth.route
	l.fly(e)
	w.carried++
	w.reply <- handout{e, route}
}

// dismiss tells a worker that asks to leave.
func (l *loop) dismiss(w *worker) {
	if !w.left {
		w.left = true
		w.site.leaving++
		l.slots.leaving++
	}
	w.reply <- handout{}
}

// onReport learns from an attempt; its delivery stays in flight until it is
// settled.
func (l *loop) onReport(w *worker, o *outcome) {
	o.e.settling = true
	o.age = w.age
	w.unsettled++
	l.learn(w, o)
	l.apply(w.site, o.e.way, o)
	if w.site.ready > 0 {
		l.dispatch(w.site)
	}
}

// onDone frees a worker's connection.
func (l *loop) onDone(w *worker) {
	s := w.site
	if w.fresh {
		// It never asked: without a pause it would be started for ever.
		w.fresh = false
		s.starting--
		if !l.stopping {
			s.ctl.Failure(l.now, "the session could not be started")
		}
	}
	if w.left {
		s.leaving--
		l.slots.leaving--
	}
	if w.good {
		s.carrying--
	}
	l.slots.count(s, -1)
	if s.ready > 0 {
		l.slots.want(s) // behind those that wait already
	}
	l.serveHungry()
	l.dispatch(s)
}
