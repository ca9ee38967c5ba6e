package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"mailout/internal/mta"
)

// Memory follows destinations: of 20,000 messages a few hundred are in memory.
func TestMemoryFollowsDestinations(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Second }
		w.up()
		for i := range 20000 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%3))
			if i%1000 == 0 {
				w.wait(time.Millisecond)
			}
		}
		w.wait(time.Millisecond)
		in := 0
		if err := w.q.ask(context.Background(), func(l *loop) { in = len(l.entries) }); err != nil {
			t.Fatal(err)
		}
		if in > 3*200 {
			t.Errorf("%d deliveries in memory", in)
		}
		w.wait(10 * time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

// A mailing to many domains of one site does not bring a whole page of each
// into memory.
func TestMailingBehindOneSiteComesInSmallPages(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.site = func(string) string { return "one.site" }
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 20 * time.Millisecond }
		const domains, each = 200, 100
		for i := range domains * each {
			w.store.put(w.make("news", fmt.Sprintf("u%d@d%d.example", i, i%domains)))
		}
		w.up()
		most := 0
		for range 22 {
			w.wait(time.Second) // 1,000 of 20,000
			most = max(most, w.known().entries)
		}
		if most > domains*2*firstPage || most < domains*firstPage/2 {
			t.Errorf("%d deliveries in memory", most)
		}
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

// A single destination drains as fast as its connections allow, although its
// first pages are small.
func TestSmallFirstPageDoesNotSlowADrain(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		const n = 5000
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 2 * time.Millisecond }
		w.store.pageWait = func() { <-time.After(2 * time.Millisecond) }
		for i := range n {
			w.store.put(w.make("news", fmt.Sprintf("u%d@one.example", i)))
		}
		w.up()
		w.wait(n*2*time.Millisecond/20*105/100 + 20*time.Millisecond)
		if w.store.count() != 0 {
			t.Errorf("%d of %d left", w.store.count(), n)
		}
	})
}

func TestTotalMemoryIsBounded(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.InMemory = 50
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts(d.Recipients[0].Address)) == 1 {
				return each(d, greylisted()), 10 * time.Millisecond
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		for i := range 1000 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%20))
		}
		for range 20 {
			in := 0
			if err := w.q.ask(context.Background(), func(l *loop) { in = len(l.entries) }); err != nil {
				t.Fatal(err)
			}
			if in > 50+20 {
				t.Fatalf("%d deliveries in memory", in)
			}
			w.wait(30 * time.Second)
		}
		w.wait(time.Hour)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

// A restart keeps deferred mail at its time.
func TestTrap38RestartDoesNotRetryEverything(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), 0 }
		w.up()
		for i := range 50 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%7))
		}
		w.wait(time.Minute)
		if err := w.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := len(w.tried())
		w.up()
		w.wait(3 * time.Minute)
		if got := len(w.tried()); got != before {
			t.Errorf("%d attempts after the restart, before their time", got-before)
		}
		w.wait(2 * time.Minute)
		if got := len(w.tried()); got != 2*before {
			t.Errorf("%d attempts, want every one twice (%d)", got, 2*before)
		}
	})
}

// A page that was read before an outcome was stored does not bring the
// delivery back; what is added while a page is read is not lost.
func TestTrap38PageAndSettlementCross(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.PerDestination = 6
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 30 * time.Millisecond }
		w.store.pageWait = func() { <-time.After(200 * time.Millisecond) }
		w.up()
		for i := range 100 {
			w.send(fmt.Sprintf("u%d@one.example", i))
			w.wait(7 * time.Millisecond)
		}
		w.wait(time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
		seen := make(map[string]int)
		for _, r := range w.tried() {
			seen[r]++
		}
		for r, n := range seen {
			if n != 1 {
				t.Errorf("%s was tried %d times", r, n)
			}
		}
	})
}

// A page may be faster than Add.
func TestTrap38AddAfterThePage(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{0, 3 * time.Second, 20 * time.Second, 2 * time.Minute} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.opts.Limits.PerDestination = 2
				w.up()
				for i := range 10 { // so that pages are read
					w.send(fmt.Sprintf("u%d@one.example", i))
				}
				d := w.make(mta.DefaultStream, "late@one.example")
				w.store.put(d)
				w.send("after@one.example")
				w.wait(late)
				w.q.Add([]*mta.Delivery{d})
				w.wait(time.Hour)
				if got := w.attempts("late@one.example"); len(got) != 1 {
					t.Errorf("attempts %v", got)
				}
				if w.store.count() != 0 {
					t.Errorf("%d left", w.store.count())
				}
			})
		})
	}
}

// A domain that does not exist fails all its mail, in batches, with one plan.
func TestTrap30NoSuchDomainFailsInBatches(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.PerDestination = 50
		w.refuse = func(domain string) *mta.Result {
			if domain != "none.example" {
				return nil
			}
			return &mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeSite, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, Reason: "no such domain"}
		}
		w.up()
		for i := range 1000 {
			w.send(fmt.Sprintf("u%d@none.example", i), fmt.Sprintf("v%d@none.example", i))
		}
		w.wait(10 * time.Second)
		if got := len(w.store.events(mta.EventFailed)); got != 2000 || w.store.count() != 0 {
			t.Errorf("%d failed, %d open", got, w.store.count())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.mu.planned > 10 {
			t.Errorf("%d plans", w.mu.planned)
		}
	})
}

// Everything that was remembered of destinations and sites goes in time.
func TestIdleMemoryGoes(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.IdleDestinations = 10
		w.up()
		for i := range 500 {
			w.send(fmt.Sprintf("a@d%d.example", i))
		}
		w.wait(time.Second)
		var dests, sites, unannounced, alarms int
		look := func() {
			if err := w.q.ask(context.Background(), func(l *loop) {
				dests, sites, unannounced, alarms = len(l.dests), len(l.sites), len(l.unannounced), len(l.alarms)
			}); err != nil {
				t.Fatal(err)
			}
		}
		if look(); dests > 10 {
			t.Errorf("%d idle destinations of 10", dests)
		}
		w.wait(2 * time.Hour)
		if look(); dests+sites+unannounced+alarms != 0 {
			t.Errorf("left: %d destinations, %d sites, %d keys, %d alarms", dests, sites, unannounced, alarms)
		}
	})
}
