package queue

import (
	"context"
	"runtime/debug"
	"time"

	"mailout/internal/mta"
)

// evKind tells what an event is.
type evKind uint8

const (
	evAdd     evKind = iota // fresh: deliveries just stored
	evNext                  // w asks for a delivery
	evCancel                // w asks no more: it gets an answer at once
	evReport                // e has been attempted; o tells how the site behaved
	evDone                  // w has returned
	evSettled               // outs are durable
	evCall                  // call: everything that is rare
)

// event is what others send to the loop.
type event struct {
	kind  evKind
	w     *worker
	o     *outcome
	fresh []*mta.Delivery
	outs  []*outcome
	call  func(*loop)
}

// loop owns the order. Everything in it is touched by its goroutine alone.
type loop struct {
	q   *Queue
	set *settings

	now   time.Time
	nowMS millis
	high  millis // the latest now ever: judges lateness, never goes back

	dests   map[mta.Destination]*dest
	entries map[mta.DeliveryKey]*entry
	alarms  heap[*alarm]
	sites   map[string]*site

	// unannounced are keys that left memory before their Add was seen;
	// forgetAt orders their end.
	unannounced map[mta.DeliveryKey]struct{}
	forget      ring[forgetting]

	plans     lanes           // ways that want a planner
	planning  map[*way]millis // with one since
	young     ring[planned]   // of these, not yet known to be slow
	slowPlans int             // of planning, slow
	pages     ring[*dest]     // want a pager
	paging    map[*dest]millis
	clerking  int
	clerkWork ring[func()] // waits for a clerk
	idleDests ring[*dest]
	idleCount int               // idle
	idleOwing int               // of these, with something outside
	mostSites int               // that sites has held
	mostDests int               // that dests has held
	streams   map[string]string // names that resting destinations share
	outlook

	buckets map[bucketKey]*bucket // of rates
	took    []taken               // may's, kept for the next
	paceAt  millis                // until when the sender of may's delivery rests
	paceFor *bucket               // what for
	passing ring[*site]           // for passOn

	replanned map[string]replan // sites whose routes were made anew
	replans   uint64            // how often that was

	unrouted  ring[*way] // their routers could not be found
	lookAt    millis     // when some of them are planned again
	lookedAll millis

	slots     slots
	helpers   int // planners, pagers, clerks and the walk
	flying    int // entries in flight
	ordering  int // of these, for an order
	holds     standing
	down      int // settlers whose store fails
	uncertain int64
	stopping  bool
	guarded   bool // the guard holds some direct mail
	rotating  bool // serveHungry: one connection each
	epoch     int  // of the configuration: older plans do not count
	nextWatch millis
	releasing ring[released]
}

// forgetting is a key in unannounced and when it may be dropped.
type forgetting struct {
	key mta.DeliveryKey
	at  millis
}

func newLoop(q *Queue) *loop {
	l := &loop{
		q:           q,
		set:         q.settings.Load(),
		dests:       make(map[mta.Destination]*dest),
		entries:     make(map[mta.DeliveryKey]*entry),
		sites:       make(map[string]*site),
		unannounced: make(map[mta.DeliveryKey]struct{}),
		planning:    make(map[*way]millis),
		buckets:     make(map[bucketKey]*bucket),
		replanned:   make(map[string]replan),
		paging:      make(map[*dest]millis),
		streams:     make(map[string]string),
	}
	l.tick()
	l.nextWatch = l.nowMS + watchEvery.Milliseconds()
	l.outlook = newOutlook(l.nowMS, l.set.limits)
	l.guarded = holding(q.Guarded())
	l.hold(q.Holds())
	return l
}

func (l *loop) tick() {
	l.now = l.q.opts.Now()
	l.nowMS = l.now.UnixMilli()
	l.high = max(l.high, l.nowMS)
}

// run is the event loop. It ends when the queue stops and nothing is under way
// any more, or when Stop's patience is over.
func (l *loop) run(ctx context.Context) {
	defer close(l.q.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	ended := ctx.Done()
	stop := l.q.stop
	l.startWalk()
	for {
		select {
		case ev := <-l.q.events:
			l.tick()
			l.handle(ev)
			l.drain()
		case <-timer.C:
			l.tick()
		case <-ended:
			ended = nil
			l.beginStop()
		case <-stop:
			stop = nil
			l.beginStop()
		case <-l.q.force.Done():
			return
		}
		l.turn()
		if stop == nil && l.finished() {
			return
		}
		timer.Reset(l.sleep())
	}
}

// drain handles what else has come, without waiting.
func (l *loop) drain() {
	for range eventBatch {
		select {
		case ev := <-l.q.events:
			l.handle(ev)
		default:
			return
		}
	}
}

func (l *loop) handle(ev event) {
	switch ev.kind {
	case evAdd:
		for _, d := range ev.fresh {
			l.onAdd(d)
		}
	case evNext:
		l.onNext(ev.w)
	case evCancel:
		l.onCancel(ev.w)
	case evReport:
		l.onReport(ev.w, ev.o)
	case evDone:
		l.onDone(ev.w)
	case evSettled:
		for _, o := range ev.outs {
			l.onSettled(o)
		}
	case evCall:
		ev.call(l)
	}
}

// turn does what the time has made due.
func (l *loop) turn() {
	for len(l.alarms) > 0 && l.alarms.top().at <= l.nowMS {
		a := l.alarms.pop()
		if a.dest != nil {
			l.advance(a.dest)
		} else {
			l.dispatch(a.site)
		}
	}
	l.awakenDue()
	l.lookAhead()
	l.release()
	l.lookForRouters()
	l.passOn()
	l.serveHelpers()
	for l.forget.len() > 0 && l.forget.at(0).at <= l.high {
		delete(l.unannounced, l.forget.pop().key)
	}
	if l.nowMS >= l.nextWatch {
		l.nextWatch = l.nowMS + watchEvery.Milliseconds()
		l.watch()
		l.slim()
	}
}

func (l *loop) sleep() time.Duration {
	at := l.nextWatch
	if len(l.alarms) > 0 {
		at = min(at, l.alarms.top().at)
	}
	if l.releasing.len() > 0 {
		at = l.nowMS + 1 // paced: a chunk each turn
	}
	at = min(at, l.awakenAt(), l.walkAt(), l.planWake(), l.routersAt())
	if l.passing.len() > 0 {
		at = l.nowMS
	}
	d := time.Duration(at-l.nowMS) * time.Millisecond
	return min(max(d, 0), maxSleep)
}

// setAlarm wakes d or s at the given time, never for never.
func (l *loop) setAlarm(a *alarm, at millis) {
	switch {
	case at == never && a.index >= 0:
		l.alarms.remove(a)
	case at == never:
	case a.index < 0:
		a.at = at
		l.alarms.push(a)
	case a.at != at:
		a.at = at
		l.alarms.fix(int(a.index))
	}
}

// beginStop takes no new work: idle workers leave, open transactions go on.
func (l *loop) beginStop() {
	if l.stopping {
		return
	}
	l.stopping = true
	l.q.endWork()
	for _, s := range l.sites {
		for len(s.idle) > 0 {
			l.dismiss(s.popIdle())
		}
	}
}

// finished reports whether nothing is under way.
func (l *loop) finished() bool {
	return l.stopping && l.helpers == 0 && l.flying == 0 && l.slots.used == 0
}

// help starts a helper goroutine: f runs outside the loop, then what it
// returns runs inside.
func (l *loop) help(f func() func(*loop)) {
	l.helpers++
	l.q.wg.Go(func() {
		then := f()
		l.q.send(event{kind: evCall, call: func(l *loop) { l.helpers--; then(l) }})
	})
}

// serveHelpers gives waiting plans, pages and conclusions their goroutines.
func (l *loop) serveHelpers() {
	for l.clerkWork.len() > 0 && l.clerking < l.set.limits.Clerks {
		l.clerking++
		f := l.clerkWork.pop()
		l.help(func() func(*loop) { f(); return func(l *loop) { l.clerking-- } })
	}
	if l.stopping {
		return
	}
	l.servePlans()
	for l.pages.len() > 0 && len(l.paging) < l.set.limits.Pages {
		l.startPage(l.pages.pop())
	}
}

// reconfigure applies new settings to what exists.
func (l *loop) reconfigure(set *settings) {
	l.set = set
	l.crowd = set.limits.RestingDestinations
	if len(l.resting) > l.crowd {
		l.shorten()
	}
	for _, s := range l.sites {
		s.ctl.Configure(l.shapeConfig(s))
		l.dispatch(s)
	}
	for _, d := range l.dests {
		d.check = 0 // notices and expiry may have moved
		l.advance(d)
	}
	l.serveHungry()
}

func stack() string { return string(debug.Stack()) }
