package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a watch whose examinations are scripted, and what it told.
type watched struct {
	*Watch
	mu     sync.Mutex
	report func(only []string) *Report // of the next examination
	took   time.Duration
	log    []string // a line an examination: time since the start, what was asked
	told   []*Examined
}

func newWatched(s WatchSettings) *watched {
	w := &watched{report: func([]string) *Report { return &Report{} }}
	start := time.Now()
	w.Watch = NewWatch(WatchOptions{Observer: w, Settings: s, Rand: func() float64 { return 0 }})
	w.examine = func(ctx context.Context, _ Identity, _ World, o Options) *Report {
		w.mu.Lock()
		what := "all"
		switch len(o.Only) {
		case 0:
		case len(guardIDs):
			what = "guard"
		default:
			what = "identity"
			if slices.Contains(o.Only, listsID) {
				what = "identity and lists"
			}
		}
		w.log = append(w.log, fmt.Sprintf("%s %s", time.Since(start), what))
		report, took := w.report, w.took
		w.mu.Unlock()
		if took > 0 {
			t := time.NewTimer(took)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		}
		return report(o.Only)
	}
	return w
}

func (w *watched) Examined(e *Examined) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e)
}

func (w *watched) says(report func(only []string) *Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
}

// checks gives a report of "id subject status" texts, of those asked for.
func checks(texts ...string) func([]string) *Report {
	return func(only []string) *Report {
		r := &Report{}
		for _, t := range texts {
			f := strings.Fields(t)
			if only == nil || slices.Contains(only, f[0]) {
				r.Checks = append(r.Checks, Check{ID: f[0], Subject: f[1], Status: Status(f[2])})
			}
		}
		r.Status = status(r.Checks)
		return r
	}
}

// changesTold are all changes so far, one a line.
func (w *watched) changesTold() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, e := range w.told {
		for _, c := range e.Changes {
			lines = append(lines, fmt.Sprintf("%s %s %s→%s", c.Check.ID, c.Check.Subject, c.Was, c.Check.Status))
		}
	}
	return strings.Join(lines, "; ")
}

func (w *watched) asked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.log, ", ")
}

func TestWatchRepeatsTheIdentityOftenAndTheListsSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: 15 * time.Minute, ListsInterval: time.Hour})
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Minute) // virtual
		synctest.Wait()
		w.Stop()
		if got := w.asked(); got != "0s all, 15m0s identity, 30m0s identity, 45m0s identity, 1h0m0s all" {
			t.Error(got)
		}
	})
}

// TestWatchKeepsToItsInterval: neither jitter nor a slow examination makes a
// change wait for longer than an interval; nor does it ask without a pause.
func TestWatchKeepsToItsInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: time.Minute})
		w.opts.Rand = func() float64 { return 0.999 }
		w.took = 20 * time.Second
		w.Start(t.Context())
		time.Sleep(2*time.Minute + time.Second)
		w.Stop()
		if got := w.asked(); !strings.HasPrefix(got, "0s all, 54.") || strings.Count(got, ",") != 2 {
			t.Error(got)
		}
		w = newWatched(WatchSettings{Interval: time.Second})
		w.took = 10 * time.Second
		w.Start(t.Context())
		time.Sleep(11 * time.Second)
		w.Stop()
		if got := w.asked(); got != "0s all, 10.1s identity" {
			t.Error(got)
		}
	})
}

func TestWatchTellsChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: time.Minute, ListsInterval: time.Hour})
		w.says(checks("address.record h pass", "ptr.exists a fail", "blocklist a warn", "dmarc.record d skip"))
		w.Start(t.Context())
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := w.changesTold(); got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		first := "blocklist a →warn"
		first = "ptr.exists a →fail; " + first
		expect(first)
		time.Sleep(time.Minute)
		expect(first) // nothing new, and the list still stands though it was not asked
		if last := w.Last(); len(last.Report.Checks) != 4 || last.Report.Status != Fail || !last.Lists.Before(last.At) {
			t.Errorf("%+v", last)
		}
		w.says(checks("address.record h fail", "blocklist a warn"))
		time.Sleep(time.Minute)
		expect(first + "; address.record h pass→fail; ptr.exists a fail→skip")
		w.Stop()
	})
}

// TestWatchTellsAnotherFix: the address changed again while the record was
// wrong already.
func TestWatchTellsAnotherFix(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: time.Minute})
		fix := func(record string) func([]string) *Report {
			return func([]string) *Report {
				return &Report{Checks: []Check{{ID: "address.record", Subject: "h", Status: Fail, Fix: &Fix{Record: record}}}}
			}
		}
		w.says(fix("h. IN A 203.0.113.5"))
		w.Start(t.Context())
		time.Sleep(90 * time.Second)
		w.says(fix("h. IN A 203.0.113.6"))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.Stop()
		if got := w.changesTold(); got != "address.record h →fail; address.record h fail→fail" {
			t.Error(got)
		}
	})
}

func TestWatchExaminesOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: 15 * time.Minute})
		w.took = 5 * time.Second
		w.Start(t.Context())
		time.Sleep(time.Minute)
		if e, err := w.Now(t.Context()); err != nil || time.Since(e.At) != 5*time.Second || w.Last() != e {
			t.Errorf("%+v, %v", e, err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Now(gone); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if got := w.asked(); !strings.HasPrefix(got, "0s all, 1m0s all") {
			t.Error(got)
		}
		w.Stop()
		if _, err := w.Now(t.Context()); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

// TestWatchFollowsTheConfiguration: another identity at once, another interval
// from then on.
func TestWatchFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: time.Hour})
		w.Start(t.Context())
		time.Sleep(10 * time.Minute)
		w.Reconfigure(WatchSettings{Interval: 20 * time.Minute, ListsInterval: time.Hour})
		time.Sleep(11 * time.Minute)
		w.Reconfigure(WatchSettings{Identity: Identity{Hostname: "other.example"}, Interval: 20 * time.Minute})
		synctest.Wait()
		w.Stop()
		if got := w.asked(); got != "0s all, 20m0s identity, 21m0s all" {
			t.Error(got)
		}
	})
}

// TestWatchLooksSoonerInDoubt: once somebody says that our address is another,
// but gently.
func TestWatchLooksSoonerInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{Interval: 15 * time.Minute})
		w.Start(t.Context())
		time.Sleep(time.Minute)
		for range 100 {
			w.Doubt()
		}
		time.Sleep(10 * time.Minute)
		w.Doubt()
		time.Sleep(time.Second)
		synctest.Wait()
		w.Stop()
		if got := w.asked(); got != "0s all, 3m0s guard, 11m0s guard" {
			t.Error(got)
		}
	})
}

// TestWatchEndsInStop: also in the middle of an examination, which then says
// nothing.
func TestWatchEndsInStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(WatchSettings{})
		w.took = time.Hour
		w.Start(t.Context())
		time.Sleep(time.Second)
		before := time.Now()
		w.Stop()
		if time.Since(before) != 0 || w.Last() != nil || len(w.told) != 0 {
			t.Error("it went on")
		}
		if w.Start(t.Context()) == nil {
			t.Error("it can be started twice")
		}
		NewWatch(WatchOptions{Observer: w}).Stop() // never started
	})
}

// TestWatchOfAWorld: the real examination in the fake world, until a record
// vanishes and comes back.
func TestWatchOfAWorld(t *testing.T) {
	t.Parallel()
	f := newWorld(t)
	w := newWatched(WatchSettings{Identity: goodIdentity()})
	w.opts.World = f.world()
	w.examine = func(ctx context.Context, id Identity, world World, o Options) *Report {
		o.Only = []string{"address.record", "ptr"}
		return Examine(ctx, id, world, o)
	}
	w.Start(t.Context())
	defer w.Stop()
	now := func() *Examined {
		t.Helper()
		e, err := w.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := now(); e.Report.Status != Pass || len(e.Changes) != 0 || len(e.Holds) != 0 {
		t.Fatalf("%+v", e.Report)
	}
	f.mu.Lock()
	f.withdraw("mailout.ofc.widget.com", 1)
	f.mu.Unlock()
	e := now()
	if len(e.Holds) != 1 || e.Holds[0].Check.ID != "address.record" {
		t.Fatalf("%+v", e.Holds)
	}
	for _, part := range []string{"identity.guard holds mail from 192.0.2.10: address.record of mailout.ofc.widget.com", "mailout.ofc.widget.com. IN A 192.0.2.10"} {
		if got := e.Holds[0].Reason(); !strings.Contains(got, part) {
			t.Errorf("%q is not in %q", part, got)
		}
	}
	f.mu.Lock()
	f.publish("mailout.ofc.widget.com. 300 A 192.0.2.10")
	f.mu.Unlock()
	if e := now(); len(e.Holds) != 0 || e.Report.Status != Pass {
		t.Errorf("%+v", e)
	}
}
