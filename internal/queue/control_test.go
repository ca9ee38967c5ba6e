package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
	"mailout/internal/spool"
)

func (w *world) command(verb Verb, list ...*mta.Delivery) (Tally, []mta.DeliveryKey) {
	w.t.Helper()
	t, again, err := w.q.Command(context.Background(), Order{Verb: verb, Reason: verb.String() + " by ann"}, list)
	if err != nil {
		w.t.Fatal(err)
	}
	return t, again
}

// said are the events of a recipient with their reasons.
func (w *world) said(rcpt string) (list []string) {
	for _, r := range w.store.history() {
		if r.Recipient == rcpt {
			list = append(list, r.Event.String()+"|"+r.Reason)
		}
	}
	return list
}

// TestHoldInEveryPlace: whatever waits, in memory or outside, due or not, is
// held, never attempted, and goes out when it is released.
func TestHoldInEveryPlace(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits = Limits{PerDestination: 3}
		var block atomic.Bool
		block.Store(true)
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "grey@two.example" && d.Attempts == 0 {
				return each(d, greylisted()), 0
			}
			if block.Load() {
				return good(d), time.Minute
			}
			return good(d), 0
		}
		w.up()
		grey := w.send("grey@two.example") // deferred, in memory
		var list []*mta.Delivery
		for i := range 10 { // one in flight, two ready, seven outside
			list = append(list, w.send(fmt.Sprintf("u%d@one.example", i)))
		}
		w.wait(time.Second)
		grey = w.store.get(grey.Key())
		tally, again := w.command(VerbHold, append(slices.Clone(list), grey)...)
		if tally != (Tally{Changed: 10, Flight: 1}) || again != nil {
			t.Errorf("%+v %v", tally, again)
		}
		if tally, _ := w.command(VerbHold, w.store.get(list[1].Key()), w.store.get(list[9].Key())); tally != (Tally{Skipped: 2}) {
			t.Errorf("held twice: %+v", tally)
		}
		block.Store(false)
		w.wait(30 * 24 * time.Hour)
		if got := w.tried(); len(got) != 2 || !slices.Contains(got, "grey@two.example") || !slices.Contains(got, "u0@one.example") {
			t.Errorf("attempted: %q", got)
		}
		if got := w.said("u5@one.example"); !slices.Equal(got, []string{"held|hold by ann"}) {
			t.Errorf("%q", got)
		}
		if x, err := w.q.Why(context.Background(), w.store.get(list[5].Key())); err != nil || x.Reason != "hold by ann" || x.State != mta.Held {
			t.Errorf("%+v %v", x, err)
		}
		var held []*mta.Delivery
		for _, d := range append(list[1:], grey) {
			held = append(held, w.store.get(d.Key()))
		}
		// Far past its expiry it gets the attempt that it was released for.
		if tally, _ := w.command(VerbRelease, held...); tally.Changed != 10 {
			t.Errorf("%+v", tally)
		}
		w.wait(time.Hour)
		if n := len(w.store.events(mta.EventDelivered)); n != 11 || w.store.count() != 0 || len(w.reports()) != 0 {
			t.Errorf("%d delivered, %d left, reports %v", n, w.store.count(), w.reports())
		}
		if got := w.said("u5@one.example"); !slices.Equal(got, []string{"held|hold by ann", "released|release by ann", "delivered|"}) {
			t.Errorf("%q", got)
		}
	})
}

// TestOrdersMeetWhatIsInFlight: the attempt counts if it delivers; what it
// leaves open gets the order.
func TestOrdersMeetWhatIsInFlight(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			r := good(d)
			for i, rcpt := range d.Recipients {
				if rcpt.Address[0] == 'g' {
					r[i] = greylisted()
				}
			}
			return r, time.Minute
		}
		w.up()
		held := w.send("a@one.example", "g@one.example")
		gone := w.send("b@two.example", "g@two.example")
		whole := w.send("c@three.example")
		mind := w.send("d@four.example", "g@four.example")
		w.wait(time.Second)
		w.command(VerbHold, held)
		w.command(VerbCancel, gone)
		w.command(VerbCancel, whole)
		w.command(VerbHold, mind)
		if tally, _ := w.command(VerbRelease, w.store.get(mind.Key())); tally.Changed != 1 {
			t.Errorf("the order that waits is not taken back: %+v", tally)
		}
		if tally, _ := w.command(VerbRetry, whole); tally != (Tally{Skipped: 1}) {
			t.Errorf("%+v", tally)
		}
		w.wait(2 * time.Minute)
		if d := w.store.get(held.Key()); d == nil || d.State != mta.Held || d.Attempts != 1 || len(d.Recipients) != 1 || d.HeldBy != "hold by ann" {
			t.Errorf("%+v", d)
		}
		if d := w.store.get(mind.Key()); d == nil || d.State != mta.Deferred {
			t.Errorf("%+v", d)
		}
		for rcpt, want := range map[string][]string{
			"a@one.example":   {"delivered|"},
			"g@one.example":   {"deferred|mx: greylisted", "held|hold by ann"},
			"b@two.example":   {"delivered|"},
			"g@two.example":   {"deferred|mx: greylisted", "cancelled|cancel by ann"},
			"c@three.example": {"delivered|"},
		} {
			if got := w.said(rcpt); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", rcpt, got, want)
			}
		}
		if r := w.reports(); len(r) != 0 {
			t.Errorf("a cancelled recipient is reported: %+v", r)
		}
		if s, err := w.q.Summary(context.Background()); err != nil || s.Active != 0 {
			t.Errorf("%+v %v", s, err)
		}
	})
}

// TestRetryIsNow: what was deferred comes at once, also from outside memory,
// and a look-up that failed is made anew.
func TestRetryIsNow(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits = Limits{PerDestination: 2}
		var plans atomic.Int64
		w.refuse = func(domain string) *mta.Result {
			if plans.Add(1) == 1 {
				return &mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "SERVFAIL"}
			}
			return nil
		}
		w.up()
		var list []*mta.Delivery
		for i := range 5 {
			list = append(list, w.send(fmt.Sprintf("u%d@one.example", i)))
		}
		w.wait(100 * time.Millisecond)
		for i, d := range list {
			list[i] = w.store.get(d.Key())
		}
		if tally, _ := w.command(VerbRetry, list...); tally.Changed != 5 {
			t.Errorf("%+v", tally)
		}
		w.wait(2 * time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n != 5 {
			t.Errorf("%d delivered", n)
		}
		if r := w.store.events(mta.EventRetried); len(r) != 5 || r[0].Next.IsZero() || r[0].Reason != "retry by ann" {
			t.Errorf("%+v", r)
		}
	})
}

// TestStaleReadIsNotTaken: an order by what was read before an attempt undoes
// nothing of it.
func TestStaleReadIsNotTaken(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits = Limits{PerDestination: 2}
		var kind atomic.Bool
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			r := good(d)
			if !kind.Load() {
				r[0] = greylisted()
			}
			return r, 0
		}
		w.up()
		var stale []*mta.Delivery
		for i := range 20 {
			stale = append(stale, w.send(fmt.Sprintf("a%d@one.example", i), fmt.Sprintf("b%d@one.example", i)))
		}
		w.wait(time.Minute)
		tally, again := w.command(VerbHold, stale...)
		if len(again) < 18 || int(tally.Changed)+len(again) != 20 {
			t.Errorf("%+v, again %d", tally, len(again))
		}
		kind.Store(true)
		w.wait(time.Hour)
		if n := len(w.store.events(mta.EventDelivered)); n != 20+len(again) {
			t.Errorf("%d deliveries, want %d: what has changed must go on", n, 20+len(again))
		}
	})
}

// TestHeldDestination: mail that is there, comes back from an attempt or comes
// later is held, in a stream or in all, over a restart, and not expired.
func TestHeldDestination(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Schedules = retry.Schedules{Default: retry.Schedule{Intervals: []time.Duration{time.Minute}, Expire: time.Hour, DelayNotice: 30 * time.Minute}}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "slow@one.example" && d.Attempts == 0 {
				return each(d, greylisted()), 10 * time.Second
			}
			return good(d), 0
		}
		w.up()
		slow := w.send("slow@one.example")
		w.wait(time.Second)
		hold := Hold{Destination: "one.example", By: "ann", Reason: "they asked", Since: time.Now().UTC()}
		only := Hold{Destination: "two.example", Stream: "codes", Since: time.Now().UTC()}
		w.q.SetHolds([]Hold{hold, only})
		late := w.send("late@one.example")
		code := w.make("codes", "code@two.example")
		w.submit(code, w.make("other", "other@two.example"))
		w.wait(time.Minute)
		for _, d := range []*mta.Delivery{slow, late, code} {
			if now := w.store.get(d.Key()); now == nil || now.State != mta.Held {
				t.Errorf("%s: %+v", d.Recipients[0].Address, now)
			}
		}
		if got := w.said("late@one.example"); !slices.Equal(got, []string{"held|" + hold.String()}) {
			t.Errorf("%q", got)
		}
		if tally, _ := w.command(VerbRelease, w.store.get(late.Key())); tally != (Tally{Kept: 1}) {
			t.Errorf("released from a held destination: %+v", tally)
		}
		if s, err := w.q.Summary(context.Background()); err != nil || len(s.Holds) != 2 || s.Holds[0] != hold {
			t.Errorf("%+v %v", s, err)
		}
		if err := w.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.opts.Holds = []Hold{hold, only}
		w.up()
		after := w.send("after@one.example")
		w.wait(30 * 24 * time.Hour)
		if got := w.tried(); !slices.Equal(got, []string{"slow@one.example", "other@two.example"}) {
			t.Errorf("attempted %q", got)
		}
		w.q.SetHolds(nil)
		w.send("free@one.example")
		for _, d := range []*mta.Delivery{slow, late, code, after} {
			w.command(VerbRelease, w.store.get(d.Key()))
		}
		w.wait(10 * time.Minute)
		if n := len(w.store.events(mta.EventDelivered)); n != 6 || w.store.count() != 0 || len(w.reports()) != 0 {
			t.Errorf("%d delivered, %d left, %d reports", n, w.store.count(), len(w.reports()))
		}
	})
}

// TestOrderLeavesTheBacklogOutside: nothing of a large backlog comes into memory
// for an order, and the backlog goes on.
func TestOrderLeavesTheBacklogOutside(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits = Limits{PerDestination: 4, InMemory: 100}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Second }
		var list []*mta.Delivery
		for i := range 2000 {
			list = append(list, w.make(mta.DefaultStream, fmt.Sprintf("u%d@one.example", i)))
		}
		w.store.put(list...)
		w.up()
		w.wait(10 * time.Second)
		var total Tally
		var missing int
		for some := range slices.Chunk(list[:1900], MaxOrder) {
			tally, again := w.command(VerbCancel, some...)
			total.Add(tally)
			missing += len(again)
		}
		if n := int(total.Changed+total.Flight) + missing; n != 1900 || missing > 20 {
			t.Errorf("%+v, %d gone", total, missing)
		}
		if p := w.memory(); p != "" {
			t.Error(p)
		}
		w.wait(10 * time.Minute)
		if n := len(w.store.events(mta.EventDelivered)) + len(w.store.events(mta.EventCancelled)); n != 2000 || w.store.count() != 0 {
			t.Errorf("%d ends, %d left", n, w.store.count())
		}
	})
}

// TestCommandOutlivesItsCaller: what the loop has taken is settled though
// nobody waits for it any more, and what the store refuses is tried again.
func TestCommandOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), 0 }
		w.up()
		d := w.send("a@one.example")
		w.wait(time.Second)
		d = w.store.get(d.Key())
		var broken atomic.Bool
		broken.Store(true)
		w.store.failing(broken.Load)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, _, err := w.q.Command(ctx, Order{Verb: VerbCancel}, []*mta.Delivery{d}); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		broken.Store(false)
		w.wait(time.Minute)
		if w.store.count() != 0 {
			t.Error("the order was dropped")
		}
		if _, _, err := w.q.Command(ctx, Order{Verb: VerbCancel}, []*mta.Delivery{d}); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
	})
}

func TestCommandWhenStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.up()
		d := w.make(mta.DefaultStream, "a@one.example")
		if err := w.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.q.Command(context.Background(), Order{}, []*mta.Delivery{d}); err != ErrStopped {
			t.Errorf("%v", err)
		}
		w.q.SetHolds(nil)
	})
}

func TestHoldWords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)
	for want, h := range map[string]Hold{
		"destination one.example held since 2026-03-01T12:00:00.005Z":                                                       {Destination: "one.example", Since: at},
		"destination one.example/codes held by ann since 2026-03-01T12:00:00.005Z until 2026-03-01T13:00:00.005Z: too many": {Destination: "one.example", Stream: "codes", By: "ann", Reason: "too many", Since: at, Expires: at.Add(time.Hour)},
	} {
		if got := h.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		b, err := json.Marshal(h)
		var back Hold
		if err == nil {
			err = json.Unmarshal(b, &back)
		}
		if err != nil || back != h {
			t.Errorf("%s came back as %+v, %v", b, back, err)
		}
	}
	for v := VerbHold; v <= VerbCancel; v++ {
		if back, ok := ParseVerb(v.String()); !ok || back != v {
			t.Errorf("%s", v)
		}
	}
	if _, ok := ParseVerb("delete"); ok {
		t.Error("a verb that is none")
	}
}

// TestHeldDestinationStartsNothing: what was ready at its site is not begun,
// and what waits for a later time owes no notice and does not expire.
func TestHeldDestinationStartsNothing(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Schedules = retry.Schedules{Default: retry.Schedule{Intervals: []time.Duration{50 * time.Minute}, Expire: 2 * time.Hour, DelayNotice: 20 * time.Minute}}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "grey@one.example" {
				return each(d, greylisted()), time.Second
			}
			return good(d), time.Minute
		}
		w.up()
		w.send("grey@one.example")
		w.wait(2 * time.Second)
		for i := range 4 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Second)
		w.q.SetHolds([]Hold{{Destination: "one.example"}})
		w.wait(40 * time.Minute)
		if n := len(w.tried()); n != 2 {
			t.Errorf("attempted %q", w.tried())
		}
		if s, err := w.store.Stats(context.Background()); err != nil || s.Held != 3 || s.Deferred != 1 {
			t.Errorf("%+v %v", s, err)
		}
		w.wait(10 * time.Hour)
		if s, err := w.store.Stats(context.Background()); err != nil || s.Held != 4 || len(w.reports()) != 0 {
			t.Errorf("%+v %v, reports %v", s, err, w.reports())
		}
	})
}

// TestGuestThatChangedIsNotForgotten: a page passes over a delivery while an
// order by a stale reading waits for the disk; it is found again.
func TestGuestThatChangedIsNotForgotten(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits = Limits{PerDestination: 2}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 10 * time.Second }
		var list []*mta.Delivery
		for i := range 6 {
			list = append(list, w.make(mta.DefaultStream, fmt.Sprintf("u%d@one.example", i)))
		}
		w.store.put(list...)
		var broken atomic.Bool
		broken.Store(true)
		stale := *list[4]
		stale.Attempts = 7
		w.store.fail = func(s *spool.Settlement) error {
			if broken.Load() && s.Delivery == stale.Key() {
				return errBroken
			}
			return nil
		}
		w.up()
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, _, err := w.q.Command(ctx, Order{Verb: VerbHold}, []*mta.Delivery{&stale}); err == nil {
			t.Error("the order did not wait for the disk")
		}
		w.wait(2 * time.Minute)
		if w.store.count() != 1 {
			t.Fatalf("%d are left", w.store.count())
		}
		broken.Store(false)
		w.wait(2 * time.Minute)
		if w.store.count() != 0 {
			t.Error("it was forgotten")
		}
	})
}
