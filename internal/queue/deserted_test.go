package queue

import (
	"fmt"
	"testing"
	"time"

	"mailout/internal/mta"
)

// Mail that waits for a router goes within a minute when the configuration names
// another one, or none, although its retry schedule has become long.
func TestMailLeavesARouterThatIsReplaced(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprint(direct), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				mended := false
				w.plan = func(v string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
					if mended && direct {
						return mta.OnePlan(r), nil
					}
					p, _ := byRouter(v, r)
					if mended {
						r.Router, r.Site = "other.example", "router:other.example"
					}
					return p, nil
				}
				w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
					if r.Router == "relay.example" {
						return each(d, mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "535 5.7.8 bad credentials"}), 300 * time.Millisecond
					}
					return good(d), 10 * time.Millisecond
				}
				w.up()
				for i := range 120 {
					w.send(fmt.Sprintf("u%d@d%d.example", i, i%40))
				}
				w.wait(9*time.Hour + 17*time.Minute)
				w.change(func() { mended = true })
				w.q.Replan()
				w.wait(time.Minute)
				if n := w.store.count(); n != 0 {
					t.Errorf("%d left a minute after the configuration was mended", n)
				}
			})
		})
	}
}

// What waited for a router that cannot be found is held within a minute when a
// rule holds it, and its router is looked for no more.
func TestRuleHoldsMailOfALostRouter(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		held := false
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if held {
				return &mta.Plan{Stop: &mta.Stop{Action: mta.StopHold, Reason: "held by [[route]] 1"}, Expires: r.Expires}, nil
			}
			now := time.Now()
			return nil, &mta.Attempt{Start: now, End: now, Site: "router", Results: []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "router relay.example: no such name"}}}
		}
		w.up()
		for i := range 20 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%5))
		}
		w.wait(9 * time.Hour)
		w.change(func() { held = true })
		w.q.Replan()
		w.wait(time.Minute)
		if n := len(w.store.events(mta.EventHeld)); n < 20 {
			t.Errorf("%d of 20 held", n)
		}
		planned := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.mu.planned
		}
		before := planned()
		w.wait(30 * time.Minute)
		if n := planned() - before; n > 20 {
			t.Errorf("%d plans in half an hour", n)
		}
	})
}
