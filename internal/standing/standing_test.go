package standing

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// TestRouterStandsIn: where our address is refused the router takes over, for
// those recipients alone; one delivery at a time finds out whether it may end.
func TestRouterStandsIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Fallback: byRouter})
		defer w.Stop(t.Context())
		d := direct("192.0.2.1")
		_, m := w.learn(d, 0, took)
		w.sees("taken", m, "-", false)
		l, m := w.learn(d, 0, took, blocked, unknown, uncertain)
		w.sees("refused", m, "-e--", true)
		if !l.Replan {
			t.Error("routes are not made anew")
		}
		p := probe("192.0.2.1")
		if again, ok := w.Take(p, time.Now()); ok || time.Until(again) != 10*time.Minute {
			t.Errorf("a probe at once: %v %v", again, ok)
		}
		_, m = w.learn(d, 0, took) // under way before
		w.sees("under way and taken", m, "-", true)
		_, m = w.learn(d, 0, blocked)
		w.sees("under way and refused", m, "e", true)
		time.Sleep(10 * time.Minute)
		if _, ok := w.Take(p, time.Now()); !ok {
			t.Fatal("no probe when it is due")
		}
		if again, ok := w.Take(p, time.Now()); ok || time.Until(again) != 10*time.Minute { // the next may be due then
			t.Errorf("two deliveries probe at once (%v)", again)
		}
		l, m = w.learn(p, 0, blocked)
		w.sees("probe refused", m, "e", true)
		if again, ok := w.Take(p, time.Now()); ok || time.Until(again) != 20*time.Minute || !l.Replan {
			t.Errorf("after a refused probe: %v %v", time.Until(again), ok)
		}
		time.Sleep(20 * time.Minute)
		w.Take(p, time.Now())
		_, m = w.learn(p, 0, unknown) // the receiver's word on the recipient is the answer
		w.sees("probe to nobody", m, "-", true)
		if again, _ := w.Take(p, time.Now()); time.Until(again) != 20*time.Minute {
			t.Errorf("a probe that tells nothing changes the distance: %v", time.Until(again))
		}
		time.Sleep(20 * time.Minute)
		w.Take(p, time.Now())
		_, m = w.learn(p, 0, busy) // not what the router stands in for, but mail need not wait for it
		w.sees("probe to a busy host", m, "e", true)
		time.Sleep(20 * time.Minute)
		w.Take(p, time.Now())
		l, m = w.learn(p, 0, took)
		w.sees("probe taken", m, "-", false)
		if _, ok := w.Take(p, time.Now()); !ok || !l.Replan {
			t.Error("direct delivery is still counted")
		}
		_, _ = w.learn(d, 0, blocked) // too early: the distance is remembered
		if again, _ := w.Take(p, time.Now()); time.Until(again) != 40*time.Minute {
			t.Errorf("the distance after coming back too early is %v", time.Until(again))
		}
		told := w.heard()
		if len(told) != 3 || !strings.HasPrefix(told[0], "the router smart.example stands in for direct delivery to mx.example: mx.example refused us: 554 blocked") || !strings.HasPrefix(told[1], "mx.example is reached directly again") {
			t.Errorf("told: %q", told)
		}
	})
}

// TestProbeDistanceIsBounded: it doubles up to the most, and a probe that never
// reports stops no other for ever.
func TestProbeDistanceIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Fallback: byRouter})
		defer w.Stop(t.Context())
		w.learn(direct("192.0.2.1"), 0, blocked)
		p := probe("192.0.2.1")
		last := time.Duration(0)
		for range 20 {
			again, ok := w.Take(p, time.Now())
			if ok {
				w.learn(p, 0, blocked)
				continue
			}
			last = time.Until(again)
			if last > 24*time.Hour {
				t.Fatalf("%v to the next probe", last)
			}
			time.Sleep(last)
		}
		if last != 24*time.Hour {
			t.Errorf("the distance grew to %v", last)
		}
		for { // one that is lost
			again, ok := w.Take(p, time.Now())
			if ok {
				break
			}
			time.Sleep(time.Until(again))
		}
		time.Sleep(probeLife)
		if _, ok := w.Take(p, time.Now()); !ok {
			t.Error("a lost probe stops all others")
		}
	})
}

// TestTriggers: what makes the router take over, and what does not.
func TestTriggers(t *testing.T) {
	t.Parallel()
	ptr := blocked
	ptr.Bounce, ptr.Class = string(bounce.PTRMissing), mta.ClassTemporary
	busy421, deferred421 := blocked, blocked
	busy421.Class, busy421.Reply = mta.ClassTemporary, mta.Reply{Code: 421}
	deferred421.Class, deferred421.Reply = mta.ClassTemporary, mta.Reply{Code: 421, Enhanced: mta.Enhanced{Class: 4, Subject: 7}}
	noTLS := mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeHost, Bounce: string(bounce.TLSRequired), Reason: "no TLS"}
	of := func(who mta.TLSOrigin) *mta.Route {
		r := direct("192.0.2.1")
		r.Hosts = []mta.Host{{Name: "mx.example", TLS: &mta.TLSDemand{Requirement: mta.TLSRequired, Origin: who}}}
		return r
	}
	stalled := func(who mta.TLSOrigin) func(w *world) {
		return func(w *world) {
			w.learn(of(who), time.Hour, noTLS)
			time.Sleep(4 * time.Hour)
		}
	}
	for name, v := range map[string]struct {
		on     Triggers
		route  *mta.Route
		age    time.Duration
		before func(w *world)
		with   []mta.Result
		marks  string
		router bool
	}{
		"blocked":              {on: Triggers{Blocked: true}, with: []mta.Result{blocked}, marks: "e", router: true},
		"a bare 421":           {on: byRouter.On, with: []mta.Result{busy421}, marks: "-"},
		"421 for our sake":     {on: byRouter.On, with: []mta.Result{deferred421}, marks: "e", router: true},
		"blocked, not asked":   {on: Triggers{PTR: true}, with: []mta.Result{blocked}, marks: "-"},
		"ptr, for now":         {on: Triggers{PTR: true}, with: []mta.Result{ptr}, marks: "e", router: true},
		"nobody there":         {on: byRouter.On, with: []mta.Result{unknown}, marks: "-"},
		"no router for it":     {on: byRouter.On, route: &mta.Route{Site: "mx.example"}, with: []mta.Result{blocked}, marks: "-"},
		"lost after all":       {on: byRouter.On, with: []mta.Result{uncertain}, marks: "-"},
		"our trouble":          {on: byRouter.On, age: 5 * time.Hour, with: []mta.Result{ours}, marks: "-"},
		"silent, nobody known": {on: byRouter.On, with: []mta.Result{silent}, marks: "e", router: true},
		"silent once": {on: byRouter.On, with: []mta.Result{silent}, marks: "-", before: func(w *world) {
			r := direct("192.0.2.1")
			r.Site = "other.example"
			w.learn(r, 0, took)
		}},
		"silent twice": {on: byRouter.On, with: []mta.Result{silent}, marks: "e", router: true, before: func(w *world) {
			r := direct("192.0.2.1")
			r.Site = "other.example"
			w.learn(r, 0, took)
			w.learn(direct("192.0.2.1"), 0, silent)
		}},
		"silent, heard, silent": {on: byRouter.On, with: []mta.Result{silent}, marks: "-", before: func(w *world) {
			w.learn(direct("192.0.2.1"), 0, busy)
			w.learn(direct("192.0.2.1"), 0, silent)
			w.learn(direct("192.0.2.1"), 0, busy)
		}},
		"busy at once":     {on: byRouter.On, age: 5 * time.Hour, with: []mta.Result{busy}, marks: "-"},
		"busy for 4 hours": {on: byRouter.On, age: 5 * time.Hour, with: []mta.Result{busy}, marks: "e", router: true, before: func(w *world) { w.learn(direct("192.0.2.1"), time.Hour, busy); time.Sleep(4 * time.Hour) }},
		"young, busy for 4 hours": {on: byRouter.On, age: 3 * time.Hour, with: []mta.Result{busy}, marks: "-", before: func(w *world) {
			w.learn(direct("192.0.2.1"), time.Hour, busy)
			time.Sleep(4 * time.Hour)
		}},
		"busy, and taken meanwhile": {on: byRouter.On, age: 5 * time.Hour, with: []mta.Result{busy}, marks: "-", before: func(w *world) {
			w.learn(direct("192.0.2.1"), time.Hour, busy)
			time.Sleep(2 * time.Hour)
			w.learn(direct("192.0.2.1"), time.Hour, took, unknown)
			time.Sleep(2 * time.Hour)
		}},
		"full for 4 hours": {on: byRouter.On, age: 5 * time.Hour, with: []mta.Result{full}, marks: "-", before: func(w *world) { w.learn(direct("192.0.2.1"), time.Hour, full); time.Sleep(4 * time.Hour) }},
		"no TLS for 4 hours, and the domain's policy demands it": {on: byRouter.On, age: 5 * time.Hour, route: of(mta.TLSBySTS), with: []mta.Result{noTLS}, marks: "-", before: stalled(mta.TLSBySTS)},
		"no TLS for 4 hours, and the operator demands it":        {on: byRouter.On, age: 5 * time.Hour, route: of(mta.TLSByOperator), with: []mta.Result{noTLS}, marks: "e", router: true, before: stalled(mta.TLSByOperator)},
		"not at all": {with: []mta.Result{blocked, silent, busy}, marks: "---", age: 900 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fb := byRouter
				fb.On = v.on
				w := newWorld(t, Settings{Fallback: fb})
				defer w.Stop(t.Context())
				if v.before != nil {
					v.before(w)
				}
				if v.route == nil {
					v.route = direct("192.0.2.1")
				}
				_, m := w.learn(v.route, v.age, v.with...)
				w.sees(name, m, v.marks, v.router)
			})
		})
	}
}

// TestOtherSourceFirst: of several sources the refused one is left, and the next
// is used; only when all are refused the router takes over, and without one the
// refusal is what it is.
func TestOtherSourceFirst(t *testing.T) {
	t.Parallel()
	for _, router := range []string{"", "smart.example"} {
		synctest.Test(t, func(t *testing.T) {
			fb := byRouter
			fb.Router = router
			w := newWorld(t, Settings{Fallback: fb})
			defer w.Stop(t.Context())
			a, b := direct("192.0.2.1", "192.0.2.2"), direct("192.0.2.2", "192.0.2.1")
			l, m := w.learn(a, 0, took, blocked, unknown)
			w.sees("first refused", m, "-e-", false)
			if time.Until(l.Avoid) != DefaultFor || !strings.Contains(l.Why, "554 blocked") {
				t.Errorf("%+v", l)
			}
			if s := w.Avoid("mx.example", "192.0.2.1"); s.Until.IsZero() || s.Hard {
				t.Errorf("%+v", s)
			}
			if s := w.Avoid("mx.example", "192.0.2.2"); !s.Until.IsZero() {
				t.Errorf("the other source is avoided too: %+v", s)
			}
			_, m = w.learn(b, 0, blocked)
			if router == "" {
				w.sees("both refused, no router", m, "-", false)
			} else {
				w.sees("both refused", m, "e", true)
			}
			if told := w.heard(); len(told) < 2 || !strings.HasPrefix(told[0], "the source 192.0.2.1 is not used at mx.example until ") {
				t.Errorf("told: %q", told)
			}
		})
	}
}

// TestSuspensionsGrowAndEnd: each that follows within a day is twice as long, up
// to a day; replies to what was under way change nothing; and after a calm day
// all is forgotten.
func TestSuspensionsGrowAndEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{})
		defer w.Stop(t.Context())
		r := direct("192.0.2.1", "192.0.2.2")
		want := DefaultFor
		for range 12 {
			l, _ := w.learn(r, 0, blocked)
			if time.Until(l.Avoid) != want {
				t.Fatalf("suspended for %v, want %v", time.Until(l.Avoid), want)
			}
			time.Sleep(time.Second)
			if l, _ := w.learn(r, 0, blocked); time.Until(l.Avoid) != want-time.Second {
				t.Fatalf("what was under way changed it to %v", time.Until(l.Avoid))
			}
			time.Sleep(want)
			want = min(2*want, MaxFor)
		}
		time.Sleep(memory)
		if n := w.sweep(); n != 0 {
			t.Errorf("%d sites are remembered after a calm day", n)
		}
		if l, _ := w.learn(r, 0, blocked); time.Until(l.Avoid) != DefaultFor {
			t.Errorf("after a calm day: %v", time.Until(l.Avoid))
		}
	})
}

// TestRules: an operator's rules come first, may switch a shipped one off, slow
// a site, or stop mail to it; a slowing fades.
func TestRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait, err := bounce.Pattern("closed for (lunch|tea)")
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, Settings{Rules: []Rule{
			{Name: "lunch", Text: wait, Action: Suspend, Site: true, For: time.Hour},
			{Name: "slow", Code: "451", MX: []string{"*.example"}, Action: Slow, For: 30 * time.Minute, Percent: 50},
			{Name: "off", Classes: []bounce.Class{bounce.IPBlocked}, Provider: []string{"tame"}, Action: Nothing},
		}})
		defer w.Stop(t.Context())
		tame := direct("192.0.2.1", "192.0.2.2")
		tame.Provider = "tame"
		if l, m := w.learn(tame, 0, blocked); l != (Lesson{}) || m != "-" {
			t.Errorf("a rule that is off: %+v %s", l, m)
		}
		if l, _ := w.learn(direct("192.0.2.1"), 0, busy); !l.Replan {
			t.Errorf("%+v", l)
		}
		factor := func(want float64) {
			t.Helper()
			if f, why := w.Factor("mx.example", "192.0.2.1"); f < want-0.01 || f > want+0.01 || want < 1 && why != "busy (slow)" {
				t.Errorf("factor %.3f (%s), want %.3f", f, why, want)
			}
		}
		factor(0.5)
		w.learn(direct("192.0.2.1"), 0, busy) // under way
		factor(0.5)
		time.Sleep(30 * time.Minute)
		factor(0.75)
		w.learn(direct("192.0.2.1"), 0, busy)
		factor(0.375)
		if f, _ := w.Factor("mx.example", "192.0.2.2"); f != 1 {
			t.Errorf("another source is slowed: %v", f)
		}
		for range 50 {
			time.Sleep(quiet)
			w.learn(direct("192.0.2.1"), 0, busy)
		}
		if f, _ := w.Factor("mx.example", "192.0.2.1"); f < leastFactor || f > 0.1 {
			t.Errorf("the least factor is %v", f)
		}
		time.Sleep(10 * time.Hour)
		factor(1)
		lunch := busy
		lunch.Reply.Text, lunch.Reason = "Closed for\r\nTEA", "closed"
		l, m := w.learn(direct("192.0.2.1", "192.0.2.2"), 0, lunch)
		if s := w.Avoid("mx.example", "anything"); !s.Hard || time.Until(s.Until) != time.Hour || !l.Replan || m != "-" {
			t.Errorf("suspended site: %+v %+v %s", s, l, m)
		}
	})
}

// TestUncertainStays: what may have arrived is never sent another way.
func TestUncertainStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		odd := blocked
		odd.Class = mta.ClassUncertain
		w := newWorld(t, Settings{Fallback: byRouter})
		defer w.Stop(t.Context())
		_, m := w.learn(direct("192.0.2.1", "192.0.2.2"), 0, odd)
		w.sees("uncertain", m, "-", false)
		if w.Avoid("mx.example", "192.0.2.1").Until.IsZero() {
			t.Error("the source is used on")
		}
	})
}

// TestRouterRefuses: both replies stand in the reason, and nothing of it goes
// back.
func TestRouterRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Fallback: byRouter})
		defer w.Stop(t.Context())
		w.learn(direct("192.0.2.1"), 0, blocked)
		by := &mta.Route{Router: "smart.example", Site: "router:smart.example", Instead: "mx.example", Fallback: true}
		a := attempt(unknown, busy, took)
		w.Learn(by, delivery(0), a)
		if got := a.Results[0].Reason; got != "no such user; directly before: mx.example refused us: 554 blocked" {
			t.Errorf("%q", got)
		}
		if a.Results[1].Reason != "busy" || a.Results[0].Elsewhere || a.Results[1].Elsewhere {
			t.Errorf("%+v", a.Results)
		}
		d := delivery(0)
		d.Last = mta.Last{Site: "mx.example", Result: mta.Result{Reason: "own words; " + mta.DetourWords}}
		a = attempt(unknown)
		if w.Learn(by, d, a); a.Results[0].Reason != "no such user; directly before: own words" {
			t.Errorf("%q", a.Results[0].Reason)
		}
		a = attempt(unknown)
		w.Learn(&mta.Route{Router: "smart.example"}, delivery(0), a)
		if a.Results[0].Reason != unknown.Reason {
			t.Errorf("a router in its own right: %q", a.Results[0].Reason)
		}
	})
}
