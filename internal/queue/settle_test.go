package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// A failing disk at settling: nothing is attempted twice, nothing new starts
// for long, and everything settles when it is well again.
func TestTrap37NoStormWhenSettlingFails(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.store.fail = func(*spool.Settlement) error {
			if w.since() < 10*time.Minute {
				return errBroken
			}
			return nil
		}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "u3@one.example" {
				return each(d, noSuchUser()), 0
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		for i := range 300 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(5 * time.Minute)
		early := len(w.tried())
		if early > 100 {
			t.Errorf("%d attempts while nothing can be stored", early)
		}
		w.store.mu.Lock()
		settles := w.store.mu.settles
		w.store.mu.Unlock()
		if settles > 2000 {
			t.Errorf("%d commits tried in five minutes", settles)
		}
		w.wait(10 * time.Minute)
		if w.store.count() != 0 || len(w.tried()) != 301 {
			t.Errorf("%d left, %d attempts for 300 messages and a report", w.store.count(), len(w.tried()))
		}
	})
}

// Settlements that always fail hold nobody else, not even the sessions that
// made them.
func TestTrap37OneBadRecord(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 2
		d, e := w.make(mta.DefaultStream, "bad@one.example"), w.make(mta.DefaultStream, "worse@one.example")
		w.store.fail = func(s *spool.Settlement) error {
			if (s.Delivery == d.Key() || s.Delivery == e.Key()) && w.since() < time.Hour {
				return errBroken
			}
			return nil
		}
		w.up()
		w.submit(d, e)
		for i := range 300 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(30 * time.Minute)
		if w.store.count() != 2 {
			t.Errorf("%d open, want the two bad ones alone", w.store.count())
		}
		w.wait(time.Hour)
		if w.store.count() != 0 || len(w.attempts("bad@one.example")) != 1 {
			t.Error("the bad one was not settled in the end, or tried again")
		}
	})
}

func TestTrap43StopDrains(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 20 * time.Second }
		w.up()
		for i := range 30 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := w.q.Stop(ctx); err != nil {
			t.Error(err)
		}
		if got := len(w.store.events(mta.EventDelivered)); got != 2 {
			t.Errorf("%d delivered, want the two that were open", got)
		}
		if w.store.count() != 28 {
			t.Errorf("%d left", w.store.count())
		}
		w.q.Add([]*mta.Delivery{w.make(mta.DefaultStream, "late@one.example")}) // must not hang
	})
}

func TestTrap43StopAbandonsAtItsLimit(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Hour }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := w.q.Stop(ctx); err != nil {
			t.Error(err)
		}
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 1 || !recs[0].Uncertain {
			t.Errorf("records %+v", recs)
		}
		if got := w.since(); got != 31*time.Second {
			t.Errorf("stopped after %v", got)
		}
	})
}

// The disk is broken and stays so: Stop ends, and says what it leaves behind.
func TestStopEndsWithABrokenDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.fail = func(*spool.Settlement) error { return errBroken }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.q.Stop(ctx); err == nil {
			t.Error("no word of the lost outcome")
		}
		if w.store.count() != 1 {
			t.Error("the delivery must stay in the spool")
		}
	})
}

func TestTrap46PanicsDeferTheDelivery(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts("a@one.example")) == 1 && d.Recipients[0].Address == "a@one.example" {
				panic("broken")
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		w.send("b@one.example")
		w.wait(10 * time.Minute)
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 1 || !strings.Contains(recs[0].Reason, "panic") || !recs[0].Uncertain {
			t.Errorf("records %+v", recs)
		}
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

func TestTrap46PlannerPanics(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		n := 0
		w.refuse = func(string) *mta.Result {
			if n++; n == 1 {
				panic("broken")
			}
			return nil
		}
		w.up()
		w.send("a@one.example")
		w.wait(10 * time.Minute)
		if recs := w.store.events(mta.EventDeferred); len(recs) != 1 || !strings.Contains(recs[0].Reason, "panic") || recs[0].Uncertain {
			t.Errorf("records %+v", recs)
		}
		if w.store.count() != 0 {
			t.Error("not delivered later")
		}
	})
}

// A report that cannot be made leaves its recipient open.
func TestTrap46ReporterFails(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(d.Recipients) == 2 {
				return []mta.Result{good(d)[0], noSuchUser()}, 0
			}
			if d.Destination.Domain == "one.example" {
				return each(d, noSuchUser()), 0
			}
			return good(d), 0
		}
		n := 0
		w.report = func(r ReportRequest) (*spool.Submission, error) {
			switch n++; n {
			case 1:
				return nil, errBroken
			case 2:
				panic("broken")
			}
			return bounceTo(r, 1<<40), nil
		}
		w.up()
		w.send("a@one.example", "b@one.example")
		w.wait(time.Minute)
		if len(w.store.events(mta.EventDelivered)) != 1 || len(w.store.events(mta.EventFailed)) != 0 || w.store.count() != 1 {
			t.Error("what was delivered must be settled, the other stay open")
		}
		w.wait(time.Hour)
		if len(w.store.events(mta.EventFailed)) != 1 || w.store.count() != 0 {
			t.Errorf("failed %d, open %d", len(w.store.events(mta.EventFailed)), w.store.count())
		}
	})
}

// After a crash an attempt is recorded before it is made.
func TestCrashLoopFollowsTheSchedule(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.store.streak = 1
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if s := w.store.get(d.Key()); s.Attempts != 1 || !s.Due.Equal(w.start.Add(5*time.Minute)) {
				t.Errorf("the attempt was not begun: %+v", s)
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		if w.store.count() != 0 || len(w.store.mu.begun) != 1 {
			t.Error("not delivered")
		}
	})
}
