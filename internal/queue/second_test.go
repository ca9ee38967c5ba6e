package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// ranked is a Quota that gives streams other than "codes" little.
type ranked struct{ codes, others, asked int }

// Take implements Quota.
func (r *ranked) Take(route *mta.Route, d *mta.Delivery, now time.Time) (time.Time, bool) {
	if via(route) != "192.0.2.1" {
		return time.Time{}, true
	}
	r.asked++
	left := &r.others
	if d.Destination.Stream == "codes" {
		left = &r.codes
	}
	if *left == 0 {
		return now.Add(time.Hour), false
	}
	*left--
	return time.Time{}, true
}

// What mail that comes second is refused by a source's quota, that of other
// streams still has: the source stays open for it, whoever asks first; the rest
// goes over to the other source, or waits without being in the way.
func TestSecondMailLeavesTheSourceToFirst(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				quota := &ranked{codes: 1000, others: 5}
				w.opts.Quota = quota
				w.site = func(string) string { return "shared" }
				w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
					p := poolOf(r, 2)
					p.Routes[0].Warming = &mta.Warming{Provider: "google", Second: !strings.HasPrefix(r.Domain, "codes")}
					if alone {
						p.Routes = p.Routes[:1]
					}
					return p, nil
				}
				w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
					return good(d), 50 * time.Millisecond
				}
				w.up()
				var news *mta.Delivery
				for i := range 100 { // the others come first each time
					news = w.make("news", fmt.Sprintf("n%d@news.example", i))
					w.submit(news, w.make("bulk", fmt.Sprintf("b%d@bulk.example", i)))
					w.submit(w.make("codes", fmt.Sprintf("c%d@codes.example", i)))
				}
				w.wait(10 * time.Minute)
				count := map[string]int{}
				for i := range 100 {
					for _, kind := range []string{"n%d@news.example", "b%d@bulk.example", "c%d@codes.example"} {
						for _, s := range w.sources(fmt.Sprintf(kind, i)) {
							count[kind[:1]+" "+s]++
						}
					}
				}
				young := count["n 192.0.2.1"] + count["b 192.0.2.1"]
				codes := count["c 192.0.2.1"] + count["c 192.0.2.2"]
				if young != 5 || codes != 100 || count["c 192.0.2.1"] < 30 {
					t.Errorf("the mail took %v", count)
				}
				if quota.asked > 500 {
					t.Errorf("asked %d times", quota.asked)
				}
				if !alone {
					if w.store.count() != 0 {
						t.Errorf("%d left", w.store.count())
					}
					return
				}
				x, err := w.q.Why(context.Background(), news)
				if err != nil || !strings.Contains(x.Reason, "192.0.2.1 lets no more mail that does not come first go to google now") {
					t.Errorf("why: %+v, %v", x, err)
				}
				_ = w.q.ask(context.Background(), func(*loop) { quota.others = 1000 })
				w.wait(time.Hour)
				if w.store.count() != 0 {
					t.Errorf("%d left when there was more", w.store.count())
				}
			})
		})
	}
}
