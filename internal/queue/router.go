package queue

import (
	"time"

	"mailout/internal/mta"
)

// Routers: a router that cannot be used is our own matter (credentials, its name,
// its machine), somebody mends it, and mail is to flow within a minute of that,
// however long its retry schedule has become. So of the mail that waits for a
// router one delivery, the earliest due, is tried at each probe, and the first
// success releases the rest. It is one attempt a probe, half a minute apart.
//
// A router that cannot even be found (a refused plan that names a site) has no
// site. Some of the ways that wait for one are planned again now and then; when
// one finds its router all are, and each that does releases its mail.

const (
	// routerLook is how often routers that could not be found are looked for, and
	// routerLooks for how many ways at a time.
	routerLook  = 15 * time.Second
	routerLooks = 4
	// routerSearch bounds the entries looked at for the earliest that waits for a
	// router.
	routerSearch = 10_000
)

// routerAt is when mail that waits for a sick router is to try it; never when
// something is ready there, which does so by itself.
func (l *loop) routerAt(s *site) millis {
	if !s.sick || s.ready > 0 || len(s.waiting) == 0 || l.stopping {
		return never
	}
	at := s.askAt
	if probe := s.ctl.ProbeAt(); !probe.IsZero() {
		at = max(at, ms(probe)+1)
	}
	return max(at, s.quota.until, l.nowMS+1)
}

// probeRouter makes one of the deliveries that wait for a sick router due, when
// a probe is.
func (l *loop) probeRouter(s *site) {
	if l.routerAt(s) > l.nowMS+1 {
		return
	}
	s.askAt = l.nowMS + routerBackoff.Milliseconds()
	if e := l.waitsFor(s); e != nil {
		l.hasten(e)
		l.advance(e.way.dest)
		return
	}
	for d := range s.waiting { // all of it is outside
		if d.more && d.sweep == nil {
			d.sweptAt = l.nowMS
			d.sweep = &sweep{after: d.cursor, site: s.name, until: l.now, one: true}
			l.advance(d)
			return
		}
	}
}

// waitsFor is the earliest due of what was deferred for a site's sake, among so
// many that are in memory.
func (l *loop) waitsFor(s *site) (first *entry) {
	looked := 0
	for d := range s.waiting {
		found := d.more
		for w := &d.first; w != nil; w = w.next {
			for _, e := range w.due {
				if !blames(e.d.Last, s.name) || e.paced {
					continue
				}
				found = true
				if e.due > l.nowMS && (first == nil || e.due < first.due) {
					first = e
				}
			}
			looked += len(w.due)
		}
		if !found {
			delete(s.waiting, d) // it has gone another way
		}
		if looked > routerSearch {
			break
		}
	}
	return first
}

// noRouter notes a way whose plan was refused because its router cannot be
// found.
func (l *loop) noRouter(w *way) {
	w.unrouted = w.refusal.Site != "" && ofRouter(firstResult(w.refusal))
	if w.unrouted && !w.inUnrouted {
		w.inUnrouted = true
		if l.unrouted.len() == 0 {
			l.lookAt = l.nowMS + routerLook.Milliseconds()
		}
		l.unrouted.push(w)
	}
}

func ofRouter(r mta.Result) bool {
	return r.Class == mta.ClassTemporary && r.Scope == mta.ScopeLocal
}

// lookForRouters has some of the ways planned again whose router could not be
// found.
func (l *loop) lookForRouters() {
	if l.routersAt() > l.nowMS {
		return
	}
	l.lookAt = l.nowMS + routerLook.Milliseconds()
	for range min(routerLooks, l.unrouted.len()) {
		w := l.unrouted.pop()
		if w.gone || !w.unrouted || !w.mail() && !w.dest.more {
			w.unrouted, w.inUnrouted = false, false
			continue
		}
		l.unrouted.push(w)
		l.wantPlan(w)
	}
}

// routersAt is when lookForRouters has something to do.
func (l *loop) routersAt() millis {
	if l.unrouted.len() == 0 || l.stopping {
		return never
	}
	return l.lookAt
}

// found notes that a way's mail goes somewhere again, if its router could not be
// found until now.
func (l *loop) found(w *way) {
	if w.unrouted && w.refusal != nil {
		l.routerFound(w, w.refusal.Site)
	}
}

// routerFound releases what waited for a router that is found again, and has the
// other ways that wait for one look.
func (l *loop) routerFound(w *way, site string) {
	w.unrouted = false
	l.releasing.push(released{w.dest, site, l.now})
	if l.nowMS-l.lookedAll < routerLook.Milliseconds() {
		return
	}
	l.lookedAll = l.nowMS
	for i := range l.unrouted.len() {
		if x := l.unrouted.at(i); x.unrouted && !x.gone {
			l.wantPlan(x)
		}
	}
}

// leftRouter releases what waited for a sick router on a way that a new plan sends
// elsewhere, and has the others that wait for it look: that the configuration
// names another is a mend, too.
func (l *loop) leftRouter(w *way, old *site) {
	if old == nil || !old.sick {
		return
	}
	l.releasing.push(released{w.dest, old.name, l.now})
	if l.nowMS-old.leftAt < routerLook.Milliseconds() {
		return
	}
	old.leftAt = l.nowMS
	for d := range old.waiting {
		for x := &d.first; x != nil; x = x.next {
			if !x.fresh(l.nowMS) {
				l.wantPlan(x)
			}
		}
	}
}
