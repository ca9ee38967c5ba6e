package retry

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestNextFollowsTheDefaultIntervals(t *testing.T) {
	t.Parallel()
	want := []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 4 * time.Hour, 4 * time.Hour}
	for _, s := range []Schedule{{}, Default()} {
		for i, w := range want {
			if got := s.Next(i+1, t0, t0, 0, 0.5).Sub(t0); got != w {
				t.Errorf("after attempt %d: %v, want %v", i+1, got, w)
			}
		}
	}
}

func TestNextJitterIsATenthOnExplicitListsToo(t *testing.T) {
	t.Parallel()
	s := Schedule{Intervals: []time.Duration{100 * time.Second}, Expire: time.Hour}
	for _, c := range []struct {
		jitter float64
		want   time.Duration
	}{{0, 90 * time.Second}, {0.5, 100 * time.Second}, {0.9999999999, 110 * time.Second}, {-3, 90 * time.Second}, {7, 110 * time.Second}} {
		if got := s.Next(1, t0, t0, 0, c.jitter).Sub(t0); got.Round(time.Millisecond) != c.want {
			t.Errorf("jitter %v: %v, want %v", c.jitter, got, c.want)
		}
	}
}

func TestNextHonoursHints(t *testing.T) {
	t.Parallel()
	s := Default()
	for _, c := range []struct {
		name   string
		hint   time.Duration
		jitter float64
		want   time.Duration
	}{
		{"shorter than the interval", time.Minute, 0, time.Minute},
		{"jitter only makes it later", time.Minute, 1, 66 * time.Second},
		{"longer than the interval", 40 * time.Minute, 0, 40 * time.Minute},
		{"bounded", 90 * time.Hour, 0, MaxWait},
		{"tiny", time.Nanosecond, 0, minWait},
		{"absurd", math.MaxInt64, 0, MaxWait},
		{"negative is none", -time.Second, 0.5, 5 * time.Minute},
	} {
		if got := s.Next(1, t0, t0, c.hint, c.jitter).Sub(t0); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNextEndsAtTheExpiry(t *testing.T) {
	t.Parallel()
	s := Schedule{Intervals: []time.Duration{time.Hour}, Expire: 90 * time.Minute}
	deadline := t0.Add(90 * time.Minute)
	if got := s.Next(2, t0.Add(time.Hour), t0, 0, 0.5); !got.Equal(deadline) {
		t.Errorf("interval past the expiry: %v, want a last attempt at %v", got, deadline)
	}
	if got := s.Next(2, t0.Add(time.Hour), t0, 3*time.Hour, 0.5); !got.Equal(deadline) {
		t.Errorf("hint past the expiry: %v, want %v", got, deadline)
	}
	if got := s.Next(2, deadline, t0, 0, 0.5); !got.Equal(deadline.Add(time.Hour)) {
		t.Errorf("past the expiry the interval counts alone: %v", got)
	}
	if s.Expired(deadline.Add(-time.Millisecond), t0) || !s.Expired(deadline, t0) {
		t.Error("Expired must turn true exactly at the deadline")
	}
}

func TestNotice(t *testing.T) {
	t.Parallel()
	h := time.Hour
	for _, c := range []struct {
		name string
		s    Schedule
		at   time.Duration
		sent bool
		want bool
	}{
		{"before", Default(), 4*h - 1, false, false},
		{"at", Default(), 4 * h, false, true},
		{"once", Default(), 9 * h, true, false},
		{"equal to expire", Schedule{Expire: 4 * h, DelayNotice: 4 * h}, 9 * h, false, false},
		{"beyond expire", Schedule{Expire: 2 * h, DelayNotice: 4 * h}, 9 * h, false, false},
		{"default beyond a short expire", Schedule{Expire: time.Second}, 9 * h, false, false},
		{"never", Schedule{DelayNotice: -1}, 9 * h, false, false},
		{"a clock that was set back", Default(), -100 * h, false, false},
	} {
		if got := c.s.NoticeDue(t0.Add(c.at), t0, c.sent); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if at, ok := Default().NoticeWaiting(t0, t0); !ok || at.Sub(t0) != 4*h+10*time.Minute {
		t.Errorf("waiting notice at %v", at.Sub(t0))
	}
}

func TestOverdueCountsFromTheStartOfTheProcess(t *testing.T) {
	t.Parallel()
	s := Schedule{Expire: 40 * time.Second}
	if got := s.Overdue(t0, t0).Sub(t0); got != 42*time.Second {
		t.Errorf("%v", got)
	}
	if got := s.Overdue(t0, t0.Add(time.Hour)).Sub(t0); got != time.Hour+2*time.Second {
		t.Errorf("after a long stop: %v", got)
	}
	if got := Default().Overdue(t0, t0).Sub(t0); got != 5*24*time.Hour+10*time.Minute {
		t.Errorf("grace is bounded: %v", got)
	}
}

func TestValidateAndStreams(t *testing.T) {
	t.Parallel()
	if err := (Schedule{Intervals: []time.Duration{time.Second, 0}, Expire: -1}).Validate(); err == nil {
		t.Error("a zero interval and a negative expiry were accepted")
	}
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	all := Schedules{Default: Default(), Streams: map[string]Schedule{"code": {Intervals: []time.Duration{time.Second}}}}
	if all.For("code").Interval(1) != time.Second || all.For("x").Interval(1) != 5*time.Minute || all.Shortest() != time.Second {
		t.Error("streams")
	}
}

// Whatever the clock does, the next attempt lies ahead and nothing overflows.
func TestTrap39NextNeverStandsStillOrOverflows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 4).Draw(t, "n")
		s := Schedule{
			Expire:      time.Duration(rapid.Int64Range(-5, math.MaxInt64/4).Draw(t, "expire")),
			DelayNotice: time.Duration(rapid.Int64Range(-5, math.MaxInt64/4).Draw(t, "notice")),
		}
		for range n {
			s.Intervals = append(s.Intervals, time.Duration(rapid.Int64().Draw(t, "interval")))
		}
		now := t0.Add(time.Duration(rapid.Int64().Draw(t, "now")))
		arrived := t0.Add(time.Duration(rapid.Int64().Draw(t, "arrived")))
		attempts := rapid.Int().Draw(t, "attempts")
		hint := time.Duration(rapid.Int64().Draw(t, "hint"))
		next := s.Next(attempts, now, arrived, hint, rapid.Float64().Draw(t, "jitter"))
		if !next.After(now) {
			t.Fatalf("next %v is not after now %v", next, now)
		}
		if now.Before(s.Deadline(arrived)) && next.After(s.Deadline(arrived).Add(time.Millisecond)) {
			t.Fatalf("next %v is past the expiry %v", next, s.Deadline(arrived))
		}
		if !next.Equal(next.Truncate(time.Millisecond)) {
			t.Fatalf("next %v has more than milliseconds", next)
		}
		s.Overdue(arrived, now)
		s.NoticeDue(now, arrived, false)
	})
}

// The waits of a default schedule grow until the last repeats.
func TestTrap39DelaysGrow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.IntRange(0, math.MaxInt-1).Draw(t, "attempts")
		j := rapid.Float64Range(0, 1).Draw(t, "jitter")
		s := Default()
		if s.Next(a+1, t0, t0, 0, j).Before(s.Next(a, t0, t0, 0, j)) {
			t.Fatal("the wait shrank")
		}
	})
}

func TestShortHintsAreFollowedAFewTimesOnly(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := Default()
	for attempts, want := range map[int]time.Duration{
		1: 5 * time.Second, 3: 5 * time.Second, 4: s.Interval(4), 50: s.Interval(50),
	} {
		if got := s.Next(attempts, now, now, 5*time.Second, 0).Sub(now); got < want*9/10 || got > want*11/10 {
			t.Errorf("after %d attempts: %v, want about %v", attempts, got, want)
		}
	}
	if got := s.Next(9, now, now, MaxWait, 0).Sub(now); got < MaxWait {
		t.Errorf("a long hint is not followed after many attempts: %v", got)
	}
}
