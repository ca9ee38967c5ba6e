package shape

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A sender with more mail than it can send, in virtual time, against receivers
// with limits that it is not told: the controller is fed as the queue feeds it.

// receiver has limits.
type receiver interface {
	connect(now time.Time, open int) bool // open: connections there are
	message(now time.Time) bool
	ideal(from, to time.Time) float64 // messages it takes in that time; 0: no limit of its own
}

// anything takes everything.
type anything struct{}

func (anything) connect(time.Time, int) bool  { return true }
func (anything) message(time.Time) bool       { return true }
func (anything) ideal(_, _ time.Time) float64 { return 0 }

// capped takes so many connections.
type capped struct {
	anything
	most int
}

func (r capped) connect(_ time.Time, open int) bool { return open < r.most }

// tokens is a bucket of so many a second with a burst; rate may move.
type tokens struct {
	anything
	rate  func(time.Time) float64
	burst float64
	left  float64
	at    time.Time
}

func (r *tokens) message(now time.Time) bool {
	if r.at.IsZero() {
		r.left = r.burst
	} else {
		r.left = min(r.burst, r.left+now.Sub(r.at).Seconds()*r.rate(now))
	}
	r.at = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}

func (r *tokens) ideal(from, to time.Time) float64 {
	n := 0.0
	for t := from; t.Before(to); t = t.Add(time.Second) {
		n += r.rate(t)
	}
	return n
}

// sliding takes n in any stretch of per; by the clock when fixed.
type sliding struct {
	anything
	n     int
	per   time.Duration
	fixed bool
	taken []time.Time
}

func (r *sliding) message(now time.Time) bool {
	from := now.Add(-r.per)
	if r.fixed {
		from = now.Truncate(r.per).Add(-1)
	}
	for len(r.taken) > 0 && !r.taken[0].After(from) {
		r.taken = r.taken[1:]
	}
	if len(r.taken) >= r.n {
		return false
	}
	r.taken = append(r.taken, now)
	return true
}

func (r *sliding) ideal(from, to time.Time) float64 {
	return float64(r.n) * float64(to.Sub(from)) / float64(r.per)
}

// moody refuses a share of everything, whatever comes.
type moody struct {
	anything
	share float64
	rng   *rand.Rand
}

func (r moody) connect(time.Time, int) bool { return r.rng.Float64() >= r.share }
func (r moody) message(time.Time) bool      { return r.rng.Float64() >= r.share }

type simEvent struct {
	at time.Time
	do func()
	n  int
}
type simHeap []simEvent

func (h simHeap) Len() int { return len(h) }
func (h simHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].n < h[j].n
}
func (h simHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *simHeap) Push(x any)   { *h = append(*h, x.(simEvent)) }
func (h *simHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// tally is what happened in a minute.
type tally struct{ taken, refused, crowded, used int }

// sim is the sender.
type sim struct {
	now     time.Time
	events  simHeap
	seq     int
	c       *Controller
	r       receiver
	rng     *rand.Rand
	latency time.Duration
	each    int // messages a connection

	workers int
	open    int
	idle    []int // messages that each has carried
	wake    time.Time
	minutes []tally
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.events, simEvent{s.now.Add(d), do, s.seq})
}

func (s *sim) minute() *tally {
	m := int(s.now.Sub(t0) / time.Minute)
	for len(s.minutes) <= m {
		s.minutes = append(s.minutes, tally{})
	}
	return &s.minutes[m]
}

func (s *sim) takes() time.Duration {
	return s.latency/2 + time.Duration(s.rng.Int64N(int64(s.latency)))
}

// dispatch is the queue's.
func (s *sim) dispatch() {
	for {
		allowed := s.c.Allowed(s.now)
		if s.workers > allowed && len(s.idle) > 0 {
			s.idle = s.idle[:len(s.idle)-1]
			s.workers--
			s.open--
			continue
		}
		if len(s.idle) > 0 {
			ok, again := s.c.Take(s.now)
			if !ok {
				s.rouse(again)
				return
			}
			n := s.idle[len(s.idle)-1]
			s.idle = s.idle[:len(s.idle)-1]
			s.carry(n)
			continue
		}
		if s.workers >= allowed {
			if p := s.c.ProbeAt(); !p.IsZero() {
				s.rouse(p)
			}
			return
		}
		s.workers++
		s.after(s.takes(), s.arrive)
	}
}

func (s *sim) rouse(at time.Time) {
	if s.wake.After(s.now) && !s.wake.After(at) {
		return
	}
	s.wake = at
	s.after(max(at.Sub(s.now), time.Millisecond), s.dispatch)
}

func (s *sim) arrive() {
	if !s.r.connect(s.now, s.open) {
		s.minute().crowded++
		s.workers--
		s.c.Crowded(s.now, s.workers, "421 too many connections")
		s.dispatch()
		return
	}
	s.open++
	s.idle = append(s.idle, 0)
	s.dispatch()
}

func (s *sim) carry(n int) {
	s.after(s.takes(), func() {
		if s.r.message(s.now) {
			s.minute().taken++
			s.c.Success(s.now)
		} else {
			s.minute().refused++
			s.c.Hurried(s.now, "450 4.7.1 too many messages")
		}
		s.minute().used = max(s.minute().used, s.open)
		if n+1 >= s.each {
			s.open--
			s.workers--
		} else {
			s.idle = append(s.idle, n+1)
		}
		s.dispatch()
	})
}

func (s *sim) run(d time.Duration) {
	end := t0.Add(d)
	s.dispatch()
	for len(s.events) > 0 && s.events[0].at.Before(end) {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.do()
	}
}

func newSim(r receiver, latency time.Duration, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 7))
	if m, ok := r.(moody); ok {
		m.rng = rng
		r = m
	}
	return &sim{now: t0, c: New(Config{}), r: r, rng: rng, latency: latency, each: 100}
}

func sum(list []tally) (t tally) {
	for _, m := range list {
		t.taken += m.taken
		t.refused += m.refused
		t.crowded += m.crowded
	}
	return t
}

func (t tally) share() float64 {
	return float64(t.refused+t.crowded) / max(float64(t.taken+t.refused+t.crowded), 1)
}

func steady(rate float64) func(time.Time) float64 { return func(time.Time) float64 { return rate } }

func or(x, otherwise float64) float64 {
	if x > 0 {
		return x
	}
	return otherwise
}

var hiddenSeeds = flag.Int("hidden", 2, "how many seeds of each hidden limit")

// TestHiddenLimits holds the law to its goal.
func TestHiddenLimits(t *testing.T) {
	t.Parallel()
	const learn, play = 5, 15 // minutes
	for _, c := range []struct {
		name    string
		make    func() receiver
		latency time.Duration
		free    float64 // messages a second without a limit of the rate
		least   float64 // share of the limit; 0: 0.9
	}{
		{"bucket of 10 a second, deep", func() receiver { return &tokens{rate: steady(10), burst: 600} }, 100 * time.Millisecond, 0, 0},
		{"bucket of 10 a second, shallow", func() receiver { return &tokens{rate: steady(10), burst: 5} }, 100 * time.Millisecond, 0, 0},
		{"bucket of 100 a second", func() receiver { return &tokens{rate: steady(100), burst: 100} }, 50 * time.Millisecond, 0, 0},
		{"bucket of one a second", func() receiver { return &tokens{rate: steady(1), burst: 60} }, 200 * time.Millisecond, 0, 0},
		{"600 in any minute", func() receiver { return &sliding{n: 600, per: time.Minute} }, 50 * time.Millisecond, 0, 0},
		{"300 in any minute", func() receiver { return &sliding{n: 300, per: time.Minute} }, 100 * time.Millisecond, 0, 0},
		{"120 by the clock's minute", func() receiver { return &sliding{n: 120, per: time.Minute, fixed: true} }, 100 * time.Millisecond, 0, 0},
		{"bucket of 5 a second", func() receiver { return &tokens{rate: steady(5), burst: 100} }, 200 * time.Millisecond, 0, 0},
		{"bucket of 4 a second, shallow", func() receiver { return &tokens{rate: steady(4), burst: 10} }, 100 * time.Millisecond, 0, 0},
		{"60 in any minute", func() receiver { return &sliding{n: 60, per: time.Minute} }, 300 * time.Millisecond, 0, 0},
		{"20 in any second", func() receiver { return &sliding{n: 20, per: time.Second} }, 30 * time.Millisecond, 0, 0},
		{"3000 by the clock's minute", func() receiver { return &sliding{n: 3000, per: time.Minute, fixed: true} }, 30 * time.Millisecond, 0, 0},
		{"five connections", func() receiver { return capped{most: 5} }, 100 * time.Millisecond, 5 / 0.1, 0},
		{"one connection", func() receiver { return capped{most: 1} }, 100 * time.Millisecond, 1 / 0.1, 0},
		{"13 connections", func() receiver { return capped{most: 13} }, 300 * time.Millisecond, 13 / 0.3, 0},
		{"no limit", func() receiver { return anything{} }, 50 * time.Millisecond, 20 / 0.05, 0},
		{"one in a hundred refused", func() receiver { return moody{share: 0.01} }, 100 * time.Millisecond, 20 / 0.1, 0.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(*hiddenSeeds) {
				s := newSim(c.make(), c.latency, seed)
				s.run((learn + play) * time.Minute)
				got := sum(s.minutes[learn:])
				ideal := s.r.ideal(t0.Add(learn*time.Minute), t0.Add((learn+play)*time.Minute))
				if c.free > 0 {
					ideal = c.free * play * 60
				}
				used, bad := float64(got.taken)/ideal, got.share()
				line := fmt.Sprintf("seed %d: %.1f %% of the limit, %.2f %% refused (%d messages, %d connections); %s", seed, 100*used, 100*bad, got.refused, got.crowded, s.c.Explain(s.now))
				if seed == 0 {
					t.Log(line)
				}
				if used < or(c.least, 0.9) || bad >= 0.02 {
					t.Error(line)
					for i, m := range s.minutes[:min(len(s.minutes), 40)] {
						t.Logf("minute %d: %+v", i, m)
					}
				}
			}
		})
	}
}

// A limit that falls is found again within five minutes, one that rises within
// eight.
func TestMovingLimit(t *testing.T) {
	t.Parallel()
	rate := func(at time.Time) float64 {
		switch m := at.Sub(t0).Minutes(); {
		case m < 15:
			return 40
		case m < 30:
			return 10
		default:
			return 60
		}
	}
	for seed := range uint64(*hiddenSeeds) {
		s := newSim(&tokens{rate: rate, burst: 100}, 100*time.Millisecond, seed)
		s.run(50 * time.Minute)
		for _, span := range [][2]int{{5, 15}, {20, 30}, {38, 50}} {
			got := sum(s.minutes[span[0]:span[1]])
			ideal := s.r.ideal(t0.Add(time.Duration(span[0])*time.Minute), t0.Add(time.Duration(span[1])*time.Minute))
			used := float64(got.taken) / ideal
			line := fmt.Sprintf("seed %d, minutes %v: %.1f %% of the limit, %.2f %% refused", seed, span, 100*used, 100*got.share())
			if seed == 0 {
				t.Log(line)
			}
			if used < 0.9 || got.share() >= 0.02 {
				t.Error(line)
			}
		}
	}
}

// both limits connections and messages.
type both struct {
	tokens
	most int
}

func (r *both) connect(_ time.Time, open int) bool { return open < r.most }

func TestBothLimits(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*hiddenSeeds) {
		s := newSim(&both{tokens{rate: steady(20), burst: 40}, 5}, 200*time.Millisecond, seed)
		s.run(35 * time.Minute)
		got := sum(s.minutes[5:])
		if used := float64(got.taken) / (20 * 30 * 60); used < 0.9 || got.share() >= 0.02 {
			t.Errorf("seed %d: %.1f %% of the limit, %.2f %% refused", seed, 100*used, 100*got.share())
		}
	}
}

// A receiver that refuses one in a hundred whatever comes is believed for
// longer each time.
func TestMoodsAreRemembered(t *testing.T) {
	t.Parallel()
	s := newSim(moody{share: 0.01}, 200*time.Millisecond, 1)
	s.run(45 * time.Minute)
	if p := s.c.pace; p == nil || p.deafFor < 2*deafTime {
		t.Errorf("after 45 minutes: %s", s.c.Explain(s.now))
	}
	// Until it is the pace after all.
	s.r = &tokens{rate: steady(5), burst: 5}
	s.minutes = nil
	s.run(90 * time.Minute)
	if got := sum(s.minutes[60:]); got.share() >= 0.02 || float64(got.taken) < 0.9*5*60*30 {
		t.Errorf("a limit after moods: %d taken, %.2f %% refused; %s", got.taken, 100*got.share(), s.c.Explain(s.now))
	}
}
