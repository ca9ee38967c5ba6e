package route

import (
	"net/netip"
	"strings"
	"testing"

	"mailout/internal/mta"
)

const rerouteZone = `
a.test MX 10 mx.test
mx.test A 198.51.100.1
relay.test A 198.51.100.60
smart.test A 198.51.100.50
us.test A 192.0.2.99
`

// TestRouteForAnOperatorsRoute: Via before a rule, a rule of the stream before
// one of all streams, and those before the configuration.
func TestRouteForAnOperatorsRoute(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Router = Router{Host: "smart.test", Port: 587, Line: 4}
	s.Rules = []Rule{{Domains: []string{"ruled.test"}, Host: "smart.test"}}
	s.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:25")}
	w := newWorld(t, s, rerouteZone)
	w.p.Reroute([]Reroute{
		{Domain: "a.test", Stream: "codes", To: ViaDirect, Why: "codes go directly"},
		{Domain: "a.test", To: "relay.test:26", Why: "all by the relay"},
		{Domain: "self.test", To: "us.test", Why: "a mistake"},
	})
	for _, c := range []struct {
		dest          mta.Destination
		site, matched string
	}{
		{mta.Destination{Domain: "a.test", Stream: "codes"}, "mx.test", "codes go directly"},
		{mta.Destination{Domain: "a.test", Stream: mta.DefaultStream}, "router:relay.test:26", "all by the relay"},
		{mta.Destination{Domain: "a.test", Stream: mta.DefaultStream, Via: ViaDirect}, "mx.test", "rerouted to direct"},
		{mta.Destination{Domain: "a.test", Stream: "codes", Via: "198.51.100.61"}, "router:198.51.100.61", "rerouted to 198.51.100.61"},
		{mta.Destination{Domain: "a.test", Stream: "codes", Via: ViaRouter}, "router:smart.test:587", "rerouted to router"},
		{mta.Destination{Domain: "ruled.test", Stream: "x"}, "router:smart.test", "[[route]] 1"},
		{mta.Destination{Domain: "ruled.test", Stream: "x", Via: "relay.test"}, "router:relay.test", "rerouted to relay.test"},
		{mta.Destination{Domain: "other.test", Stream: "x"}, "router:smart.test:587", "[router] (line 4)"},
	} {
		r, f := w.p.RouteFor(t.Context(), c.dest)
		if f != nil || r.Site != c.site || r.Matched != c.matched {
			t.Errorf("%+v: %+v %v", c.dest, r, f)
		}
	}
	for _, d := range []mta.Destination{
		{Domain: "self.test", Stream: "x"}, {Domain: "a.test", Via: "192.0.2.99"}, // ourselves
		{Domain: "a.test", Via: "missing.test"}, {Domain: "a.test", Via: "x y"},
	} {
		if r, f := w.p.RouteFor(t.Context(), d); f == nil || f.Cause != mta.CauseRouter {
			t.Errorf("%+v: %+v %v", d, r, f)
		}
	}
	s.Router = Router{}
	if err := w.p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	if _, f := w.p.RouteFor(t.Context(), mta.Destination{Domain: "a.test", Via: ViaRouter}); f == nil || f.Cause != mta.CauseRouter {
		t.Errorf("a router that is not there: %v", f)
	}
	w.p.Hold([]Hold{{Reason: "guard"}})
	if r, f := w.p.RouteFor(t.Context(), mta.Destination{Domain: "a.test", Via: ViaDirect}); f != nil || r.HeldBy != "guard" {
		t.Errorf("the guard does not hold it: %+v %v", r, f)
	}
	if r, f := w.p.RouteFor(t.Context(), mta.Destination{Domain: "a.test"}); f != nil || r.HeldBy != "" {
		t.Errorf("the guard holds a relay's mail: %+v %v", r, f)
	}
}

func TestParseVia(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		" Direct ": "direct", "ROUTER": "router", "Relay.Example:587": "relay.example:587", "[2001:db8::1]:26": "[2001:db8::1]:26",
		"192.0.2.1": "192.0.2.1", "[relay.example]": "[relay.example]",
		"": "", "a b": "", "relay.example:0": "", "relay.example:70000": "", "0.0.0.0": "", "x\x00y": "", "direct:25": "",
		strings.Repeat("a", 256): "", "rélay\u202e.example": "",
	} {
		got, err := ParseVia(in)
		if (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
}
