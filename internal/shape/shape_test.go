package shape

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden traces anew")

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestTraces runs the scripts in testdata: "ok N", "fail N text", "none",
// "crowd N OPEN text", "hurry N text", "go N", "wait D", "limit N"; each prints the state it leaves behind. The first line
// is the configuration.
func TestTraces(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".script"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(name, ".script") + ".golden"
			got := play(t, string(script))
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	cfg := Config{}
	now := t0
	var c *Controller
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			fmt.Fprintln(&out, line)
			continue
		}
		f := strings.Fields(line)
		n := 1
		if len(f) > 1 {
			if v, err := strconv.Atoi(f[1]); err == nil {
				n = v
			}
		}
		if c == nil {
			c = New(cfg)
		}
		for range n {
			switch f[0] {
			case "ok":
				c.Success(now)
			case "fail":
				c.Failure(now, strings.Join(f[2:], " "))
			case "crowd":
				open, err := strconv.Atoi(f[2])
				if err != nil {
					t.Fatal(err)
				}
				c.Crowded(now, open, strings.Join(f[3:], " "))
			case "hurry":
				c.Hurried(now, strings.Join(f[2:], " "))
			case "go": // as a queue with mail does, each message taking a tenth of a second
				ok, again := c.Take(now)
				for !ok {
					now = again
					ok, again = c.Take(now)
				}
				now = now.Add(100 * time.Millisecond)
				c.Success(now)
			case "none":
				c.Neutral(now)
			case "wait":
				d, err := time.ParseDuration(f[1])
				if err != nil {
					t.Fatal(err)
				}
				now = now.Add(d)
			}
		}
		if f[0] == "limit" {
			cfg.Limit = n
			c.Configure(cfg)
		}
		fmt.Fprintf(&out, "%-28s %s allowed=%d %s\n", line, now.Format("15:04:05"), c.Allowed(now), c.Explain(now))
	}
	return out.String()
}

// Eighteen successes lift a healthy site from 2 to 20: four rounds.
func TestRampReachesTwentyInEighteenSuccesses(t *testing.T) {
	t.Parallel()
	c := New(Config{})
	for range 18 {
		c.Success(t0)
	}
	if got := c.Allowed(t0); got != 20 {
		t.Fatalf("allowed %d", got)
	}
}

func TestTrap40DeadSiteIsProbedByOneThenRamps(t *testing.T) {
	t.Parallel()
	c := New(Config{})
	now := t0
	c.Failure(now, "connection refused")
	c.Failure(now, "connection refused")
	for _, wait := range []time.Duration{5, 10, 20, 40, 80, 160, 270, 270} {
		if c.Allowed(now) != 0 || !c.Dead() {
			t.Fatal("a dead site gets no connection")
		}
		if got := c.ProbeAt().Sub(now); got != wait*time.Second {
			t.Fatalf("probe after %v, want %vs", got, int(wait))
		}
		now = c.ProbeAt()
		if c.Allowed(now) != 1 {
			t.Fatal("one probe")
		}
		c.Failure(now, "connection refused")
	}
	c.Success(now)
	if c.Allowed(now) != 2 {
		t.Fatalf("after the revival: %d", c.Allowed(now))
	}
	for range 2 {
		c.Success(now)
	}
	if c.Allowed(now) != 4 {
		t.Fatalf("ramp: %d", c.Allowed(now))
	}
}

// longest is the time between two messages at the slowest pace, and its slack.
const longest = time.Duration(float64(time.Second)/slowest*1.5) + time.Second

// Whatever happened, mail goes on: within bounded time a message may go, and
// when it goes well, and all that follow, the pace grows again.
func TestPaceNeverSticks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := New(Config{})
		now := t0
		step := func() bool { // as a queue with mail: take when told
			ok, again := c.Take(now)
			if !ok {
				now = again
			}
			return ok
		}
		for range rapid.IntRange(1, 300).Draw(t, "events") {
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0:
				c.Hurried(now, "hurried")
			case 1, 2:
				if step() {
					c.Success(now)
				}
			case 3:
				step() // and its outcome is lost
			case 4:
				c.Neutral(now)
			case 5:
				now = now.Add(time.Duration(rapid.Int64Range(-1e11, 1e12).Draw(t, "step")))
			}
		}
		start, was, taken := now, c.Pace(), 0
		for range 20_000 {
			if step() {
				now = now.Add(50 * time.Millisecond)
				c.Success(now)
				taken++
			}
		}
		if p := c.Pace(); taken < 5000 || p != 0 && p <= was {
			t.Fatalf("from %v the pace is %v after %d messages in %v", was, p, taken, now.Sub(start))
		}
	})
}

// Random results never break the bounds, and a site is never dead without a
// probe time.
func TestBoundsHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Limit: rapid.IntRange(-1, 50).Draw(t, "limit"), Start: rapid.IntRange(-1, 60).Draw(t, "start"),
			BackoffMin: time.Duration(rapid.IntRange(-1, 1e9).Draw(t, "min")), BackoffMax: time.Duration(rapid.IntRange(-1, 1e9).Draw(t, "max"))}
		c := New(cfg)
		now := t0
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			switch rapid.IntRange(0, 7).Draw(t, "event") {
			case 0, 1:
				c.Success(now)
			case 2:
				c.Failure(now, "no")
			case 3:
				c.Neutral(now)
			case 4:
				now = now.Add(time.Duration(rapid.Int64Range(-1e9, 1e11).Draw(t, "step")))
			case 5:
				c.Crowded(now, rapid.IntRange(-1, 60).Draw(t, "open"), "crowded")
			case 6:
				c.Hurried(now, "hurried")
			case 7:
				if ok, again := c.Take(now); !ok && (!again.After(now) || again.Sub(now) > longPause+time.Minute+longest) {
					t.Fatalf("again after %v", again.Sub(now))
				}
			}
			if p := c.Pace(); p < 0 || p != p || p > 0 && p < under*slowest*0.99 {
				t.Fatalf("pace %v", p)
			}
			a := c.Allowed(now)
			if a < 0 || a > cfg.filled().Limit {
				t.Fatalf("allowed %d of %d", a, cfg.filled().Limit)
			}
			if !c.Dead() && a < 1 {
				t.Fatal("alive without a connection")
			}
			if c.Dead() == c.ProbeAt().IsZero() {
				t.Fatal("dead without a probe, or the reverse")
			}
			if c.Explain(now) == "" {
				t.Fatal("no explanation")
			}
		}
	})
}

// paced gives a controller with a pace, by two complaints.
func paced() (c *Controller, now time.Time) {
	c, now = New(Config{}), t0
	for range 2 {
		for range 40 {
			if ok, again := c.Take(now); !ok {
				now = again
				continue
			}
			now = now.Add(100 * time.Millisecond)
			c.Success(now)
		}
		c.Hurried(now, "slow down")
	}
	_, now = c.Take(now)
	c.Take(now)
	c.Success(now)
	return c, now
}

// Who sends less than the pace learns nothing of faster ones.
func TestPaceGrowsOnlyWhileItBinds(t *testing.T) {
	t.Parallel()
	c, now := paced()
	was := c.Pace()
	for range 3000 {
		now = now.Add(time.Second)
		if ok, _ := c.Take(now); !ok {
			t.Fatal("one a second")
		}
		c.Success(now)
	}
	if c.Pace() != was || was < 2 {
		t.Errorf("%v, then %v", was, c.Pace())
	}
}

// Time without mail is not time in which a site took little.
func TestIdleTimeIsNotMeasured(t *testing.T) {
	t.Parallel()
	c, now := paced()
	was := c.Pace()
	now = now.Add(3 * time.Hour)
	for n := 0; n < 30; {
		ok, again := c.Take(now)
		if !ok {
			now = again
			continue
		}
		c.Success(now)
		n++
	}
	c.Hurried(now, "slow down")
	if c.Pace() < was/2 {
		t.Errorf("%v, then %v", was, c.Pace())
	}
}

// Tries that gain nothing become rare.
func TestHoldGrows(t *testing.T) {
	t.Parallel()
	s := newSim(&tokens{rate: steady(20), burst: 20}, 50*time.Millisecond, 3)
	s.run(2 * time.Hour)
	early, late := sum(s.minutes[5:20]), sum(s.minutes[100:115])
	if late.refused > early.refused || late.refused > 40 || s.c.pace.hold < 2*firstHold {
		t.Errorf("%d refused in a quarter of an hour, later %d; hold %v", early.refused, late.refused, s.c.pace.hold)
	}
}
