package route

import (
	"net/netip"
	"testing"

	"mailout/internal/mta"
)

// TestWarming: direct routes of a warming source are marked, and those whose
// stream is not for it are left out.
func TestWarming(t *testing.T) {
	t.Parallel()
	young := netip.MustParseAddr("192.0.2.11")
	p := &Planner{warming: func(stream string, source netip.Addr, provider string) (*mta.Warming, string) {
		switch {
		case source != young:
			return nil, ""
		case stream == "cold":
			return nil, "not for cold"
		}
		return &mta.Warming{Provider: provider, Origin: "line 7"}, ""
	}}
	p.settings.Store(&compiled{})
	old := netip.MustParseAddr("192.0.2.10")
	for _, c := range []struct {
		stream string
		ips    []netip.Addr
		router string
		mark   bool
		why    string
	}{
		{"default", []netip.Addr{old}, "", false, ""},
		{"default", []netip.Addr{young}, "", true, ""},
		{"default", []netip.Addr{old, young}, "", true, ""},
		{"default", []netip.Addr{young}, "router.test", false, ""},
		{"cold", []netip.Addr{young}, "", false, "not for cold"},
		{"cold", []netip.Addr{young}, "router.test", false, ""},
	} {
		r := &mta.Route{Provider: "google", Router: c.router}
		for _, ip := range c.ips {
			r.Sources = append(r.Sources, mta.Source{IP: ip})
		}
		why := p.warm(r, c.stream)
		if why != c.why || (r.Warming != nil) != c.mark || c.mark && *r.Warming != (mta.Warming{Provider: "google", Origin: "line 7"}) {
			t.Errorf("%+v: %+v, %q", c, r.Warming, why)
		}
	}
	s := spreading{p: p, stream: "cold"}
	base := &mta.Route{Hosts: []mta.Host{{Name: "h.test", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}}}
	for _, ip := range []netip.Addr{old, young} {
		s.member(base, &member{sources: []mta.Source{{IP: ip}}, weight: 1})
	}
	if plan, failure := s.plan(base); failure != nil || len(plan.Routes) != 1 || plan.Routes[0].Warming != nil ||
		len(plan.LeftOut) != 1 || plan.LeftOut[0].Why != "not for cold" {
		t.Errorf("%+v, %v", plan, failure)
	}

	six := netip.MustParseAddr("2001:db8::1")
	both := *base
	both.IPv6 = true
	both.Hosts = []mta.Host{{Name: "h.test", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")}}}
	for _, c := range []struct {
		four  netip.Addr
		marks []bool
	}{{old, []bool{false}}, {young, []bool{true, false}}} { // the IPv6 source is warm
		s := spreading{p: p, stream: "default"}
		s.member(&both, &member{sources: []mta.Source{{IP: c.four}, {IP: six}}, weight: 3})
		plan, failure := s.plan(&both)
		if failure != nil || len(plan.Routes) != len(c.marks) {
			t.Fatalf("%s: %+v, %v", c.four, plan, failure)
		}
		for i, mark := range c.marks {
			if r := plan.Routes[i]; (r.Warming != nil) != mark || len(r.Sources) != 3-len(c.marks) || r.Weight != 3 {
				t.Errorf("%s: route %d: %+v", c.four, i, r)
			}
		}
	}
}
