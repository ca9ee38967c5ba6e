package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/route"
	"mailout/internal/standing"
	"mailout/internal/transport"
)

func from(ip string) *mta.Route {
	return &mta.Route{Site: "mx.example", Helo: "out.example", Sources: []mta.Source{{IP: netip.MustParseAddr(ip)}}, Expires: time.Now().Add(time.Hour)}
}

func planOf(routes ...*mta.Route) *mta.Plan {
	return &mta.Plan{Routes: routes, Expires: routes[0].Expires}
}

func refuse(s *standing.Standing, r *mta.Route, code int) *mta.Attempt {
	a := &mta.Attempt{Host: "mx.example", Results: []mta.Result{{
		Class: mta.ClassPermanent, Bounce: string(bounce.IPBlocked), Reply: mta.Reply{Code: code}, Reason: "refused",
	}}}
	s.Learn(r, &mta.Delivery{Message: &mta.Message{}}, a)
	return a
}

// TestPlansHeedStanding: of a plan the refused source is avoided, what is
// suspended is left out, and with nothing left mail waits for the first to come
// back.
func TestPlansHeedStanding(t *testing.T) {
	t.Parallel()
	s := standing.New(standing.Options{Settings: standing.Settings{Rules: []standing.Rule{{Name: "stop", Code: "551", Action: standing.Suspend, For: time.Hour}}}})
	plan, failure := heed(planOf(from("192.0.2.1"), from("192.0.2.2")), s, time.Now())
	if failure != nil || len(plan.Routes) != 2 || plan.Routes[0].Others[0] != "192.0.2.2" || plan.Routes[1].Others[0] != "192.0.2.1" {
		t.Fatalf("%+v %v", plan, failure)
	}
	if a := refuse(s, plan.Routes[0], 554); !a.Results[0].Elsewhere {
		t.Error("the other source is not tried")
	}
	plan, _ = heed(planOf(from("192.0.2.1"), from("192.0.2.2")), s, time.Now())
	if r := plan.Routes; time.Until(r[0].AvoidUntil) < 9*time.Minute || !strings.HasPrefix(r[0].AvoidWhy, "refused") || !r[1].AvoidUntil.IsZero() {
		t.Errorf("%+v", plan.Routes[0])
	}
	if plan, _ := heed(planOf(from("192.0.2.1")), s, time.Now()); !plan.Routes[0].AvoidUntil.IsZero() {
		t.Error("the only source is avoided")
	}
	refuse(s, from("192.0.2.1"), 551)
	plan, failure = heed(planOf(from("192.0.2.1"), from("192.0.2.2")), s, time.Now())
	if failure != nil || len(plan.Routes) != 1 || plan.Routes[0].SourceKey() != "192.0.2.2" || len(plan.Routes[0].Others) != 0 {
		t.Errorf("a suspended source: %+v %v", plan, failure)
	}
	refuse(s, from("192.0.2.2"), 551)
	_, failure = heed(planOf(from("192.0.2.1"), from("192.0.2.2")), s, time.Now())
	if failure == nil || failure.Cause != mta.CauseSuspended {
		t.Fatalf("all suspended: %v", failure)
	}
	a := transport.JudgeRoute(failure, 1)
	if r := a.Results[0]; r.Class != mta.ClassTemporary || r.RetryAfter < 3500 || r.RetryAfter > 3601 || !strings.Contains(r.Reason, "refused") {
		t.Errorf("%+v", r)
	}
	by := from("192.0.2.1")
	by.Router = "smart.example"
	probe := from("192.0.2.1")
	probe.Probe = true
	plan, failure = heed(planOf(by, probe), s, time.Now())
	if failure != nil || len(plan.Routes) != 1 || plan.Routes[0] != by || by.Others != nil {
		t.Errorf("by the router: %+v %v", plan, failure)
	}
}

// deny is a quota that is used up.
type deny struct{ asked int }

func (q *deny) Take(*mta.Route, *mta.Delivery, time.Time) (time.Time, bool) {
	q.asked++
	return time.Now().Add(time.Hour), false
}

// TestQuotas: a probe asks for its turn, and for the warm-up's only when the
// source is being warmed up; one that may not go gives its turn back.
func TestQuotas(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := standing.New(standing.Options{
		Now:      func() time.Time { return now },
		Settings: standing.Settings{Fallback: standing.Fallback{Router: "smart.example", On: standing.Triggers{Blocked: true}, Probe: time.Minute}},
	})
	direct := from("192.0.2.1")
	direct.Fallback = true
	refuse(s, direct, 554)
	warm := &deny{}
	q := quotas{s, warm}
	probe := from("192.0.2.1")
	probe.Probe, probe.Warming = true, &mta.Warming{Origin: route.ProbeOrigin}
	if again, ok := q.Take(probe, nil, now); ok || again.Sub(now) != time.Minute {
		t.Errorf("too early: %v %v", again.Sub(now), ok)
	}
	warming := from("192.0.2.1")
	warming.Probe, warming.Warming = true, &mta.Warming{Provider: "google"}
	if again, ok := q.Take(warming, nil, now.Add(time.Minute)); ok || again.Sub(now) < 59*time.Minute || warm.asked != 1 {
		t.Errorf("used up: %v %v", again.Sub(now), ok)
	}
	if _, ok := q.Take(probe, nil, now.Add(time.Minute)); !ok || warm.asked != 1 {
		t.Error("the turn was not given back")
	}
	if _, ok := q.Take(probe, nil, now.Add(time.Minute)); ok {
		t.Error("two probes")
	}
}
