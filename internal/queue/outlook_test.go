package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

// known is what the loop knows of destinations.
type known struct {
	dests, resting, entries, alarms, destinations int
	horizon, now                                  millis
	walking                                       bool
}

func (w *world) known() (k known) {
	w.t.Helper()
	err := w.q.ask(context.Background(), func(l *loop) {
		k = known{len(l.dests), len(l.resting), len(l.entries), len(l.alarms), int(l.destinations()), l.horizon, l.nowMS, l.walking}
		if len(l.byDue) != len(l.resting) {
			w.t.Errorf("%d resting destinations, %d in their order", len(l.resting), len(l.byDue))
		}
		idle, owing := 0, 0
		for _, d := range l.dests {
			if d.idle {
				idle++
			}
			if d.owing {
				owing++
			}
			if r := l.resting[d.key]; r != nil {
				w.t.Errorf("%s is in memory and rests", d.key)
			}
		}
		if idle != l.idleCount || owing != l.idleOwing {
			w.t.Errorf("%d idle and %d owing destinations, counted %d and %d", idle, owing, l.idleCount, l.idleOwing)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// small makes the bounds small, so that destinations are forgotten.
func (w *world) small() {
	w.opts.Limits.InMemory = 10
	w.opts.Limits.IdleDestinations = 5
	w.opts.Limits.RestingDestinations = 20
}

// backlog puts n deferred deliveries, each for a destination of its own, into
// the spool, the i-th due at the given time from now.
func (w *world) backlog(n int, due func(i int) time.Duration) {
	for i := range n {
		d := w.make(mta.DefaultStream, fmt.Sprintf("a@d%d.example", i))
		d.State, d.Attempts = mta.Deferred, 1
		d.Due = d.Due.Add(due(i))
		w.store.put(d)
	}
}

// onTime checks that every recipient of the backlog was tried once, at its time.
func (w *world) onTime(n int, due func(i int) time.Duration) {
	w.t.Helper()
	for i := range n {
		got := w.attempts(fmt.Sprintf("a@d%d.example", i))
		if len(got) != 1 || got[0] < due(i) || got[0] > due(i)+100*time.Millisecond {
			w.t.Errorf("number %d, due at %v, was tried at %v", i, due(i), got)
		}
	}
}

// However many destinations have deferred mail, a bounded number of them is
// known after a start, and each is tried in time.
func TestRestingDestinationsAreBounded(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		const n = 500
		due := func(i int) time.Duration { return 10*time.Minute + time.Duration(i*7919%n)*10*time.Second }
		w.backlog(n, due)
		w.up()
		most := 0
		for range 10 * 15 {
			w.wait(30 * time.Second)
			k := w.known()
			most = max(most, k.dests+k.resting)
			if k.destinations != w.store.count() && !k.walking {
				// Counted by the last walk: since then some were delivered.
				if k.destinations < w.store.count() || k.destinations > w.store.count()+30 {
					t.Errorf("%d destinations counted, %d in the spool", k.destinations, w.store.count())
				}
			}
		}
		if most > 20+12+5 { // and those due soon
			t.Errorf("%d destinations were known at once", most)
		}
		w.wait(2 * time.Hour)
		w.onTime(n, due)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
		if k := w.known(); k.dests+k.resting+k.alarms != 0 || k.horizon != never {
			t.Errorf("left: %+v", k)
		}
		if w.store.mu.walks < 10 || w.store.mu.walks > 100 || w.store.mu.twice {
			t.Errorf("%d walks, two at once: %v", w.store.mu.walks, w.store.mu.twice)
		}
	})
}

// What is deferred while the queue runs is forgotten too, and comes in time.
func TestMassDeferralIsForgotten(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		const n = 400
		w.routeTTL = time.Minute
		w.opts.Rand = (&chance{r: rand.New(rand.NewPCG(1, 1))}).float
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if late := time.Since(d.Due); late > 100*time.Millisecond {
				t.Errorf("%s is tried %v late", d.Recipients[0].Address, late)
			}
			if d.Attempts >= 2 {
				return good(d), 0
			}
			return each(d, greylisted()), 0
		}
		w.up()
		for i := range n {
			w.send(fmt.Sprintf("a@d%d.example", i))
		}
		w.wait(10 * time.Second)
		k := w.known()
		if k.dests > 10+5 || k.resting > n || k.entries > 10 || k.horizon == never {
			t.Errorf("%+v", k)
		}
		w.wait(3 * time.Hour)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
		if w.store.mu.twice {
			t.Error("two walks at once")
		}
	})
}

// Mail for a destination that was forgotten goes at once; what was there comes
// at its own time.
func TestAddToAForgottenDestination(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		const n = 200
		due := func(i int) time.Duration { return 10*time.Minute + time.Duration(i)*time.Minute }
		w.backlog(n, due)
		w.up()
		w.wait(time.Minute)
		if k := w.known(); k.destinations != n || k.resting != 10 {
			t.Errorf("%+v", k)
		}
		for i := range n {
			w.send(fmt.Sprintf("fresh@d%d.example", i))
		}
		w.wait(time.Second)
		for i := range n {
			if got := w.attempts(fmt.Sprintf("fresh@d%d.example", i)); len(got) != 1 {
				t.Fatalf("fresh mail for number %d was tried at %v", i, got)
			}
		}
		if k := w.known(); k.dests+k.resting > 20+12+5 {
			t.Errorf("%+v", k)
		}
		w.wait(n*time.Minute + 10*time.Minute)
		w.onTime(n, due)
	})
}

// A store that breaks in the middle of a walk is asked again; the horizon
// stays until a walk is complete.
func TestWalkIsRepeatedUntilItIsComplete(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		const n = 300
		due := func(i int) time.Duration { return 10*time.Minute + time.Duration(i*7%n)*20*time.Second }
		w.backlog(n, due)
		fails := 0
		w.store.walkStep = func(i int) error {
			<-time.After(10 * time.Millisecond)
			if i == 150 {
				if fails++; fails%4 != 0 {
					if fails%2 == 0 {
						panic("broken")
					}
					return errBroken
				}
			}
			return nil
		}
		w.up()
		w.wait(time.Second)
		if k := w.known(); k.horizon > k.now+3*time.Minute.Milliseconds() {
			t.Errorf("a horizon without a walk: %+v", k)
		}
		w.wait(3 * time.Hour)
		w.onTime(n, due)
	})
}

// A clock that jumps delays nothing by more than it jumped back.
func TestForgottenDestinationsAndClockJumps(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		var mu sync.Mutex
		var jump time.Duration
		w.opts.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(jump) }
		const n = 300
		due := func(i int) time.Duration { return 10*time.Minute + time.Duration(i)*time.Minute }
		w.backlog(n, due)
		w.opts.Schedules.Default.DelayNotice = 24 * time.Hour // no other mail
		w.up()
		w.wait(5 * time.Minute)
		mu.Lock()
		jump = 2 * time.Hour // forward: everything of the first two hours is due
		mu.Unlock()
		w.wait(3 * time.Minute)
		if got := len(w.tried()); got < 118 || got > 125 {
			t.Errorf("%d tried after the jump forward", got)
		}
		mu.Lock()
		jump = -2 * time.Hour
		mu.Unlock()
		w.wait(4*time.Hour - time.Minute)
		if got := len(w.tried()); got < 118 || got > 130 {
			t.Errorf("%d tried while the clock went the same way again", got)
		}
		w.wait(n*time.Minute + time.Hour)
		if got := len(w.tried()); got != n || w.store.count() != 0 {
			t.Errorf("%d tried, %d left", got, w.store.count())
		}
	})
}

func TestStopDuringAWalk(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		w.backlog(100, func(i int) time.Duration { return time.Hour })
		w.store.walkStep = func(int) error { <-time.After(time.Second); return nil }
		w.up()
		w.wait(30*time.Second + time.Millisecond)
		begin := time.Now()
		if err := w.q.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		w.q = nil
	})
}

// A stop that waits for an open transaction past the horizon, and past the time
// of what rests, lets the loop sleep.
func TestStopWaitsPastTheHorizon(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		w.backlog(100, func(i int) time.Duration { return 10*time.Minute + time.Duration(i)*time.Second })
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 30 * time.Minute }
		w.up()
		w.send("slow@one.example")
		w.wait(time.Minute)
		begin := time.Now()
		if err := w.q.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 30*time.Minute {
			t.Errorf("the stop took %v", took)
		}
		w.q = nil
	})
}

// Lower bounds count at once; higher ones with the next walk.
func TestReconfigureForgets(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		const n = 200
		due := func(i int) time.Duration { return 10*time.Minute + time.Duration(i)*time.Minute }
		w.backlog(n, due)
		w.up()
		w.wait(time.Second)
		if k := w.known(); k.resting != n || k.horizon != never {
			t.Errorf("%+v", k)
		}
		w.q.Reconfigure(w.opts.Schedules, Limits{RestingDestinations: 20}, "out.example")
		w.wait(time.Second)
		if k := w.known(); k.resting != 10 || k.horizon == never || k.destinations != n {
			t.Errorf("%+v", k)
		}
		w.q.Replan()
		w.q.Reconfigure(w.opts.Schedules, Limits{}, "out.example")
		w.wait(30 * time.Minute)
		if k := w.known(); k.horizon != never || k.destinations != w.store.count() {
			t.Errorf("%+v", k)
		}
		w.wait(n * time.Minute)
		w.onTime(n, due)
	})
}

// A crowd that is due at the same time is taken although it is greater than
// the bound.
func TestCrowdDueAtOnceIsNotLimited(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		const n = 300
		due := func(i int) time.Duration { return 20 * time.Minute }
		w.backlog(n, due)
		w.up()
		w.wait(time.Second)
		if k := w.known(); k.resting != 0 || k.horizon == never {
			t.Errorf("%+v", k)
		}
		w.wait(30 * time.Minute)
		w.onTime(n, due)
		if w.store.mu.walks > 4 {
			t.Errorf("%d walks", w.store.mu.walks)
		}
	})
}

// What is forgotten of a destination while a walk is under way, and the walk
// has passed it, is not behind the walk's horizon.
func TestForgettingDuringAWalk(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.small()
		w.opts.Limits.IdleDestinations = 1
		w.opts.Limits.InMemory = 2
		w.routeTTL = time.Second
		const n = 100
		due := func(i int) time.Duration { return 10*time.Hour + time.Duration(i)*time.Minute }
		w.backlog(n, due)
		w.store.walkStep = func(int) error { <-time.After(100 * time.Millisecond); return nil } // 10 s a walk
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Attempts == 0 {
				return each(d, greylisted()), 0
			}
			return good(d), 0
		}
		w.up()
		for i := range n { // while the walk goes on
			w.send(fmt.Sprintf("b@d%d.example", i))
			w.wait(90 * time.Millisecond)
		}
		w.wait(8 * time.Hour)
		for i := range n {
			got := w.attempts(fmt.Sprintf("b@d%d.example", i))
			if len(got) != 2 || got[1]-got[0] > 5*time.Minute+2*time.Second {
				t.Errorf("number %d was tried at %v", i, got)
			}
		}
	})
}

// Whatever is forgotten, no delivery is tried later than it is due.
func TestForgottenDestinationsComeInTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = punctualWorld(t, seed) })
		for _, p := range problems {
			rt.Error(p)
		}
	})
}

func punctualWorld(t *testing.T, seed uint64) (problems []string) {
	c := &chance{r: rand.New(rand.NewPCG(seed, 7))}
	w := newWorld(t)
	w.opts.Rand = c.float
	w.opts.Schedules.Default = retry.Schedule{Intervals: []time.Duration{time.Duration(1+c.n(10)) * time.Minute, 20 * time.Minute, time.Hour}, Expire: 100 * time.Hour, DelayNotice: 100 * time.Hour}
	w.opts.Limits = Limits{PerDestination: 2 + c.n(4), InMemory: 2 + c.n(20), IdleDestinations: 1 + c.n(4), RestingDestinations: 2 + c.n(3), Pages: 1 + c.n(3)}
	w.routeTTL = time.Duration(c.n(1000)) * time.Second
	w.limit = 50
	var mu sync.Mutex
	w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
		if late := time.Since(d.Due); late > 10*time.Second {
			mu.Lock()
			problems = append(problems, fmt.Sprintf("attempt %d of %s at %v is %v late", d.Attempts+1, d.Recipients[0].Address, w.since(), late))
			mu.Unlock()
		}
		if c.n(3) > 0 {
			return each(d, greylisted()), 0
		}
		return good(d), time.Duration(c.n(100)) * time.Millisecond
	}
	w.store.pageWait = func() { <-time.After(time.Duration(c.n(20)) * time.Millisecond) }
	pace := c.n(300)
	w.store.walkStep = func(int) error {
		if c.n(2) == 0 {
			<-time.After(time.Duration(c.n(pace+1)) * time.Millisecond)
		}
		if c.n(500) == 0 {
			return errBroken
		}
		return nil
	}
	domains := 5 + c.n(40)
	w.up()
	for range 20 + c.n(150) {
		w.send(fmt.Sprintf("a%d@d%d.example", c.n(1e6), c.n(domains)))
		switch c.n(20) {
		case 0:
			w.wait(time.Duration(c.n(3600)) * time.Second)
		case 1:
			if err := w.q.Stop(context.Background()); err != nil {
				problems = append(problems, err.Error())
			}
			w.up()
		case 2:
			w.q.Replan()
		default:
			w.wait(time.Duration(c.n(20)) * time.Second)
		}
		w.known()
	}
	w.wait(99 * time.Hour)
	if n := w.store.count(); n != 0 {
		problems = append(problems, fmt.Sprintf("%d deliveries are left", n))
	}
	if w.store.mu.twice {
		problems = append(problems, "two walks at once")
	}
	if err := w.q.Stop(context.Background()); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// A crowd that has gone leaves no room behind.
func TestMapsAreMadeAnewAfterACrowd(t *testing.T) {
	t.Parallel()
	m := make(map[int]int)
	most := 0
	for i := range 5 * slimFrom {
		m[i] = i
	}
	if slimmed(&m, &most) || most != len(m) {
		t.Errorf("a full map was made anew, most %d", most)
	}
	for i := slimFrom; i < 5*slimFrom; i++ {
		delete(m, i)
	}
	if !slimmed(&m, &most) || len(m) != slimFrom || most != slimFrom || m[17] != 17 {
		t.Errorf("most %d, %d left", most, len(m))
	}
	clear(m)
	if slimmed(&m, &most) {
		t.Error("a small map was made anew")
	}
}
