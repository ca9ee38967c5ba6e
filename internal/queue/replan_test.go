package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"mailout/internal/mta"
)

// A plan that takes its time counts, however often other sites' routes are made
// anew meanwhile; where its own site's are, it is made again.
func TestSlowPlansMeetLessons(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.lookUp = func(domain string) time.Duration {
			if domain == "slow.example" || domain == "slow.shared.example" {
				return 5 * time.Second
			}
			return 0
		}
		w.site = func(domain string) string {
			if domain == "slow.shared.example" {
				return "shared.example"
			}
			return domain
		}
		learnt := false
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if r.Site == "shared.example" && !learnt {
				return mta.OnePlan(from(r, 1, 0)), nil
			}
			return mta.OnePlan(from(r, 2, 0)), nil
		}
		w.learn = func(r *mta.Route, _ *mta.Delivery, _ *mta.Attempt) Lesson { return Lesson{Replan: true} }
		w.up()
		w.send("x@slow.example")
		for i := range 3 * keepReplanned {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i))
			w.wait(5 * time.Millisecond)
		}
		if got := w.attempts("x@slow.example"); !slices.Equal(got, []time.Duration{5 * time.Second}) {
			t.Errorf("mail of a slow name server was tried at %v", got)
		}
		if err := w.q.ask(context.Background(), func(l *loop) {
			if n := len(l.replanned); n > keepReplanned+1 {
				t.Errorf("%d sites are remembered", n)
			}
		}); err != nil {
			t.Error(err)
		}
		planned := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.mu.planned
		}
		w.send("y@shared.example") // plans of its site take no time
		w.wait(time.Second)
		before := planned()
		w.send("z@slow.shared.example")
		w.wait(2 * time.Second)
		w.change(func() { learnt = true })
		w.send("y@shared.example")
		w.wait(10 * time.Second)
		if n := planned() - before; n != 3 {
			t.Errorf("%d plans, want that of the slow one twice", n)
		}
		if got := w.sources("z@slow.shared.example"); !slices.Equal(got, []string{"192.0.2.2"}) {
			t.Errorf("it took %v", got)
		}
	})
}
