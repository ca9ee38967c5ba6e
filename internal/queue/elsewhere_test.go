package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// Routes that send a delivery to and fro do not keep it going: after 16 turns it
// waits as the schedule says, and begins anew. It is never bounced for that.
func TestElsewhereIsBounded(t *testing.T) {
	t.Parallel()
	for _, routes := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(routes), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.pool(routes)
				w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
					if d.Message.Kind == mta.KindBounce {
						return good(d), 0
					}
					return each(d, blocked()), 10 * time.Millisecond
				}
				w.up()
				w.send("u@one.example")
				w.wait(4 * time.Minute)
				turns := w.attempts("u@one.example")
				if len(turns) != maxRow+1 {
					t.Fatalf("%d attempts without a wait: %v", len(turns), turns)
				}
				used := map[string]int{}
				for _, s := range w.sources("u@one.example") {
					used[s]++
				}
				for s, n := range used {
					if len(used) != routes || n < maxRow/routes {
						t.Errorf("%s was tried %d times of %v", s, n, used)
					}
				}
				w.wait(4 * time.Minute)
				if n := len(w.attempts("u@one.example")); n != 2*(maxRow+1) {
					t.Errorf("%d attempts after the first interval", n)
				}
				w.wait(4 * time.Hour)
				if n := len(w.attempts("u@one.example")); n != 6*(maxRow+1) { // 5m, 20m, 50m, 110m, 230m
					t.Errorf("%d attempts in four hours: detours count in the schedule", n)
				}
				if !strings.Contains(w.store.events(mta.EventDeferred)[maxRow].Reason, "retry schedule follows") {
					t.Errorf("reason %q", w.store.events(mta.EventDeferred)[maxRow].Reason)
				}
				w.wait(6 * 24 * time.Hour)
				if len(w.store.events(mta.EventFailed)) != 0 || len(w.store.events(mta.EventExpired)) != 1 {
					t.Errorf("%d failed, %d expired", len(w.store.events(mta.EventFailed)), len(w.store.events(mta.EventExpired)))
				}
			})
		})
	}
}

// A turn elsewhere is durable: after a crash the delivery is due at once, and
// its turns count on.
func TestElsewhereIsDurable(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.pool(2)
		w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			return each(d, blocked()), 100 * time.Millisecond
		}
		w.up()
		d := w.send("u@one.example")
		w.wait(1050 * time.Millisecond)
		if err := w.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		kept := w.store.get(d.Key())
		if kept == nil || kept.Row == 0 || kept.Due.After(time.Now()) || int(kept.Detours) != kept.Attempts {
			t.Fatalf("stored as %+v", kept)
		}
		w.up()
		w.wait(4 * time.Minute)
		if n := len(w.attempts("u@one.example")); n != maxRow+1 {
			t.Errorf("%d attempts without a wait", n)
		}
	})
}

// One whose content may have arrived is not tried sooner, and what was delivered
// is delivered, whatever Elsewhere says.
func TestElsewhereLeavesTheUncertainAndTheDelivered(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.pool(2)
		w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			return []mta.Result{
				{Class: mta.ClassDelivered, Elsewhere: true},
				{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Reason: "reply lost", Elsewhere: true},
			}[:len(d.Recipients)], 0
		}
		w.up()
		w.send("a@one.example", "b@one.example")
		w.wait(time.Minute)
		if n := len(w.attempts("b@one.example")); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

// Where the plan has no other route a new one is asked for, without waiting for
// the end of the old.
func TestElsewhereAsksForANewPlan(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		refused := false
		w.plan = func(v string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if refused {
				return byRouter(v, r)
			}
			return mta.OnePlan(r), nil
		}
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if r.Router == "" {
				refused = true
				return each(d, blocked()), 0
			}
			return good(d), 0
		}
		w.up()
		w.send("u@one.example")
		w.wait(time.Second)
		if got := w.sources("u@one.example"); len(got) != 2 || got[1] != "relay.example" {
			t.Errorf("it took %q", got)
		}
	})
}

// What an attempt taught counts more than a plan that was asked for before.
func TestLessonsOutweighOlderPlans(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.site = func(string) string { return "shared" }
		w.pool(2)
		w.lookUp = func(domain string) time.Duration {
			if domain == "slow.example" {
				return 20 * time.Second
			}
			return 0
		}
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if via(r) == "192.0.2.1" {
				return each(d, blocked()), 0
			}
			return good(d), 0
		}
		w.learn = func(_ *mta.Route, _ *mta.Delivery, a *mta.Attempt) (k Lesson) {
			if a.Results[0].Elsewhere {
				k.Avoid = time.Now().Add(time.Hour)
			}
			return k
		}
		w.up()
		w.send("v@slow.example") // its plan is under way, and knows nothing
		w.wait(time.Second)
		for i := range 10 {
			w.send(fmt.Sprintf("a%d@one.example", i))
		}
		w.wait(30 * time.Second)
		before := len(w.store.events(mta.EventDeferred))
		for i := range 40 {
			w.send(fmt.Sprintf("b%d@one.example", i))
		}
		w.wait(10 * time.Second)
		if n := len(w.store.events(mta.EventDeferred)); before == 0 || n != before {
			t.Errorf("%d refused before the older plan came, %d after", before, n-before)
		}
	})
}
