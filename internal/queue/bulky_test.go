package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// allowance is a Quota of so many recipients for each source, which grows.
type allowance struct {
	start time.Time
	most  int
	used  map[string]int
}

// Take implements Quota.
func (a *allowance) Take(r *mta.Route, d *mta.Delivery, now time.Time) (time.Time, bool) {
	n := len(d.Recipients)
	if left := int(now.Sub(a.start)/time.Minute) - a.used[via(r)]; n > left || n > a.most {
		return now.Add(time.Minute), false
	}
	a.used[via(r)] += n
	return time.Time{}, true
}

// A delivery to more recipients than a warming source may send to for now, or at
// all, does not hold up what is behind it, and says what it waits for.
func TestBulkyDeliveriesWaitAlone(t *testing.T) {
	t.Parallel()
	for sources := 1; sources <= 2; sources++ {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.opts.Quota = &allowance{time.Now(), 20, map[string]int{}}
				w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
					p := poolOf(r, sources)
					for _, r := range p.Routes {
						r.Warming = &mta.Warming{Provider: "google"}
					}
					return p, nil
				}
				w.up()
				many := func(n int) *mta.Delivery {
					rcpts := make([]string, n)
					for i := range rcpts {
						rcpts[i] = fmt.Sprintf("m%d-%d@one.example", n, i)
					}
					return w.send(rcpts...)
				}
				never, late := many(60), many(15)
				for i := range 30 {
					w.send(fmt.Sprintf("u%d@one.example", i))
				}
				w.wait(50 * time.Minute)
				if n := len(w.store.events(mta.EventDelivered)); n != 30 && n != 45 {
					t.Errorf("%d recipients got their mail", n)
				}
				w.wait(20 * time.Minute)
				x, err := w.q.Why(context.Background(), never)
				if err != nil || x.Limit != "quota" || !strings.Contains(x.Reason, "to 60 recipients at once") || x.Next.Before(time.Now()) {
					t.Errorf("why: %+v, %v", x, err)
				}
				if w.store.get(never.Key()) == nil || w.store.get(late.Key()) != nil {
					t.Errorf("left: %d", w.store.count())
				}
			})
		})
	}
}
