package queue

import (
	"fmt"
	"testing"
	"time"

	"mailout/internal/mta"
)

func byRouter(variant string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
	r.Router, r.Site = "relay.example", "router:relay.example"
	return mta.OnePlan(r), nil
}

// A router that was out of order for nine hours is used again within a minute of
// its mend, by one attempt a probe until then, whatever was wrong.
func TestTrap16RouterIsFoundAgain(t *testing.T) {
	t.Parallel()
	for _, scope := range []mta.Scope{mta.ScopeSite, mta.ScopeLocal} {
		for _, n := range []int{1, 5, 300} {
			t.Run(fmt.Sprint(scope, n), func(t *testing.T) {
				t.Parallel()
				run(t, func(w *world) {
					w.plan = byRouter
					mended, tries := false, 0
					w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
						tries++
						if mended {
							return good(d), 10 * time.Millisecond
						}
						return each(d, mta.Result{Class: mta.ClassTemporary, Scope: scope, Reason: "535 5.7.8 bad credentials"}), 300 * time.Millisecond
					}
					w.up()
					for i := range n {
						w.send(fmt.Sprintf("u%d@d%d.example", i, i%40))
					}
					w.wait(9*time.Hour + 17*time.Minute)
					before := 0
					w.change(func() { before = tries })
					if most := 2*60*9 + 60; before < 1000 || before > most {
						t.Errorf("%d attempts in nine hours, at most %d", before, most)
					}
					w.wait(10 * time.Minute)
					w.change(func() {
						if d := tries - before; d < 18 || d > 21 {
							t.Errorf("%d attempts in ten minutes", d)
						}
						mended = true
					})
					w.wait(time.Minute)
					delivered := 0
					for _, r := range w.store.events(mta.EventDelivered) {
						if r.Recipient != "app@out.example" { // a delay notice
							delivered++
						}
					}
					if w.store.count() != 0 || delivered != n {
						t.Errorf("%d left a minute after the mend, %d of %d delivered", w.store.count(), delivered, n)
					}
				})
			})
		}
	}
}

// The same where nothing of the mail is in memory.
func TestRouterIsFoundAgainFromTheSpool(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.plan = byRouter
		w.opts.Limits.PerDestination = 2
		w.opts.Limits.InMemory = 4
		mended := false
		w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if mended {
				return good(d), 10 * time.Millisecond
			}
			return each(d, unreachable()), 300 * time.Millisecond
		}
		w.up()
		for i := range 20 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%2))
		}
		w.wait(20 * time.Hour)
		w.change(func() { mended = true })
		w.wait(time.Minute)
		if n := w.store.count(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestTrap34UnresolvableRouter: a router that cannot be found defers mail, is
// looked for gently, and its mail goes within a minute when it is found.
func TestTrap34UnresolvableRouter(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		found := false
		w.plan = func(v string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if r.Domain != "never.example" && found {
				return byRouter(v, r)
			}
			now := time.Now()
			return nil, &mta.Attempt{Start: now, End: now, Site: "router", Results: []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "router relay.example: no such name"}}}
		}
		w.up()
		for i := range 200 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%50))
		}
		w.send("u@never.example")
		w.wait(30 * time.Hour)
		w.mu.Lock()
		before := w.mu.planned
		w.mu.Unlock()
		w.wait(10 * time.Minute)
		w.mu.Lock()
		plans := w.mu.planned - before
		w.mu.Unlock()
		if plans > 4*4*10+60 {
			t.Errorf("%d look-ups in ten minutes", plans)
		}
		deferred := len(w.store.events(mta.EventDeferred))
		w.change(func() { found = true })
		w.wait(time.Minute)
		if n := w.store.count(); n != 1 || len(w.store.events(mta.EventFailed)) != 0 {
			t.Errorf("%d left a minute after the mend", n)
		}
		if n := len(w.store.events(mta.EventDeferred)) - deferred; n > 3 {
			t.Errorf("%d were deferred again at the mend", n)
		}
	})
}
