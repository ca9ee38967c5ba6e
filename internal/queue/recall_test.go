package queue

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// TestRecall: a release finds the holds that the spool does not show yet: one
// that waits for the end of an attempt, and one that is being stored.
func TestRecall(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Attempts == 0 && d.Destination.Domain == "one.example" {
				return each(d, greylisted()), time.Minute
			}
			return good(d), 0
		}
		var broken atomic.Bool
		var slow mta.DeliveryKey
		w.store.fail = func(s *spool.Settlement) error {
			if broken.Load() && s.Delivery == slow {
				return errors.New("not now")
			}
			return nil
		}
		w.up()
		list := []*mta.Delivery{w.send("a@one.example"), w.send("other@one.example")}
		stored := w.scheduled(time.Hour, "stored@two.example")
		w.wait(time.Second)
		w.command(VerbHold, list...)
		slow = stored.Key()
		broken.Store(true)
		held := make(chan struct{})
		go func() { w.command(VerbHold, stored); close(held) }()
		w.wait(time.Second)
		release := Order{Verb: VerbRelease, Reason: "released"}
		tally, err := w.q.Recall(context.Background(), release, func(d *mta.Delivery, site string) bool {
			if d.State != mta.Held || d.HeldBy != "hold by ann" || d.Destination.Domain == "one.example" && site != "one.example" {
				t.Errorf("shown as %+v at %q", d, site)
			}
			return d.Recipients[0].Address != "other@one.example"
		})
		if err != nil || tally != (Tally{Changed: 1, Flight: 1}) {
			t.Errorf("%+v %v", tally, err)
		}
		broken.Store(false)
		<-held
		w.wait(2 * time.Hour)
		if left := w.store.get(list[1].Key()); w.store.count() != 1 || left == nil || left.State != mta.Held {
			t.Errorf("%d left, %+v", w.store.count(), left)
		}
		if n := len(w.store.events(mta.EventDelivered)); n != 2 {
			t.Errorf("%d delivered", n)
		}
	})
}
