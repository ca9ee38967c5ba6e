package warmup

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

// TestKilledBetweenAnyTwoOperations: a script is played once for every place in
// it at which the process dies, with the write under way done or lost. The day's
// ceiling is never passed, and what is lost is one reservation.
func TestKilledBetweenAnyTwoOperations(t *testing.T) {
	t.Parallel()
	for _, ceiling := range []int{1, 3, 40, 200} {
		for dies := range min(2*ceiling+2, 120) {
			for _, applied := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					got, lost := playUntilKilled(t, ceiling, dies, applied)
					if got > ceiling {
						t.Errorf("ceiling %d, dies at %d, write applied %t: %d sent", ceiling, dies, applied, got)
					}
					if got < ceiling-lost {
						t.Errorf("ceiling %d, dies at %d, write applied %t: only %d sent", ceiling, dies, applied, got)
					}
				})
			}
		}
	}
}

// playUntilKilled takes one by one, late in the day. Step dies of takes and
// writes is the last before the kill: a take that has passed was sent. Then
// another process takes all that there is.
func playUntilKilled(t *testing.T, ceiling, dies int, applied bool) (got, lost int) {
	time.Sleep(23 * time.Hour)
	n := newNotes()
	dead, buried := make(chan struct{}), make(chan struct{})
	var steps atomic.Int64 // of the writer and of who takes
	n.before = func() error {
		step := int(steps.Add(1))
		if step <= dies {
			return nil
		}
		if step == dies+1 {
			close(dead)
		}
		<-buried // the process is gone: SetNotes never returns to it
		return errDisk
	}
	l := New(Options{Notes: n, Settings: settings(plan(ceiling))})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := route("", newIP)
	alive := true
	for alive && got < ceiling {
		select {
		case <-dead:
			alive = false
			continue
		default:
		}
		again, ok := l.Take(r, delivery("default", 1), time.Now())
		if ok {
			got++
			if int(steps.Add(1)) > dies {
				alive = false
			}
			continue
		}
		time.Sleep(time.Until(again))
		synctest.Wait()
	}
	after := n.crash()
	if applied { // what was on its way has arrived
		l.mu.Lock()
		for k, a := range l.mu.accounts {
			after.notes[k.note()], _ = a.encode(false)
		}
		l.mu.Unlock()
	}
	close(buried)
	kill(n, l)
	second := start(t, after, settings(plan(ceiling)))
	defer second.Stop(t.Context())
	got += takes(t, second, r, "default", midnight.AddDate(0, 0, 1), 1<<20)
	return got, 2 * reservation(ceiling) // what is there, and what is asked for when it runs low
}

// model is what the world outside has seen: recipients of each day and provider
// that were delivered, or may have been.
type model struct {
	t      *testing.T
	random *rand.Rand
	notes  *fakeNotes
	ledger *Ledger
	offset time.Duration // of the machine's clock
	out    map[*mta.Delivery]flown
	sent   map[seen]int
	plan   Plan
}

type seen struct {
	provider string
	day      day
}

type flown struct {
	seen  seen
	route *mta.Route
}

func (m *model) now() time.Time { return time.Now().Add(m.offset) }

// start begins a process.
func (m *model) start() {
	s := settings(m.plan)
	s.Streams["codes"] = First
	m.ledger = New(Options{Notes: m.notes, Settings: s, Now: m.now})
	if err := m.ledger.Start(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// kill ends it: the write under way is done, or not, and what is in flight may
// have arrived.
func (m *model) kill() {
	old := m.notes
	old.mu.Lock()
	old.fail = errDisk
	old.mu.Unlock()
	m.ledger.Stop(m.t.Context())
	m.notes = old.crash()
	clear(m.out)
	m.start()
}

func (m *model) step() {
	switch x := m.random.IntN(100); {
	case x < 55:
		m.take()
	case x < 75:
		m.learn()
	case x < 80:
		synctest.Wait()
	case x < 90:
		time.Sleep(time.Duration(m.random.IntN(7200)) * time.Second)
	case x < 92:
		time.Sleep(time.Duration(m.random.IntN(30)) * time.Hour)
	case x < 94: // the clock is set back or forth
		m.offset += time.Duration(m.random.IntN(73)-36) * time.Hour
	case x < 96:
		m.notes.mu.Lock()
		if m.notes.fail == nil {
			m.notes.fail = errDisk
		} else {
			m.notes.fail = nil
		}
		m.notes.mu.Unlock()
	case x < 99:
		m.kill()
	default: // a restart in order
		clear(m.out)
		m.ledger.Stop(m.t.Context())
		m.start()
	}
}

func (m *model) take() {
	provider := []string{"google", ""}[m.random.IntN(2)]
	stream := []string{"codes", "news"}[m.random.IntN(2)]
	r, now := route(provider, newIP), m.now()
	for range 1 + m.random.IntN(20) {
		d := delivery(stream, 1+m.random.IntN(2)*m.random.IntN(4))
		if _, ok := m.ledger.Take(r, d, now); !ok {
			return
		}
		key := seen{provider, dayOf(now)}
		m.out[d] = flown{key, r}
		if i := int(key.day - dayOf(midnight)); i < len(m.plan.Days) {
			m.sent[key] += len(d.Recipients)
			if m.sent[key] > m.plan.Days[max(0, i)] || i < 0 {
				m.t.Fatalf("%d recipients at %q on %s", m.sent[key], provider, key.day)
			}
		}
	}
}

func (m *model) learn() {
	for d, f := range m.out {
		result := accepted
		switch m.random.IntN(8) {
		case 0:
			result = replied(451, mta.ClassTemporary, "greylisted")
			m.sent[f.seen] -= len(d.Recipients)
		case 1:
			result.Class = mta.ClassUncertain
		case 2:
			if m.random.IntN(10) == 0 {
				result = replied(550, mta.ClassPermanent, "ip_blocked")
				m.sent[f.seen] -= len(d.Recipients)
			}
		}
		delete(m.out, d)
		m.ledger.Learn(f.route, d, attempt(d, result))
		if m.random.IntN(3) == 0 {
			return
		}
	}
}

// TestCeilingsHoldWhateverHappens: days of sending with crashes, disks that
// fail, bad signs, and a clock that is set back and forth.
func TestCeilingsHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	used := 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{
					t: t, random: rand.New(rand.NewPCG(seed, 7)), notes: newNotes(),
					out: map[*mta.Delivery]flown{}, sent: map[seen]int{}, plan: plan(3, 10, 40, 90, 200, 300, 500, 700, 900, 1000),
				}
				m.start()
				defer func() { m.ledger.Stop(t.Context()) }()
				for range 600 {
					m.step()
				}
				for _, n := range m.sent {
					used += n
				}
			})
		})
	}
	if used < 10_000 {
		t.Errorf("only %d were sent in all: the test tests nothing", used)
	}
}

// TestClockSetBack: a day that is remembered goes on with its count, any other
// in the past has nothing until it ends, and the next day is a new one.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, ahead := newNotes(), 20*hoursADay
		s := settings(plan(make([]int, 40)...))
		for i := range s.Sources[0].Plan.Days {
			s.Sources[0].Plan.Days[i] = 5
		}
		r := route("google", newIP)
		begin := func() *Ledger {
			l := New(Options{Notes: n, Settings: s, Now: func() time.Time { return time.Now().Add(ahead) }})
			if err := l.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return l
		}
		all := func(l *Ledger) (got int) {
			for got < 100 {
				again, ok := l.Take(r, delivery("default", 1), l.now())
				if ok {
					got++
				} else if again.Sub(l.now()) > time.Second {
					break
				}
				synctest.Wait()
			}
			return got
		}
		l := begin()
		for _, step := range []struct {
			days int // of the clock, forth or back
			want int
			why  string
		}{
			{0, 5, "day 20"}, {2, 5, "day 22"}, {-2, 0, "day 20 again"}, {1, 5, "day 21, which is new"}, {1, 0, "day 22 again"},
			{-4, 0, "day 18, before everything"}, {1, 5, "day 19: a day after one in the past"}, {20, 5, "day 39"}, {-9, 0, "day 30, not remembered"},
			{0, 0, "still"}, {1, 5, "day 31"},
		} {
			ahead += time.Duration(step.days) * hoursADay
			if got := all(l); got != step.want {
				t.Errorf("%s: %d, want %d", step.why, got, step.want)
			}
			l.Stop(t.Context()) // and the same over a restart
			l = begin()
			if got := all(l); got != 0 {
				t.Errorf("%s: %d more after a restart", step.why, got)
			}
		}
		l.Stop(t.Context())
	})
}
