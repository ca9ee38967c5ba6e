package suppress

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/mta"
)

// TestFilterMissesNobody: whatever is added while the list is read, every
// address that is stored is found.
func TestFilterMissesNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(t, Settings{Sure: 1})
		n := rapid.IntRange(1, 50).Draw(r, "n")
		before := rapid.IntRange(0, n).Draw(r, "before")
		add := func(i int) { w.must(w.Add(t.Context(), Entry{Address: fmt.Sprintf("x%d@example.com", i)})) }
		for i := range before {
			add(i)
		}
		var beside sync.WaitGroup
		beside.Go(func() {
			for i := before; i < n; i++ {
				add(i)
			}
		})
		w.tidy(t.Context())
		w.tidy(t.Context())
		beside.Wait()
		for i := range n {
			if !w.listed(fmt.Sprintf("X%d@example.com", i), "default") {
				r.Fatalf("x%d is missed", i)
			}
		}
	})
}

// TestFilterBesideAReading: what is added when the snapshot has been taken, and
// what is being written while it is, are in the filter that the reading makes.
func TestFilterBesideAReading(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	w.tidy(t.Context())
	n := 0
	w.notes.taken = func() {
		n++
		w.must(w.Add(t.Context(), Entry{Address: fmt.Sprintf("x%d@example.com", n)}))
	}
	w.tidy(t.Context())
	w.notes.taken = nil
	for i := range n {
		if !w.listed(fmt.Sprintf("x%d@example.com", i+1), "default") {
			t.Errorf("x%d is missed", i+1)
		}
	}
	if n == 0 {
		t.Error("nothing was added")
	}
}

// TestNeverByOtherRefusals: however often a full mailbox, a policy, a reputation
// or a content is told, nobody is listed for it.
func TestNeverByOtherRefusals(t *testing.T) {
	t.Parallel()
	for _, r := range []mta.Result{
		refused(552, mta.Enhanced{Class: 5, Subject: 2, Detail: 2}, "Mailbox full"), refused(550, e571, "Message refused by policy"),
		refused(554, e571, "Service unavailable; client host blocked using Spamhaus"), refused(554, mta.Enhanced{Class: 5, Subject: 6}, "looks like spam"),
		refused(550, mta.Enhanced{Class: 5, Subject: 7, Detail: 26}, "DMARC failed"), refused(550, mta.Enhanced{}, "go away"),
		refused(550, mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, "No such domain"),
	} {
		w := newWorld(t, Settings{Sure: 1})
		for range 20 {
			w.learn(r)
			w.at = w.at.Add(25 * time.Hour)
		}
		if w.listed("ann@example.com", "news") || len(w.notes.of) > 0 {
			t.Errorf("%v: %v", r.Reply, w.notes.of)
		}
	}
}

// TestFilterSaves: for an address that is not listed the store is not asked.
func TestFilterSaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	for i := range 1000 {
		w.notes.of[entryName(fmt.Sprintf("x%d@example.com", i), "")] = []byte(`{"reason":"dead"}`)
	}
	w.tidy(t.Context())
	before := w.notes.reads
	for i := range 10_000 {
		if w.listed(fmt.Sprintf("y%d@example.com", i), "default") {
			t.Fatal("listed")
		}
	}
	if asked := w.notes.reads - before; asked > 100 {
		t.Errorf("the store was asked %d times for 10,000 addresses", asked)
	}
}

func BenchmarkFind(b *testing.B) {
	n := newNotes()
	for i := range 1_000_000 {
		n.of[entryName(fmt.Sprintf("x%d@example.com", i), "")] = []byte(`{"reason":"dead"}`)
	}
	l := New(Options{Notes: n})
	l.tidy(b.Context())
	b.Run("other", func(b *testing.B) {
		for b.Loop() {
			l.Find(b.Context(), "somebody.else@example.com", "default")
		}
	})
	b.Run("listed", func(b *testing.B) {
		for b.Loop() {
			l.Find(b.Context(), "x4711@example.com", "default")
		}
	})
}
