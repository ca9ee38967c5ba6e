package shape

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBurstIsAFiftiethAndAMinutesWorthAtMost(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for _, c := range []struct {
		count int
		per   time.Duration
		burst int
	}{
		{1, time.Second, 1}, {49, time.Second, 1}, {100, time.Second, 2}, {1000, time.Hour, 16},
		{60, time.Minute, 1}, {6000, time.Minute, 120}, {1_000_000, day, 694}, {1000, day, 1},
		{0, time.Second, 1}, {-5, 0, 1}, {1 << 40, time.Nanosecond, 1 << 40 / 50},
	} {
		b := NewBucket(c.count, c.per, t0)
		if got := b.Burst(); got != c.burst {
			t.Errorf("%d in %v: burst %d, want %d", c.count, c.per, got, c.burst)
		}
		if c.burst > 1000 {
			continue
		}
		for n := 0; ; n++ {
			if ok, again := b.Take(t0); !ok {
				if n != c.burst || !again.After(t0) {
					t.Errorf("%d in %v: %d at once, then again at %v", c.count, c.per, n, again)
				}
				break
			}
		}
	}
}

// Whoever asks at any moments never gets more than count in a stretch of per;
// whoever always comes when told gets at least 98 % of it.
func TestNeverMoreThanCountInAnyStretch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 2000).Draw(t, "count")
		per := time.Duration(rapid.Int64Range(int64(10*time.Millisecond), int64(48*time.Hour)).Draw(t, "per"))
		greedy := rapid.Bool().Draw(t, "greedy")
		b := NewBucket(count, per, t0)
		now := t0
		var took []time.Time
		for range 3*count + 20 {
			ok, again := b.Take(now)
			switch {
			case ok:
				took = append(took, now)
				if n := len(took); n > count && now.Sub(took[n-1-count]) < per {
					t.Fatalf("%d in %v", count+1, now.Sub(took[n-1-count]))
				}
			case !again.After(now):
				t.Fatal("refused without a later moment")
			case greedy:
				now = again
			default:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(per)).Draw(t, "wait")))
			}
			if ok && !greedy && rapid.IntRange(0, 5).Draw(t, "pause") == 0 {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(per)/4).Draw(t, "pausing")))
			}
		}
		if n := len(took); greedy && n > count {
			if got := float64(n-1) / (float64(took[n-1].Sub(t0)) / float64(per)); got < 0.98*float64(count) {
				t.Fatalf("%.2f of %d", got, count)
			}
		}
	})
}

func TestBucketIsFullAgainAfterPer(t *testing.T) {
	t.Parallel()
	b := NewBucket(100, time.Second, t0)
	if !b.Full(t0) {
		t.Fatal("a new bucket is full")
	}
	b.Take(t0)
	if b.Full(t0) || !b.Full(t0.Add(time.Second/99+1)) {
		t.Fatal("full means: what was taken is filled in again")
	}
}

func TestConfigureKeepsWhatWasTaken(t *testing.T) {
	t.Parallel()
	b := NewBucket(10, time.Second, t0)
	b.Take(t0)
	b.Configure(1, time.Hour, t0)
	ok, again := b.Take(t0)
	if ok || again.Sub(t0) != time.Hour {
		t.Fatalf("%v, again after %v", ok, again.Sub(t0))
	}
	b.Configure(1000, time.Second, t0)
	if ok, _ := b.Take(t0); !ok { // a burst of 20, of which one was taken
		t.Fatal("a wider bucket")
	}
}

// A clock that goes back by a day must not close the bucket for a day.
func TestBucketSurvivesClockJumps(t *testing.T) {
	t.Parallel()
	b := NewBucket(1, time.Minute, t0)
	b.Take(t0)
	back := t0.Add(-24 * time.Hour)
	if ok, again := b.Take(back); ok || again.Sub(back) > time.Minute {
		t.Fatalf("%v, again after %v", ok, again.Sub(back))
	}
	if ok, _ := b.Take(back.Add(time.Minute)); !ok {
		t.Fatal("a minute later")
	}
}
