package queue

import (
	"fmt"
	"testing"
	"time"

	"mailout/internal/mta"
)

// A configuration that takes a bound away, or raises it, lets what waited for it go
// at once: quotas of sources and of streams, rates of sites and of streams.
func TestReloadEndsWaiting(t *testing.T) {
	t.Parallel()
	day := mta.Rate{Count: 1, Per: 24 * time.Hour, Bucket: "one", Origin: "[[shape]] 1"}
	byStream := day
	byStream.ByStream = true
	for name, bound := range map[string]func(*mta.Route){
		"quota":             func(r *mta.Route) { r.Warming = &mta.Warming{Provider: "google"} },
		"quota of a stream": func(r *mta.Route) { r.Warming = &mta.Warming{Provider: "google", Second: true} },
		"rate":              func(r *mta.Route) { r.Limits.Rates = []mta.Rate{day} },
		"rate of a stream":  func(r *mta.Route) { r.Limits.Rates = []mta.Rate{byStream} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.opts.Quota = quotaUntil(time.Now().Add(20 * time.Hour))
				bounded := true
				w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
					if bounded {
						bound(r)
					}
					return mta.OnePlan(r), nil
				}
				w.up()
				for i := range 10 {
					w.send(fmt.Sprintf("u%d@one.example", i))
				}
				w.wait(time.Hour)
				if n := w.store.count(); n < 9 {
					t.Errorf("%d of 10 wait", n)
				}
				w.change(func() { bounded = false })
				w.q.Replan()
				w.wait(time.Minute)
				if n := w.store.count(); n != 0 {
					t.Errorf("%d wait for what the configuration says no more", n)
				}
			})
		})
	}
}
