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
// "wait D", "limit N"; each prints the state it leaves behind. The first line
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
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0, 1:
				c.Success(now)
			case 2:
				c.Failure(now, "no")
			case 3:
				c.Neutral(now)
			case 4:
				now = now.Add(time.Duration(rapid.Int64Range(-1e9, 1e11).Draw(t, "step")))
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
