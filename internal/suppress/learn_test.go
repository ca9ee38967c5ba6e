package suppress

import (
	"context"
	"testing"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// TestWhatComesBackOnSeveralDays: a server that takes all mail and sends it back
// takes it each time; that clears nothing.
func TestWhatComesBackOnSeveralDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	w.tidy(t.Context())
	for i := range 3 {
		if w.listed("ann@example.com", "news") {
			t.Fatalf("listed after %d replies that are not clear", i)
		}
		w.learn(mta.Result{Class: mta.ClassDelivered})
		if _, err := w.Report(t.Context(), Evidence{Address: "ann@example.com", Reason: Dead, Reply: bounce.Reply{Code: 550, Text: "No such user here"}, Back: true}); err != nil {
			t.Fatal(err)
		}
		w.at = w.at.Add(24 * time.Hour)
	}
	if !w.listed("ann@example.com", "news") {
		t.Error("mail came back on three days, and the address is not listed")
	}
}

// TestUnsureEvidence: what others may have said counts on the third day only.
func TestUnsureEvidence(t *testing.T) {
	t.Parallel()
	for _, ev := range []Evidence{
		{Reason: Complained},
		{Reason: Dead, Reply: bounce.Reply{Code: 550, Enhanced: "5.1.1", Text: "User unknown"}},
	} {
		w := newWorld(t, Settings{Sure: 1})
		ev.Address, ev.Unsure, ev.Back = "ann@example.com", true, true
		for i := range 3 {
			if w.listed(ev.Address, "news") {
				t.Fatalf("%s: listed after %d times", ev.Reason, i)
			}
			if _, err := w.Report(t.Context(), ev); err != nil {
				t.Fatal(err)
			}
			w.at = w.at.Add(24 * time.Hour)
		}
		if e := w.Find(t.Context(), ev.Address, "news"); e == nil || e.Reason != ev.Reason {
			t.Errorf("%s: after three days %+v", ev.Reason, e)
		}
	}
}

// TestConfirmedKeepsTheLongerTime: new evidence shortens no entry, and what the
// owner wants outlasts one that ends.
func TestConfirmedKeepsTheLongerTime(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	deadNow := Evidence{Reason: Dead, Reply: bounce.Reply{Code: 550, Enhanced: "5.1.1", Text: "User unknown"}}
	goneNow := Evidence{Reason: Dead, Reply: bounce.Reply{Code: 550, Enhanced: "5.1.2", Text: "No such domain"}}
	for name, c := range map[string]struct {
		before Entry // Expires is set of days
		days   int   // 0: never
		ev     Evidence
		listed int // days after which it is listed still
	}{
		"dead for good":                {Entry{Reason: Dead}, 0, deadNow, 1000},
		"dead, then its domain gone":   {Entry{Reason: Dead}, 60, goneNow, 59},
		"dead, and dead again":         {Entry{Reason: Dead}, 10, deadNow, 89},
		"by hand, then a complaint":    {Entry{Reason: Manual}, 10, Evidence{Reason: Complained}, 1000},
		"by hand, then dead":           {Entry{Reason: Manual}, 10, deadNow, 9},
		"by hand for good, complained": {Entry{Reason: Manual}, 0, Evidence{Reason: Complained}, 1000},
	} {
		w := newWorld(t, Settings{Sure: 1})
		w.gone["example.com"] = true
		c.before.Address, c.ev.Address = "ann@example.com", "ann@example.com"
		if c.days > 0 {
			c.before.Expires = w.at.Add(time.Duration(c.days) * day)
		}
		w.must(w.Add(t.Context(), c.before))
		if _, err := w.Report(t.Context(), c.ev); err != nil {
			t.Fatal(err)
		}
		if w.at = w.at.Add(time.Duration(c.listed) * day); !w.listed("ann@example.com", "news") {
			t.Errorf("%s: not listed any more after %d days", name, c.listed)
		}
	}
}

// TestClearRepliesOnTwoDays: an address is not given up for a single reply, and
// not for several of one day.
func TestClearRepliesOnTwoDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{})
	refuse := func() {
		t.Helper()
		ev := Evidence{Address: "ann@example.com", Reason: Dead, Reply: bounce.Reply{Code: 550, Enhanced: "5.1.1", Text: "User unknown"}}
		if _, err := w.Report(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		refuse()
		w.at = w.at.Add(time.Hour)
		if w.listed("ann@example.com", "news") {
			t.Fatal("listed on the first day")
		}
	}
	w.at = w.at.Add(24 * time.Hour)
	refuse()
	if !w.listed("ann@example.com", "news") {
		t.Fatal("not listed on the second day")
	}
	refuse()
	if e := w.Find(t.Context(), "ann@example.com", "news"); e == nil || e.Hits != 2 {
		t.Errorf("one more reply: %+v", e)
	}
}

// TestDNSIsAskedOnceADomain: what waits is not held up by slow name servers; nor
// is a stop.
func TestDNSIsAskedOnceADomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{})
	asked := 0
	w.opts.Gone = func(context.Context, string) bool { asked++; return false }
	d := &mta.Delivery{Message: &mta.Message{ID: mta.ID{1}, Stream: "news"}}
	a := &mta.Attempt{}
	for range 2 * heardBatch {
		d.Recipients = append(d.Recipients, mta.Recipient{Address: "ann@example.com"})
		a.Results = append(a.Results, refused(550, mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, "No such domain"))
	}
	w.Learn(d, a)
	w.take(t.Context(), <-w.heard)
	if asked != 1 {
		t.Errorf("DNS was asked %d times for a batch", asked)
	}
	w.Learn(d, a)
	over, stop := context.WithCancel(t.Context())
	stop()
	w.last(over)
	if asked != 1 || len(w.heard) > 0 {
		t.Errorf("DNS was asked %d times at the stop, %d wait", asked-1, len(w.heard))
	}
}
