package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// deafNames makes look-ups of names under dead.example take 20 s and fail.
func deafNames(w *world) {
	dead := func(domain string) bool { return strings.HasSuffix(domain, ".dead.example") }
	w.lookUp = func(domain string) time.Duration {
		if dead(domain) {
			return 20 * time.Second
		}
		return 10 * time.Millisecond
	}
	w.refuse = func(domain string) *mta.Result {
		if !dead(domain) {
			return nil
		}
		return &mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "no answer"}
	}
}

func (w *world) sendDead(n int) {
	for i := range n {
		w.send(fmt.Sprintf("u@d%d.dead.example", i))
	}
}

// TestTrap45SlowLookUpsSlowNobody: domains whose name servers do not answer
// hold neither a new destination nor one whose route ran out.
func TestTrap45SlowLookUpsSlowNobody(t *testing.T) {
	run(t, func(w *world) {
		w.routeTTL = 5 * time.Second
		deafNames(w)
		w.up()
		w.send("u@known.example")
		w.wait(6 * time.Second) // its route has run out
		w.sendDead(150)         // more than Plans, less than all places
		before := w.since()
		w.send("u@new.example")
		w.wait(4 * time.Second)
		w.sendDead(5000) // more than there are places
		w.wait(5 * time.Second)
		w.send("u@known.example")
		again := w.since()
		w.wait(5 * time.Minute)
		if at := w.attempts("u@new.example"); len(at) != 1 || at[0]-before > 3*time.Second {
			t.Errorf("a new destination's mail of %v was tried at %v", before, at)
		}
		if at := w.attempts("u@known.example"); len(at) != 2 || at[1]-again > 20*time.Second {
			t.Errorf("the mail of %v for a destination whose route ran out was tried at %v", again, at)
		}
	})
}

// TestFailedLookUpsStandBehindNewOnes: what failed before waits for what was
// never looked up, but not for ever.
func TestFailedLookUpsStandBehindNewOnes(t *testing.T) {
	var p lanes
	d := func(name string, plan planState) {
		p.push(&way{dest: &dest{key: mta.Destination{Domain: name}}, plan: plan})
	}
	for i := range 3 {
		d(fmt.Sprint("again", i), planRefused)
		d(fmt.Sprint("first", i), planNone)
		d(fmt.Sprint("renew", i), planRouted)
	}
	var got []string
	for p.len() > 0 {
		got = append(got, p.pop().dest.key.Domain)
	}
	want := "renew0 renew2 renew1 again2 first0 first2 first1 again1 again0"
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
}

// TestPlansAreBounded: slow look-ups make place for others, up to a bound, and
// the count of slow ones ends where it began.
func TestPlansAreBounded(t *testing.T) {
	run(t, func(w *world) {
		w.opts.Limits.Plans = 2
		deafNames(w)
		w.up()
		w.sendDead(30)
		most := 0
		for range 100 {
			w.wait(500 * time.Millisecond)
			n := 0
			w.mu.Lock()
			for _, running := range w.mu.plans {
				n += running
			}
			w.mu.Unlock()
			most = max(most, n)
		}
		if most != 2*plansInAll {
			t.Errorf("%d plans at once", most)
		}
		w.wait(2 * time.Minute)
		err := w.q.ask(context.Background(), func(l *loop) {
			if l.slowPlans != 0 || len(l.planning) != 0 || l.plans.len() != 0 {
				t.Errorf("left: %d slow, %d under way, %d waiting", l.slowPlans, len(l.planning), l.plans.len())
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestFailedLookUpIsSoonForgotten: mail that comes after the name servers'
// trouble is not put off because of it.
func TestFailedLookUpIsSoonForgotten(t *testing.T) {
	run(t, func(w *world) {
		down := true
		w.refuse = func(string) *mta.Result {
			if !down {
				return nil
			}
			return &mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "no answer"}
		}
		w.up()
		w.send("early@d.example")
		w.wait(2 * time.Second)
		down = false
		w.send("late@d.example")
		w.wait(time.Second)
		if at := w.attempts("late@d.example"); len(at) != 1 {
			t.Errorf("tried at %v", at)
		}
	})
}
