package standing

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

// TestKept: what holds is found again after a restart, in the same lengths; what
// is over or cannot be read is not, and its note goes.
func TestKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := Settings{Fallback: byRouter, Rules: []Rule{{Name: "slow", Code: "451", Action: Slow}}}
		w := newWorld(t, set)
		w.learn(direct("192.0.2.1", "192.0.2.2"), 0, blocked)
		w.learn(direct("192.0.2.2", "192.0.2.1"), 0, blocked)
		w.learn(direct("192.0.2.1"), 0, busy)
		other := direct("192.0.2.1")
		other.Site = "other.example"
		w.learn(other, 0, unknown)
		before := w.Entries("")
		time.Sleep(time.Second)
		synctest.Wait()
		w.notes.mu.Lock()
		w.notes.m["standing/rubbish"] = []byte("{")
		w.notes.m["standing/far"] = []byte(fmt.Sprintf(`{"from":{"":{"until":%d,"hard":true}},"router":{"on":true,"wait":999999999999999,"next":%d}}`, time.Now().AddDate(9, 0, 0).UnixMilli(), time.Now().AddDate(9, 0, 0).UnixMilli()))
		w.notes.m["warmup/mx.example"] = []byte("not ours")
		w.notes.mu.Unlock()
		w.heard()
		w.again(set)
		var after []Entry
		for _, e := range w.Entries("") {
			if e.Site != "far" {
				after = append(after, e)
			}
		}
		if len(before) != 4 || len(after) != 4 {
			t.Fatalf("before %+v\nafter  %+v", before, after)
		}
		for i := range before {
			b, a := before[i], after[i]
			if b.Why != a.Why || b.Kind != a.Kind || b.Source != a.Source || !b.Until.Truncate(time.Millisecond).Equal(a.Until) {
				t.Errorf("before %+v\nafter  %+v", b, a)
			}
		}
		for _, e := range w.Entries("far") {
			if e.Until.After(time.Now().Add(maxProbe)) || e.Kind != KindFallback && e.Until.After(time.Now().Add(MaxFor)) {
				t.Errorf("a note suspends until %v", e.Until)
			}
		}
		if n := w.Clear("", "the operator"); n == 0 {
			t.Error("nothing was cleared")
		}
		told := w.heard()
		if len(told) == 0 || !strings.Contains(told[len(told)-1], "the operator cleared what was learnt of ") || w.notes.len() != 1 {
			t.Errorf("%q, %d notes", told, w.notes.len())
		}
	})
}

// TestNotesFail: a store that cannot write changes nothing of what holds.
func TestNotesFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Fallback: byRouter})
		w.notes.mu.Lock()
		w.notes.fail = fmt.Errorf("disk full")
		w.notes.mu.Unlock()
		_, m := w.learn(direct("192.0.2.1"), 0, blocked)
		w.sees("refused", m, "e", true)
		time.Sleep(time.Second)
		synctest.Wait()
		if w.Counts().Lost == 0 || w.notes.len() != 0 {
			t.Error("nothing was counted")
		}
		w.notes.mu.Lock()
		w.notes.fail = nil
		w.notes.mu.Unlock()
		if w.heard(); w.notes.len() != 1 { // the end writes it
			t.Error("what could not be written was forgotten")
		}
	})
}

// TestMemoryIsBounded: however many sites and sources complain, so many are
// remembered.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	w := New(Options{Settings: Settings{Fallback: byRouter}})
	for i := range MaxSites + 100 {
		r := direct("192.0.2.1", "192.0.2.2")
		r.Site = fmt.Sprint("site", i)
		w.Learn(r, delivery(0), attempt(blocked))
	}
	if c := w.Counts(); c.Sites != MaxSites {
		t.Errorf("%d sites", c.Sites)
	}
	if !w.Avoid("site0", "192.0.2.1").Until.IsZero() || w.Avoid(fmt.Sprint("site", MaxSites+99), "192.0.2.1").Until.IsZero() {
		t.Error("the young left before the old")
	}
	for i := range 2 * MaxSources {
		r := direct(fmt.Sprintf("192.0.2.%d", i+1), "192.0.2.250")
		r.Fallback = false
		w.Learn(r, delivery(0), attempt(blocked))
	}
	if n := len(w.Entries("mx.example")); n != MaxSources {
		t.Errorf("%d sources", n)
	}
}

// TestManyAtOnce: workers, the planner and the operator do not get in each
// other's way.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Fallback: byRouter})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 300 {
				r := direct("192.0.2.1", "192.0.2.2")
				r.Site, r.Probe = fmt.Sprint("site", i%7), g == 1
				w.Learn(r, delivery(0), attempt([]mta.Result{took, blocked, busy}[(g+i)%3]))
				w.Take(r, time.Now())
				w.Avoid(r.Site, r.SourceKey())
				w.Fallback(r.Site)
				if i%50 == 0 {
					w.Clear(r.Site, "test")
					w.Counts()
				}
			}
		})
	}
	all.Wait()
	w.Stop(t.Context())
}

// TestShippedRules: each can be read, names where it comes from, and fits the
// reply that it is about.
func TestShippedRules(t *testing.T) {
	t.Parallel()
	rules := Shipped()
	if len(rules) < 20 {
		t.Fatalf("%d rules", len(rules))
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.Name] || r.For < MinFor || r.For > MaxFor || r.Most > MaxFor || len(r.Provider) == 0 || r.Action == Nothing {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
	}
	for _, v := range []struct{ provider, reply, want string }{
		{"google", "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address", "shipped: google-rate"},
		{"google", "550 5.7.1 [192.0.2.1] Gmail has detected that this message is likely suspicious due to the very low reputation of the sending IP address", "shipped: google-reputation"},
		{"microsoft", "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140).", "shipped: microsoft-s3140"},
		{"microsoft", "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)", "shipped: microsoft-s775"},
		{"microsoft", "451 4.7.651 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S3114)", "shipped: microsoft-s775"},
		{"google", "421 4.7.0 this message is suspicious due to the very low reputation of the sending domain", ""},
		{"yahoo", "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred", "shipped: yahoo-tss"},
		{"yahoo", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", "shipped: yahoo-tss04"},
		{"gmx", "554 gmx.net (mxgmx001) Nemesis ESMTP Service not available No SMTP service Bad DNS PTR resource record.", "shipped: gmx-blocked"},
		{"", "421 4.7.28 unusual rate", ""},
	} {
		var code int
		var e mta.Enhanced
		rest := v.reply
		if _, err := fmt.Sscanf(rest, "%d %d.%d.%d", &code, &e.Class, &e.Subject, &e.Detail); err != nil {
			_, _ = fmt.Sscanf(rest, "%d", &code)
			e = mta.Enhanced{}
		}
		res := mta.Result{Reply: mta.Reply{Code: code, Enhanced: e, Text: rest}}
		got := ""
		for i := range rules {
			if rules[i].Fits(&mta.Route{Provider: v.provider}, "mx.example", &res) {
				got = rules[i].Name
				break
			}
		}
		if got != v.want {
			t.Errorf("%q: %q, want %q", v.reply, got, v.want)
		}
	}
}

func TestParseTriggers(t *testing.T) {
	t.Parallel()
	parse := func(s string) (time.Duration, bool) { d, err := time.ParseDuration(s); return d, err == nil }
	got, err := ParseTriggers([]string{"blocked", "ptr", "port25", "unresolved", "stalled:90m"}, parse)
	if err != nil || got != (Triggers{Blocked: true, PTR: true, Port25: true, Unresolved: true, Stalled: 90 * time.Minute}) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := ParseTriggers([]string{"stalled"}, parse); err != nil || got.Stalled != DefaultStalled {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"block", "ptr:4h", "stalled:", "stalled:0s", "stalled:9999h", "stalled:soon", ""} {
		if _, err := ParseTriggers([]string{bad}, parse); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func BenchmarkLearnTaken(b *testing.B) {
	w := New(Options{Settings: Settings{Fallback: byRouter}})
	r, d, a := direct("192.0.2.1"), delivery(0), attempt(took)
	b.ReportAllocs()
	for b.Loop() {
		w.Learn(r, d, a)
	}
}
