package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/spool/pebble"
	"mailout/internal/warmup"
)

func warmupConfig(t *testing.T, more string) *config.Config {
	t.Helper()
	c, err := config.Parse("f", []byte(`hostname = "mailout.example.com"
[[source]]
ip = "192.0.2.10"
[[source]]
ip = "192.0.2.11"
warmup = { start = "2026-01-10", plan = "slow" }
[[warmup_plan]]
name = "slow"
days = [3, 10]
[[stream]]
name = "codes"
warmup = "first"
[[stream]]
name = "news"
`+more))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWarmupSettings(t *testing.T) {
	t.Parallel()
	s := warmupSettings(warmupConfig(t, ""))
	if len(s.Sources) != 1 || s.Sources[0].IP.String() != "192.0.2.11" || s.Sources[0].Origin != "[[source]] 2 (line 5)" ||
		!s.Sources[0].Start.Equal(time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)) || len(s.Sources[0].Plan.Days) != 2 {
		t.Errorf("%+v", s.Sources)
	}
	if len(s.Streams) != 1 || s.Streams["codes"] != warmup.First {
		t.Errorf("%+v", s.Streams)
	}
}

func TestWarmupChecks(t *testing.T) {
	t.Parallel()
	young := netip.MustParseAddr("192.0.2.11")
	state := warmup.State{Source: young, Provider: "google", Plan: "slow", Origin: "[[source]] 2 (line 5)", Day: 1, Days: 2, Ceiling: 3, Sent: 2}
	other := state
	other.Provider, other.Sent = "other", 0
	stopped := state
	stopped.Stopped = "3 complaints"
	alone := "[[pool]]\nname = \"bulk\"\nsources = [\"192.0.2.11\"]\n"
	for _, c := range []struct {
		name   string
		more   string
		states []warmup.State
		status doctor.Status
		seen   string
	}{
		{"fine", "", []warmup.State{state, other}, doctor.Pass, "google: day 1 of 2, 2 of 3 recipients today; other: day 1 of 2, 0 of 3 recipients today"},
		{"stopped", "", []warmup.State{stopped}, doctor.Warn, "google: day 1 of 2, 2 of 3 recipients today, stopped for today: 3 complaints"},
		{"alone in a pool", alone, []warmup.State{state}, doctor.Warn, "google: day 1 of 2, 2 of 3 recipients today; no source of pool bulk is warm"},
		{"alone beside a router", alone + "[router]\nhost = \"r.example\"\n", []warmup.State{state}, doctor.Pass, "google: day 1 of 2, 2 of 3 recipients today"},
	} {
		got := WarmupChecks(warmupConfig(t, c.more), c.states, true)
		if len(got) != 1 || got[0].ID != "warmup" || got[0].Subject != "192.0.2.11" || got[0].Status != c.status || got[0].Seen != c.seen ||
			(got[0].Fix == nil) != (c.status == doctor.Pass) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if got := WarmupChecks(warmupConfig(t, ""), nil, true); got != nil {
		t.Errorf("of sources that are warm: %+v", got)
	}
	future := warmupConfig(t, "")
	future.Sources[1].Warmup.Start = time.Now().AddDate(1, 0, 0)
	if got := WarmupChecks(future, nil, false); len(got) != 1 || got[0].Seen != "other: not begun" {
		t.Errorf("without a daemon: %+v", got)
	}
}

// TestComplaintsReachTheLedger: under the provider of the host that took the
// mail, unless that was a router.
func TestComplaintsReachTheLedger(t *testing.T) {
	t.Parallel()
	c := warmupConfig(t, "")
	c.Sources[1].Warmup.Start = time.Now()
	c.Warmups[0].Days = []int{100}
	store, err := pebble.Open(t.Context(), pebble.Options{Dir: t.TempDir(), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{warmup: warmup.New(warmup.Options{Notes: store, Settings: warmupSettings(c)})}
	if err := d.warmup.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(d.warmup.Stop(t.Context()), store.Close()); err != nil {
			t.Error(err)
		}
	}()
	young := c.Sources[1].IP
	stopped := func() bool { s, ok := d.warmup.State(young, "google"); return ok && s.Stopped != "" }
	for range 3 {
		d.complained(&mta.Record{Source: young, Host: "gmail-smtp-in.l.google.com", Site: "router:gmail-smtp-in.l.google.com"})
		d.complained(&mta.Record{Source: c.Sources[0].IP, Host: "gmail-smtp-in.l.google.com"})
	}
	if stopped() {
		t.Error("stopped by complaints about other mail")
	}
	for range 2 {
		d.complained(&mta.Record{Source: young, Host: "gmail-smtp-in.l.google.com", Site: "gmail-smtp-in.l.google.com"})
	}
	if !stopped() {
		t.Error("not stopped")
	}
}

func TestExplainedWarmup(t *testing.T) {
	t.Parallel()
	c := warmupConfig(t, "")
	c.Sources[1].Warmup.Start = time.Now()
	e := explainer{config: c}
	got := e.warmups(&mta.Route{Provider: "google"})
	if len(got) != 1 || got[0].Name != "warmup" || got[0].Value != 3 ||
		!strings.Contains(got[0].Origin, "192.0.2.11 is on day 1 of 2 of its warm-up at google") || !strings.HasSuffix(got[0].Origin, "known to the daemon alone") {
		t.Errorf("%+v", got)
	}
	if got := e.warmups(&mta.Route{Router: "r.example"}); got != nil {
		t.Errorf("by a router: %+v", got)
	}
}
