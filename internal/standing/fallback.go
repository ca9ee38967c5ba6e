package standing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
)

// The router that stands in for direct delivery to a site.

// fallback hands the site to the router when a result asks for it, and marks
// what it may mend.
func (l *lecture) fallback() {
	st := l.s.find(l.route.Site)
	why, marked := l.asks(st)
	if st != nil && why == "" && l.some(func(r *mta.Result) bool { return r.Class == mta.ClassDelivered }) {
		l.out.Replan = l.s.taken(st, l.route, l.now).Replan || l.out.Replan
		return
	}
	if l.route.Probe && st != nil && st.router.on {
		l.probed(st, why)
		return
	}
	if why == "" || !marked {
		return
	}
	l.standIn(l.s.make(l.route.Site), why)
	l.out.Replan = true
}

// asks finds why the router is to take over, marks the results that are to go
// its way, and reports whether any is: where another source takes them, none.
func (l *lecture) asks(st *site) (why string, marked bool) {
	on := &l.set.fallback.On
	for i := range l.a.Results {
		r := &l.a.Results[i]
		if r.Elsewhere || on.blames(r) == "" {
			continue
		}
		if why == "" {
			why = r.Reason
		}
		elsewhere(r)
		marked = true
	}
	if marked {
		return why, true
	}
	switch {
	case on.Port25 && unreachable(l.a):
		why = l.closed(st)
	case on.Stalled > 0:
		why = l.stalled(st)
	}
	if why == "" {
		return "", false
	}
	for i := range l.a.Results {
		if r := &l.a.Results[i]; r.Class == mta.ClassTemporary && r.Scope != mta.ScopeLocal {
			elsewhere(r)
			marked = true
		}
	}
	return why, marked
}

// closed says why a site whose hosts cannot be connected to is the router's:
// it was so twice in a row, or nobody was reached lately.
func (l *lecture) closed(st *site) string {
	if st == nil {
		st = l.s.make(l.route.Site)
	}
	st.missed++
	last := l.s.reached.Load()
	if st.missed < 2 && last != 0 && l.now.UnixNano()-last < int64(reachedLately) {
		return l.stalled(st)
	}
	return "no host of " + l.route.Site + " can be connected to at port " + fmt.Sprint(l.route.Port) + ": " + l.a.Results[slices.IndexFunc(l.a.Results, asked)].Reason
}

// stalled says why a site is the router's that took nothing for a time, while
// the delivery waited as long.
func (l *lecture) stalled(st *site) string {
	limit := l.set.fallback.On.Stalled
	if limit <= 0 || !l.some(l.stuck) {
		return ""
	}
	if st == nil {
		st = l.s.make(l.route.Site)
	}
	if st.idle.IsZero() {
		st.idle = l.now
		// A delivery that has tried before began the time.
		if last := l.d.Last; l.d.Attempts > 0 && last.Site == l.route.Site && !last.Time.IsZero() && last.Time.Before(l.now) {
			st.idle = last.Time
		}
	}
	if l.now.Sub(l.d.Message.Start()) < limit || l.now.Sub(st.idle) < limit {
		return ""
	}
	why := fmt.Sprintf("%s took nothing for %s", l.route.Site, l.now.Sub(st.idle).Round(time.Second))
	for i := range l.a.Results {
		if r := &l.a.Results[i]; l.stuck(r) {
			return why + "; last: " + r.Reason
		}
	}
	return why
}

// standIn hands the site to the router. What is under way when that is so
// already changes nothing.
func (l *lecture) standIn(st *site, why string) {
	r := &st.router
	if r.on {
		return
	}
	fb := &l.set.fallback
	if r.wait > 0 && l.now.Before(r.left.Add(memory)) {
		r.wait = min(2*r.wait, fb.ProbeMax) // it came back too early
	} else {
		r.wait = fb.Probe
	}
	r.on, r.since, r.why, r.probing = true, l.now, cut(why, maxWhy), time.Time{}
	r.next = l.now.Add(r.wait)
	l.s.counts.fallbacks.Add(1)
	l.s.keeper.mark(st.name)
	l.tell("", fmt.Sprintf("the router %s stands in for direct delivery to %s: %s; tried directly again at %s", fb.Router, st.name, strings.TrimSuffix(r.why, "."), mta.FormatTime(r.next)), true)
}

// probed is a probe that was not taken. What the receiver said of the recipient
// or the message is its answer; whatever else went wrong the router may mend.
func (l *lecture) probed(st *site, why string) {
	for i := range l.a.Results {
		if r := &l.a.Results[i]; r.Class == mta.ClassTemporary && r.Scope != mta.ScopeLocal {
			elsewhere(r)
		}
	}
	r := &st.router
	r.probing = time.Time{}
	l.s.counts.probesFailed.Add(1)
	if why != "" {
		r.why = cut(why, maxWhy)
		r.wait *= 2
	}
	r.wait = min(max(r.wait, l.set.fallback.Probe), l.set.fallback.ProbeMax)
	r.next = l.now.Add(r.wait)
	l.s.keeper.mark(st.name)
	l.out.Replan = true
}

// direct gives a site back to direct delivery. s.mu is held.
func (s *Standing) direct(st *site, now time.Time, why string) {
	r := &st.router
	r.on, r.left, r.probing = false, now, time.Time{}
	s.keeper.mark(st.name)
	s.keeper.tell(Change{Time: now, Site: st.name, Words: fmt.Sprintf("%s is reached directly again: %s (the router stood in for %s)", st.name, why, now.Sub(r.since).Round(time.Second))})
}

// Take lets a delivery through by the direct way to a site that the router
// stands in for (Route.Probe), when a probe is due; queue.Quota in short. It
// reports false when none is, and when to ask again.
func (s *Standing) Take(route *mta.Route, now time.Time) (again time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.sites[route.Site]
	if st == nil || !st.router.on {
		return time.Time{}, true // it is direct meanwhile
	}
	r := &st.router
	if end := r.probing.Add(probeLife); !r.probing.IsZero() && now.Before(end) {
		if soon := now.Add(max(r.wait, time.Second)); soon.Before(end) {
			end = soon // no probe comes sooner, whatever this one comes to
		}
		return end, false
	}
	if now.Before(r.next) {
		return r.next, false
	}
	r.probing = now
	s.counts.probes.Add(1)
	return time.Time{}, true
}

// GiveBack takes back a probe that was let through and is not made.
func (s *Standing) GiveBack(route *mta.Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.mu.sites[route.Site]; st != nil {
		st.router.probing = time.Time{}
	}
}
