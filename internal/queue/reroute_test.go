package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
)

func (w *world) reroute(via string, list ...*mta.Delivery) Tally {
	w.t.Helper()
	t, again, err := w.q.Command(context.Background(), Order{Verb: VerbReroute, Via: via, Reason: "rerouted by ann"}, list)
	if err != nil || len(again) > 0 {
		w.t.Fatal(again, err)
	}
	return t
}

// sites are where the recipients were attempted last.
func (w *world) sites(event mta.Event) map[string]string {
	out := make(map[string]string)
	for _, r := range w.store.events(event) {
		out[r.Recipient] = r.Site
	}
	return out
}

// TestRerouteInEveryPlace: wherever a delivery waits, it goes by its new route,
// at once, by a site of its own, and nothing is delivered twice or left.
func TestRerouteInEveryPlace(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits = Limits{PerDestination: 3}
		var block atomic.Bool
		block.Store(true)
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Via == "" && block.Load() {
				return each(d, greylisted()), time.Minute
			}
			return good(d), 0
		}
		w.up()
		var list []*mta.Delivery
		for i := range 12 { // one in flight, two ready, the others outside
			list = append(list, w.send(fmt.Sprintf("u%d@one.example", i)))
		}
		later := w.scheduled(time.Hour, "later@one.example")
		w.wait(time.Second)
		w.command(VerbHold, list[11])
		chosen := append(slices.Clone(list[:6]), later, w.store.get(list[11].Key()))
		tally := w.reroute("relay.example:26", chosen...)
		if tally.Flight != 1 || tally.Changed != 7 {
			t.Errorf("%+v", tally)
		}
		if x, err := w.q.Why(context.Background(), w.store.get(list[11].Key())); err != nil || x.Via != "relay.example:26" || x.State != mta.Held {
			t.Errorf("%+v %v", x, err)
		}
		w.wait(5 * time.Minute)
		want := map[string]string{}
		for i := range 6 {
			want[fmt.Sprintf("u%d@one.example", i)] = "router:relay.example:26"
		}
		if got := w.sites(mta.EventDelivered); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("delivered %v", got)
		}
		if got := w.said("u3@one.example"); !slices.Equal(got, []string{"rerouted|rerouted by ann", "delivered|"}) {
			t.Errorf("%q", got)
		}
		if tally := w.reroute("relay.example:26", w.store.get(list[11].Key())); tally != (Tally{Skipped: 1}) {
			t.Errorf("%+v", tally)
		}
		w.reroute("", w.store.get(later.Key()))
		w.command(VerbRelease, w.store.get(list[11].Key()))
		block.Store(false)
		w.wait(2 * time.Hour)
		got := w.sites(mta.EventDelivered)
		if len(got) != 13 || got["u11@one.example"] != "router:relay.example:26" || got["later@one.example"] != "one.example" || w.store.count() != 0 {
			t.Errorf("%v, %d left", got, w.store.count())
		}
		if at := w.attempts("later@one.example"); len(at) != 1 || at[0] < time.Hour {
			t.Errorf("the scheduled one was tried at %v", at)
		}
	})
}

// TestRerouteSurvivesARestart: the route is stored with the delivery.
func TestRerouteSurvivesARestart(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if w.since() < time.Hour {
				return each(d, greylisted()), 0
			}
			return good(d), 0
		}
		w.up()
		d := w.send("a@one.example")
		w.wait(time.Minute)
		w.reroute("relay.example", w.store.get(d.Key()))
		w.wait(time.Minute)
		if err := w.q.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		w.up()
		w.wait(3 * time.Hour)
		if got := w.sites(mta.EventDelivered); got["a@one.example"] != "router:relay.example" {
			t.Errorf("%v", got)
		}
	})
}

// TestRerouteAndOtherOrdersInFlight: a reroute is carried out behind a hold, and
// takes nothing from it or from a cancel.
func TestRerouteAndOtherOrdersInFlight(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), time.Minute }
		w.up()
		held, back, gone, free := w.send("held@one.example"), w.send("back@two.example"), w.send("gone@three.example"), w.send("free@four.example")
		w.wait(time.Second)
		w.command(VerbHold, held)
		w.reroute("x.example", held)
		w.reroute("x.example", back)
		w.command(VerbHold, back)
		w.command(VerbCancel, gone)
		if tally := w.reroute("x.example", gone); tally != (Tally{Skipped: 1}) {
			t.Errorf("%+v", tally)
		}
		w.reroute("y.example", free)
		w.reroute("x.example", free) // the latest counts
		w.wait(90 * time.Second)
		for _, d := range []*mta.Delivery{held, back} {
			if now := w.store.get(d.Key()); now == nil || now.State != mta.Held || now.Destination.Via != "x.example" {
				t.Errorf("%+v", now)
			}
		}
		if w.store.get(gone.Key()) != nil {
			t.Error("not cancelled")
		}
		if got := w.said("free@four.example"); len(got) < 2 || got[1] != "rerouted|rerouted by ann" || w.store.get(free.Key()).Destination.Via != "x.example" {
			t.Errorf("%q", got)
		}
		if got := w.said("held@one.example"); len(got) != 3 || got[1] != "held|hold by ann" || got[2] != "rerouted|rerouted by ann" {
			t.Errorf("%q", got)
		}
	})
}

// TestStaleReadUndoesNoReroute: an order about a delivery that was read before it
// was rerouted does not take the route back.
func TestStaleReadUndoesNoReroute(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.up()
		for verb, d := range map[Verb]*mta.Delivery{
			VerbHold:    w.scheduled(time.Hour, "scheduled@one.example"),
			VerbRelease: w.scheduled(time.Hour, "held@two.example"),
		} {
			if verb == VerbRelease {
				w.command(VerbHold, d)
			}
			stale := w.store.get(d.Key())
			w.reroute("x.example", stale)
			_, again, err := w.q.Command(context.Background(), Order{Verb: verb, Reason: "by ben"}, []*mta.Delivery{stale})
			if now := w.store.get(d.Key()); err != nil || now.Destination.Via != "x.example" {
				t.Errorf("%s: %v, %v, %+v", verb, again, err, now)
			}
		}
	})
}

// TestHoldsCoverRerouted: a held destination holds its mail by whatever route.
func TestHoldsCoverRerouted(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), 0 }
		w.up()
		d := w.send("a@one.example")
		w.wait(time.Second)
		w.q.SetHolds([]Hold{{Destination: "one.example", Stream: mta.DefaultStream, Since: time.Now()}})
		w.reroute("x.example", w.store.get(d.Key()))
		w.wait(time.Minute)
		if now := w.store.get(d.Key()); now.State != mta.Held || now.Destination.Via != "x.example" {
			t.Errorf("%+v", now)
		}
	})
}

// TestReroutedDestination: a rule takes all mail of the destination that has no
// route of its own, what is ready and what comes; the end of the rule gives it
// back. A destination of another stream, or another domain, is left alone.
func TestReroutedDestination(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Minute }
		w.up()
		for i := range 3 { // one in flight, two ready
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.send("o@other.example")
		w.wait(time.Second)
		rule := Reroute{Destination: "one.example", Stream: mta.DefaultStream, To: "all.example", By: "ann", Since: time.Now().UTC()}
		special := Reroute{Destination: "one.example", Stream: "codes", To: "direct", Since: time.Now().UTC()}
		w.q.SetReroutes([]Reroute{{Destination: "one.example", To: "any.example"}, rule, special})
		codes := w.make("codes", "c@one.example")
		bulk := w.make("bulk", "b@one.example")
		w.submit(codes, bulk)
		if x, err := w.q.Why(context.Background(), bulk); err != nil || x.Via != "any.example" {
			t.Errorf("%+v %v", x, err)
		}
		w.wait(time.Hour)
		w.q.SetReroutes(nil)
		w.send("late@one.example")
		w.wait(time.Hour)
		want := map[string]string{
			"u0@one.example": "one.example", "u1@one.example": "router:all.example", "u2@one.example": "router:all.example",
			"c@one.example": "router:direct", "b@one.example": "router:any.example", "o@other.example": "other.example", "late@one.example": "one.example",
		}
		if got := w.sites(mta.EventDelivered); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v", got)
		}
		var back Reroute
		data, err := json.Marshal(rule)
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		rule.Since = rule.Since.Truncate(time.Millisecond)
		if err != nil || back != rule {
			t.Errorf("%s gives %+v: %v", data, back, err)
		}
	})
}
