package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/mta"
	"mailout/internal/retry"
	"mailout/internal/spool"
)

// mortalStore is the store as one process sees it: after the process was
// killed nothing of it reaches the disk any more.
type mortalStore struct {
	*fakeStore
	killed atomic.Bool
}

// Settle implements spool.Store.
func (s *mortalStore) Settle(ctx context.Context, list ...*spool.Settlement) ([]mta.DeliveryKey, error) {
	if s.killed.Load() {
		return nil, errBroken
	}
	return s.fakeStore.Settle(ctx, list...)
}

// Begin implements spool.Store.
func (s *mortalStore) Begin(ctx context.Context, key mta.DeliveryKey, next time.Time) error {
	if s.killed.Load() {
		return errBroken
	}
	return s.fakeStore.Begin(ctx, key, next)
}

// chance is a random source for many goroutines.
type chance struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

func (c *chance) float() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Float64()
}

// Whatever arrives, whatever is answered, and however often the process is
// killed: every recipient ends in exactly one final state, nothing is in
// flight twice, no limit is exceeded, memory is bounded, and a recipient is
// doubled at most once a crash or lost reply. So with an operator who holds,
// releases, retries and cancels at random, by what was listed a while ago: and
// then what is held is not attempted, and what is released is.
func TestPromisesHoldInRandomWorlds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		crashes := rapid.IntRange(0, 3).Draw(rt, "crashes")
		messages := rapid.IntRange(1, 150).Draw(rt, "messages")
		orders := rapid.IntRange(0, 2).Draw(rt, "orders")
		routes := rapid.IntRange(1, 4).Draw(rt, "routes")
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = randomWorld(t, seed, crashes, messages, orders, routes) })
		for _, p := range problems {
			rt.Error(p)
		}
	})
}

func randomWorld(t *testing.T, seed uint64, crashes, messages, orders, routes int) (problems []string) {
	c := &chance{r: rand.New(rand.NewPCG(seed, 1))}
	w := newWorld(t)
	var mu sync.Mutex
	accepted := make(map[string]int) // by the receivers
	lost := make(map[string]int)     // final replies
	store := &mortalStore{fakeStore: w.store}
	w.opts.Store = store
	w.opts.Rand = c.float
	w.opts.Schedules.Default = retry.Schedule{Intervals: []time.Duration{time.Minute, 10 * time.Minute, time.Hour}, Expire: 12 * time.Hour, DelayNotice: time.Hour}
	w.opts.Limits = Limits{Connections: 4 + c.n(8), PerDestination: 2 + c.n(8), InMemory: 5 + c.n(50), Pages: 1 + c.n(3), Plans: 1 + c.n(3),
		IdleDestinations: 1 + c.n(10), RestingDestinations: 2 + c.n(8)}
	w.limit = 1 + c.n(5)
	w.routeTTL = time.Duration(c.n(600)) * time.Second
	w.idle = time.Duration(c.n(20)) * time.Second
	w.greet = time.Duration(c.n(100)) * time.Millisecond
	w.site = func(domain string) string { return "site" + domain[1:2] }
	w.refuse = func(domain string) *mta.Result {
		switch {
		case domain == "d8.example":
			return &mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeSite, Reason: "no such domain"}
		case c.n(10) == 0:
			return &mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "SERVFAIL"}
		}
		return nil
	}
	op := &operator{w: w, c: c, many: orders}
	if routes > 1 {
		w.several(c, routes)
	}
	w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
		op.attempted(d)
		took := time.Duration(c.n(3000)) * time.Millisecond
		trouble := c.n(8)
		if trouble == 0 || d.Destination.Domain == "d3.example" && w.since() < 2*time.Hour {
			return each(d, unreachable()), took
		}
		results := good(d)
		for i, r := range d.Recipients {
			mu.Lock()
			switch c.n(12) {
			case 0:
				results[i] = greylisted()
			case 1:
				results[i] = noSuchUser()
			case 3:
				if results[i] = greylisted(); routes > 1 {
					results[i] = blocked()
				}
			case 2:
				results[i] = mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Reason: "reply lost"}
				lost[r.Address]++
				accepted[r.Address]++
			default:
				accepted[r.Address]++
			}
			mu.Unlock()
		}
		return results, took
	}
	w.store.fail = func(*spool.Settlement) error {
		if c.n(60) == 0 {
			return errBroken
		}
		return nil
	}
	w.store.pageWait = func() { <-time.After(time.Duration(c.n(500)) * time.Millisecond) }

	w.up()
	var rcpts []string
	for i := range messages {
		n := 1 + c.n(3)
		domain := fmt.Sprintf("d%d.example", c.n(9))
		var to []string
		for j := range n {
			to = append(to, fmt.Sprintf("u%d-%d@%s", i, j, domain))
		}
		rcpts = append(rcpts, to...)
		d := w.make([]string{"default", "codes"}[c.n(2)], to...)
		w.store.put(d)
		if c.n(4) == 0 {
			w.wait(time.Duration(c.n(15000)) * time.Millisecond) // between Put and Add
		}
		w.q.Add([]*mta.Delivery{d})
		if c.n(3) == 0 {
			w.wait(time.Duration(c.n(2000)) * time.Millisecond)
		}
		if crashes > 0 && c.n(messages) < 3 {
			crashes--
			w.crash(store)
			store = &mortalStore{fakeStore: w.store}
			w.opts.Store = store
			w.store.streak++
			w.opts.Holds = op.holds
			w.up()
		}
		op.act()
		if p := w.memory(); p != "" {
			problems = append(problems, p)
		}
	}
	op.rest()
	w.wait(2 * 24 * time.Hour)
	problems = append(problems, op.problems...)
	problems = append(problems, w.verdict(rcpts, accepted, lost)...)
	if err := w.q.Stop(context.Background()); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// several gives the world pools, variants, rates, quotas and lessons at random.
func (w *world) several(c *chance, routes int) {
	var sender, stream, all mta.Rate
	sender = mta.Rate{Count: 20, Per: time.Minute, Bucket: "a", BySender: true}
	stream = mta.Rate{Count: 30, Per: time.Minute, Bucket: "b", ByStream: true}
	all = mta.Rate{Count: 300, Per: time.Minute, Bucket: "c"}
	var turn atomic.Int64
	w.variant = func(m *mta.Message) string {
		switch turn.Load() % 3 {
		case 0:
			return ""
		case 1:
			return fmt.Sprint(m.ID[15] % 4)
		}
		return m.Stream
	}
	w.plan = func(variant string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
		p := poolOf(r, 1+c.n(routes))
		p.Expires = time.Time{}
		for _, x := range p.Routes {
			x.Weight = c.n(4)
			if c.n(6) == 0 {
				x.AvoidUntil, x.AvoidWhy = time.Now().Add(time.Duration(c.n(600))*time.Second), "asked to wait"
			}
			switch c.n(4) {
			case 0:
				x.Limits.Rates = []mta.Rate{sender, all}
			case 1:
				x.Limits.Rates = []mta.Rate{stream}
			}
			if c.n(4) == 0 {
				x.Warming = &mta.Warming{Provider: "any", Second: c.n(2) == 0}
			}
			if variant != "" && c.n(5) == 0 {
				x.Router, x.Site = "relay", "router:relay"
			}
		}
		if c.n(12) == 0 {
			now := time.Now()
			return nil, &mta.Attempt{Start: now, End: now, Site: "router", Results: []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "no router"}}}
		}
		return p, nil
	}
	w.opts.Quota = chanceQuota{c}
	w.learn = func(_ *mta.Route, _ *mta.Delivery, _ *mta.Attempt) (k Lesson) {
		if c.n(10) == 0 {
			k.Avoid, k.Why = time.Now().Add(time.Duration(c.n(1200))*time.Second), "blocked"
		}
		if k.Replan = c.n(15) == 0; c.n(40) == 0 {
			turn.Add(1)
			go w.q.Replan() // as a reload would
		}
		return k
	}
}

type chanceQuota struct{ c *chance }

// Take implements Quota.
func (q chanceQuota) Take(_ *mta.Route, _ *mta.Delivery, now time.Time) (time.Time, bool) {
	return now.Add(time.Duration(q.c.n(300)) * time.Second), q.c.n(5) > 0
}

// counts tells where a destination's counters disagree with its ways.
func (l *loop) counts(d *dest) string {
	still, ready, paced, flying := 0, 0, 0, 0
	for w := &d.first; w != nil; w = w.next {
		flying += w.flying
		still += len(w.due)
		for _, e := range w.due {
			if e.way != w || e.berth != nil || e.phase != phaseDue {
				return "an entry is due on a way that is not its own"
			}
			if e.paced {
				paced++
			}
		}
		for b := &w.berth; b != nil; b = b.next {
			ready += len(b.ready)
			for _, e := range b.ready {
				if e.way != w || e.berth != b || e.paced {
					return "an entry is ready at a berth that is not its own"
				}
			}
			if b.site != nil && l.sites[b.site.key] != b.site {
				return "a berth is at a site that is gone"
			}
		}
	}
	if still+ready != d.still || ready != d.ready || paced != d.paced || flying != d.flying {
		return fmt.Sprintf("%s: %d, %d, %d, %d are counted as %d, %d, %d, %d", d.key, still+ready, ready, paced, flying, d.still, d.ready, d.paced, d.flying)
	}
	return ""
}

// crash kills the process: nothing reaches the disk any more, and what it had
// in flight is cut off.
func (w *world) crash(store *mortalStore) {
	store.killed.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.q.Stop(ctx) // it cannot store what was under way: that is the point
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashed++
}

func (w *world) memory() string {
	limits := w.opts.Limits
	p := ""
	_ = w.q.ask(context.Background(), func(l *loop) {
		if len(l.entries) > limits.InMemory+len(l.dests)+l.ordering {
			p = fmt.Sprintf("%d deliveries in memory of %d and %d destinations; %d in flight, %d clerks and %d more, %d ordered, stopping %t", len(l.entries), limits.InMemory, len(l.dests), l.flying, l.clerking, l.clerkWork.len(), l.ordering, l.stopping)
		}
		flying := 0
		for _, d := range l.dests {
			flying += d.flying
			if q := l.counts(d); q != "" {
				p = q
			}
			if d.inMemory() > limits.PerDestination+l.ordering {
				p = fmt.Sprintf("%d deliveries of %s in memory of %d", d.inMemory(), d.key, limits.PerDestination)
			}
		}
		if flying != l.flying {
			p = "the counts of what is in flight disagree"
		}
	})
	return p
}

func (w *world) verdict(rcpts []string, accepted, lost map[string]int) (problems []string) {
	final := make(map[string]int)
	for _, r := range w.store.history() {
		switch r.Event {
		case mta.EventDelivered, mta.EventRelayed, mta.EventFailed, mta.EventExpired, mta.EventCancelled:
			final[r.Recipient]++
		}
	}
	for _, r := range rcpts {
		if final[r] != 1 {
			problems = append(problems, fmt.Sprintf("%s has %d final states", r, final[r]))
		}
		if accepted[r] > 1+lost[r]+w.crashed {
			problems = append(problems, fmt.Sprintf("%s was accepted %d times with %d lost replies and %d crashes", r, accepted[r], lost[r], w.crashed))
		}
	}
	if n := w.store.count(); n != 0 {
		problems = append(problems, fmt.Sprintf("%d deliveries are left", n))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for site, n := range w.mu.most {
		if n > w.limit {
			problems = append(problems, fmt.Sprintf("%d sessions to %s of %d", n, site, w.limit))
		}
	}
	if w.mu.mostAll > w.opts.Limits.Connections {
		problems = append(problems, fmt.Sprintf("%d sessions of %d", w.mu.mostAll, w.opts.Limits.Connections))
	}
	return problems
}
