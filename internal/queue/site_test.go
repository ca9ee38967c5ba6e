package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

// A healthy receiver gets its twenty sessions within a second of work.
func TestRampsToTheLimit(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 20 * time.Millisecond }
		w.up()
		for i := range 400 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(300 * time.Millisecond)
		w.mu.Lock()
		most := w.mu.most["one.example"]
		w.mu.Unlock()
		if most != 20 {
			t.Errorf("%d sessions after 300 ms", most)
		}
		w.wait(time.Second)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

func TestReusesAnIdleSession(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.up()
		for i := range 10 {
			w.send(fmt.Sprintf("u%d@one.example", i))
			w.wait(time.Second)
		}
		if n := w.mu.opened["one.example"]; n != 1 {
			t.Errorf("%d sessions for ten messages", n)
		}
		w.wait(2 * time.Minute)
		if n := w.mu.sessions["one.example"]; n != 0 {
			t.Errorf("%d sessions left after their idle time", n)
		}
	})
}

// A thousand messages of one destination are greylisted or slow; the others
// are not concerned.
func TestTrap40OneGreylistedRecipientStopsNobody(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "grey@one.example" && w.since() < 4*time.Minute {
				return each(d, greylisted()), 10 * time.Millisecond
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		w.send("grey@one.example")
		for i := range 500 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(2 * time.Second)
		if w.store.count() != 1 {
			t.Errorf("%d open, want the greylisted one alone", w.store.count())
		}
		if at := w.attempts("grey@one.example"); len(at) != 1 {
			t.Errorf("the success of others brought the greylisted one back: %v", at)
		}
		w.wait(6 * time.Minute)
		if w.store.count() != 0 {
			t.Error("the greylisted one was not delivered at its time")
		}
	})
}

// While a site is dead its mail waits without burning attempts, one session
// probes, and the revival brings everything out quickly.
func TestTrap40DeadSite(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if w.since() < 30*time.Minute {
				return each(d, unreachable()), 100 * time.Millisecond
			}
			return good(d), 20 * time.Millisecond
		}
		w.up()
		for i := range 1000 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(29 * time.Minute)
		tried := len(w.tried())
		if tried > 30 {
			t.Errorf("%d attempts at a dead site in 29 minutes", tried)
		}
		w.mu.Lock()
		most := w.mu.most["one.example"]
		w.mu.Unlock()
		if most > 2 {
			t.Errorf("%d sessions at a dead site", most)
		}
		d := w.store.get(w.waiting(t))
		x, err := w.q.Why(context.Background(), d)
		if err != nil || !strings.Contains(x.Reason, "failing since") || x.Next.IsZero() {
			t.Errorf("why: %+v %v", x, err)
		}
		w.wait(10 * time.Minute)
		if n := w.store.count(); n != 0 {
			t.Errorf("%d left ten minutes after the site came back", n)
		}
		w.mu.Lock()
		most = w.mu.most["one.example"]
		w.mu.Unlock()
		if most < 10 {
			t.Errorf("only %d sessions after the revival", most)
		}
	})
}

// waiting is a delivery that was never attempted.
func (w *world) waiting(t *testing.T) mta.DeliveryKey {
	t.Helper()
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for key, d := range w.store.mu.open {
		if d.Attempts == 0 {
			return key
		}
	}
	t.Fatal("nothing waits")
	return mta.DeliveryKey{}
}

// What waits at a dead site without an attempt of its own still gets its
// notice and its expiry, also outside memory, with what the site said.
func TestTrap40WaitingMailExpiresAndIsNoticed(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Schedules.Default = retry.Schedule{Intervals: []time.Duration{time.Hour}, Expire: 10 * time.Hour, DelayNotice: 2 * time.Hour}
		w.opts.Limits.PerDestination = 10
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain == "one.example" {
				r := unreachable()
				r.Reply = mta.Reply{Code: 421, Text: "closed"}
				return each(d, r), 0
			}
			return good(d), 0
		}
		w.up()
		const n = 300
		for i := range n {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(9 * time.Hour)
		if got := w.count(ReportDelay); got != n {
			t.Errorf("%d delay notices, want %d", got, n)
		}
		w.wait(3 * time.Hour)
		if got := w.count(ReportFailure); got != n {
			t.Errorf("%d failure reports, want %d", got, n)
		}
		if got := len(w.store.events(mta.EventExpired)); got != n || w.store.count() != 0 {
			t.Errorf("%d expired, %d open", got, w.store.count())
		}
		for _, r := range w.reports() {
			if r.Kind == ReportFailure && (r.Results[0].Reply.Code != 421 || r.Results[0].Enhanced.String() != "5.4.7") {
				t.Fatalf("report %+v", r)
			}
		}
	})
}

// A success releases what was deferred for the site's sake, in memory and
// outside, and nothing else.
func TestSuccessReleasesTheSitesMail(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.PerDestination = 4
		w.site = func(string) string { return "shared" }
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			rcpt := d.Recipients[0].Address
			if rcpt == "grey@b.example" && len(w.attempts(rcpt)) == 1 {
				return each(d, greylisted()), 0
			}
			if w.since() < 30*time.Minute && rcpt != "grey@b.example" {
				return each(d, unreachable()), 0
			}
			return good(d), 0
		}
		w.opts.Schedules.Default = retry.Schedule{Intervals: []time.Duration{5 * time.Minute, 20 * time.Hour}}
		w.up()
		for i := range 12 {
			w.send(fmt.Sprintf("u%d@a.example", i))
		}
		w.wait(29 * time.Minute)
		w.send("grey@b.example")
		w.wait(51 * time.Minute)
		for i := range 12 {
			rcpt := fmt.Sprintf("u%d@a.example", i)
			at := w.attempts(rcpt)
			if last := at[len(at)-1]; last < 29*time.Minute {
				t.Errorf("%s was not released: %v", rcpt, at)
			}
		}
		grey := w.attempts("grey@b.example")
		if len(grey) != 2 || grey[1]-grey[0] < 5*time.Minute {
			t.Errorf("the greylisted one did not keep its time: %v", grey)
		}
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

func TestTrap40ReleaseSparesTheGreylisted(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			rcpt := d.Recipients[0].Address
			if first := len(w.attempts(rcpt)) == 1; first && rcpt == "grey@b.example" {
				return each(d, greylisted()), 0
			} else if first && rcpt == "down@b.example" {
				return each(d, unreachable()), 0
			}
			return good(d), 0
		}
		w.up()
		w.send("grey@b.example")
		w.wait(time.Second)
		w.send("down@b.example")
		w.wait(time.Minute)
		w.send("ok@b.example")
		w.wait(time.Hour)
		if at := w.attempts("down@b.example"); len(at) != 2 || at[1] > 62*time.Second {
			t.Errorf("not released: %v", at)
		}
		if at := w.attempts("grey@b.example"); len(at) != 2 || at[1] != 5*time.Minute {
			t.Errorf("the greylisted one did not keep its time: %v", at)
		}
	})
}

// A site is probed at least as often as its mail comes due, however short the
// retry intervals are.
func TestDeadSiteDoesNotDelayTheSchedule(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Schedules.Default = retry.Schedule{Intervals: []time.Duration{time.Second}, Expire: time.Minute}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if w.since() < 8500*time.Millisecond {
				return each(d, unreachable()), 0
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(20 * time.Second)
		if got := w.attempts("a@one.example"); len(got) != 10 || got[9] != 9*time.Second {
			t.Errorf("attempts at %v", got)
		}
	})
}

// A mailing does not delay the one-time code of another stream at the same
// site, nor that of another domain.
func TestTrap45OneTimeCode(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.site = func(string) string { return "shared" }
		w.limit = 2
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 100 * time.Millisecond }
		w.up()
		for i := range 5000 {
			d := w.make("newsletter", fmt.Sprintf("u%d@big.example", i))
			w.submit(d)
		}
		w.wait(time.Second)
		w.submit(w.make("codes", "code@big.example"))
		w.submit(w.make("newsletter", "small@other.example"))
		w.wait(500 * time.Millisecond)
		if len(w.attempts("code@big.example")) != 1 {
			t.Error("the code of another stream waits")
		}
		if len(w.attempts("small@other.example")) != 1 {
			t.Error("the small destination waits behind the big one")
		}
		if w.store.count() < 4000 {
			t.Error("the mailing was to be still under way")
		}
	})
}

// Slow sites take at most nine tenths of the connections, and a quick one goes
// on as if they were not there.
func TestTrap45SlowDestinationsSlowNobody(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.Connections = 20
		w.limit = 5
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if strings.HasPrefix(d.Destination.Domain, "slow") {
				return good(d), 5 * time.Minute
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		w.send("warm@quick.example") // it is known to be quick
		w.wait(time.Minute)
		for i := range 100 {
			w.send(fmt.Sprintf("u@slow%d.example", i))
			w.send(fmt.Sprintf("v@slow%d.example", i))
		}
		w.wait(time.Minute)
		for i := range 200 {
			w.send(fmt.Sprintf("u%d@quick.example", i))
		}
		w.wait(2 * time.Second)
		left := 0
		for i := range 200 {
			if len(w.attempts(fmt.Sprintf("u%d@quick.example", i))) == 0 {
				left++
			}
		}
		if left > 0 {
			t.Errorf("%d of 200 quick ones wait for slow ones", left)
		}
		w.mu.Lock()
		most := w.mu.mostAll
		w.mu.Unlock()
		if most > 20 {
			t.Errorf("%d connections of 20", most)
		}
		w.wait(2 * time.Hour)
		if w.store.count() != 0 {
			t.Errorf("%d slow ones were starved", w.store.count())
		}
	})
}

// A changed configuration moves what has not started.
func TestReplanMovesWaitingMail(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		site := "old"
		w.site = func(string) string { return site }
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Minute }
		w.up()
		for i := range 5 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Second)
		site = "new"
		w.q.Replan()
		w.wait(10 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.mu.opened["new"] == 0 || w.mu.opened["old"] != 1 || w.store.count() != 0 {
			t.Errorf("opened %v, %d left", w.mu.opened, w.store.count())
		}
	})
}

// A route that has expired is asked for again, never twice at once.
func TestRoutesExpire(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.routeTTL = time.Minute
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 10 * time.Second }
		w.limit = 1
		w.up()
		for i := range 100 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(20 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.store.count() != 0 || w.mu.planned < 10 || w.mu.planned > 20 {
			t.Errorf("%d left, %d plans in 17 minutes of work", w.store.count(), w.mu.planned)
		}
	})
}
