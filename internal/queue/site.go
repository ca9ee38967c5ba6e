package queue

import (
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/shape"
)

// The second stage: what is ready at a site × source, in which order it goes,
// and over how many connections.

// site is one MX set × source. Only the loop touches it.
type site struct {
	key   string // name and sources
	name  string // mta.Route.Site
	ctl   *shape.Controller
	limit int // the operator's
	alarm alarm
	dests int // destinations routed here

	streams  ring[*stream] // those with something ready take turns
	byStream map[string]*stream
	ready    int

	workers  int // running, those that are leaving included
	starting int // of these, not yet asked for work
	leaving  int // of these, told to leave
	idle     []*worker
	hungry   bool // in a ring of slots
	inSpare  bool // in slots.spare

	waiting  map[*dest]struct{} // have deliveries deferred for the site's sake
	lastFree millis             // the last release
	freeGap  millis             // distance to the next
	owed     bool               // a success came too early for the next

	last    mta.Last // the latest failure that blamed it
	pace    float64  // average milliseconds a delivery takes
	quick   bool     // paces well: may use the last tenth of the connections
	moved   millis   // when something was last handed out, or became ready at an empty site
	emptyAt millis   // without work or destinations since
}

// stream is one stream's ready mail at a site.
type stream struct {
	name   string
	dests  ring[listing] // those with something ready take turns
	ready  int
	listed bool // in the site's ring
}

// listing is a destination's place in its stream's ring. It counts only while
// it is the destination's latest.
type listing struct {
	d    *dest
	turn uint32
}

// keepStreams is how many empty streams a site keeps.
const keepStreams = 8

// siteOf gives the site of a route, new or old, with the route's limits.
func (l *loop) siteOf(route *mta.Route) *site {
	key := siteKey(route)
	limit := route.Limits.Connections
	if limit <= 0 {
		limit = shape.DefaultLimit
	}
	s := l.sites[key]
	if s == nil {
		s = &site{key: key, name: route.Site, limit: limit, ctl: shape.New(l.shapeConfig(limit)),
			byStream: make(map[string]*stream), waiting: make(map[*dest]struct{})}
		s.alarm = alarm{index: -1, site: s}
		l.sites[key] = s
		l.mostSites = max(l.mostSites, len(l.sites))
	}
	if s.limit != limit {
		s.limit = limit
		s.ctl.Configure(l.shapeConfig(limit))
	}
	return s
}

func siteKey(route *mta.Route) string {
	if len(route.Sources) == 0 {
		return route.Site
	}
	var b strings.Builder
	b.WriteString(route.Site)
	for _, src := range route.Sources {
		b.WriteString("|")
		b.WriteString(src.IP.String())
	}
	return b.String()
}

// shapeConfig bounds a controller: a delivery that comes due after the
// shortest retry interval must find the site probed.
func (l *loop) shapeConfig(limit int) shape.Config {
	longest := min(l.set.schedules.Shortest()*9/10, shape.DefaultBackoffMax)
	return shape.Config{Limit: limit, BackoffMax: longest}
}

// leaveSite takes a destination without ready entries from its site.
func (l *loop) leaveSite(d *dest) {
	s := d.site
	if s == nil {
		return
	}
	d.site = nil
	d.turn++
	d.listed = false
	delete(s.waiting, d)
	if s.dests--; s.dests == 0 {
		l.rearm(s)
	}
}

// makeReady moves an entry to its destination's site. The caller dispatches.
func (l *loop) makeReady(e *entry) {
	d, s := e.dest, e.dest.site
	e.phase, e.since = phaseReady, l.nowMS
	d.ready.push(e)
	if s.ready == 0 {
		s.moved = l.nowMS
	}
	s.ready++
	st := s.stream(d.key.Stream)
	st.ready++
	if d.listed && d.stream != st { // an emptied stream was dropped with its ring
		d.listed = false
		d.turn++
	}
	d.stream = st
	if !d.listed {
		d.listed = true
		st.dests.push(listing{d, d.turn})
	}
	if !st.listed {
		st.listed = true
		s.streams.push(st)
	}
}

func (s *site) stream(name string) *stream {
	st := s.byStream[name]
	if st == nil {
		st = &stream{name: name}
		s.byStream[name] = st
	}
	return st
}

// unready takes an entry out of what is ready.
func (l *loop) unready(e *entry) {
	d := e.dest
	d.ready.remove(e)
	d.site.ready--
	d.stream.ready--
}

// unreadyAll puts what is ready of a destination back to be routed anew.
func (l *loop) unreadyAll(d *dest) {
	for len(d.ready) > 0 {
		e := d.ready.top()
		l.unready(e)
		e.phase = phaseDue
		d.due.push(e)
	}
	if d.listed {
		d.listed = false
		d.turn++
	}
}

// next takes the next ready entry in turn: streams share the site, and
// destinations share the stream. nil when nothing may go.
func (l *loop) next(s *site) *entry {
	for s.streams.len() > 0 {
		st := s.streams.pop()
		var e *entry
		if st.ready > 0 {
			e = l.nextOf(st)
		}
		if st.ready > 0 {
			s.streams.push(st)
		} else {
			st.listed = false
			if len(s.byStream) > keepStreams {
				delete(s.byStream, st.name)
			}
		}
		if e != nil {
			s.moved = l.nowMS
			return e
		}
	}
	return nil
}

func (l *loop) nextOf(st *stream) *entry {
	for st.dests.len() > 0 {
		at := st.dests.pop()
		d := at.d
		if at.turn != d.turn {
			continue // it has left this ring
		}
		if len(d.ready) == 0 {
			d.listed = false
			continue
		}
		if !l.usable(d) {
			l.unreadyAll(d)
			continue
		}
		e := d.ready.top()
		l.unready(e)
		if len(d.ready) > 0 {
			st.dests.push(at)
		} else {
			d.listed = false
		}
		return e
	}
	return nil
}

// usable reports whether a destination's route may still be used, and has it
// renewed in time. One that is too old waits for the new plan.
func (l *loop) usable(d *dest) bool {
	if l.nowMS < d.routeUntil {
		return true
	}
	l.wantPlan(d)
	return l.nowMS < d.routeUntil+staleRoute.Milliseconds()
}

// dispatch gives ready mail to idle workers and starts new ones, as far as the
// controller and the connections allow.
func (l *loop) dispatch(s *site) {
	if s.owed && l.nowMS-s.lastFree >= s.freeGap {
		l.free(s)
	}
	started := 0
	for s.ready > 0 && !l.stopping && !l.storeDown() {
		allowed := s.ctl.Allowed(l.now)
		if s.workers-s.leaving > allowed && len(s.idle) > 0 {
			l.dismiss(s.popIdle())
			continue
		}
		if len(s.idle) > 0 {
			e := l.next(s)
			if e == nil {
				break
			}
			l.hand(s.popIdle(), e)
			continue
		}
		if s.workers >= allowed || s.starting >= s.ready {
			break
		}
		if started > 0 && l.rotating || !l.slots.free(s, l.set.limits.Connections) {
			l.slots.want(s)
			l.spareIdle()
			break
		}
		route := s.firstRoute()
		if route == nil {
			break
		}
		l.startWorker(s, route)
		started++
	}
	l.rearm(s)
}

// firstRoute is the route of the destination whose turn it is.
func (s *site) firstRoute() *mta.Route {
	for i := range s.streams.len() {
		st := s.streams.at(i)
		for j := range st.dests.len() {
			if at := st.dests.at(j); at.turn == at.d.turn && len(at.d.ready) > 0 {
				return at.d.route
			}
		}
	}
	return nil
}

// rearm sets the site's alarm: the next probe, the next idle worker to leave,
// or the end of an unused site, which happens here.
func (l *loop) rearm(s *site) {
	at := never
	if probe := s.ctl.ProbeAt(); s.ready > 0 && !probe.IsZero() && probe.After(l.now) {
		at = ms(probe) + 1 // a millisecond's fraction later
	}
	if s.owed {
		at = min(at, max(s.lastFree+s.freeGap, l.nowMS+1))
	}
	for i := 0; i < len(s.idle); {
		if w := s.idle[i]; w.until <= l.nowMS {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			l.dismiss(w)
		} else {
			at = min(at, w.until)
			i++
		}
	}
	if s.dests == 0 && s.workers == 0 && s.ready == 0 {
		if s.emptyAt == 0 {
			s.emptyAt = l.nowMS
		}
		end := s.emptyAt + keepSite.Milliseconds()
		if end <= l.nowMS {
			l.setAlarm(&s.alarm, never)
			delete(l.sites, s.key)
			return
		}
		at = min(at, end)
	} else {
		s.emptyAt = 0
	}
	l.setAlarm(&s.alarm, at)
}

func (s *site) popIdle() *worker {
	w := s.idle[len(s.idle)-1]
	s.idle[len(s.idle)-1] = nil
	s.idle = s.idle[:len(s.idle)-1]
	return w
}

// learn feeds the controller with an attempt's outcome.
func (l *loop) learn(s *site, d *dest, o *outcome) {
	switch o.mood {
	case moodGood:
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
	case moodBad:
		s.owed = false
		s.ctl.Failure(l.now, complaint(o.verdict))
		a := o.from.a
		s.last = mta.Last{Time: l.now, Site: s.name, Host: a.Host, IP: a.IP, Result: forOthers(o.verdict, a.Host)}
		if s.ctl.Dead() {
			l.slots.classify(s, false)
		}
	default:
		s.ctl.Neutral(l.now)
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
	return last.Site == site && forSite(last.Result)
}

// released is a destination whose deliveries a site's success makes due.
type released struct {
	d    *dest
	site string
	at   time.Time
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
	s.freeGap = min(max(2*s.freeGap, releaseMin.Milliseconds()), releaseMax.Milliseconds())
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
		for _, e := range r.d.due {
			if e.due > l.nowMS && blames(e.d.Last, r.site) {
				again = append(again, e)
			}
		}
		for _, e := range again {
			e.due = l.nowMS
			r.d.due.fix(int(e.index))
		}
		if r.d.more && r.d.sweep == nil {
			r.d.sweptAt = l.nowMS
			r.d.sweep = &sweep{after: r.d.cursor, site: r.site, until: r.at}
		}
		l.advance(r.d)
	}
}
