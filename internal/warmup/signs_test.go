package warmup

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

// TestBadSigns: each kind, one below its threshold and at it.
func TestBadSigns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		result mta.Result
		good   int // delivered before
		bad    int // so many are too many
	}{
		{"blocked, few replies", replied(550, mta.ClassPermanent, "ip_blocked"), 0, 2},
		{"blocked, put off", replied(421, mta.ClassTemporary, "ip_blocked"), 0, 2},
		{"no PTR", replied(550, mta.ClassPermanent, "ptr_missing"), 10, 2},
		{"blocked, many replies", replied(550, mta.ClassPermanent, "ip_blocked"), 490, 10},
		{"spam", replied(554, mta.ClassPermanent, "spam_content"), 96, 3},
		{"unknown", replied(550, mta.ClassPermanent, "user_unknown"), 10, 5},
		{"unknown, many replies", replied(550, mta.ClassPermanent, "user_unknown"), 190, 10},
		{"limited", replied(421, mta.ClassTemporary, "rate_limited"), 0, 10},
		{"put off", replied(451, mta.ClassTemporary, "policy"), 90, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stops []Stop
				l := start(t, newNotes(), settings(plan(1000, 1000)), func(s Stop) { stops = append(stops, s) })
				defer l.Stop(t.Context())
				r := route("google", newIP)
				learn := func(result mta.Result) {
					d := delivery("default", 1)
					l.Learn(r, d, attempt(d, result))
				}
				for range c.good {
					learn(accepted)
				}
				for i := range c.bad {
					if len(stops) != 0 {
						t.Fatalf("stopped after %d: %+v", i, stops)
					}
					learn(c.result)
					synctest.Wait()
				}
				if len(stops) != 1 || stops[0].Provider != "google" || stops[0].Source != newIP || stops[0].Day != 1 || stops[0].Next != 1 {
					t.Fatalf("%+v", stops)
				}
				learn(c.result)
				synctest.Wait()
				if len(stops) != 1 {
					t.Error("stopped twice on one day")
				}
				if again, ok := l.Take(r, delivery("default", 1), time.Now()); ok || !again.Equal(midnight.AddDate(0, 0, 1)) {
					t.Errorf("%v until %v", ok, again)
				}
			})
		})
	}
}

// TestHarmlessReplies cost nothing, however many.
func TestHarmlessReplies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(1000)))
		defer l.Stop(t.Context())
		r := route("google", newIP)
		for _, result := range []mta.Result{
			replied(451, mta.ClassTemporary, "greylisted"), replied(452, mta.ClassTemporary, "mailbox_full"),
			replied(552, mta.ClassPermanent, "mailbox_full"), replied(0, mta.ClassTemporary, ""), accepted,
			{Class: mta.ClassUncertain}, replied(450, mta.ClassTemporary, "user_unknown"),
			replied(550, mta.ClassPermanent, "other"), {Class: mta.ClassPermanent, Suppressed: true},
			{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reply: mta.Reply{Code: 421}, Bounce: "ip_blocked"},
		} {
			for range 50 {
				d := delivery("default", 1)
				l.Learn(r, d, attempt(d, result))
			}
		}
		if s, _ := l.State(newIP, "google"); s.Stopped != "" {
			t.Error(s.Stopped)
		}
	})
}

// TestStepBack: a stop costs two days of the plan and the day itself, is
// durable, and holds for its provider alone.
func TestStepBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNotes()
		l := start(t, n, settings(plan(10, 20, 30, 40, 50, 60)))
		r := route("google", newIP)
		day := func(i int) time.Time { return midnight.AddDate(0, 0, i) }
		at := func() int { s, _ := l.State(newIP, "google"); return s.Day }
		block := func() {
			for range 3 {
				d := delivery("default", 1)
				l.Learn(r, d, attempt(d, replied(550, mta.ClassPermanent, "ip_blocked")))
			}
		}
		time.Sleep(time.Until(day(4)))
		if at() != 5 {
			t.Fatalf("day %d", at())
		}
		block()
		if again, ok := l.Take(r, delivery("default", 1), time.Now()); ok || !again.Equal(day(5)) {
			t.Errorf("%v until %v", ok, again)
		}
		synctest.Wait() // written
		kill(n, l)
		l = start(t, n.crash(), settings(plan(10, 20, 30, 40, 50, 60)))
		defer func() { l.Stop(t.Context()) }()
		if s, _ := l.State(newIP, "google"); s.Stopped == "" || !strings.Contains(s.String(), "stopped for today: 2 replies that refuse our address") {
			t.Errorf("forgotten by a crash: %v", s)
		}
		time.Sleep(time.Until(day(5)))
		if at() != 3 {
			t.Errorf("day %d after a stop on the fifth", at())
		}
		if s, _ := l.State(newIP, "yahoo"); s.Day != 6 {
			t.Errorf("another provider is on day %d", s.Day)
		}
		time.Sleep(time.Until(day(6)))
		if at() != 4 {
			t.Errorf("day %d after a good day", at())
		}
		for i := 6; i < 12; i++ { // never below the first day
			time.Sleep(time.Until(day(i)))
			block()
		}
		time.Sleep(time.Until(day(12)))
		if at() != 1 {
			t.Errorf("day %d after many bad ones", at())
		}
	})
}

// TestComplaints count against what was delivered the day before, too.
func TestComplaints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(1000, 1000, 1000)))
		defer l.Stop(t.Context())
		r := route("google", newIP)
		d := delivery("default", 1000)
		l.Learn(r, d, attempt(d, accepted))
		time.Sleep(24 * time.Hour)
		l.Complained(newIP, "google")
		l.Complained(newIP, "google")
		if s, _ := l.State(newIP, "google"); s.Stopped != "" {
			t.Errorf("2 complaints of 1000: %s", s.Stopped)
		}
		l.Complained(newIP, "google")
		if s, _ := l.State(newIP, "google"); s.Stopped != "3 complaints (2 is too many, from 0.3 % on)" {
			t.Errorf("3 complaints of 1000: %q", s.Stopped)
		}
		l.Complained(warmIP, "google") // is not warming
	})
}
