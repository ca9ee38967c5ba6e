package queue

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func someDelivery(rcpts ...mta.Recipient) *mta.Delivery {
	if len(rcpts) == 0 {
		rcpts = []mta.Recipient{{Address: "a@one.example"}}
	}
	m := &mta.Message{ID: mta.NewID(noon, [10]byte{1}), Arrived: noon, Size: 4096, Stream: "default", MessageID: "<1@x>", Envelope: mta.Envelope{Sender: "s@x.example"}}
	return &mta.Delivery{Message: m, Destination: mta.Destination{Domain: "one.example", Stream: "default"}, Recipients: rcpts, Due: noon}
}

func someAttempt(results ...mta.Result) *mta.Attempt {
	return &mta.Attempt{Start: noon, End: noon.Add(time.Second), Site: "mx", Host: "mx.one.example", IP: netip.MustParseAddr("192.0.2.1"),
		Source: netip.MustParseAddr("192.0.2.9"), Helo: "out.example", TLS: mta.TLSFacts{Version: "TLS1.3"},
		Tries: []mta.Try{{Host: "mx0"}, {Host: "mx.one.example"}}, Results: results, Durations: mta.Durations{Total: 1000}}
}

func draw(d *mta.Delivery, a *mta.Attempt, now time.Time) concluded {
	return conclude(conclusion{d: d, a: a, now: now, schedule: retry.Default(), jitter: 0.5, hostname: "out.example"})
}

func relayed() mta.Result {
	return mta.Result{Class: mta.ClassDelivered, Relayed: true, Reply: mta.Reply{Code: 250, Text: "queued"}}
}

// Each class of result, with each NOTIFY that matters.
func TestConclude(t *testing.T) {
	t.Parallel()
	delivered := mta.Result{Class: mta.ClassDelivered, Reply: mta.Reply{Code: 250, Text: "ok"}}
	uncertain := mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Reason: "final reply lost"}
	h := time.Hour
	for _, c := range []struct {
		name   string
		res    mta.Result
		notify mta.Notify
		age    time.Duration
		event  mta.Event
		open   bool
		report string // kinds
	}{
		{"delivered", delivered, 0, 0, mta.EventDelivered, false, ""},
		{"delivered, SUCCESS asked: the host reports", delivered, mta.NotifySuccess, 0, mta.EventDelivered, false, ""},
		{"relayed", relayed(), 0, 0, mta.EventRelayed, false, ""},
		{"relayed, SUCCESS asked", relayed(), mta.NotifySuccess, 0, mta.EventRelayed, false, "success"},
		{"relayed to a router that reports itself", mta.Result{Class: mta.ClassDelivered, Relayed: true, DSN: true}, mta.NotifySuccess, 0, mta.EventRelayed, false, ""},
		{"refused", noSuchUser(), 0, 0, mta.EventFailed, false, "failure"},
		{"refused, NEVER", noSuchUser(), mta.NotifyNever, 0, mta.EventFailed, false, ""},
		{"refused, only DELAY", noSuchUser(), mta.NotifyDelay, 0, mta.EventFailed, false, ""},
		{"temporary", greylisted(), 0, 0, mta.EventDeferred, true, ""},
		{"temporary, late", greylisted(), 0, 5 * h, mta.EventDeferred, true, "delay"},
		{"temporary, late, only FAILURE", greylisted(), mta.NotifyFailure, 5 * h, mta.EventDeferred, true, ""},
		{"temporary, late, NEVER", greylisted(), mta.NotifyNever, 5 * h, mta.EventDeferred, true, ""},
		{"temporary, over", greylisted(), 0, 121 * h, mta.EventExpired, false, "failure"},
		{"temporary, over, NEVER", greylisted(), mta.NotifyNever, 121 * h, mta.EventExpired, false, ""},
		{"uncertain", uncertain, 0, 0, mta.EventDeferred, true, ""},
		{"uncertain, over", uncertain, 0, 121 * h, mta.EventExpired, false, "failure"},
		{"unknown is temporary", mta.Result{}, 0, 0, mta.EventDeferred, true, ""},
	} {
		out := draw(someDelivery(mta.Recipient{Address: "a@one.example", Notify: c.notify}), someAttempt(c.res), noon.Add(c.age))
		s := out.settlement
		if len(s.Records) != 1 || s.Records[0].Event != c.event || (s.Next != nil) != c.open {
			t.Errorf("%s: records %+v, next %+v", c.name, s.Records, s.Next)
			continue
		}
		kinds := ""
		for _, r := range out.requests {
			kinds += map[ReportKind]string{ReportFailure: "failure", ReportDelay: "delay", ReportSuccess: "success"}[r.Kind]
		}
		if kinds != c.report {
			t.Errorf("%s: reports %q, want %q", c.name, kinds, c.report)
		}
		if got := s.Records[0].Uncertain; got != (c.res.Class == mta.ClassUncertain) || (out.uncertain == 1) != got {
			t.Errorf("%s: uncertain %v", c.name, got)
		}
		if c.open && (s.Next.Attempts != 1 || s.Next.State != mta.Deferred || !s.Next.Due.After(noon.Add(c.age)) || !s.Records[0].Next.Equal(s.Next.Due)) {
			t.Errorf("%s: next %+v", c.name, s.Next)
		}
	}
}

func TestConcludeRecordIsWhole(t *testing.T) {
	t.Parallel()
	r := draw(someDelivery(), someAttempt(greylisted()), noon.Add(1234567*time.Nanosecond)).settlement.Records[0]
	if r.Time != noon.Add(time.Millisecond) || r.Site != "mx" || r.Host != "mx.one.example" || r.IP.String() != "192.0.2.1" || r.Source.String() != "192.0.2.9" ||
		r.Helo != "out.example" || r.TLS.Version != "TLS1.3" || len(r.Tries) != 2 || r.Total != 1000 || r.Attempt != 1 || r.Code != 450 ||
		r.Enhanced != "4.7.1" || r.Reply != "450 greylisted" || r.Class != "temporary" || r.Scope != "recipient" || r.Sender != "s@x.example" ||
		r.Recipient != "a@one.example" || r.Destination != "one.example" || r.Size != 4096 || r.Stream != "default" || r.MessageID != "<1@x>" {
		t.Errorf("%+v", r)
	}
}

// The last real reply survives attempts that got none, with the host that gave
// it; the reason is the latest.
func TestTrap39LastRealReplyIsKept(t *testing.T) {
	t.Parallel()
	d := someDelivery()
	d = draw(d, someAttempt(greylisted()), noon).settlement.Next
	a := someAttempt(unreachable())
	a.Host, a.IP = "mx2.one.example", netip.Addr{}
	d = draw(d, a, noon.Add(time.Hour)).settlement.Next
	l := d.Last
	if l.Result.Reply.Code != 450 || l.Host != "mx.one.example" || l.Result.Reason != "connection refused" || l.Result.Scope != mta.ScopeSite || d.Attempts != 2 {
		t.Errorf("%+v", l)
	}
	out := draw(d, a, noon.Add(200*time.Hour))
	if r := out.requests[0]; r.Results[0].Reply.Code != 450 || r.Results[0].Enhanced != expiredStatus {
		t.Errorf("%+v", r)
	}
}

// An attempt with too few results loses nobody.
func TestConcludeMissingResult(t *testing.T) {
	t.Parallel()
	d := someDelivery(mta.Recipient{Address: "a@one.example"}, mta.Recipient{Address: "b@one.example"})
	s := draw(d, someAttempt(noSuchUser()), noon).settlement
	if s.Next == nil || len(s.Next.Recipients) != 1 || s.Next.Recipients[0].Address != "b@one.example" {
		t.Errorf("%+v", s.Next)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	lost := mta.Result{Class: mta.ClassUncertain}
	blocked := mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeSite}
	for _, c := range []struct {
		name    string
		results []mta.Result
		want    mood
	}{
		{"none", nil, moodNeutral},
		{"delivered", []mta.Result{{Class: mta.ClassDelivered}}, moodGood},
		{"refused recipient", []mta.Result{noSuchUser()}, moodGood},
		{"greylisted", []mta.Result{greylisted()}, moodGood},
		{"unreachable", []mta.Result{unreachable(), unreachable()}, moodBad},
		{"our own network", []mta.Result{{Scope: mta.ScopeLocal}}, moodBad},
		{"mixed", []mta.Result{unreachable(), greylisted()}, moodGood},
		{"reply lost", []mta.Result{lost}, moodBad},
		{"blocked for good", []mta.Result{blocked}, moodNeutral},
		{"too fast", []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Bounce: "rate_limited", Enhanced: mta.Enhanced{Class: 4, Subject: 7, Detail: 1}}}, moodHurried},
		{"too fast for some", []mta.Result{{Class: mta.ClassDelivered}, {Class: mta.ClassTemporary, Scope: mta.ScopeSite, Bounce: "rate_limited"}}, moodHurried},
		{"too fast for one mailbox", []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Bounce: "rate_limited", Enhanced: mta.Enhanced{Class: 4, Subject: 2, Detail: 1}}}, moodGood},
		{"too many recipients", []mta.Result{{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Bounce: "rate_limited", Enhanced: mta.Enhanced{Class: 4, Subject: 5, Detail: 3}}}, moodGood},
	} {
		if got, _ := judge(&mta.Attempt{Results: c.results}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestExpiryOfAnUncertainDelivery guards that a message which may have arrived
// is reported as such when it expires while waiting, with its own last words
// and not with those of another message of its site.
func TestExpiryOfAnUncertainDelivery(t *testing.T) {
	t.Parallel()
	d := someDelivery()
	d.State, d.Attempts = mta.Deferred, 1
	d.Last = mta.Last{Time: noon, Site: "mx", Host: "mx.one.example", Result: mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Reason: "no answer to the end of the message"}}
	other := mta.Last{Time: noon, Site: "mx", Host: "mx.one.example", Result: mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeHost, Reason: "connection reset"}}
	out := conclude(conclusion{d: d, now: noon.Add(121 * time.Hour), schedule: retry.Default(), blame: other})
	if len(out.requests) != 1 || out.requests[0].Results[0].Class != mta.ClassUncertain {
		t.Fatalf("requests: %+v", out.requests)
	}
	r := out.settlement.Records[0]
	if !r.Uncertain || !strings.Contains(r.Reason, "no answer to the end") || strings.Contains(r.Reason, "reset") {
		t.Errorf("record: %+v", r)
	}
	if out.uncertain != 0 {
		t.Error("an attempt is counted as uncertain although none was made")
	}
}

// What expired is not said to be tried by another route.
func TestExpiryPromisesNoOtherRoute(t *testing.T) {
	t.Parallel()
	d := someDelivery()
	d.State, d.Attempts = mta.Deferred, 1
	d.Last = mta.Last{Time: noon, Site: "mx", Result: mta.Result{Class: mta.ClassTemporary, Reason: "blocked; " + mta.DetourWords}}
	out := conclude(conclusion{d: d, now: noon.Add(121 * time.Hour), schedule: retry.Default()})
	if r := out.settlement.Records[0]; !strings.Contains(r.Reason, "blocked") || strings.Contains(r.Reason, "another route") {
		t.Errorf("record: %+v", r)
	}
}

// TestUncertainIsNotReleased guards that the success of another message does
// not bring a delivery forward whose content may have arrived.
func TestUncertainIsNotReleased(t *testing.T) {
	t.Parallel()
	last := mta.Last{Site: "mx", Result: mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost}}
	if blames(last, "mx") {
		t.Error("an uncertain delivery is released by its site's success")
	}
	last.Result.Class = mta.ClassTemporary
	if !blames(last, "mx") {
		t.Error("a delivery deferred for its site's sake is not released")
	}
	out := draw(someDelivery(), someAttempt(mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost}), noon)
	if out.deferred {
		t.Error("an uncertain delivery waits for its site's success")
	}
}

func TestReportsAreNamedOnTheRecord(t *testing.T) {
	t.Parallel()
	report := mta.NewID(noon, [10]byte{9})
	out := draw(someDelivery(mta.Recipient{Address: "a@one.example"}), someAttempt(greylisted()), noon.Add(5*time.Hour))
	nameReport(out.settlement.Records, out.requests[0], report)
	if out.settlement.Records[0].Report != report {
		t.Errorf("record: %+v", out.settlement.Records[0])
	}
}

// TestSignaturesAreNotOthers: which keys signed is told of the attempt in which the
// message was sent, and of nothing else that its failure concerns: other messages of
// the site, and the end of its own time.
func TestSignaturesAreNotOthers(t *testing.T) {
	t.Parallel()
	signed := greylisted()
	signed.Signed = "m1._domainkey.one.example"
	d := someDelivery()
	out := draw(d, someAttempt(signed), noon).settlement
	if r := out.Records[0]; r.DKIM != signed.Signed {
		t.Errorf("of the attempt: %q", r.DKIM)
	}
	late := noon.Add(200 * time.Hour)
	for _, class := range []mta.Class{mta.ClassTemporary, mta.ClassUncertain} {
		bad := signed
		bad.Class = class
		blame := mta.Last{Time: noon, Site: "mx", Host: "mx.one.example", Result: forOthers(bad, "mx.one.example")}
		for name, waiting := range map[string]*mta.Delivery{"waited": out.Next, "untried": d} {
			records := conclude(conclusion{d: waiting, now: late, blame: blame, schedule: retry.Default(), jitter: 0.5}).settlement.Records
			if len(records) != 1 || records[0].Event != mta.EventExpired || records[0].DKIM != "" {
				t.Errorf("%s, class %v: %+v", name, class, records)
			}
		}
	}
}
