package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mta"
)

// rated gives every route these rates.
func (w *world) rated(rates ...mta.Rate) {
	w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
		r.Limits.Rates = rates
		return mta.OnePlan(r), nil
	}
}

// begins are the times of all first attempts, in their order.
func (w *world) begins() (list []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, times := range w.mu.times {
		list = append(list, times[0])
	}
	slices.Sort(list)
	return list
}

// within is the most of them in any stretch of time.
func within(list []time.Duration, d time.Duration) (most int) {
	for i := range list {
		n := 0
		for _, at := range list[i:] {
			if at-list[i] < d {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A site's rate holds for all of its mail, over all connections, destinations
// and streams; nearly all of it is used; and mail says that it waits for it.
func TestRateOfASite(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.site = func(string) string { return "shared" }
		w.rated(mta.Rate{Count: 60, Per: time.Minute, Bucket: "shared", Origin: "[[shape]] 1"}, mta.Rate{Count: 10_000, Per: time.Hour, Bucket: "hour"})
		w.up()
		var d *mta.Delivery
		for i := range 300 {
			d = w.make([]string{"default", "news"}[i%2], fmt.Sprintf("u%d@d%d.example", i, i%7))
			w.submit(d)
		}
		w.wait(2*time.Minute + 500*time.Millisecond)
		x, err := w.q.Why(context.Background(), d)
		if err != nil || x.Limit != "rate" || !strings.Contains(x.Reason, "60 messages in a minute ([[shape]] 1)") {
			t.Errorf("why: %+v, %v", x, err)
		}
		if n := len(w.begins()); n < 110 || n > 121 {
			t.Errorf("%d attempts in two minutes", n)
		}
		sites, _ := w.q.Sites(context.Background())
		if len(sites) != 1 || len(sites[0].Rates) != 2 || sites[0].Rates[0].Again.IsZero() || sites[0].Rates[0].Per != "a minute" || sites[0].Rates[0].Counts != "site" {
			t.Errorf("sites %+v", sites)
		}
		w.wait(10 * time.Minute)
		if n := within(w.begins(), time.Minute); n > 60 || w.store.count() != 0 {
			t.Errorf("%d in a minute, %d left", n, w.store.count())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.mu.opened["shared"] > 25 {
			t.Errorf("%d connections were opened", w.mu.opened["shared"])
		}
	})
}

// A rate by stream holds up that stream alone.
func TestRateOfAStream(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.rated(mta.Rate{Count: 10, Per: time.Minute, Bucket: "one", ByStream: true})
		w.up()
		for i := range 30 {
			w.submit(w.make("news", fmt.Sprintf("n%d@one.example", i)))
		}
		w.wait(time.Second)
		for i := range 5 {
			w.submit(w.make("codes", fmt.Sprintf("c%d@one.example", i)))
		}
		w.wait(40 * time.Second)
		codes := 0
		for _, r := range w.tried() {
			if strings.HasPrefix(r, "c") {
				codes++
			}
		}
		if codes != 5 {
			t.Errorf("%d of 5 codes were tried", codes)
		}
		w.wait(10 * time.Minute)
		if n := within(w.begins(), time.Minute); n > 15 || w.store.count() != 0 {
			t.Errorf("%d in a minute, %d left", n, w.store.count())
		}
	})
}

// A rate for part of a site's mail holds up that part alone.
func TestRateOfPartOfASite(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.site = func(string) string { return "shared" }
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			if r.Domain == "slow.example" {
				r.Limits.Rates = []mta.Rate{{Count: 6, Per: time.Minute, Bucket: "slow", Apart: true, Origin: "[[shape]] 3"}}
			}
			return mta.OnePlan(r), nil
		}
		w.up()
		var last *mta.Delivery
		for i := range 30 {
			last = w.make(mta.DefaultStream, fmt.Sprintf("s%d@slow.example", i))
			w.submit(last)
		}
		w.wait(time.Second)
		for i := range 50 {
			w.submit(w.make(mta.DefaultStream, fmt.Sprintf("q%d@quick.example", i)))
		}
		w.wait(20 * time.Second)
		quick, slow := 0, 0
		for _, r := range w.tried() {
			if strings.HasPrefix(r, "q") {
				quick++
			} else {
				slow++
			}
		}
		if quick != 50 || slow < 2 || slow > 4 {
			t.Errorf("%d of 50 quick ones and %d slow ones were tried", quick, slow)
		}
		x, err := w.q.Why(context.Background(), last)
		if err != nil || x.Limit != "rate" || !strings.Contains(x.Reason, "6 messages in a minute ([[shape]] 3) of mail for slow.example") || x.Next.IsZero() {
			t.Errorf("why: %+v, %v", x, err)
		}
		w.wait(10 * time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d left", w.store.count())
		}
	})
}

// A site that refuses for the rate, or more connections, is met from just
// below; and it says so.
func TestPaceAndTopOfASite(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		last, left, taken, refused := time.Now(), 20.0, 0, 0 // a bucket of 20, and 5 a second
		var mu sync.Mutex
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			left, last = min(left+5*time.Since(last).Seconds(), 20), time.Now()
			if left < 1 {
				refused++
				return []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Bounce: "rate_limited", Reason: "slow down"}}, 50 * time.Millisecond
			}
			left--
			taken++
			return []mta.Result{{Class: mta.ClassDelivered}}, 50 * time.Millisecond
		}
		w.up()
		for i := range 6000 {
			w.submit(w.make(mta.DefaultStream, fmt.Sprintf("u%d@one.example", i)))
		}
		w.wait(5 * time.Minute)
		mu.Lock()
		was, bad := taken, refused
		mu.Unlock()
		w.wait(10 * time.Minute)
		mu.Lock()
		more, worse := taken-was, refused-bad
		mu.Unlock()
		t.Logf("learning: %d taken, %d refused; then %d of 3000 taken, %d refused", was, bad, more, worse)
		if more < 2700 || float64(worse) >= 0.02*float64(more+worse) {
			t.Errorf("%d taken, %d refused", more, worse)
		}
		sites, err := w.q.Sites(context.Background())
		if err != nil || len(sites) != 1 || sites[0].Pace < 4 || sites[0].Pace > 6 || !strings.Contains(sites[0].Reason, "slow down") {
			t.Errorf("%+v, %v", sites, err)
		}
	})
}

func (w *world) pages() int {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return w.store.mu.pages
}

// A rate by sender holds up that sender's mail alone, also inside one
// destination, without reading the spool again and again; and what waits for it
// expires as other mail.
func TestRateOfASender(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.PerDestination = 40
		rate := mta.Rate{Count: 6, Per: time.Minute, Bucket: "one", BySender: true, Origin: "[[shape]] 2"}
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			r.Limits.Rates = []mta.Rate{rate}
			return mta.OnePlan(r), nil
		}
		w.up()
		send := func(sender, to string) *mta.Delivery {
			d := w.make(mta.DefaultStream, to)
			d.Message.Envelope.Sender = sender
			w.submit(d)
			return d
		}
		var last *mta.Delivery
		for i := range 30 {
			last = send("busy@out.example", fmt.Sprintf("b%d@one.example", i))
		}
		w.wait(time.Second)
		send("other@out.example", "o@one.example")
		w.wait(time.Second)
		if n := len(w.attempts("o@one.example")); n != 1 {
			t.Errorf("another sender's mail was tried %d times", n)
		}
		x, err := w.q.Why(context.Background(), last)
		if err != nil || x.Limit != "rate" || !strings.Contains(x.Reason, "of the sender busy@out.example") || x.Next.Before(time.Now()) {
			t.Errorf("why: %+v, %v", x, err)
		}
		pages := w.pages()
		w.wait(4*time.Minute + 30*time.Second)
		if n := len(w.begins()); n < 25 || n > 31 {
			t.Errorf("%d begun", n)
		}
		if n := within(w.begins(), time.Minute); n > 7 {
			t.Errorf("%d in a minute", n)
		}
		if n := w.pages() - pages; n > 5 {
			t.Errorf("%d pages were read", n)
		}
		for i := range 200 { // more than fit into memory
			send("busy@out.example", fmt.Sprintf("c%d@one.example", i))
		}
		w.wait(10 * time.Minute)
		if n := w.pages() - pages; n > 100 {
			t.Errorf("%d pages were read", n)
		}
		w.change(func() { rate.Count = 6000 })
		w.q.Replan()
		w.wait(time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d left when the rate was raised", w.store.count())
		}
	})
}

// The buckets are bounded, whoever sends.
func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLoop(New(newWorld(t).opts))
	r := mta.Rate{Count: 1, Per: 24 * time.Hour, Bucket: "x", BySender: true}
	for i := range maxBuckets + 5000 {
		l.bucket(&r, "s", fmt.Sprint(i)).Take(l.now)
	}
	if n := len(l.buckets); n > maxBuckets || n < maxBuckets*9/10 {
		t.Errorf("%d buckets that are in use", n)
	}
	l.now = l.now.Add(25 * time.Hour)
	for i := range maxBuckets {
		l.bucket(&r, "s", fmt.Sprint("new", i))
		if len(l.buckets) < maxBuckets/10 {
			return // the full ones went
		}
	}
	t.Errorf("%d buckets that nobody uses", len(l.buckets))
}

// Either all rates have a token, or none gives one: sites that may send one a
// minute do not use up what they have together by asking.
func TestTokensAreTakenTogether(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			r.Limits.Rates = []mta.Rate{{Count: 15, Per: time.Minute, Bucket: "all"}, {Count: 1, Per: time.Minute, Bucket: r.Site}}
			return mta.OnePlan(r), nil
		}
		w.up()
		for i := range 200 {
			w.send(fmt.Sprintf("u%d@d%d.example", i, i%10))
		}
		w.wait(10 * time.Minute)
		if n := len(w.begins()); n < 92 || n > 110 {
			t.Errorf("%d attempts in ten minutes of ten sites", n)
		}
		w.wait(30 * time.Minute)
	})
}

// ceilings is a Quota.
type ceilings struct {
	left  map[string]int
	again time.Time
}

// Take implements Quota.
func (c *ceilings) Take(r *mta.Route, _ *mta.Delivery, _ time.Time) (time.Time, bool) {
	if c.left[via(r)] == 0 {
		return c.again, false
	}
	c.left[via(r)]--
	return time.Time{}, true
}

// A source that is being warmed up sends what it may, the rest goes over to the
// others; where all are, it waits.
func TestQuotaOverflows(t *testing.T) {
	t.Parallel()
	for _, others := range []bool{true, false} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.opts.Quota = &ceilings{left: map[string]int{"192.0.2.1": 7}, again: time.Now().Add(3 * time.Hour)}
				w.plan = func(_ string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
					p := poolOf(r, 2)
					p.Routes[0].Warming = &mta.Warming{Provider: "google", Origin: "[[source]] 1"}
					if !others {
						p.Routes = p.Routes[:1]
					}
					return p, nil
				}
				w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
					return good(d), 50 * time.Millisecond
				}
				w.up()
				var last *mta.Delivery
				for i := range 60 {
					last = w.send(fmt.Sprintf("u%d@one.example", i))
				}
				w.wait(time.Hour)
				count := map[string]int{}
				for i := range 60 {
					for _, s := range w.sources(fmt.Sprintf("u%d@one.example", i)) {
						count[s]++
					}
				}
				if want := map[bool]int{true: 53, false: 0}[others]; count["192.0.2.1"] != 7 || count["192.0.2.2"] != want {
					t.Errorf("the mail took %v", count)
				}
				if others {
					return
				}
				x, err := w.q.Why(context.Background(), last)
				if err != nil || x.Limit != "quota" || !strings.Contains(x.Reason, "192.0.2.1 lets no more mail go to google now") || !strings.Contains(x.Reason, "[[source]] 1") {
					t.Errorf("why: %+v, %v", x, err)
				}
				_ = w.q.ask(context.Background(), func(*loop) { w.opts.Quota.(*ceilings).left["192.0.2.1"] = 100 })
				w.wait(2*time.Hour + time.Minute)
				if w.store.count() != 0 {
					t.Errorf("%d left when there was a new day", w.store.count())
				}
			})
		})
	}
}

// What a rule holds is held with its reason, and a release sends it by what
// follows, also over a restart; what a rule discards is cancelled, and nobody is
// told but the journal.
func TestRulesStopMail(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.plan = func(variant string, r *mta.Route) (*mta.Plan, *mta.Attempt) {
			switch {
			case r.Domain == "waste.example":
				return &mta.Plan{Stop: &mta.Stop{Action: mta.StopDiscard, Reason: "test mail is not sent", Matched: "[[route]] 3"}}, nil
			case r.Domain == "held.example" && !strings.HasPrefix(variant, mta.VariantReleased):
				return &mta.Plan{Stop: &mta.Stop{Action: mta.StopHold, Reason: "looked at by hand", Matched: "[[route]] 2"}, Expires: time.Now().Add(time.Hour)}, nil
			}
			return mta.OnePlan(r), nil
		}
		greyed := false
		w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if !greyed {
				greyed = true
				return each(d, greylisted()), 0
			}
			return good(d), 0
		}
		w.up()
		var held []*mta.Delivery
		for i := range 200 {
			w.send(fmt.Sprintf("w%d@waste.example", i))
			held = append(held, w.send(fmt.Sprintf("h%d@held.example", i)))
		}
		w.wait(time.Minute)
		if n := len(w.store.events(mta.EventCancelled)); n != 200 || len(w.reports()) != 0 {
			t.Errorf("%d cancelled, %d reports", n, len(w.reports()))
		}
		if r := w.store.events(mta.EventCancelled)[0]; r.Reason != "test mail is not sent ([[route]] 3)" {
			t.Errorf("reason %q", r.Reason)
		}
		now := w.store.get(held[0].Key())
		if now == nil || now.State != mta.Held || now.HeldBy != "looked at by hand ([[route]] 2)" || !now.ByRule {
			t.Fatalf("held as %+v", now)
		}
		tally, _, err := w.q.Command(context.Background(), Order{Verb: VerbRelease, Reason: "by tester"}, []*mta.Delivery{now})
		if err != nil || tally.Changed != 1 {
			t.Fatalf("%+v, %v", tally, err)
		}
		w.wait(time.Minute)
		if n := len(w.attempts("h0@held.example")); n != 1 {
			t.Errorf("%d attempts of what was released", n)
		}
		if err := w.q.Stop(context.Background()); err != nil { // greylisted, and due again after the start
			t.Fatal(err)
		}
		w.up()
		w.wait(10 * time.Minute)
		if n := len(w.attempts("h0@held.example")); n != 2 || len(w.store.events(mta.EventDelivered)) != 1 {
			t.Errorf("%d attempts, %d delivered", n, len(w.store.events(mta.EventDelivered)))
		}
		if w.store.count() != 199 {
			t.Errorf("%d open", w.store.count())
		}
	})
}

// An operator's own hold is no rule's: a rule holds what was released from it.
func TestReleaseOfAnOperatorsHoldMeetsRules(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.plan = func(variant string, _ *mta.Route) (*mta.Plan, *mta.Attempt) {
			if variant != "" {
				t.Errorf("variant %q", variant)
			}
			return &mta.Plan{Stop: &mta.Stop{Reason: "looked at by hand"}}, nil
		}
		w.up()
		d := w.make(mta.DefaultStream, "u@one.example")
		d.Due = d.Due.Add(time.Hour)
		w.submit(d)
		w.wait(time.Second)
		for _, verb := range []Verb{VerbHold, VerbRelease} {
			if tally, _, err := w.q.Command(context.Background(), Order{Verb: verb}, []*mta.Delivery{w.store.get(d.Key())}); err != nil || tally.Changed != 1 {
				t.Fatalf("%v: %+v, %v", verb, tally, err)
			}
		}
		w.wait(time.Minute)
		if now := w.store.get(d.Key()); now == nil || now.State != mta.Held || !now.ByRule {
			t.Errorf("%+v", now)
		}
	})
}

// What is on the suppression list fails with an event of its own, is reported as
// a failure, and says nothing about the site.
func TestSuppressedRecipients(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.over = func(_ *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Message.Kind == mta.KindBounce {
				return good(d), 0
			}
			return each(d, mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Reason: "the address is on the suppression list", Suppressed: true, Bounce: "user_unknown"}), 0
		}
		w.up()
		w.send("u@one.example")
		w.wait(time.Minute)
		list := w.store.events(mta.EventSuppressed)
		if len(list) != 1 || list[0].BounceClass != "user_unknown" || len(w.store.events(mta.EventFailed)) != 0 || w.store.count() != 0 {
			t.Errorf("%+v", list)
		}
		if r := w.reports(); len(r) != 1 || r[0].Kind != ReportFailure {
			t.Errorf("reports %+v", r)
		}
	})
	if m, _ := judge(&mta.Attempt{Results: []mta.Result{{Class: mta.ClassPermanent, Suppressed: true}}}); m != moodNeutral {
		t.Errorf("mood %v", m)
	}
}
