package queue

import (
	"slices"
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
	dests int // berths here

	router  bool                // a router of the operator's
	rates   []mta.Rate          // of the latest route here
	shared  map[*berth]struct{} // of these, of ways that have others
	passing bool                // in the ring of sites to be looked at for mail that may go elsewhere
	shuts

	streams  ring[*stream] // those with something ready take turns
	byStream map[string]*stream
	ready    int

	workers  int // running, those that are leaving included
	carrying int // of these, have carried something
	starting int // of these, not yet asked for work
	leaving  int // of these, told to leave
	idle     []*worker
	hungry   bool // in a ring of slots
	inSpare  bool // in slots.spare

	waiting  map[*dest]struct{} // have deliveries deferred for the site's sake
	sick     bool               // a router that failed the last time
	askAt    millis             // when mail that waits for a sick router tries it
	leftAt   millis             // when a way left it while it was sick, and others were planned for that
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
	berths ring[listing] // those with something ready take turns
	ready  int
	listed bool // in the site's ring
	rested rest // its rate is used up
	quota  shut // what is left of the source's quota is for other streams (mta.Warming.Second)
}

// restsUntil is until when nothing of the stream is handed out.
func (st *stream) restsUntil() millis { return max(st.rested.until, st.quota.until) }

// listing is a berth's place in its stream's ring. It counts only while it is
// the berth's latest.
type listing struct {
	b    *berth
	turn uint32
}

// keepStreams is how many empty streams a site keeps.
const keepStreams = 8

// siteOf gives the site of a route, new or old, with the route's limits. since is
// when the plan was asked for: what was learnt later counts more than it says.
func (l *loop) siteOf(route *mta.Route, since millis) *site {
	key := siteKey(route)
	limit := route.Limits.Connections
	if limit <= 0 {
		limit = shape.DefaultLimit
	}
	s := l.sites[key]
	if s == nil {
		s = &site{key: key, name: route.Site, limit: limit, router: route.Router != "",
			byStream: make(map[string]*stream), waiting: make(map[*dest]struct{})}
		s.seed = hashed(fnvOffset, route.SourceKey())
		s.ctl = shape.New(l.shapeConfig(s))
		s.alarm = alarm{index: -1, site: s}
		l.sites[key] = s
		l.mostSites = max(l.mostSites, len(l.sites))
	}
	if s.limit != limit {
		s.limit = limit
		s.ctl.Configure(l.shapeConfig(s))
	}
	if !sameRates(s.rates, route.Limits.Rates) {
		s.rates, s.rate = route.Limits.Rates, rest{} // ask the buckets anew
	}
	l.seedAvoid(s, route, since)
	return s
}

func sameRates(a, b []mta.Rate) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// siteKey tells the sites of one MX set from different sources apart.
func siteKey(route *mta.Route) string {
	key := route.Site
	if len(route.Sources) > 0 {
		key += "|" + route.SourceKey()
	}
	if route.Probe {
		key += "|probe" // its quota is not that of other mail to the site
	}
	return key
}

// share notes whether a berth's way has others.
func (s *site) share(b *berth, others bool) {
	switch {
	case !others:
		delete(s.shared, b)
	case s.shared == nil:
		s.shared = map[*berth]struct{}{b: {}}
	default:
		s.shared[b] = struct{}{}
	}
}

// routerBackoff is the longest wait between two probes of a router: it is to be
// found again within a minute.
const routerBackoff = 30 * time.Second

// shapeConfig bounds a controller: a delivery that comes due after the
// shortest retry interval must find the site probed.
func (l *loop) shapeConfig(s *site) shape.Config {
	longest := min(l.set.schedules.Shortest()*9/10, shape.DefaultBackoffMax)
	if s.router {
		longest = min(longest, routerBackoff)
	}
	return shape.Config{Limit: s.limit, BackoffMax: longest}
}

// leaveSites takes a way without ready entries from its sites.
func (l *loop) leaveSites(w *way) {
	for b := &w.berth; b != nil; b = b.next {
		l.leaveSite(b)
	}
	w.berth.next = nil
}

// leaveSite takes a berth without ready entries from its site.
func (l *loop) leaveSite(b *berth) {
	s := b.site
	if s == nil {
		return
	}
	b.site, b.route = nil, nil
	b.turn++
	b.listed = false
	delete(s.shared, b)
	if !b.way.dest.at(s) {
		delete(s.waiting, b.way.dest)
	}
	if s.dests--; s.dests == 0 {
		l.rearm(s)
	}
}

// at reports whether a destination has a berth at a site.
func (d *dest) at(s *site) bool {
	for w := &d.first; w != nil; w = w.next {
		for b := &w.berth; b != nil; b = b.next {
			if b.site == s {
				return true
			}
		}
	}
	return false
}

// makeReady moves an entry that has left its way's heap to a berth. The caller
// dispatches.
func (l *loop) makeReady(e *entry, b *berth) {
	s, d := b.site, b.way.dest
	e.phase, e.since, e.berth = phaseReady, l.nowMS, b
	b.ready.push(e)
	d.ready++
	if s.ready == 0 {
		s.moved = l.nowMS
	}
	s.ready++
	st := s.stream(d.key.Stream)
	if st.ready++; st.restsUntil() <= l.nowMS {
		s.allRest = 0
	}
	if b.listed && b.stream != st { // an emptied stream was dropped with its ring
		b.listed = false
		b.turn++
	}
	b.stream = st
	if !b.listed {
		b.listed = true
		st.berths.push(listing{b, b.turn})
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

// unready takes an entry out of what is ready; it keeps its berth.
func (l *loop) unready(e *entry) {
	b := e.berth
	b.ready.remove(e)
	b.way.dest.ready--
	b.site.ready--
	b.stream.ready--
}

// unreadyBerth puts what is ready at a berth back to be routed anew.
func (l *loop) unreadyBerth(b *berth) {
	for len(b.ready) > 0 {
		e := b.ready.top()
		l.unready(e)
		e.phase, e.berth = phaseDue, nil
		b.way.due.push(e)
	}
	if b.listed {
		b.listed = false
		b.turn++
	}
}

// unreadyWay does so for all of a way.
func (l *loop) unreadyWay(w *way) {
	for b := &w.berth; b != nil; b = b.next {
		l.unreadyBerth(b)
	}
}

// next takes the next ready entry in turn: streams share the site, and
// destinations share the stream. nil when nothing may go.
func (l *loop) next(s *site) *entry {
	if s.closedUntil() > l.nowMS {
		return nil
	}
	first := never // of the streams that rest
	for range s.streams.len() {
		st := s.streams.pop()
		var e *entry
		switch {
		case st.ready == 0:
		case st.restsUntil() > l.nowMS:
			first = min(first, st.restsUntil())
		default:
			e = l.nextOf(s, st)
			if e == nil && st.restsUntil() > l.nowMS {
				first = min(first, st.restsUntil())
			}
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
		if s.closedUntil() > l.nowMS {
			return nil
		}
	}
	if first != never {
		s.allRest = first
	}
	return nil
}

func (l *loop) nextOf(s *site, st *stream) *entry {
	for st.berths.len() > 0 {
		at := st.berths.pop()
		b := at.b
		if at.turn != b.turn {
			continue // it has left this ring
		}
		if len(b.ready) == 0 {
			b.listed = false
			continue
		}
		if !l.usable(b.way) {
			l.unreadyBerth(b)
			continue
		}
		e := b.ready.top()
		may := l.may(s, st, e)
		if may == mayGo || may == senderRests {
			l.unready(e)
		}
		if len(b.ready) > 0 {
			st.berths.push(at)
		} else {
			b.listed = false
		}
		switch may {
		case mayGo:
			return e
		case senderRests:
			l.pace(e, l.paceFor)
		default:
			return nil
		}
	}
	return nil
}

// usable reports whether a way's routes may still be used, and has them
// renewed in time. One that is too old waits for the new plan.
func (l *loop) usable(w *way) bool {
	if l.nowMS < w.routeUntil {
		return true
	}
	l.wantPlan(w)
	return l.nowMS < w.routeUntil+staleRoute.Milliseconds()
}

// dispatch gives ready mail to idle workers and starts new ones, as far as the
// controller and the connections allow.
func (l *loop) dispatch(s *site) {
	if s.owed && l.nowMS-s.lastFree >= s.freeGap {
		l.free(s)
	}
	l.reopen(s)
	l.probeRouter(s)
	started := 0
	for s.ready > 0 && !l.stopping && !l.storeDown() && s.closedUntil() <= l.nowMS {
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
		if !l.worthAnother(s) {
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

// firstRoute is the route of the berth whose turn it is.
func (s *site) firstRoute() *mta.Route {
	for i := range s.streams.len() {
		st := s.streams.at(i)
		for j := range st.berths.len() {
			if at := st.berths.at(j); at.turn == at.b.turn && len(at.b.ready) > 0 {
				return at.b.route
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
	at = min(at, l.openAt(s), l.routerAt(s))
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
