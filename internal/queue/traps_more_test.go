package queue

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
)

// jumping gives a world a wall clock that can be set.
func (w *world) jumping() *atomic.Int64 {
	var offset atomic.Int64
	w.opts.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	return &offset
}

// TRAPS 39: a wall clock that jumps brings no storm, stops nothing and loses
// nothing.
func TestTrap39ClockJumps(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{
		"an hour ahead": time.Hour, "an hour back": -time.Hour, "a day ahead": 24 * time.Hour, "a day back": -24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				clock := w.jumping()
				var healthy atomic.Bool
				w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
					if !healthy.Load() && d.Destination.Domain == "grey.example" {
						return each(d, greylisted()), 10 * time.Millisecond
					}
					return good(d), 10 * time.Millisecond
				}
				w.up()
				for i := range 50 {
					w.send(fmt.Sprintf("u%d@grey.example", i))
				}
				w.wait(time.Minute)
				clock.Store(int64(jump))
				w.wait(time.Minute) // nothing else wakes the loop
				for i := range 50 {
					if n := len(w.attempts(fmt.Sprintf("u%d@grey.example", i))); (n == 2) != (jump > 0) {
						t.Fatalf("%d attempts a minute after the jump", n)
					}
				}
				d := w.make(mta.DefaultStream, "new@fine.example")
				d.Message.Arrived, d.Due = w.opts.Now(), w.opts.Now()
				w.submit(d)
				w.wait(time.Second)
				if len(w.attempts("new@fine.example")) != 1 {
					t.Error("new mail waits for the clock")
				}
				w.wait(3 * time.Minute)
				for i := range 50 {
					if n := len(w.attempts(fmt.Sprintf("u%d@grey.example", i))); n > 2 {
						t.Fatalf("%d attempts within five minutes", n)
					}
				}
				healthy.Store(true)
				w.wait(26 * time.Hour)
				if n := w.store.count(); n != 0 {
					t.Errorf("%d are left a day later", n)
				}
				if n := len(w.store.events(mta.EventExpired)); n != 0 {
					t.Errorf("%d have expired", n)
				}
			})
		})
	}
}

// TRAPS 41: a null sender's failure is recorded, and the report that
// nobody is to get leaves nothing behind.
func TestTrap41NullSenderIsRecorded(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, noSuchUser()), 0 }
		w.up()
		d := w.make(mta.DefaultStream, "a@one.example")
		d.Message.Envelope.Sender = ""
		w.submit(d)
		w.wait(time.Minute)
		if n := len(w.store.events(mta.EventFailed)); n != 1 || w.store.count() != 0 {
			t.Errorf("%d failed, %d open", n, w.store.count())
		}
		if n := len(w.tried()); n != 1 {
			t.Errorf("%d attempts: the failure of the message brought another message", n)
		}
	})
}

// TRAPS 8: an uncertain end has one retry path, that of the schedule, and its
// record says that a duplicate is possible.
func TestTrap08UncertainIsRetriedOnce(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts("a@one.example")) == 1 {
				r := unreachable()
				r.Class = mta.ClassUncertain
				return each(d, r), 0
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(4 * time.Minute)
		if n := len(w.attempts("a@one.example")); n != 1 {
			t.Errorf("%d attempts before the schedule's time", n)
		}
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 1 || !recs[0].Uncertain {
			t.Fatalf("%+v", recs)
		}
		w.wait(10 * time.Minute)
		if n := len(w.attempts("a@one.example")); n != 2 || w.store.count() != 0 {
			t.Errorf("%d attempts, %d open", n, w.store.count())
		}
	})
}

// TRAPS 40: a time-out at connect is the host's: the recipients do not pay for
// it one by one, and another site is not concerned.
func TestTrap40ConnectTimeoutIsTheHosts(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain == "dead.example" {
				return each(d, unreachable()), 30 * time.Second
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		for i := range 100 {
			w.send(fmt.Sprintf("u%d@dead.example", i))
			w.send(fmt.Sprintf("u%d@fine.example", i))
		}
		w.wait(5 * time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n != 100 {
			t.Errorf("%d of 100 at the healthy site after five seconds", n)
		}
		w.wait(4 * time.Minute)
		if n := len(w.tried()) - 100; n > 12 {
			t.Errorf("%d connections to a dead site in four minutes", n)
		}
	})
}
