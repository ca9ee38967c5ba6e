package queue

import (
	"maps"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// The outlook: destinations of which nothing is in memory. docs/queue.md
// states the invariant that this file keeps.

// resting is a destination of which only the name and the time are known.
type resting struct {
	key   mta.Destination
	due   millis // nothing of it is due before this
	index int32
}

func (r *resting) before(o *resting) bool { return r.due < o.due }
func (r *resting) place() *int32          { return &r.index }

// outlook is what the loop knows of the destinations that have no structure:
// the earliest of them, and that all others are due at or after the horizon.
type outlook struct {
	resting map[mta.Destination]*resting
	byDue   heap[*resting]
	horizon millis // never: no other has an open delivery
	crowd   int    // how many may rest before the latest are left to the spool
	beyond  int64  // how many are beyond the horizon, as counted by the last walk and since
	most    int    // entries that the map has had

	walking   bool
	walkSince millis
	walkCut   millis        // the earliest that was left to the spool during the walk
	walkTook  time.Duration // the last one
	scanned   bool          // one is complete
}

func newOutlook(now millis, limits Limits) outlook {
	o := outlook{resting: make(map[mta.Destination]*resting), crowd: limits.RestingDestinations}
	// Until the first walk is complete nothing is known. It tells what is due
	// before this time by itself.
	o.horizon = now + o.soon()
	return o
}

// lead is how long before the horizon a walk begins: several times what the
// last one took.
func (o *outlook) lead() millis {
	return min(max(leastLead, walkShare*o.walkTook), mostLead).Milliseconds()
}

// soon is how far from its beginning a walk takes every destination, however
// many there are; so the next begins a lead later at the earliest.
func (o *outlook) soon() millis { return 2 * o.lead() }

// remember notes that the destination is to be looked at when it is due. The
// key's strings are kept.
func (l *loop) remember(key mta.Destination, due millis) {
	o := &l.outlook
	if r := o.resting[key]; r != nil {
		if due < r.due {
			r.due = due
			o.byDue.fix(int(r.index))
		}
		return
	}
	r := &resting{key: key, due: due, index: -1}
	o.resting[key] = r
	o.byDue.push(r)
	o.most = max(o.most, len(o.resting))
	if len(o.resting) > o.crowd {
		l.shorten()
	}
}

// awaken takes a destination out of the outlook.
func (o *outlook) awaken(r *resting) {
	o.byDue.remove(r)
	delete(o.resting, r.key)
}

// shorten leaves the later half of the resting destinations to the spool, but
// none that is due soon: the horizon comes nearer.
func (l *loop) shorten() {
	o, limit := &l.outlook, l.set.limits.RestingDestinations
	dues := make([]millis, len(o.byDue))
	for i, r := range o.byDue {
		dues[i] = r.due
	}
	slices.Sort(dues)
	cut := max(dues[min(limit/2, len(dues)-1)], l.nowMS+o.soon())
	before := len(o.byDue)
	kept := make(heap[*resting], 0, limit)
	for _, r := range o.byDue {
		if r.due < cut {
			kept.push(r)
		} else {
			delete(o.resting, r.key)
		}
	}
	o.byDue = kept
	if dropped := before - len(kept); dropped > 0 {
		o.horizon = min(o.horizon, cut)
		o.walkCut = min(o.walkCut, cut)
		o.beyond += int64(dropped)
	}
	// When most of them are due soon, not again for each that comes.
	o.crowd = max(limit, len(kept)+limit/2)
}

// awakenDue gives the resting destinations whose time has come their place in
// memory.
func (l *loop) awakenDue() {
	for range eventBatch {
		if l.awakenAt() > l.nowMS {
			return
		}
		l.advance(l.destination(l.byDue.top().key))
	}
}

// letGo takes a destination of which nothing is in memory out of it. What is
// outside is remembered by its time, or is beyond the horizon. During a walk
// all is remembered: the walk may have seen the destination before the last
// change, and ends with a later horizon.
func (l *loop) letGo(d *dest) {
	l.remove(d)
	switch {
	case !d.more || l.stopping:
	case d.nextDue < l.horizon || l.walking:
		key := d.key
		key.Domain, key.Stream, key.Via = strings.Clone(key.Domain), l.streamName(key.Stream), strings.Clone(key.Via)
		l.remember(key, d.nextDue)
	case !d.vague:
		l.beyond++
	}
}

// streamName is a copy of a stream's name that holds on to nothing else; there
// are few streams and many destinations.
func (l *loop) streamName(name string) string {
	if name == mta.DefaultStream {
		return mta.DefaultStream
	}
	if len(l.streams) > keepStreamNames {
		clear(l.streams)
	}
	kept, ok := l.streams[name]
	if !ok {
		kept = strings.Clone(name)
		l.streams[kept] = kept
	}
	return kept
}

// onPending takes destinations that a walk tells. Of those that are in memory
// a later walk can tell nothing new.
func (l *loop) onPending(list []spool.Pending, first bool) {
	for _, p := range list {
		d := l.dests[p.Destination]
		switch {
		case d == nil:
			p.Destination.Stream = l.streamName(p.Destination.Stream)
			l.remember(p.Destination, ms(p.Due))
		case first:
			d.outside(p.Due)
			l.advance(d)
		}
	}
}

// lookAhead starts a walk in time before the horizon.
func (l *loop) lookAhead() {
	if l.walkAt() <= l.nowMS {
		l.startWalk()
	}
}

// walkAt is when the next walk is to begin.
func (l *loop) walkAt() millis {
	if l.walking || l.stopping || l.horizon == never {
		return never
	}
	return l.horizon - l.lead()
}

// awakenAt is when the next resting destination is due.
func (l *loop) awakenAt() millis {
	if l.stopping || len(l.byDue) == 0 {
		return never
	}
	return l.byDue.top().due
}

func (l *loop) startWalk() {
	l.walking, l.walkSince, l.walkCut = true, l.nowMS, never
	q := l.q
	w := walk{first: !l.scanned, keep: l.set.limits.RestingDestinations / 2, soon: time.Duration(l.soon()) * time.Millisecond}
	l.help(func() func(*loop) {
		q.walk(&w)
		return func(l *loop) { l.onWalked(&w) }
	})
}

// onWalked sets the horizon by a walk that is complete. One that was cut short
// tells nothing.
func (l *loop) onWalked(w *walk) {
	l.walking = false
	if !w.complete {
		return
	}
	l.scanned = true
	l.walkTook = w.took
	l.horizon = min(w.cut, l.walkCut)
	l.beyond = 0
	if l.horizon != never {
		l.beyond = max(w.told-l.destinations(), 0)
	}
}

// destinations counts those with open deliveries.
func (l *loop) destinations() int64 {
	return int64(len(l.dests)-l.idleCount+l.idleOwing+len(l.resting)) + l.beyond
}

// slim gives back the memory of a crowd that has gone: maps keep theirs.
func (l *loop) slim() {
	if slimmed(&l.dests, &l.mostDests) {
		l.alarms = slices.Clone(l.alarms)
	}
	if slimmed(&l.resting, &l.most) {
		l.byDue = slices.Clone(l.byDue)
	}
	slimmed(&l.sites, &l.mostSites)
}

// slimmed makes a map anew that holds little of the most it has held.
func slimmed[K comparable, V any](m *map[K]V, most *int) bool {
	*most = max(*most, len(*m))
	if *most <= max(slimFrom, slimShare*len(*m)) {
		return false
	}
	*m, *most = maps.Collect(maps.All(*m)), len(*m)
	return true
}
