package queue

import (
	"fmt"
	"testing"
	"time"

	"mailout/internal/mta"
)

// Mail that waits at a dead site goes by another at the moment at which what is
// left of that one's quota is for its stream again.
func TestEndOfAStreamsQuotaIsNoticed(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		again := time.Now().Add(100 * time.Second)
		w.opts.Quota = quotaUntil(again)
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			p := poolOf(r, 2)
			p.Routes[0].Warming = &mta.Warming{Provider: "google", Second: true}
			return p, nil
		}
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if via(r) == "192.0.2.2" {
				return each(d, unreachable()), 0
			}
			return good(d), 0
		}
		w.up()
		for i := range 40 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(90 * time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n != 0 {
			t.Errorf("%d delivered by the source that is used up", n)
		}
		w.wait(15 * time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n < 25 {
			t.Errorf("%d of 40 delivered when the other source may be used", n)
		}
		w.wait(10 * time.Hour)
	})
}

// quotaUntil is a Quota with nothing left until then.
type quotaUntil time.Time

// Take implements Quota.
func (q quotaUntil) Take(_ *mta.Route, _ *mta.Delivery, now time.Time) (time.Time, bool) {
	return time.Time(q), !now.Before(time.Time(q))
}
