package route

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

const peersZone = `
a.test A 198.51.100.1
b.test A 198.51.100.2
c.test A 198.51.100.3
mx.test MX 20 b.test
mx.test MX 10 a.test
mx.test MX 30 out.origin.test
mx.test MX 40 c.test
nomx.test A 198.51.100.9
null.test MX 0 .
slow.test A 198.51.100.8
`

// TestHostsOfRouters: hosts in their order, MX records expanded in their place,
// ports of their own; what cannot be found is passed over.
func TestHostsOfRouters(t *testing.T) {
	t.Parallel()
	for hosts, want := range map[string]string{
		"a.test":                            "router:a.test: a.test(0) 198.51.100.1",
		"a.test,b.test":                     "router:a.test,b.test: a.test(0) 198.51.100.1; b.test(1) 198.51.100.2",
		"a.test|b.test,c.test":              "router:a.test=b.test,c.test: a.test(0) 198.51.100.1; b.test(0) 198.51.100.2; c.test(1) 198.51.100.3",
		"mx:mx.test,c.test":                 "router:mx:mx.test,c.test: a.test(0) 198.51.100.1; b.test(1) 198.51.100.2; c.test(2) 198.51.100.3",
		"c.test|mx:mx.test,192.0.2.1":       "router:c.test=mx:mx.test,192.0.2.1: c.test(0) 198.51.100.3; a.test(0) 198.51.100.1; b.test(1) 198.51.100.2; 192.0.2.1(2) 192.0.2.1",
		"mx:nomx.test":                      "router:mx:nomx.test: nomx.test(0) 198.51.100.9",
		"[a.test]:587,[2001:db8::7]:26":     "router:a.test:587,[2001:db8::7]:26: a.test(0) 198.51.100.1; 2001:db8::7(1) 2001:db8::7",
		"gone.test,b.test":                  "router:gone.test,b.test: gone.test(0) router; b.test(1) 198.51.100.2",
		"slow.test|b.test":                  "router:slow.test=b.test: slow.test(0) router; b.test(0) 198.51.100.2",
		"mx:null.test,b.test":               "router:mx:null.test,b.test: null.test(0) router; b.test(1) 198.51.100.2",
		"unix:/run/lmtp,b.test":             "router:unix:/run/lmtp,b.test: unix:/run/lmtp(0); b.test(1) 198.51.100.2",
		"198.51.100.99:25,198.51.100.99:26": "router:198.51.100.99,198.51.100.99:26: 198.51.100.99(0) router; 198.51.100.99(1) 198.51.100.99",
		"gone.test,mx:null.test":            "router",
		"mx:out.origin.test":                "router",
	} {
		s := standard()
		s.Listen = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.99:25")}
		s.Router = Router{Peers: Peers{Hosts: strings.Split(hosts, ",")}}
		w := newWorld(t, s, peersZone)
		w.dns.Script("slow.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure})
		if got := w.show("any.test"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", hosts, got, want)
		}
	}
}

// TestRouterOfItsOwn: EHLO name, limits and protocol of a router; its pool still
// has its sources.
func TestRouterOfItsOwn(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Limits = mta.Limits{Connections: 20, MessagesPerConnection: 100}
	s.Sources = []mta.Source{{IP: netip.MustParseAddr("192.0.2.10"), Hostname: "x.test"}, {IP: netip.MustParseAddr("192.0.2.11"), Hostname: "y.test"}}
	s.Router = Router{Peers: Peers{
		Hosts: []string{"a.test", "b.test:2525"}, Protocol: mta.LMTP, Helo: "own.test",
		Limits: mta.Limits{Connections: 3, Rates: []mta.Rate{{Count: 5, Per: time.Minute}}},
	}, Line: 7}
	w := newWorld(t, s, peersZone)
	plan, failure := w.p.PlanFor(t.Context(), mta.Destination{Domain: "any.test"}, "")
	if failure != nil || len(plan.Routes) != 2 {
		t.Fatal(plan, failure)
	}
	for i, r := range plan.Routes {
		if r.Sources[0].IP != s.Sources[i].IP || r.Sources[0].Hostname != "own.test" || r.Protocol != mta.LMTP || r.Site != "router:a.test:24,b.test:2525/lmtp/own.test" ||
			r.PortOf(&r.Hosts[0]) != 24 || r.PortOf(&r.Hosts[1]) != 2525 || len(r.Others) != 1 {
			t.Errorf("%+v", r)
		}
		l := r.Limits
		if l.Connections != 3 || l.MessagesPerConnection != 100 || len(l.Rates) != 1 || l.Rates[0].Bucket != "router "+r.Site || l.Rates[0].Origin != "[router] (line 7)" {
			t.Errorf("%+v", l)
		}
	}
	if s.Sources[0].Hostname != "x.test" || len(s.Router.Limits.Rates) != 1 || s.Router.Limits.Rates[0].Bucket != "" {
		t.Error("the settings were changed")
	}
}

// TestSocketsNeedNoSource: a router that is a socket alone has one route.
func TestSocketsNeedNoSource(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Sources = []mta.Source{{IP: netip.MustParseAddr("192.0.2.10"), Hostname: "x.test"}, {IP: netip.MustParseAddr("192.0.2.11"), Hostname: "y.test"}}
	s.Router = Router{Peers: Peers{Hosts: []string{"unix:/run/lmtp"}, Protocol: mta.LMTP}}
	w := newWorld(t, s, peersZone)
	w.p.Down(map[netip.Addr]string{s.Sources[0].IP: "gone", s.Sources[1].IP: "gone"})
	plan, failure := w.p.PlanFor(t.Context(), mta.Destination{Domain: "any.test"}, "")
	if failure != nil || len(plan.Routes) != 1 || len(plan.Routes[0].Targets(nil)) != 1 || plan.Routes[0].Targets(nil)[0].Source.Hostname != "out.origin.test" {
		t.Errorf("%+v %v", plan, failure)
	}
}
