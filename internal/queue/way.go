package queue

import (
	"math"

	"mailout/internal/mta"
)

// Ways and berths: where the mail of a destination may go.
//
// A way is the mail of one destination that one plan serves (Planner.Variant):
// it has its own heap of what is due, and its own plan. What is outside memory
// belongs to the destination, whatever its way will be. A berth is one route of
// a way's plan: its place at the site of that route. Nearly every destination has
// one way, and nearly every way one berth, so both are parts of what is above
// them and cost nothing of their own; more hang on as lists.
//
// A delivery that is due takes one of its way's berths, by weighted rendezvous
// hashing over sender and first recipient: without any state the same pair meets
// the same source again, as greylisting wants it, sources get their shares, and
// when one is passed over only its own mail moves. A route is passed over while
// its site is avoided, out of quota, or dead; a dead site is given a single
// delivery when a probe is due. When all are passed over, the mail waits at the
// one that will be open first, but a dead one before one that is avoided: that
// one asked to be left alone.
//
// Rejected: binding a delivery to its route for good (mail must move when a
// source is refused), round robin (greylisting would see another source each
// time), and a table of who went where (memory a sender).

// planState is what a way knows of its routes.
type planState uint8

const (
	planNone    planState = iota
	planRouted            // the berths have routes
	planRefused           // refusal is set
	planStopped           // stop is set
)

// way is the mail of one destination that one plan serves.
type way struct {
	dest    *dest
	next    *way // of the destination
	variant string

	due    heap[*entry] // not started; due or not
	flying int          // entries in flight

	plan       planState
	planQueued bool // waits for a planner
	planning   bool // with a planner now
	planSlow   bool // for longer than slowPlan
	planAgain  bool // what it is asked now is out of date
	unrouted   bool // refused because its router cannot be found
	inUnrouted bool // in the ring of such
	gone       bool // no longer the destination's
	planSince  millis
	routeUntil millis // until when routes, refusal or stop count
	refusal    *mta.Attempt
	stop       *mta.Stop
	failing    int // entries that clerks have because of the refusal
	holding    int // entries that clerks have because they are to be held or discarded

	berth berth // the first
}

// berth is one route of a way.
type berth struct {
	way   *way
	next  *berth // of the way
	route *mta.Route
	site  *site

	ready  heap[*entry] // moved to the site
	stream *stream      // of the site; set while listed
	listed bool         // in the stream's ring
	turn   uint32       // which listing counts
}

// keepWays is how many ways of a destination without mail keep their plans.
const keepWays = 8

// wayOf is the way of a delivery to d.
func (l *loop) wayOf(d *dest, m *mta.Delivery) *way {
	variant := l.variant(m)
	var last *way
	for w := &d.first; w != nil; w = w.next {
		if w.variant == variant {
			return w
		}
		last = w
	}
	if w := &d.first; w.unused() {
		w.variant = variant
		return w
	}
	w := &way{dest: d, variant: variant}
	w.berth.way = w
	last.next = w
	return w
}

// variant names the rules that a delivery meets.
func (l *loop) variant(m *mta.Delivery) string {
	variant := l.q.variant(m)
	if m.Released {
		return mta.VariantReleased + variant
	}
	return variant
}

// variant asks the planner. A panic in it must not end the loop: the mail goes as
// if no rule looked at it.
func (q *Queue) variant(m *mta.Delivery) string {
	defer q.caught("naming the rules that a message meets")
	return q.opts.Planner.Variant(m.Message, m.Destination)
}

// caught logs a panic instead of passing it on.
func (q *Queue) caught(what string) {
	if p := recover(); p != nil {
		logPanic(q.opts.Logger, what, p)
	}
}

// mail reports whether the way has anything in memory.
func (w *way) mail() bool {
	if len(w.due)+w.flying > 0 {
		return true
	}
	for b := &w.berth; b != nil; b = b.next {
		if len(b.ready) > 0 {
			return true
		}
	}
	return false
}

// asking reports that a plan is being made or waits to be.
func (w *way) asking() bool { return w.planQueued || w.planning }

func (w *way) unused() bool { return w.plan == planNone && !w.asking() && !w.mail() }

// fresh reports that the way knows where its mail goes, and that it counts.
func (w *way) fresh(now millis) bool { return w.plan != planNone && now < w.routeUntil }

// gated reports that the guard holds the way's mail.
func (w *way) gated() bool {
	if w.plan != planRouted {
		return false
	}
	for b := &w.berth; b != nil; b = b.next {
		if b.route.HeldBy == "" {
			return false
		}
	}
	return true
}

// relayed reports that all of the way's mail goes to a router.
func (w *way) relayed() bool {
	if w.plan != planRouted {
		return false
	}
	for b := &w.berth; b != nil; b = b.next {
		if b.route.Router == "" {
			return false
		}
	}
	return true
}

// several reports that the way has more than one route.
func (w *way) several() bool { return w.berth.next != nil }

// prune drops a destination's ways beyond the first that have no mail and no
// plan that counts, and the oldest of those without mail beyond keepWays.
func (l *loop) prune(d *dest) {
	if d.first.next == nil {
		return
	}
	kept := 0
	for w := d.first.next; w != nil; w = w.next {
		if !w.mail() {
			kept++
		}
	}
	for p := &d.first; p.next != nil; {
		w := p.next
		if w.asking() || w.mail() || w.fresh(l.nowMS) && kept <= keepWays {
			p = w
			continue
		}
		kept--
		l.leaveSites(w)
		w.gone = true
		p.next = w.next
	}
}

// sort puts what waits in memory on the ways of now: the planner may name them
// otherwise since the configuration changed.
func (l *loop) sort(d *dest) {
	var moved []*entry
	for w := &d.first; w != nil; w = w.next {
		for _, e := range w.due {
			if l.variant(e.d) != w.variant {
				moved = append(moved, e)
			}
		}
	}
	for _, e := range moved {
		e.way.due.remove(e)
		e.way = l.wayOf(d, e.d)
		e.way.due.push(e)
	}
}

// berths gives the way as many as it has routes; what was ready at the others
// is due again.
func (l *loop) berths(w *way, n int) {
	b := &w.berth
	for range n - 1 {
		if b.next == nil {
			b.next = &berth{way: w}
		}
		b = b.next
	}
	for x := b.next; x != nil; x = x.next {
		l.unreadyBerth(x)
		l.leaveSite(x)
	}
	b.next = nil
}

// choose gives the berth that a due delivery of the way takes.
func (l *loop) choose(w *way, e *entry) *berth {
	if !w.several() {
		return &w.berth
	}
	key := pairHash(e.d)
	if n := int(e.d.Row); n > 0 {
		if b := l.following(w, key, n); b != nil {
			return b
		}
	}
	best, most := (*berth)(nil), -1.0
	for b := &w.berth; b != nil; b = b.next {
		if score := b.score(key); score > most && l.open(b) {
			best, most = b, score
		}
	}
	if best == nil {
		best = l.leastShut(w, key)
	}
	return best
}

// following gives an open berth for a delivery that another route refused n
// times just now: in the order of its hash, beginning at the n-th, so that each
// has its turn also where nothing is avoided.
func (l *loop) following(w *way, key uint64, n int) *berth {
	count := 0
	for b := &w.berth; b != nil; b = b.next {
		count++
	}
	early := (*berth)(nil)
	for i, bound := 0, math.Inf(1); i < count; i++ {
		best, most := (*berth)(nil), -1.0
		for b := &w.berth; b != nil; b = b.next {
			if score := b.score(key); score < bound && score > most {
				best, most = b, score
			}
		}
		if best == nil {
			break // two have the same source
		}
		bound = most
		switch {
		case !l.open(best):
		case i >= n%count:
			return best
		case early == nil:
			early = best
		}
	}
	return early
}

// leastShut gives the berth to wait at when none is open.
func (l *loop) leastShut(w *way, key uint64) *berth {
	best, end, most := &w.berth, never, -1.0
	for b := &w.berth; b != nil; b = b.next {
		if b.route.HeldBy != "" {
			continue
		}
		at, score := millis(0), b.score(key)
		if shut := b.shutUntil(); shut > l.nowMS {
			at = shut
		}
		if at < end || at == end && score > most {
			best, end, most = b, at, score
		}
	}
	return best
}

// open reports whether mail may take a berth now.
func (l *loop) open(b *berth) bool {
	s := b.site
	if b.route.HeldBy != "" || b.shutUntil() > l.nowMS {
		return false
	}
	return !s.ctl.Dead() || s.ready == 0 && s.workers == 0 && s.ctl.Allowed(l.now) > 0 // the probe
}

// score is a berth's claim to a pair: the pair takes the berth with the highest
// (weighted rendezvous hashing: a weight's share of all pairs has its maximum
// there).
func (b *berth) score(key uint64) float64 {
	u := (float64(mixed(key^b.site.seed)>>11) + 0.5) / (1 << 53)
	return float64(max(b.route.Weight, 1)) / -math.Log(u)
}

// pairHash is of what greylisting looks at beside the source: sender and
// recipient.
func pairHash(d *mta.Delivery) uint64 {
	h := hashed(fnvOffset, d.Message.Envelope.Sender)
	if len(d.Recipients) > 0 {
		h = hashed(h*fnvPrime, d.Recipients[0].Address)
	}
	return h
}

// FNV-1a, with the finish of SplitMix64, which spreads what differs in few bits.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashed(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
