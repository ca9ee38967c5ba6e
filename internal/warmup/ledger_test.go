package warmup

import (
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

// takes asks, with the waits that refusals name, until the ceiling or most.
func takes(t *testing.T, l *Ledger, r *mta.Route, stream string, until time.Time, most int) (got int) {
	t.Helper()
	for got < most && time.Now().Before(until) {
		again, ok := l.Take(r, delivery(stream, 1), time.Now())
		if ok {
			got++
			continue
		}
		if !again.After(time.Now()) {
			t.Fatal("a refusal until a moment that is over: the queue would turn in a circle")
		}
		if !again.Before(until) {
			break
		}
		time.Sleep(time.Until(again))
	}
	return got
}

func TestADayGivesItsCeilingAndNotOneMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(3, 70, 1000)))
		defer l.Stop(t.Context())
		r := route("google", newIP)
		for i, want := range []int{3, 70, 1000} {
			if got := takes(t, l, r, "default", midnight.AddDate(0, 0, i+1), 1<<20); got != want {
				t.Errorf("day %d: %d, want %d", i+1, got, want)
			}
			time.Sleep(time.Until(midnight.AddDate(0, 0, i+1)))
		}
		if got := takes(t, l, r, "default", midnight.AddDate(0, 0, 4), 5000); got != 5000 {
			t.Errorf("%d taken of a source that is warm", got)
		}
		if w, _ := l.Warming("default", newIP, "google"); w != nil {
			t.Errorf("%+v after the plan", w)
		}
	})
}

func TestProvidersHaveAccountsOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := plan(20)
	p.Providers = map[string]Share{"google": {Factor: 2}, "yahoo": {Days: []int{5, 5}}, Other: {Factor: 0.5}}
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(p))
		defer l.Stop(t.Context())
		end := midnight.AddDate(0, 0, 1)
		for provider, want := range map[string]int{"google": 40, "yahoo": 5, "": 10, "microsoft": 20} {
			time.Sleep(time.Until(midnight))
			if s, ok := l.State(newIP, provider); !ok || s.Ceiling != want {
				t.Errorf("%s: %+v", provider, s)
			}
		}
		time.Sleep(23 * time.Hour)
		for provider, want := range map[string]int{"google": 40, "yahoo": 5, "": 10, "microsoft": 20} {
			if got := takes(t, l, route(provider, newIP), "default", end, 1000); got != want {
				t.Errorf("%s: %d, want %d", provider, got, want)
			}
		}
		time.Sleep(time.Until(end))
		microsoft, _ := l.Warming("default", newIP, "microsoft")
		yahoo, _ := l.Warming("default", newIP, "yahoo")
		if microsoft != nil || yahoo == nil {
			t.Error("a provider's own days do not count")
		}
	})
}

func TestNothingBeforeTheFirstDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := settings(plan(5))
		s.Sources[0].Start = midnight.AddDate(0, 0, 2)
		l := start(t, newNotes(), s)
		defer l.Stop(t.Context())
		if got := takes(t, l, route("", newIP), "default", midnight.AddDate(0, 0, 2), 100); got != 0 {
			t.Errorf("%d before the first day", got)
		}
		if w, _ := l.Warming("default", newIP, ""); w == nil {
			t.Error("the route would not be marked")
		}
		state, _ := l.State(newIP, "")
		if want := "192.0.2.10 sends nothing to other yet: its warm-up begins on 2000-01-03"; state.String() != want {
			t.Errorf("%q", state)
		}
		time.Sleep(time.Until(midnight.AddDate(0, 0, 2)))
		if got := takes(t, l, route("", newIP), "default", midnight.AddDate(0, 0, 3), 100); got != 5 {
			t.Errorf("%d on the first day", got)
		}
	})
}

// TestTheDayIsSpreadOut: ten at once, the rest evenly, all of it from 23:00 on.
func TestTheDayIsSpreadOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(10+2400)))
		defer l.Stop(t.Context())
		r, got := route("google", newIP), 0
		for hour := 1; hour <= 24; hour++ {
			got += takes(t, l, r, "default", midnight.Add(time.Duration(hour)*time.Hour-time.Nanosecond), 1<<20)
			most := min(2410, 10+100*(hour+1))
			if got > most || got < most-2 {
				t.Fatalf("%d after %d h, want about %d", got, hour, most)
			}
			time.Sleep(time.Until(midnight.Add(time.Duration(hour) * time.Hour)))
		}
	})
}

// TestStreamsMarkedFirst: the others leave half until noon, and get all that is
// left by 20:00.
func TestStreamsMarkedFirst(t *testing.T) {
	t.Parallel()
	for _, hungry := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := settings(plan(1000))
			s.Streams["codes"], s.Streams["cold"] = First, Never
			l := start(t, newNotes(), s)
			defer l.Stop(t.Context())
			r := route("google", newIP)
			noon := midnight.Add(12 * time.Hour)
			others := takes(t, l, r, "news", noon, 1<<20)
			if half := paced(1000, 12*time.Hour) / 2; others > half || others < half-1 {
				t.Errorf("the others had %d until noon, half is %d", others, half)
			}
			first := 0
			if hungry {
				first = takes(t, l, r, "codes", midnight.Add(23*time.Hour+time.Minute), 1<<20)
				if first != 1000-others {
					t.Errorf("%d first, want what the others left: %d", first, 1000-others)
				}
			}
			others += takes(t, l, r, "news", midnight.Add(24*time.Hour), 1<<20)
			if first+others != 1000 {
				t.Errorf("%d of 1000 used", first+others)
			}
			for stream, second := range map[string]bool{"codes": false, "news": true} {
				if mark, _ := l.Warming(stream, newIP, ""); mark == nil || *mark != (mta.Warming{Provider: "other providers", Origin: "[[source]] 1 (line 5)", Second: second}) {
					t.Errorf("%s: %+v", stream, mark)
				}
			}
			if mark, why := l.Warming("cold", newIP, "google"); mark != nil || why != "it is being warmed up ([[source]] 1 (line 5)), and the stream cold is not for that" {
				t.Errorf("%v, %q", mark, why)
			}
			if again, ok := l.Take(r, delivery("cold", 1), noon); ok || !again.Equal(midnight.AddDate(0, 0, 1)) {
				t.Errorf("a stream that never goes: %v until %v", ok, again)
			}
		})
	}
}

// TestWhatWasNotDeliveredIsGivenBack, to the day it was taken from.
func TestWhatWasNotDeliveredIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(10, 10)))
		defer l.Stop(t.Context())
		r := route("google", newIP)
		take := func(n int) *mta.Delivery {
			d := delivery("default", n)
			for {
				again, ok := l.Take(r, d, time.Now())
				if ok {
					return d
				}
				if time.Until(again) > time.Minute {
					return nil
				}
				time.Sleep(time.Until(again))
			}
		}
		sent := func() int { s, _ := l.State(newIP, "google"); return s.Sent }
		greylisted := replied(451, mta.ClassTemporary, "greylisted")
		d := take(4)
		l.Learn(r, d, &mta.Attempt{Results: []mta.Result{accepted, greylisted, {Class: mta.ClassUncertain}, greylisted}})
		if sent() != 2 {
			t.Errorf("%d used after one was delivered, one uncertain, and two were put off", sent())
		}
		l.Learn(r, d, attempt(d, greylisted)) // a second time: not ours
		if sent() != 2 {
			t.Errorf("%d: given back twice", sent())
		}
		late := take(8)
		if late == nil || take(1) != nil {
			t.Fatal("8 and no more were left")
		}
		time.Sleep(time.Until(midnight.AddDate(0, 0, 1)))
		for range 10 {
			if take(1) == nil {
				t.Fatal("the second day's ten are not there")
			}
		}
		l.Learn(r, late, attempt(late, greylisted))
		if take(1) != nil {
			t.Error("what was taken yesterday was given back today")
		}
	})
}

// TestAPairOfSources: both count when both are warming.
func TestAPairOfSources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := settings(plan(10))
		s.Sources = append(s.Sources, Source{IP: newIP6, Start: midnight, Plan: plan(4)})
		l := start(t, newNotes(), s)
		defer l.Stop(t.Context())
		end := midnight.AddDate(0, 0, 1)
		if got := takes(t, l, route("", newIP, newIP6), "default", end, 100); got != 4 {
			t.Errorf("%d by the pair, want the smaller ceiling", got)
		}
		if got := takes(t, l, route("", newIP, warmIP), "default", end, 100); got != 6 {
			t.Errorf("%d by the one beside a warm one", got)
		}
		if got := takes(t, l, route("", warmIP), "default", end, 100); got != 100 {
			t.Errorf("%d by a source that is not warming", got)
		}
	})
}

// TestABigDeliveryKeepsNobodyWaiting: what a big one does not fit into is asked
// for again within a minute.
func TestABigDeliveryKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(50)))
		defer l.Stop(t.Context())
		r := route("", newIP)
		for range 3 {
			again, ok := l.Take(r, delivery("default", 51), time.Now())
			if ok || time.Until(again) > bulky {
				t.Fatalf("%v until %v", ok, again)
			}
			time.Sleep(time.Until(again))
		}
		if got := takes(t, l, r, "default", time.Now().Add(time.Minute), 5); got != 5 {
			t.Errorf("%d small ones", got)
		}
	})
}

// TestNothingWithoutAWrite: what cannot be made durable is not sent.
func TestNothingWithoutAWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNotes()
		n.fail = errDisk
		l := start(t, n, settings(plan(100)))
		defer l.Stop(t.Context())
		r := route("", newIP)
		if got := takes(t, l, r, "default", midnight.Add(time.Hour), 100); got != 0 {
			t.Errorf("%d sent", got)
		}
		n.mu.Lock()
		n.fail = nil
		n.mu.Unlock()
		if got := takes(t, l, r, "default", midnight.Add(time.Hour+10*time.Second), 10); got != 10 {
			t.Errorf("%d after the disk was mended", got)
		}
	})
}

// TestAStopInOrderLosesNothing, and a ledger that is stopped gives nothing.
func TestAStopInOrderLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, got := newNotes(), 0
		r := route("google", newIP)
		for range 40 {
			l := start(t, n, settings(plan(100)))
			got += takes(t, l, r, "default", midnight.AddDate(0, 0, 1).Add(-time.Minute), 3)
			if err := l.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, ok := l.Take(r, delivery("default", 1), time.Now()); ok {
				t.Fatal("taken after the end")
			}
		}
		if got != 100 {
			t.Errorf("%d of 100 over many restarts", got)
		}
	})
}

// TestChangedSettings: what was sent counts under the new plan; a new start
// forgets what bad signs cost.
func TestChangedSettings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNotes()
		l := start(t, n, settings(plan(10, 10, 10)))
		r := route("google", newIP)
		takes(t, l, r, "default", midnight.Add(time.Hour), 8)
		l.Reconfigure(settings(plan(9)))
		if got := takes(t, l, r, "default", midnight.AddDate(0, 0, 1), 100); got != 1 {
			t.Errorf("%d under the new plan", got)
		}
		l.Reconfigure(Settings{})
		if w, _ := l.Warming("default", newIP, "google"); w != nil {
			t.Error("still warming")
		}
		for range 5 { // of no warm-up any more: nothing is learnt, nothing breaks
			d := delivery("default", 1)
			l.Learn(r, d, attempt(d, replied(550, mta.ClassPermanent, "ip_blocked")))
			l.Complained(newIP, "google")
		}
		l.Reconfigure(settings(plan(10, 10, 10)))
		for range 3 {
			d := delivery("default", 1)
			l.Learn(r, d, attempt(d, replied(550, mta.ClassPermanent, "ip_blocked")))
		}
		if s, _ := l.State(newIP, "google"); s.Back != 1 || s.Stopped == "" {
			t.Errorf("%+v", s)
		}
		again := settings(plan(10, 20, 30))
		again.Sources[0].Start = midnight.AddDate(0, 0, -2)
		l.Reconfigure(again)
		if s, _ := l.State(newIP, "google"); s.Back != 0 || s.Ceiling != 30 || s.Stopped == "" {
			t.Errorf("%+v: a new start is another warm-up, today's stop stays", s)
		}
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDefaultPlan(t *testing.T) {
	t.Parallel()
	p := Default()
	if len(p.Days) != 30 || p.Days[0] != 50 || p.Days[29] != 860000 {
		t.Fatalf("%v", p.Days)
	}
	for i := 1; i < len(p.Days); i++ {
		if growth := float64(p.Days[i]) / float64(p.Days[i-1]); growth < 1.25 || growth > 1.5 {
			t.Errorf("day %d: times %.2f", i+1, growth)
		}
	}
}

func TestAccountsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newNotes(), settings(plan(10)))
		defer l.Stop(t.Context())
		for i := range MaxAccounts + 100 {
			l.Take(route("p"+string(rune('a'+i%26))+string(rune(0x100+i)), newIP), delivery("default", 1), time.Now())
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.mu.accounts) > MaxAccounts+1 {
			t.Errorf("%d accounts", len(l.mu.accounts))
		}
	})
}
