package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/shape"
)

// bySender gives every route a rate of ten a minute for each sender.
func (w *world) bySender() {
	w.rated(mta.Rate{Count: 10, Per: time.Minute, Bucket: "one", BySender: true, Origin: "[[shape]] 1"})
}

// Mail that waits for its sender's rate uses that rate up although its plans are
// renewed again and again, of one destination or of many, and although all plans
// are made anew: what asks anew is not told to come back behind its own old time.
func TestSendersRateOutlivesPlans(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ttl     time.Duration
		domains int
		replan  bool
	}{
		"one destination":        {5 * time.Minute, 1, false},
		"many destinations":      {5 * time.Minute, 40, false},
		"plans of a few seconds": {10 * time.Second, 3, false},
		"all plans anew":         {time.Hour, 3, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.routeTTL = test.ttl
				w.site = func(string) string { return "shared" }
				w.bySender()
				w.up()
				for i := range 400 {
					w.submit(w.make(mta.DefaultStream, fmt.Sprintf("n%d@d%d.example", i, i%test.domains)))
				}
				for i := range 20 {
					w.wait(time.Minute)
					if test.replan {
						w.q.Replan()
					}
					if n := len(w.tried()); n < 9*i {
						t.Fatalf("%d attempts in %d minutes", n, i+1)
					}
				}
				if n := within(w.begins(), time.Minute); n > 10 {
					t.Errorf("%d in a minute", n)
				}
			})
		})
	}
}

// When mail that waits for its sender's rate is cancelled, what comes later does
// not wait for its times.
func TestCancelledMailFreesItsSendersRate(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.bySender()
		w.up()
		var old []*mta.Delivery
		for i := range 150 {
			old = append(old, w.send(fmt.Sprintf("old%d@one.example", i)))
		}
		w.wait(time.Second)
		w.command(VerbCancel, old...)
		w.wait(time.Minute)
		for i := range 10 {
			w.send(fmt.Sprintf("new%d@one.example", i))
		}
		w.wait(90 * time.Second)
		if n := w.store.count(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// No token is lost because deliveries come back a little late, and the next ones
// therefore a little before their token is there.
func TestLateTimersLoseNoTurns(t *testing.T) {
	t.Parallel()
	for _, rate := range []mta.Rate{
		{Count: 30, Per: time.Minute}, {Count: 10, Per: time.Minute}, {Count: 1000, Per: time.Hour}, {Count: 20, Per: time.Second},
	} {
		t.Run(fmt.Sprint(rate.Count, rate.Per), func(t *testing.T) {
			t.Parallel()
			start := time.UnixMilli(1_000_000_000_000)
			b := &bucket{Bucket: *shape.NewBucket(rate.Count, rate.Per, start), count: rate.Count, per: rate.Per}
			due := make([]millis, 10*rate.Count)
			for i := range due {
				due[i] = start.UnixMilli()
			}
			end := start.Add(5 * rate.Per).UnixMilli()
			passed, asked := 0, 0
			for {
				slices.Sort(due)
				if len(due) == 0 || due[0] > end {
					break
				}
				late := time.Duration(asked%7) * rate.Per / time.Duration(500*rate.Count) // up to 1.2 % of a step
				now := time.UnixMilli(due[0]).Add(late)
				ok, again := b.Take(now)
				asked++
				if ok {
					passed++
					due = due[1:]
					b.waiting = max(b.waiting-1, 0)
					continue
				}
				b.waiting = len(due) - 1
				due[0] = b.promise(max(again.UnixMilli(), now.UnixMilli()) + 1)
			}
			if least := 5 * rate.Count * 95 / 100; passed < least {
				t.Errorf("%d passed, want %d at least", passed, least)
			}
			if most := 30 * rate.Count; asked > most {
				t.Errorf("%d asked for %d", asked, passed)
			}
		})
	}
}
