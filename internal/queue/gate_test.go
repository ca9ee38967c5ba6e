package queue

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

// gate plans as the world does, with routes that the guard may hold.
type gate struct {
	*world
	held atomic.Bool
}

const heldBecause = "identity.guard holds mail from 192.0.2.10: address.record of out.example"

func (g *gate) Plan(ctx context.Context, dest mta.Destination, _ string) (*mta.Plan, *mta.Attempt) {
	r, a := g.world.route(ctx, dest, "")
	switch {
	case r == nil:
	case strings.HasPrefix(dest.Domain, "routed"):
		r.Router = "smart.example"
	case g.held.Load():
		r.HeldBy = heldBecause
	}
	return onePlan(r, a)
}

// guard closes or opens the gate, as daemon does.
func (g *gate) guard(held bool) {
	g.held.Store(held)
	g.q.SetGuard(held)
}

// gated runs f in a world with a gate in which mail expires after an hour.
func gated(t *testing.T, f func(g *gate)) {
	run(t, func(w *world) {
		g := &gate{world: w}
		w.opts.Planner = g
		w.opts.Schedules = retry.Schedules{Default: retry.Schedule{
			Intervals: []time.Duration{5 * time.Minute}, Expire: time.Hour, DelayNotice: 20 * time.Minute,
		}}
		f(g)
	})
}

func laterPlease(d *mta.Delivery) []mta.Result {
	return each(d, mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Reply: mta.Reply{Code: 451, Text: "later"}})
}

// TestGateHoldsLongerThanTheExpiry: what waits and what was deferred before;
// nothing expires, nobody is told of a delay, and all goes out afterwards.
func TestGateHoldsLongerThanTheExpiry(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		grey := atomic.Bool{}
		grey.Store(true)
		g.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if grey.Load() {
				return laterPlease(d), 0
			}
			return good(d), 0
		}
		g.up()
		g.send("before@one.example")
		g.wait(time.Minute)
		g.guard(true)
		grey.Store(false)
		waiting := g.send("during@one.example")
		g.send("during@two.example")
		g.wait(24 * time.Hour)
		if got := g.tried(); len(got) != 1 {
			t.Errorf("tried while it is held: %v", got)
		}
		x, err := g.q.Why(context.Background(), waiting)
		if err != nil || x.Reason != heldBecause || x.Limit != "identity.guard" || x.Active {
			t.Errorf("%+v, %v", x, err)
		}
		if s, err := g.q.Summary(context.Background()); err != nil || s.Queued != 2 || s.Deferred != 1 || s.Held != 0 || s.Active != 0 || s.Destinations != 2 {
			t.Errorf("%+v, %v", s, err)
		}
		if n := g.mu.planned; n > 10 {
			t.Errorf("%d look-ups for mail that is not to move", n)
		}
		g.guard(false)
		g.wait(time.Minute)
		if got := g.tried(); len(got) != 4 || g.store.count() != 0 || len(g.reports()) != 0 {
			t.Errorf("tried %v, %d left, reports %v", got, g.store.count(), g.reports())
		}
	})
}

// TestGateGivesTheTimeBack: a receiver that asks to come again, right after the
// release, must not end mail that had most of its time left.
func TestGateGivesTheTimeBack(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		g.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Message.Kind == mta.KindBounce {
				return good(d), 0
			}
			return laterPlease(d), 0
		}
		g.up()
		g.guard(true)
		g.send("a@one.example")
		g.wait(10 * time.Hour)
		g.guard(false)
		g.wait(14 * time.Minute)
		if got := g.attempts("a@one.example"); len(got) != 3 || len(g.reports()) != 0 {
			t.Errorf("attempts at %v, reports %v", got, g.reports())
		}
		g.guard(true) // again: both times count
		g.wait(5 * time.Hour)
		g.guard(false)
		g.wait(11 * time.Minute)
		if r := g.reports(); len(r) != 1 || r[0].Kind != ReportDelay {
			t.Errorf("reports after 25 minutes of its own: %v", r)
		}
		g.wait(time.Hour)
		if r := g.reports(); len(r) != 2 || r[1].Kind != ReportFailure {
			t.Errorf("reports in the end: %v", r)
		}
		if got := g.attempts("a@one.example"); len(got) == 0 || got[len(got)-1] != 16*time.Hour {
			t.Errorf("attempts at %v", got)
		}
	})
}

// TestGateLeavesRoutersAlone: mail by a router goes out, and expires in its time.
func TestGateLeavesRoutersAlone(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		g.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain == "routed2.example" { // and reports are held
				return laterPlease(d), 0
			}
			return good(d), 0
		}
		g.up()
		g.guard(true)
		g.send("a@routed1.example")
		g.send("a@routed2.example")
		g.wait(time.Second)
		if got := g.attempts("a@routed1.example"); len(got) != 1 {
			t.Errorf("attempts at %v", got)
		}
		g.wait(2 * time.Hour)
		kinds := ""
		for _, r := range g.reports() {
			kinds += fmt.Sprint(r.Kind, " ")
		}
		if kinds != fmt.Sprint(ReportDelay, " ", ReportFailure, " ") {
			t.Errorf("reports: %s", kinds)
		}
	})
}

// TestGateLetsTransactionsEnd: the session under way ends what it has in hand,
// and gets nothing more.
func TestGateLetsTransactionsEnd(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		g.limit = 1
		g.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Minute }
		g.up()
		for i := range 3 {
			g.send(fmt.Sprintf("u%d@one.example", i))
		}
		g.wait(30 * time.Second)
		g.guard(true)
		g.wait(time.Hour)
		if got := g.tried(); len(got) != 1 || g.store.count() != 2 {
			t.Errorf("tried %v, %d left", got, g.store.count())
		}
		g.guard(false)
		g.wait(time.Hour)
		if g.store.count() != 0 || len(g.reports()) != 0 {
			t.Errorf("%d left, reports %v", g.store.count(), g.reports())
		}
	})
}

// TestGateKeepsMemoryBounded: what comes meanwhile stays in the spool, and what
// is there longer than its expiry goes out all the same.
func TestGateKeepsMemoryBounded(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		g.opts.Limits.PerDestination = 4
		g.up()
		g.guard(true)
		for i := range 100 {
			g.send(fmt.Sprintf("u%d@one.example", i))
		}
		last := g.send("last@one.example")
		g.wait(5 * time.Hour)
		inMemory := 0
		if err := g.q.ask(context.Background(), func(l *loop) { inMemory = len(l.entries) }); err != nil || inMemory > 4 {
			t.Errorf("%d in memory, %v", inMemory, err)
		}
		if x, err := g.q.Why(context.Background(), last); err != nil || x.Reason != heldBecause {
			t.Errorf("%+v, %v", x, err)
		}
		g.guard(false)
		g.wait(time.Minute)
		if g.store.count() != 0 || len(g.reports()) != 0 || len(g.tried()) != 101 {
			t.Errorf("%d left, reports %v, %d tried", g.store.count(), g.reports(), len(g.tried()))
		}
	})
}

// TestGateOutlivesARestart: with what daemon keeps of it.
func TestGateOutlivesARestart(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		g.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return laterPlease(d), 0 }
		g.up()
		g.guard(true)
		g.send("a@one.example")
		g.wait(10 * time.Hour)
		if err := g.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		g.opts.Guarded = g.q.Guarded()
		g.up()
		g.wait(10 * time.Hour)
		if len(g.tried()) != 0 {
			t.Error("the start opened the gate")
		}
		g.guard(false)
		g.wait(14 * time.Minute)
		if got := g.attempts("a@one.example"); len(got) != 3 || len(g.reports()) != 0 {
			t.Errorf("attempts at %v, reports %v", got, g.reports())
		}
	})
}

// TestGateJoinsOldSpans: a guard that comes and goes for ever costs no memory,
// and none of the time that it took from mail is forgotten.
func TestGateJoinsOldSpans(t *testing.T) {
	t.Parallel()
	gated(t, func(g *gate) {
		g.up()
		m := &mta.Message{Arrived: time.Now()}
		g.guard(true)
		g.wait(2 * time.Hour)
		g.guard(false)
		g.wait(time.Minute)
		for i := range 201 {
			g.guard(i%2 == 0)
			g.wait(time.Second)
		}
		spans := g.q.Guarded()
		if len(spans) != keepSpans || !holding(spans) {
			t.Errorf("%d spans, %+v", len(spans), spans[len(spans)-1])
		}
		if taken := g.q.arrived(m).Sub(m.Arrived); taken < 2*time.Hour+100*time.Second || taken > 2*time.Hour+201*time.Second {
			t.Errorf("%s were taken from the mail", taken)
		}
	})
}
