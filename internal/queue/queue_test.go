package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/retry"
	"mailout/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeliversAndForgets(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.up()
		w.send("a@one.example", "b@one.example")
		w.send("c@two.example")
		w.wait(time.Second)
		if n := w.store.count(); n != 0 {
			t.Errorf("%d deliveries are left", n)
		}
		recs := w.store.events(mta.EventDelivered)
		if len(recs) != 3 {
			t.Fatalf("%d records", len(recs))
		}
		r := recs[0]
		if r.Attempt != 1 || r.Host == "" || r.Code != 250 || r.Helo != "out.example" || r.Class != "delivered" || r.Size != 1000 {
			t.Errorf("record %+v", r)
		}
	})
}

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

func TestRetriesByTheSchedule(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain == "out.example" {
				return good(d), 0 // the delay notice
			}
			return each(d, greylisted()), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(8 * time.Hour)
		m := time.Minute
		want := []time.Duration{0, 5 * m, 20 * m, 50 * m, 110 * m, 230 * m, 470 * m}
		if got := w.attempts("a@one.example"); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 7 || !recs[0].Next.Equal(w.start.Add(5*m)) {
			t.Errorf("%d deferred records, the first says next %v", len(recs), recs[0].Next)
		}
	})
}

func TestHonoursAHint(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts("a@one.example")) == 1 {
				r := greylisted()
				r.RetryAfter = 60
				return each(d, r), 0
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(time.Hour)
		got := w.attempts("a@one.example")
		if len(got) != 2 || got[1] < time.Minute || got[1] > 66*time.Second {
			t.Errorf("attempts at %v", got)
		}
	})
}

// After five days the sender gets one report, with the last real reply; the
// delay notice came once, after four hours.
func TestTrap39ExpiryShowsTheLastRealReply(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		n := 0
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain != "one.example" {
				return good(d), 0
			}
			if n++; n < 5 {
				return each(d, greylisted()), 0
			}
			return each(d, unreachable()), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(5*24*time.Hour + time.Hour)
		var delays, failures []ReportRequest
		for _, r := range w.reports() {
			if r.Kind == ReportDelay {
				delays = append(delays, r)
			} else {
				failures = append(failures, r)
			}
		}
		if len(delays) != 1 || delays[0].Results[0].Enhanced.String() != "4.4.7" || delays[0].Now.Sub(w.start) < 4*time.Hour || delays[0].Now.Sub(w.start) > 5*time.Hour {
			t.Errorf("delay notices %+v", delays)
		}
		if len(failures) != 1 {
			t.Fatalf("%d failure reports", len(failures))
		}
		f := failures[0]
		if f.Results[0].Enhanced.String() != "5.4.7" || f.Results[0].Reply.Code != 450 || f.Host != "mx.one.example" {
			t.Errorf("report %+v", f)
		}
		if at := f.Now.Sub(w.start); at < 5*24*time.Hour || at > 5*24*time.Hour+10*time.Minute {
			t.Errorf("expired after %v", at)
		}
		last := w.attempts("a@one.example")
		if at := last[len(last)-1]; at != 5*24*time.Hour {
			t.Errorf("the last attempt was at %v, want at the expiry", at)
		}
		if len(w.store.events(mta.EventExpired)) != 1 || len(w.store.events(mta.EventBounced)) != 1 || w.store.count() != 0 {
			t.Error("the recipient must end once, reported, and be gone")
		}
	})
}

// 250, 450, 550 for three recipients of one delivery.
func TestTrap10MixedResults(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(d.Recipients) == 3 {
				return []mta.Result{good(d)[0], greylisted(), noSuchUser()}, 0
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example", "b@one.example", "c@one.example")
		w.wait(time.Minute)
		if w.store.count() != 1 {
			t.Fatalf("%d open", w.store.count())
		}
		w.wait(10 * time.Minute)
		want := []string{"a@one.example", "b@one.example", "c@one.example", "app@out.example", "b@one.example"}
		if got := w.tried(); !slices.Equal(got, want) {
			t.Errorf("tried %v, want %v", got, want)
		}
		if w.store.count() != 0 || len(w.store.events(mta.EventFailed)) != 1 {
			t.Error("not settled")
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
		if err != nil || !strings.Contains(x.Reason, "not reachable since") || x.Next.IsZero() {
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

func (w *world) count(kind ReportKind) (n int) {
	for _, r := range w.reports() {
		if r.Kind == kind {
			n++
		}
	}
	return n
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
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
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

// Memory follows destinations: of 20,000 messages a few hundred are in memory.
func TestMemoryFollowsDestinations(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Second }
		w.up()
		for i := range 20000 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%3))
			if i%1000 == 0 {
				w.wait(time.Millisecond)
			}
		}
		w.wait(time.Millisecond)
		in := 0
		if err := w.q.ask(context.Background(), func(l *loop) { in = len(l.entries) }); err != nil {
			t.Fatal(err)
		}
		if in > 3*200 {
			t.Errorf("%d deliveries in memory", in)
		}
		w.wait(10 * time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

func TestTotalMemoryIsBounded(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.InMemory = 50
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts(d.Recipients[0].Address)) == 1 {
				return each(d, greylisted()), 10 * time.Millisecond
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		for i := range 1000 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%20))
		}
		for range 20 {
			in := 0
			if err := w.q.ask(context.Background(), func(l *loop) { in = len(l.entries) }); err != nil {
				t.Fatal(err)
			}
			if in > 50+20 {
				t.Fatalf("%d deliveries in memory", in)
			}
			w.wait(30 * time.Second)
		}
		w.wait(time.Hour)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

// A restart keeps deferred mail at its time.
func TestTrap38RestartDoesNotRetryEverything(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), 0 }
		w.up()
		for i := range 50 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%7))
		}
		w.wait(time.Minute)
		if err := w.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := len(w.tried())
		w.up()
		w.wait(3 * time.Minute)
		if got := len(w.tried()); got != before {
			t.Errorf("%d attempts after the restart, before their time", got-before)
		}
		w.wait(2 * time.Minute)
		if got := len(w.tried()); got != 2*before {
			t.Errorf("%d attempts, want every one twice (%d)", got, 2*before)
		}
	})
}

// A page that was read before an outcome was stored does not bring the
// delivery back; what is added while a page is read is not lost.
func TestTrap38PageAndSettlementCross(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.PerDestination = 6
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 30 * time.Millisecond }
		w.store.pageWait = func() { <-time.After(200 * time.Millisecond) }
		w.up()
		for i := range 100 {
			w.send(fmt.Sprintf("u%d@one.example", i))
			w.wait(7 * time.Millisecond)
		}
		w.wait(time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
		seen := make(map[string]int)
		for _, r := range w.tried() {
			seen[r]++
		}
		for r, n := range seen {
			if n != 1 {
				t.Errorf("%s was tried %d times", r, n)
			}
		}
	})
}

// A page may be faster than Add.
func TestTrap38AddAfterThePage(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{0, 3 * time.Second, 20 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.opts.Limits.PerDestination = 2
				w.up()
				for i := range 10 { // so that pages are read
					w.send(fmt.Sprintf("u%d@one.example", i))
				}
				d := w.make(mta.DefaultStream, "late@one.example")
				w.store.put(d)
				w.send("after@one.example")
				w.wait(late)
				w.q.Add([]*mta.Delivery{d})
				w.wait(time.Hour)
				if got := w.attempts("late@one.example"); len(got) != 1 {
					t.Errorf("attempts %v", got)
				}
				if w.store.count() != 0 {
					t.Errorf("%d left", w.store.count())
				}
			})
		})
	}
}

// A failing disk at settling: nothing is attempted twice, nothing new starts
// for long, and everything settles when it is well again.
func TestTrap37NoStormWhenSettlingFails(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.store.fail = func(*spool.Settlement) error {
			if w.since() < 10*time.Minute {
				return errBroken
			}
			return nil
		}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "u3@one.example" {
				return each(d, noSuchUser()), 0
			}
			return good(d), 10 * time.Millisecond
		}
		w.up()
		for i := range 300 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(5 * time.Minute)
		early := len(w.tried())
		if early > 100 {
			t.Errorf("%d attempts while nothing can be stored", early)
		}
		w.store.mu.Lock()
		settles := w.store.mu.settles
		w.store.mu.Unlock()
		if settles > 2000 {
			t.Errorf("%d commits tried in five minutes", settles)
		}
		w.wait(10 * time.Minute)
		if w.store.count() != 0 || len(w.tried()) != 301 {
			t.Errorf("%d left, %d attempts for 300 messages and a report", w.store.count(), len(w.tried()))
		}
	})
}

// One settlement that always fails holds nobody else.
func TestTrap37OneBadRecord(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		d := w.make(mta.DefaultStream, "bad@one.example")
		w.store.fail = func(s *spool.Settlement) error {
			if s.Delivery == d.Key() && w.since() < time.Hour {
				return errBroken
			}
			return nil
		}
		w.up()
		w.submit(d)
		for i := range 300 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(30 * time.Minute)
		if w.store.count() != 1 {
			t.Errorf("%d open, want the bad one alone", w.store.count())
		}
		w.wait(time.Hour)
		if w.store.count() != 0 || len(w.attempts("bad@one.example")) != 1 {
			t.Error("the bad one was not settled in the end, or tried again")
		}
	})
}

func TestTrap43StopDrains(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 20 * time.Second }
		w.up()
		for i := range 30 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := w.q.Stop(ctx); err != nil {
			t.Error(err)
		}
		if got := len(w.store.events(mta.EventDelivered)); got != 2 {
			t.Errorf("%d delivered, want the two that were open", got)
		}
		if w.store.count() != 28 {
			t.Errorf("%d left", w.store.count())
		}
		w.q.Add([]*mta.Delivery{w.make(mta.DefaultStream, "late@one.example")}) // must not hang
	})
}

func TestTrap43StopAbandonsAtItsLimit(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Hour }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := w.q.Stop(ctx); err != nil {
			t.Error(err)
		}
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 1 || !recs[0].Uncertain {
			t.Errorf("records %+v", recs)
		}
		if got := w.since(); got != 31*time.Second {
			t.Errorf("stopped after %v", got)
		}
	})
}

// The disk is broken and stays so: Stop ends, and says what it leaves behind.
func TestStopEndsWithABrokenDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.fail = func(*spool.Settlement) error { return errBroken }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.q.Stop(ctx); err == nil {
			t.Error("no word of the lost outcome")
		}
		if w.store.count() != 1 {
			t.Error("the delivery must stay in the spool")
		}
	})
}

func TestTrap46PanicsDeferTheDelivery(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(w.attempts("a@one.example")) == 1 && d.Recipients[0].Address == "a@one.example" {
				panic("broken")
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		w.send("b@one.example")
		w.wait(10 * time.Minute)
		recs := w.store.events(mta.EventDeferred)
		if len(recs) != 1 || !strings.Contains(recs[0].Reason, "panic") || !recs[0].Uncertain {
			t.Errorf("records %+v", recs)
		}
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

func TestTrap46PlannerPanics(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		n := 0
		w.refuse = func(string) *mta.Result {
			if n++; n == 1 {
				panic("broken")
			}
			return nil
		}
		w.up()
		w.send("a@one.example")
		w.wait(10 * time.Minute)
		if recs := w.store.events(mta.EventDeferred); len(recs) != 1 || !strings.Contains(recs[0].Reason, "panic") || recs[0].Uncertain {
			t.Errorf("records %+v", recs)
		}
		if w.store.count() != 0 {
			t.Error("not delivered later")
		}
	})
}

// A report that cannot be made leaves its recipient open.
func TestTrap46ReporterFails(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if len(d.Recipients) == 2 {
				return []mta.Result{good(d)[0], noSuchUser()}, 0
			}
			if d.Destination.Domain == "one.example" {
				return each(d, noSuchUser()), 0
			}
			return good(d), 0
		}
		n := 0
		w.report = func(r ReportRequest) (*spool.Submission, error) {
			switch n++; n {
			case 1:
				return nil, errBroken
			case 2:
				panic("broken")
			}
			return bounceTo(r, 1<<40), nil
		}
		w.up()
		w.send("a@one.example", "b@one.example")
		w.wait(time.Minute)
		if len(w.store.events(mta.EventDelivered)) != 1 || len(w.store.events(mta.EventFailed)) != 0 || w.store.count() != 1 {
			t.Error("what was delivered must be settled, the other stay open")
		}
		w.wait(time.Hour)
		if len(w.store.events(mta.EventFailed)) != 1 || w.store.count() != 0 {
			t.Errorf("failed %d, open %d", len(w.store.events(mta.EventFailed)), w.store.count())
		}
	})
}

// A domain that does not exist fails all its mail, in batches, with one plan.
func TestTrap30NoSuchDomainFailsInBatches(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.PerDestination = 50
		w.refuse = func(domain string) *mta.Result {
			if domain != "none.example" {
				return nil
			}
			return &mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeSite, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, Reason: "no such domain"}
		}
		w.up()
		for i := range 1000 {
			w.send(fmt.Sprintf("u%d@none.example", i), fmt.Sprintf("v%d@none.example", i))
		}
		w.wait(10 * time.Second)
		if got := len(w.store.events(mta.EventFailed)); got != 2000 || w.store.count() != 0 {
			t.Errorf("%d failed, %d open", got, w.store.count())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.mu.planned > 10 {
			t.Errorf("%d plans", w.mu.planned)
		}
	})
}

// After a crash an attempt is recorded before it is made.
func TestCrashLoopFollowsTheSchedule(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.store.streak = 1
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if s := w.store.get(d.Key()); s.Attempts != 1 || !s.Due.Equal(w.start.Add(5*time.Minute)) {
				t.Errorf("the attempt was not begun: %+v", s)
			}
			return good(d), 0
		}
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		if w.store.count() != 0 || len(w.store.mu.begun) != 1 {
			t.Error("not delivered")
		}
	})
}

// Held mail is neither started nor expired.
func TestHeldStaysHeld(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		d := w.make(mta.DefaultStream, "a@one.example")
		d.State, d.HeldBy = mta.Held, "the operator holds one.example"
		w.store.put(d)
		w.up()
		w.q.Add([]*mta.Delivery{d})
		w.wait(10 * 24 * time.Hour)
		if len(w.tried()) != 0 || w.store.count() != 1 {
			t.Error("held mail moved")
		}
		if x, err := w.q.Why(context.Background(), d); err != nil || x.Reason != d.HeldBy || x.State != mta.Held {
			t.Errorf("why: %+v %v", x, err)
		}
	})
}

func TestWhy(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits.PerDestination = 2
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "grey@two.example" {
				return each(d, greylisted()), 0
			}
			return good(d), time.Minute
		}
		w.up()
		first, second, third := w.send("a@one.example"), w.send("b@one.example"), w.send("c@one.example")
		grey := w.send("grey@two.example")
		w.wait(time.Second)
		for _, c := range []struct {
			d    *mta.Delivery
			want string
		}{
			{first, "being delivered to one.example"},
			{second, "waits for a connection to one.example (the limit of 1 connections)"},
			{third, "waits in the spool behind 2 earlier deliveries to one.example; waits for a connection to one.example (the limit of 1 connections)"},
			{w.store.get(grey.Key()), "deferred: mx: greylisted"},
		} {
			if x, err := w.q.Why(context.Background(), c.d); err != nil || x.Reason != c.want {
				t.Errorf("why: %q, want %q (%v)", x.Reason, c.want, err)
			}
		}
		s, err := w.q.Summary(context.Background())
		if err != nil || s != (Summary{Queued: 3, Deferred: 1, Active: 1, Destinations: 2, Sites: 2, OldestS: 1}) {
			t.Errorf("summary %+v %v", s, err)
		}
		sites, err := w.q.Sites(context.Background())
		if err != nil || len(sites) != 2 || sites[0].Site != "one.example" || sites[0].Connections != 1 || sites[0].Ready != 1 {
			t.Errorf("sites %+v %v", sites, err)
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

func TestReconfigureCountsAtOnce(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return each(d, greylisted()), 0 }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		w.q.Reconfigure(retry.Schedules{Default: retry.Schedule{Expire: time.Minute}}, Limits{}, "new.example")
		w.wait(2 * time.Minute)
		if len(w.store.events(mta.EventExpired)) != 1 {
			t.Error("the shorter expiry does not count")
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

// Everything that was remembered of destinations and sites goes in time.
func TestIdleMemoryGoes(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.IdleDestinations = 10
		w.up()
		for i := range 500 {
			w.send(fmt.Sprintf("a@d%d.example", i))
		}
		w.wait(time.Second)
		var dests, sites, unannounced, alarms int
		look := func() {
			if err := w.q.ask(context.Background(), func(l *loop) {
				dests, sites, unannounced, alarms = len(l.dests), len(l.sites), len(l.unannounced), len(l.alarms)
			}); err != nil {
				t.Fatal(err)
			}
		}
		if look(); dests > 10 {
			t.Errorf("%d idle destinations of 10", dests)
		}
		w.wait(2 * time.Hour)
		if look(); dests+sites+unannounced+alarms != 0 {
			t.Errorf("left: %d destinations, %d sites, %d keys, %d alarms", dests, sites, unannounced, alarms)
		}
	})
}
