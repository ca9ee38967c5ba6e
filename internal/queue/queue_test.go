package queue

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeliversAndForgets(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.up()
		w.send("a@one.example", "b@one.example")
		w.send("c@two.example")
		w.wait(time.Second)
		if n := w.store.count(); n != 0 {
			t.Errorf("%d deliveries are left", n)
		}
		recs := w.store.events(mta.EventDelivered)
		if len(recs) != 3 {
			t.Fatalf("%d records", len(recs))
		}
		r := recs[0]
		if r.Attempt != 1 || r.Host == "" || r.Code != 250 || r.Helo != "out.example" || r.Class != "delivered" || r.Size != 1000 {
			t.Errorf("record %+v", r)
		}
	})
}

func TestRetriesByTheSchedule(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain == "out.example" {
				return good(d), 0 // the delay notice
			}
			return each(d, greylisted()), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(8 * time.Hour)
		m := time.Minute
		want := []time.Duration{0, 5 * m, 20 * m, 50 * m, 110 * m, 230 * m, 470 * m}
		if got := w.attempts("a@one.example"); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 7 || !recs[0].Next.Equal(w.start.Add(5*m)) {
			t.Errorf("%d deferred records, the first says next %v", len(recs), recs[0].Next)
		}
	})
}

func TestHonoursAHint(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts("a@one.example")) == 1 {
				r := greylisted()
				r.RetryAfter = 60
				return each(d, r), 0
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(time.Hour)
		got := w.attempts("a@one.example")
		if len(got) != 2 || got[1] < time.Minute || got[1] > 66*time.Second {
			t.Errorf("attempts at %v", got)
		}
	})
}

// After five days the sender gets one report, with the last real reply; the
// delay notice came once, after four hours.
func TestTrap39ExpiryShowsTheLastRealReply(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		n := 0
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain != "one.example" {
				return good(d), 0
			}
			if n++; n < 5 {
				return each(d, greylisted()), 0
			}
			return each(d, unreachable()), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(5*24*time.Hour + time.Hour)
		var delays, failures []ReportRequest
		for _, r := range w.reports() {
			if r.Kind == ReportDelay {
				delays = append(delays, r)
			} else {
				failures = append(failures, r)
			}
		}
		if len(delays) != 1 || delays[0].Results[0].Enhanced.String() != "4.4.7" || delays[0].Now.Sub(w.start) < 4*time.Hour || delays[0].Now.Sub(w.start) > 5*time.Hour {
			t.Errorf("delay notices %+v", delays)
		}
		if len(failures) != 1 {
			t.Fatalf("%d failure reports", len(failures))
		}
		f := failures[0]
		if f.Results[0].Enhanced.String() != "5.4.7" || f.Results[0].Reply.Code != 450 || f.Host != "mx.one.example" {
			t.Errorf("report %+v", f)
		}
		if at := f.Now.Sub(w.start); at < 5*24*time.Hour || at > 5*24*time.Hour+10*time.Minute {
			t.Errorf("expired after %v", at)
		}
		last := w.attempts("a@one.example")
		if at := last[len(last)-1]; at != 5*24*time.Hour {
			t.Errorf("the last attempt was at %v, want at the expiry", at)
		}
		if len(w.store.events(mta.EventExpired)) != 1 || len(w.store.events(mta.EventBounced)) != 1 || w.store.count() != 0 {
			t.Error("the recipient must end once, reported, and be gone")
		}
	})
}

// 250, 450, 550 for three recipients of one delivery.
func TestTrap10MixedResults(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(d.Recipients) == 3 {
				return []mta.Result{good(d)[0], greylisted(), noSuchUser()}, 0
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example", "b@one.example", "c@one.example")
		w.wait(time.Minute)
		if w.store.count() != 1 {
			t.Fatalf("%d open", w.store.count())
		}
		w.wait(10 * time.Minute)
		want := []string{"a@one.example", "b@one.example", "c@one.example", "app@out.example", "b@one.example"}
		if got := w.tried(); !slices.Equal(got, want) {
			t.Errorf("tried %v, want %v", got, want)
		}
		if w.store.count() != 0 || len(w.store.events(mta.EventFailed)) != 1 {
			t.Error("not settled")
		}
	})
}

func (w *world) count(kind ReportKind) (n int) {
	for _, r := range w.reports() {
		if r.Kind == kind {
			n++
		}
	}
	return n
}

// Held mail is neither started nor expired.
func TestHeldStaysHeld(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		d := w.make(mta.DefaultStream, "a@one.example")
		d.State, d.HeldBy = mta.Held, "the operator holds one.example"
		w.store.put(d)
		w.up()
		w.q.Add([]*mta.Delivery{d})
		w.wait(10 * 24 * time.Hour)
		if len(w.tried()) != 0 || w.store.count() != 1 {
			t.Error("held mail moved")
		}
		if x, err := w.q.Why(context.Background(), d); err != nil || x.Reason != d.HeldBy || x.State != mta.Held {
			t.Errorf("why: %+v %v", x, err)
		}
	})
}

func TestWhy(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits.PerDestination = 2
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "grey@two.example" {
				return each(d, greylisted()), 0
			}
			return good(d), time.Minute
		}
		w.up()
		first, second, third := w.send("a@one.example"), w.send("b@one.example"), w.send("c@one.example")
		grey := w.send("grey@two.example")
		w.wait(time.Second)
		for _, c := range []struct {
			d    *mta.Delivery
			want string
		}{
			{first, "being delivered to one.example"},
			{second, "waits for a connection to one.example (the limit of 1 connections)"},
			{third, "waits in the spool behind 2 earlier deliveries to one.example; waits for a connection to one.example (the limit of 1 connections)"},
			{w.store.get(grey.Key()), "deferred: mx: greylisted"},
		} {
			if x, err := w.q.Why(context.Background(), c.d); err != nil || x.Reason != c.want {
				t.Errorf("why: %q, want %q (%v)", x.Reason, c.want, err)
			}
		}
		s, err := w.q.Summary(context.Background())
		if want := (Summary{Queued: 3, Deferred: 1, Active: 1, Destinations: 2, Sites: 2, OldestS: 1}); err != nil || !reflect.DeepEqual(s, want) {
			t.Errorf("summary %+v %v", s, err)
		}
		sites, err := w.q.Sites(context.Background())
		if err != nil || len(sites) != 2 || sites[0].Site != "one.example" || sites[0].Connections != 1 || sites[0].Ready != 1 {
			t.Errorf("sites %+v %v", sites, err)
		}
	})
}

func TestReconfigureCountsAtOnce(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), 0 }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		w.q.Reconfigure(retry.Schedules{Default: retry.Schedule{Expire: time.Minute}}, Limits{}, "new.example")
		w.wait(2 * time.Minute)
		if len(w.store.events(mta.EventExpired)) != 1 {
			t.Error("the shorter expiry does not count")
		}
	})
}
