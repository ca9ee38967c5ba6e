package standing

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// world is a Standing in virtual time, with notes in memory and what was told.
type world struct {
	*testing.T
	*Standing
	notes *fakeNotes
	mu    sync.Mutex
	told  []string
}

// fakeNotes is a spool.Notes in memory.
type fakeNotes struct {
	mu   sync.Mutex
	m    map[string][]byte
	fail error
}

func (n *fakeNotes) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m[name], n.fail
}

func (n *fakeNotes) Notes(_ context.Context, prefix, after string, f func(string, []byte) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for k := range n.m {
		if strings.HasPrefix(k, prefix) && k > after {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	for _, k := range names {
		if !f(k, n.m[k]) {
			break
		}
	}
	return n.fail
}

func (n *fakeNotes) SetNotes(_ context.Context, changes map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	for k, v := range changes {
		if v == nil {
			delete(n.m, k)
		} else {
			n.m[k] = v
		}
	}
	return nil
}

func (n *fakeNotes) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.m)
}

var byRouter = Fallback{
	Router: "smart.example", On: Triggers{Blocked: true, PTR: true, Port25: true, Stalled: 4 * time.Hour},
	Probe: 10 * time.Minute, ProbeMax: 24 * time.Hour,
}

func newWorld(t *testing.T, set Settings) *world {
	w := &world{T: t, notes: &fakeNotes{m: map[string][]byte{}}}
	w.again(set)
	return w
}

// again starts a Standing of what was kept.
func (w *world) again(set Settings) {
	w.Standing = New(Options{Notes: w.notes, Settings: set, Changed: func(list []Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range list {
			w.told = append(w.told, c.Words)
		}
	}})
	if err := w.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// heard ends the Standing and gives what was told.
func (w *world) heard() []string {
	w.Stop(w.Context())
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.told
	w.told = nil
	return out
}

func direct(ip string, others ...string) *mta.Route {
	return &mta.Route{
		Domain: "x.example", Site: "mx.example", Port: 25, Helo: "out.example", Fallback: true, Others: others,
		Sources: []mta.Source{{IP: netip.MustParseAddr(ip), Hostname: "out.example"}},
	}
}

func probe(ip string) *mta.Route {
	r := direct(ip)
	r.Probe = true
	return r
}

func delivery(age time.Duration) *mta.Delivery {
	return &mta.Delivery{Message: &mta.Message{Arrived: time.Now().Add(-age)}, Recipients: make([]mta.Recipient, 1)}
}

var (
	took      = mta.Result{Class: mta.ClassDelivered, Reply: mta.Reply{Code: 250}}
	blocked   = mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeMessage, Bounce: string(bounce.IPBlocked), Reply: mta.Reply{Code: 554, Text: "blocked"}, Reason: "mx.example refused us: 554 blocked"}
	unknown   = mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Bounce: string(bounce.UserUnknown), Reply: mta.Reply{Code: 550, Text: "no such user"}, Reason: "no such user"}
	busy      = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeHost, Bounce: string(bounce.SystemError), Reply: mta.Reply{Code: 451, Text: "busy"}, Reason: "busy"}
	full      = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Bounce: string(bounce.MailboxFull), Reply: mta.Reply{Code: 452, Text: "full"}, Reason: "full"}
	uncertain = mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Bounce: string(bounce.NetworkError), Reason: "lost"}
	silent    = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeHost, Bounce: string(bounce.NetworkError), Reason: "cannot be connected to"}
	ours      = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "our disk"}
)

func attempt(results ...mta.Result) *mta.Attempt {
	a := &mta.Attempt{Host: "mx.example", Results: results, Tries: []mta.Try{{Host: "mx.example", Stage: mta.StageRcpt}}}
	if slices.ContainsFunc(results, func(r mta.Result) bool { return r.Reason == silent.Reason }) {
		a.Tries = []mta.Try{{Host: "mx.example", Stage: mta.StageConnect}, {Host: "mx2.example", Stage: mta.StageConnect}}
	}
	return a
}

// learn gives the lesson of an attempt, and which results went elsewhere.
func (w *world) learn(r *mta.Route, age time.Duration, results ...mta.Result) (Lesson, string) {
	a := attempt(results...)
	l := w.Learn(r, delivery(age), a)
	marks := ""
	for _, res := range a.Results {
		marks += map[bool]string{true: "e", false: "-"}[res.Elsewhere]
	}
	return l, marks
}

// sees fails unless the marks and whether the router stands in are these.
func (w *world) sees(what string, marks, want string, router bool) {
	w.Helper()
	on, why, _ := w.Fallback("mx.example")
	if marks != want || on != router {
		w.Errorf("%s: marked %q, want %q; router %t (%s)", what, marks, want, on, why)
	}
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// TestRouterStandsIn: where our address is refused the router takes over, for
// those recipients alone; one delivery at a time finds out whether it may end.
func TestRouterStandsIn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
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
		if again, ok := w.Take(p, time.Now()); ok || again.Sub(time.Now()) != 10*time.Minute {
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
		if again, ok := w.Take(p, time.Now()); ok || again.Sub(time.Now()) != probeLife {
			t.Errorf("two deliveries probe at once (%v)", again)
		}
		l, m = w.learn(p, 0, blocked)
		w.sees("probe refused", m, "e", true)
		if again, ok := w.Take(p, time.Now()); ok || again.Sub(time.Now()) != 20*time.Minute || !l.Replan {
			t.Errorf("after a refused probe: %v %v", again.Sub(time.Now()), ok)
		}
		time.Sleep(20 * time.Minute)
		w.Take(p, time.Now())
		_, m = w.learn(p, 0, unknown) // the receiver's word on the recipient is the answer
		w.sees("probe to nobody", m, "-", true)
		if again, _ := w.Take(p, time.Now()); again.Sub(time.Now()) != 20*time.Minute {
			t.Errorf("a probe that tells nothing changes the distance: %v", again.Sub(time.Now()))
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
		if again, _ := w.Take(p, time.Now()); again.Sub(time.Now()) != 40*time.Minute {
			t.Errorf("the distance after coming back too early is %v", again.Sub(time.Now()))
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
	bubble(t, func(t *testing.T) {
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
		"not at all":       {with: []mta.Result{blocked, silent, busy}, marks: "---", age: 900 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
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
		bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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
		a = attempt(unknown)
		w.Learn(&mta.Route{Router: "smart.example"}, delivery(0), a)
		if a.Results[0].Reason != unknown.Reason {
			t.Errorf("a router in its own right: %q", a.Results[0].Reason)
		}
	})
}

// TestKept: what holds is found again after a restart, in the same lengths; what
// is over or cannot be read is not, and its note goes.
func TestKept(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		set := Settings{Fallback: byRouter, Rules: []Rule{{Name: "slow", Code: "451", Action: Slow}}}
		w := newWorld(t, set)
		w.learn(direct("192.0.2.1", "192.0.2.2"), 0, blocked)
		w.learn(direct("192.0.2.2", "192.0.2.1"), 0, blocked)
		w.learn(direct("192.0.2.1"), 0, busy)
		other := direct("192.0.2.1")
		other.Site = "other.example"
		w.learn(other, 0, unknown)
		before := w.Entries("")
		time.Sleep(time.Second)
		synctest.Wait()
		w.notes.mu.Lock()
		w.notes.m["standing/rubbish"] = []byte("{")
		w.notes.m["standing/far"] = []byte(fmt.Sprintf(`{"from":{"":{"until":%d,"hard":true}},"router":{"on":true,"wait":999999999999999,"next":%d}}`, time.Now().AddDate(9, 0, 0).UnixMilli(), time.Now().AddDate(9, 0, 0).UnixMilli()))
		w.notes.m["warmup/mx.example"] = []byte("not ours")
		w.notes.mu.Unlock()
		w.heard()
		w.again(set)
		var after []Entry
		for _, e := range w.Entries("") {
			if e.Site != "far" {
				after = append(after, e)
			}
		}
		if len(before) != 4 || len(after) != 4 {
			t.Fatalf("before %+v\nafter  %+v", before, after)
		}
		for i := range before {
			b, a := before[i], after[i]
			if b.Why != a.Why || b.Kind != a.Kind || b.Source != a.Source || !b.Until.Truncate(time.Millisecond).Equal(a.Until) {
				t.Errorf("before %+v\nafter  %+v", b, a)
			}
		}
		for _, e := range w.Entries("far") {
			if e.Until.After(time.Now().Add(maxProbe)) || e.Kind != KindFallback && e.Until.After(time.Now().Add(MaxFor)) {
				t.Errorf("a note suspends until %v", e.Until)
			}
		}
		if n := w.Clear("", "the operator"); n == 0 {
			t.Error("nothing was cleared")
		}
		told := w.heard()
		if len(told) == 0 || !strings.Contains(told[len(told)-1], "the operator cleared what was learnt of ") || w.notes.len() != 1 {
			t.Errorf("%q, %d notes", told, w.notes.len())
		}
	})
}

// TestNotesFail: a store that cannot write changes nothing of what holds.
func TestNotesFail(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Settings{Fallback: byRouter})
		w.notes.mu.Lock()
		w.notes.fail = fmt.Errorf("disk full")
		w.notes.mu.Unlock()
		_, m := w.learn(direct("192.0.2.1"), 0, blocked)
		w.sees("refused", m, "e", true)
		if w.heard(); w.Counts().Lost == 0 {
			t.Error("nothing was counted")
		}
	})
}

// TestMemoryIsBounded: however many sites and sources complain, so many are
// remembered.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	w := New(Options{Settings: Settings{Fallback: byRouter}})
	for i := range MaxSites + 100 {
		r := direct("192.0.2.1", "192.0.2.2")
		r.Site = fmt.Sprint("site", i)
		w.Learn(r, delivery(0), attempt(blocked))
	}
	if c := w.Counts(); c.Sites != MaxSites {
		t.Errorf("%d sites", c.Sites)
	}
	if !w.Avoid("site0", "192.0.2.1").Until.IsZero() || w.Avoid(fmt.Sprint("site", MaxSites+99), "192.0.2.1").Until.IsZero() {
		t.Error("the young left before the old")
	}
	for i := range 2 * MaxSources {
		r := direct(fmt.Sprintf("192.0.2.%d", i+1), "192.0.2.250")
		r.Fallback = false
		w.Learn(r, delivery(0), attempt(blocked))
	}
	if n := len(w.Entries("mx.example")); n != MaxSources {
		t.Errorf("%d sources", n)
	}
}

// TestManyAtOnce: workers, the planner and the operator do not get in each
// other's way.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Fallback: byRouter})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 300 {
				r := direct("192.0.2.1", "192.0.2.2")
				r.Site, r.Probe = fmt.Sprint("site", i%7), g == 1
				w.Learn(r, delivery(0), attempt([]mta.Result{took, blocked, busy}[(g+i)%3]))
				w.Take(r, time.Now())
				w.Avoid(r.Site, r.SourceKey())
				w.Fallback(r.Site)
				if i%50 == 0 {
					w.Clear(r.Site, "test")
					w.Counts()
				}
			}
		})
	}
	all.Wait()
	w.Stop(t.Context())
}

// TestShippedRules: each can be read, names where it comes from, and fits the
// reply that it is about.
func TestShippedRules(t *testing.T) {
	t.Parallel()
	rules := Shipped()
	if len(rules) < 20 {
		t.Fatalf("%d rules", len(rules))
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.Name] || r.For < MinFor || r.For > MaxFor || r.Most > MaxFor || len(r.Provider) == 0 || r.Action == Nothing {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
	}
	for _, v := range []struct{ provider, reply, want string }{
		{"google", "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address", "shipped: google-rate"},
		{"google", "550 5.7.1 [192.0.2.1] Gmail has detected that this message is likely suspicious due to the very low reputation of the sending IP address", "shipped: google-reputation"},
		{"microsoft", "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140).", "shipped: microsoft-s3140"},
		{"microsoft", "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)", "shipped: microsoft-s775"},
		{"yahoo", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", "shipped: yahoo-tss04"},
		{"gmx", "554 gmx.net (mxgmx001) Nemesis ESMTP Service not available No SMTP service Bad DNS PTR resource record.", "shipped: gmx-blocked"},
		{"", "421 4.7.28 unusual rate", ""},
	} {
		var code int
		var e mta.Enhanced
		rest := v.reply
		if _, err := fmt.Sscanf(rest, "%d %d.%d.%d", &code, &e.Class, &e.Subject, &e.Detail); err != nil {
			_, _ = fmt.Sscanf(rest, "%d", &code)
			e = mta.Enhanced{}
		}
		res := mta.Result{Reply: mta.Reply{Code: code, Enhanced: e, Text: rest}}
		got := ""
		for i := range rules {
			if rules[i].Fits(&mta.Route{Provider: v.provider}, "mx.example", &res) {
				got = rules[i].Name
				break
			}
		}
		if got != v.want {
			t.Errorf("%q: %q, want %q", v.reply, got, v.want)
		}
	}
}

func TestParseTriggers(t *testing.T) {
	t.Parallel()
	parse := func(s string) (time.Duration, bool) { d, err := time.ParseDuration(s); return d, err == nil }
	got, err := ParseTriggers([]string{"blocked", "ptr", "port25", "unresolved", "stalled:90m"}, parse)
	if err != nil || got != (Triggers{Blocked: true, PTR: true, Port25: true, Unresolved: true, Stalled: 90 * time.Minute}) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := ParseTriggers([]string{"stalled"}, parse); err != nil || got.Stalled != DefaultStalled {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"block", "ptr:4h", "stalled:", "stalled:0s", "stalled:9999h", "stalled:soon", ""} {
		if _, err := ParseTriggers([]string{bad}, parse); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func BenchmarkLearnTaken(b *testing.B) {
	w := New(Options{Settings: Settings{Fallback: byRouter}})
	r, d, a := direct("192.0.2.1"), delivery(0), attempt(took)
	b.ReportAllocs()
	for b.Loop() {
		w.Learn(r, d, a)
	}
}
