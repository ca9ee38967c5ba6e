package queue

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// from is a copy of a route from the n-th source.
func from(r *mta.Route, n, weight int) *mta.Route {
	c := *r
	c.Sources = []mta.Source{{IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}}
	c.Weight = weight
	return &c
}

// pool makes every plan one of n sources.
func (w *world) pool(n int) {
	w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) { return poolOf(r, n), nil }
}

func poolOf(r *mta.Route, n int) *mta.Plan {
	p := &mta.Plan{Expires: r.Expires}
	for i := range n {
		p.Routes = append(p.Routes, from(r, i+1, 0))
	}
	return p
}

func blocked() mta.Result {
	return mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeSite, Reply: mta.Reply{Code: 554, Text: "blocked"},
		Enhanced: mta.Enhanced{Class: 5, Subject: 7, Detail: 1}, Reason: "mx: blocked", Bounce: "ip_blocked", Elsewhere: true}
}

// A pool's sources have the shares of their weights, a pair of sender and
// recipient always meets the same one, and when one leaves only its pairs move.
func TestSharesFollowWeights(t *testing.T) {
	t.Parallel()
	l := newLoop(New(newWorld(t).opts))
	weights := []int{1, 2, 5}
	way := func(weights ...int) *way {
		d := &dest{key: mta.Destination{Domain: "one.example"}}
		d.first.dest, d.first.berth.way = d, &d.first
		r := &mta.Route{Site: "mx.one.example"}
		plan := &mta.Plan{}
		for i, n := range weights {
			if n > 0 {
				plan.Routes = append(plan.Routes, from(r, i+1, n))
			}
		}
		l.routed(&d.first, plan, l.nowMS)
		return &d.first
	}
	all, without := way(weights...), way(1, 0, 5)
	count, moved := map[string]int{}, 0
	const pairs = 16000
	for i := range pairs {
		e := &entry{d: &mta.Delivery{Message: &mta.Message{Envelope: mta.Envelope{Sender: fmt.Sprintf("s%d@out.example", i%40)}},
			Recipients: []mta.Recipient{{Address: fmt.Sprintf("u%d@one.example", i/40)}}}}
		b := l.choose(all, e)
		count[via(b.route)]++
		if l.choose(all, e) != b {
			t.Fatal("the same pair took another source")
		}
		if after := l.choose(without, e); via(after.route) != via(b.route) {
			moved++
			if via(b.route) != "192.0.2.2" {
				t.Fatalf("mail of %s moved to %s although its source stayed", via(b.route), via(after.route))
			}
		}
	}
	for i, n := range weights {
		want := float64(n) / 8
		if got := float64(count[fmt.Sprintf("192.0.2.%d", i+1)]) / pairs; math.Abs(got-want) > 0.02 {
			t.Errorf("source %d of weight %d got %.3f of the mail, want %.3f", i+1, n, got, want)
		}
	}
	if moved != count["192.0.2.2"] {
		t.Errorf("%d pairs moved of %d", moved, count["192.0.2.2"])
	}
}

// Two sources, one refused: its mail moves at once, nothing bounces, nobody
// waits for the schedule; and when the site is not avoided any more each pair
// is back at its source.
func TestMailMovesFromARefusedSource(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.pool(2)
		refused := true
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if refused && via(r) == "192.0.2.1" {
				return each(d, blocked()), 10 * time.Millisecond
			}
			return good(d), 10 * time.Millisecond
		}
		w.learn = func(_ *mta.Route, _ *mta.Delivery, a *mta.Attempt) Lesson {
			if a.Results[0].Elsewhere {
				return Lesson{Avoid: time.Now().Add(time.Hour), Why: "blocked"}
			}
			return Lesson{}
		}
		w.up()
		for i := range 60 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(2 * time.Second)
		if w.store.count() != 0 || len(w.store.events(mta.EventDelivered)) != 60 || len(w.reports()) != 0 {
			t.Fatalf("%d left, %d delivered, %d reports", w.store.count(), len(w.store.events(mta.EventDelivered)), len(w.reports()))
		}
		deferred := w.store.events(mta.EventDeferred)
		if n := len(deferred); n == 0 || n > 20 {
			t.Errorf("%d attempts were refused: what was ready did not move", n)
		}
		for _, r := range deferred {
			if !strings.Contains(r.Reason, "another route is tried at once") || r.BounceClass != "ip_blocked" || r.Class != "temporary" {
				t.Errorf("record %+v", r)
			}
		}
		w.send("later@one.example")
		sites, err := w.q.Sites(context.Background())
		if err != nil || !slices.ContainsFunc(sites, func(s SiteState) bool { return s.AvoidWhy == "blocked" && s.Avoided.After(time.Now()) }) {
			t.Errorf("sites %+v, %v", sites, err)
		}
		w.change(func() { refused = false })
		w.wait(time.Hour)
		w.mu.Lock()
		clear(w.mu.via)
		w.mu.Unlock()
		for i := range 60 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Minute)
		used := map[string]int{}
		for i := range 60 {
			used[w.sources(fmt.Sprintf("u%d@one.example", i))[0]]++
		}
		if used["192.0.2.1"] < 15 {
			t.Errorf("after the end of its avoidance the source got %v", used)
		}
	})
}

// What is ready at a site that becomes avoided goes elsewhere at once, also when
// a plan says so.
func TestReadyMailLeavesAnAvoidedSite(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.site = func(string) string { return "shared" }
		until := time.Time{}
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			p := poolOf(r, 2)
			p.Routes[0].AvoidUntil, p.Routes[0].AvoidWhy = until, "asked to wait"
			return p, nil
		}
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if via(r) == "192.0.2.1" {
				return good(d), time.Hour
			}
			return good(d), time.Second
		}
		w.up()
		for i := range 40 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(45 * time.Second)
		w.change(func() { until = time.Now().Add(5 * time.Hour) })
		w.send("next@two.example") // planned now
		w.wait(time.Minute)
		if n := w.store.count(); n != 1 {
			t.Errorf("%d left, want the one that is under way", n)
		}
		w.wait(2 * time.Hour)
	})
}

// When every route is avoided mail waits for the one that opens first; it is
// not bounced and not attempted before.
func TestAllRoutesAvoided(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.routeTTL = 12 * time.Hour
		start := time.Now()
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			p := poolOf(r, 3)
			for i, h := range []int{7, 5, 9} {
				p.Routes[i].AvoidUntil, p.Routes[i].AvoidWhy = start.Add(time.Duration(h)*time.Hour), "blocked there"
			}
			return p, nil
		}
		w.up()
		var first *mta.Delivery
		for i := range 30 {
			first = w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(4 * time.Hour)
		x, err := w.q.Why(context.Background(), first)
		if err != nil || x.Limit != "avoided" || !strings.Contains(x.Reason, "from 192.0.2.2") || !strings.Contains(x.Reason, "blocked there") || !x.Next.Equal(start.Add(5*time.Hour).UTC()) {
			t.Errorf("why: %+v, %v", x, err)
		}
		if len(w.tried()) != 0 {
			t.Errorf("%d attempts", len(w.tried()))
		}
		w.wait(70 * time.Minute)
		for i := range 30 {
			if got := w.sources(fmt.Sprintf("u%d@one.example", i)); !slices.Equal(got, []string{"192.0.2.2"}) {
				t.Fatalf("u%d took %v", i, got)
			}
		}
	})
}

// A plan's only route goes on, whatever is said of it: who plans has given
// nothing else.
func TestOnlyRouteGoesOn(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			r.AvoidUntil = time.Now().Add(time.Hour)
			return mta.OnePlan(r), nil
		}
		w.learn = func(*mta.Route, *mta.Delivery, *mta.Attempt) Lesson { return Lesson{Avoid: time.Now().Add(time.Hour)} }
		w.up()
		for i := range 5 {
			w.send(fmt.Sprintf("u%d@one.example", i))
			w.wait(time.Second)
		}
		if w.store.count() != 0 {
			t.Errorf("%d wait", w.store.count())
		}
	})
}

// A dead site is passed over while the plan has others, but for one probe at a
// time, and has its mail back afterwards.
func TestDeadSourceIsPassedOver(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.pool(2)
		dead, probes := true, 0
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if via(r) == "192.0.2.1" && dead {
				probes++
				return each(d, unreachable()), time.Second
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		for i := range 600 {
			w.send(fmt.Sprintf("u%d@one.example", i))
			w.wait(500 * time.Millisecond)
		}
		w.change(func() {
			if probes < 4 || probes > 12 {
				t.Errorf("%d attempts at a dead site in five minutes", probes)
			}
			dead = false
		})
		if late := 600 - len(w.store.events(mta.EventDelivered)); late > 12 {
			t.Errorf("%d of 600 wait", late)
		}
		w.wait(10 * time.Minute)
		w.mu.Lock()
		clear(w.mu.via)
		w.mu.Unlock()
		for i := range 100 {
			w.send(fmt.Sprintf("v%d@one.example", i))
			w.wait(200 * time.Millisecond)
		}
		back := 0
		for i := range 100 {
			if w.sources(fmt.Sprintf("v%d@one.example", i))[0] == "192.0.2.1" {
				back++
			}
		}
		if back < 30 {
			t.Errorf("%d of 100 use the source that lives again", back)
		}
	})
}

// Mail that waits at a dead site goes another way as soon as that opens.
func TestWaitingMailMovesToWhatOpens(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.pool(2)
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if via(r) == "192.0.2.2" && w.since() > 2*time.Minute {
				return good(d), 10 * time.Millisecond
			}
			return each(d, unreachable()), 10 * time.Millisecond
		}
		w.up()
		for i := range 300 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(8 * time.Minute)
		if n := w.store.count(); n > 25 {
			t.Errorf("%d of 300 wait for the dead source", n)
		}
		w.wait(10 * time.Hour)
	})
}

// Mail that waits at a dead site goes by another at the moment at which that is
// not avoided any more.
func TestEndOfAvoidanceIsNoticed(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		until := time.Now().Add(100 * time.Second)
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			p := poolOf(r, 2)
			p.Routes[0].AvoidUntil = until
			return p, nil
		}
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if via(r) == "192.0.2.2" {
				return each(d, unreachable()), 0
			}
			return good(d), 0
		}
		w.up()
		for i := range 40 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(90 * time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n != 0 {
			t.Errorf("%d delivered by the source that is avoided", n)
		}
		w.wait(15 * time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n < 25 {
			t.Errorf("%d of 40 delivered when the other source may be used", n)
		}
		w.wait(10 * time.Hour)
	})
}

// What was put back because all routes were avoided goes at once when a new plan
// lifts that.
func TestAvoidanceIsLifted(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.site = func(string) string { return "shared" }
		until := time.Now().Add(5 * time.Hour)
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			p := poolOf(r, 2)
			p.Routes[0].AvoidUntil, p.Routes[1].AvoidUntil = until, until
			return p, nil
		}
		w.up()
		for i := range 20 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Minute)
		w.change(func() { until = time.Time{} })
		w.send("u@two.example")
		w.wait(time.Second)
		if n := len(w.store.events(mta.EventDelivered)); n != 21 {
			t.Errorf("%d of 21 delivered", n)
		}
	})
}

// Lesson.Replan has every way planned anew that goes to a site of that name.
func TestReplanOfASite(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		router := false
		w.site = func(string) string { return "shared" }
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if router {
				r.Router, r.Site = "relay.example", "router:relay.example"
				return mta.OnePlan(r), nil
			}
			return poolOf(r, 2), nil
		}
		w.over = func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if r.Router == "" && d.Recipients[0].Address == "bad@d3.example" {
				return each(d, blocked()), time.Second
			}
			return good(d), time.Second
		}
		w.learn = func(_ *mta.Route, _ *mta.Delivery, a *mta.Attempt) Lesson {
			if !a.Results[0].Elsewhere {
				return Lesson{}
			}
			router = true
			return Lesson{Replan: true}
		}
		w.up()
		for i := range 10 {
			w.send(fmt.Sprintf("u@d%d.example", i))
		}
		w.wait(10 * time.Second)
		w.send("bad@d3.example")
		w.wait(2 * time.Second)
		for i := range 10 {
			w.send(fmt.Sprintf("v@d%d.example", i))
		}
		w.wait(time.Minute)
		if got := w.sources("bad@d3.example"); len(got) != 2 || got[1] != "relay.example" {
			t.Errorf("the refused mail took %v", got)
		}
		for i := range 10 {
			if got := w.sources(fmt.Sprintf("v@d%d.example", i)); !slices.Equal(got, []string{"relay.example"}) {
				t.Errorf("later mail to d%d took %v", i, got)
			}
		}
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

// Mail of one destination that rules tell apart is planned apart; one way that
// cannot be planned, or waits, holds up no other; and a new configuration
// counts for what is in memory.
func TestVariantsArePlannedApart(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		named := func(m *mta.Message) string {
			if m.Stream == "news" {
				return ""
			}
			return m.Envelope.Sender
		}
		w.variant = named
		w.lookUp = func(string) time.Duration { return 10 * time.Millisecond }
		open := false
		w.plan = func(variant string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if variant == "b@out.example" && !open {
				now := time.Now()
				return nil, &mta.Attempt{Start: now, End: now, Results: []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "no table"}}}
			}
			r.Helo = "for-" + variant
			return mta.OnePlan(r), nil
		}
		w.up()
		for i := range 20 {
			for _, sender := range []string{"a@out.example", "b@out.example", "c@out.example"} {
				d := w.make(mta.DefaultStream, fmt.Sprintf("%c%d@one.example", sender[0], i))
				d.Message.Envelope.Sender = sender
				w.submit(d)
			}
		}
		w.wait(time.Second)
		for _, c := range []struct {
			to   string
			want []string
		}{{"a7@one.example", []string{"for-a@out.example"}}, {"b7@one.example", nil}, {"c7@one.example", []string{"for-c@out.example"}}} {
			if got := w.sources(c.to); !slices.Equal(got, c.want) {
				t.Errorf("%s took %v", c.to, got)
			}
		}
		w.change(func() {
			open = true
			w.variant = func(*mta.Message) string { return "all" }
		})
		w.q.Replan()
		w.wait(6 * time.Minute)
		if got := w.sources("b7@one.example"); !slices.Equal(got, []string{"for-all"}) {
			t.Errorf("after the change b's mail took %v", got)
		}
		ways := 0
		_ = w.q.ask(context.Background(), func(l *loop) {
			for _, d := range l.dests {
				for x := &d.first; x != nil; x = x.next {
					ways++
				}
			}
		})
		if ways > 1+keepWays || w.store.count() != 0 {
			t.Errorf("%d ways, %d left", ways, w.store.count())
		}
	})
}

// Many variants of one destination do not stay.
func TestWaysGo(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.variant = func(m *mta.Message) string { return m.MessageID }
		w.up()
		for i := range 500 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Second)
		ways := 0
		_ = w.q.ask(context.Background(), func(l *loop) {
			for _, d := range l.dests {
				for x := &d.first; x != nil; x = x.next {
					ways++
				}
			}
		})
		if ways > 2+keepWays || w.store.count() != 0 {
			t.Errorf("%d ways, %d left", ways, w.store.count())
		}
	})
}
