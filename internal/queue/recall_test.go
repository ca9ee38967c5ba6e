package queue

import (
	"context"
	"errors"
	"fmt"
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

// TestOrderForAnIdleDestination: one of which nothing is in memory is not let
// go while an order for its mail is being stored, however many others are idle.
func TestOrderForAnIdleDestination(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits = Limits{IdleDestinations: 1, InMemory: 8}
		var broken atomic.Bool
		var slow mta.DeliveryKey
		w.store.fail = func(s *spool.Settlement) error {
			if broken.Load() && s.Delivery == slow {
				return errors.New("not now")
			}
			return nil
		}
		w.up()
		w.wait(time.Second) // the spool has been looked through
		waits := func(rcpt string) *mta.Delivery {
			d := w.make(mta.DefaultStream, rcpt)
			d.State, d.Attempts, d.Due = mta.Deferred, 1, d.Due.Add(2*time.Hour)
			w.submit(d)
			return d
		}
		for i := range 5 { // memory is half full, so what is due later stays in the spool
			waits(fmt.Sprintf("u%d@fill.example", i))
		}
		w.send("now@one.example")
		w.wait(time.Second)
		list := []*mta.Delivery{waits("later@one.example")}
		slow = list[0].Key()
		w.wait(time.Second)
		broken.Store(true)
		done := make(chan struct{})
		go func() { w.command(VerbRetry, list...); close(done) }()
		w.wait(time.Second)
		for i := range 5 {
			w.send(fmt.Sprintf("a@other%d.example", i))
			w.wait(time.Second)
		}
		broken.Store(false)
		<-done
		w.wait(time.Minute)
		if w.store.count() != 5 || len(w.store.events(mta.EventDelivered)) != 7 {
			t.Errorf("%d left", w.store.count())
		}
	})
}
