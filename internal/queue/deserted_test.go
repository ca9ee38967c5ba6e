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
