package route

import (
	"testing"

	"mailout/internal/mta"
)

const fallbackZone = `
a.test MX 10 mx.test
mx.test A 198.51.100.1
b.test MX 10 mx.b.test
mx.b.test A 198.51.100.2
ruled.test MX 10 mx.test
smart.test A 198.51.100.50
`

// TestRouterStandsIn: with use = "fallback" mail goes directly, but for sites
// that the router stands in for; of those one direct way stays to be probed.
func TestRouterStandsIn(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Router = Router{Host: "smart.test", Port: 587, Line: 4, Use: UseFallback}
	s.Rules = []Rule{{Domains: []string{"ruled.test"}, Host: Direct}}
	w := newWorld(t, s, fallbackZone)
	state := map[string]Fallback{}
	w.p.fallback = func(site string) Fallback { return state[site] }
	plan := func(domain string) *mta.Plan {
		t.Helper()
		p, f := w.p.PlanFor(t.Context(), mta.Destination{Domain: domain, Stream: mta.DefaultStream}, "")
		if f != nil {
			t.Fatalf("%s: %v", domain, f)
		}
		return p
	}
	p := plan("a.test")
	if len(p.Routes) != 1 || p.Routes[0].Site != "mx.test" || !p.Routes[0].Fallback || p.Routes[0].Probe || p.Routes[0].Warming != nil {
		t.Errorf("direct: %+v", p.Routes[0])
	}
	state["mx.test"] = Fallback{On: true, Why: "it refused us", Probe: true}
	p = plan("a.test")
	if len(p.Routes) != 2 {
		t.Fatalf("%d routes", len(p.Routes))
	}
	by, probe := p.Routes[0], p.Routes[1]
	if by.Router != "smart.test" || by.Site != "router:smart.test:587" || by.Instead != "mx.test" || by.Matched != "[router] (line 4) instead of direct delivery: it refused us" {
		t.Errorf("by the router: %+v", by)
	}
	if probe.Site != "mx.test" || !probe.Probe || probe.Warming == nil || probe.Weight != probeWeight || probe.Router != "" {
		t.Errorf("the probe: %+v", probe)
	}
	if p := plan("b.test"); len(p.Routes) != 1 || p.Routes[0].Site != "mx.b.test" {
		t.Errorf("another site: %+v", p.Routes[0])
	}
	if p := plan("ruled.test"); len(p.Routes) != 1 || p.Routes[0].Site != "mx.test" || p.Routes[0].Fallback {
		t.Errorf("a rule that says direct: %+v", p.Routes[0])
	}
	state["mx.test"] = Fallback{On: true, Why: "port 25 is closed"}
	if p := plan("a.test"); len(p.Routes) != 1 || p.Routes[0].Router == "" {
		t.Errorf("without probes: %d routes", len(p.Routes))
	}
	delete(state, "mx.test")
	w.p.Hold([]Hold{{Reason: "the guard says no"}})
	if p := plan("a.test"); len(p.Routes) != 1 || p.Routes[0].Router == "" || p.Routes[0].Matched != "[router] (line 4) instead of direct delivery: the guard says no" {
		t.Errorf("held: %+v", p.Routes[0])
	}
	if p := plan("ruled.test"); p.Routes[0].HeldBy == "" {
		t.Error("a rule that says direct goes by the router")
	}
}

// TestFallbackForWhatDNSDoesNotPlace: only when it is asked for; and a router
// that cannot be found defers.
func TestFallbackForWhatDNSDoesNotPlace(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Router = Router{Host: "smart.test", Port: 587, Use: UseFallback}
	w := newWorld(t, s, fallbackZone)
	w.p.fallback = func(string) Fallback { return Fallback{On: true, Why: "refused", Probe: true} }
	nowhere := mta.Destination{Domain: "nowhere.test", Stream: mta.DefaultStream}
	if _, f := w.p.PlanFor(t.Context(), nowhere, ""); f == nil || f.Cause != mta.CauseNoDomain {
		t.Errorf("not asked for: %v", f)
	}
	s.Router.Unresolved = true
	if err := w.p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	if p, f := w.p.PlanFor(t.Context(), nowhere, ""); f != nil || len(p.Routes) != 1 || p.Routes[0].Router != "smart.test" {
		t.Errorf("asked for: %+v %v", p, f)
	}
	s.Router.Host = "missing.test"
	if err := w.p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	if _, f := w.p.PlanFor(t.Context(), mta.Destination{Domain: "a.test", Stream: mta.DefaultStream}, ""); f == nil || f.Cause != mta.CauseRouter {
		t.Errorf("a router that cannot be found: %v", f)
	}
}
