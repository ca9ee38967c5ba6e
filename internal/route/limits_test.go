package route

import (
	"net/netip"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/shape"
)

const limitsZone = `
mail.test MX 10 mta5.am0.yahoodns.net
mta5.am0.yahoodns.net A 198.51.100.1
other.test MX 10 mx.other.test
mx.other.test A 198.51.100.2
router.test A 198.51.100.3
`

// TestLimitsOfRoutes: which of [delivery], provider, [[shape]] and router says
// what holds.
func TestLimitsOfRoutes(t *testing.T) {
	t.Parallel()
	second := []shape.RateLimit{{Count: 5, Per: time.Second}}
	yahoo := "provider default yahoo (" + shape.ProviderVersion() + ")"
	for _, c := range []struct {
		name     string
		domain   string
		change   func(s *Settings)
		conns    int
		connFrom string
		messages int
		msgFrom  string
		buckets  []string
	}{
		{name: "delivery alone", domain: "other.test", change: func(*Settings) {}, conns: 15, messages: 50},
		{name: "provider lowers", domain: "mail.test", change: func(*Settings) {}, conns: 10, connFrom: yahoo, messages: 20, msgFrom: yahoo},
		{name: "provider raises nothing", domain: "mail.test", change: func(s *Settings) { s.Limits.Connections = 3 }, conns: 3, messages: 20, msgFrom: yahoo},
		{name: "providers off", domain: "mail.test", change: func(s *Settings) { s.NoProviderLimits = true }, conns: 15, messages: 50},
		{name: "a rule decides", domain: "mail.test", change: func(s *Settings) {
			s.Shape = []shape.Rule{{Providers: []string{"yahoo"}, Connections: 30, Rates: second, By: shape.DefaultBy, Line: 7}, {Connections: 1}}
		}, conns: 30, connFrom: "[[shape]] 1 (line 7)", messages: 20, msgFrom: yahoo, buckets: []string{"shape 1.1|192.0.2.1|mta5.am0.yahoodns.net"}},
		{name: "of a source", domain: "other.test", change: func(s *Settings) {
			s.Shape = []shape.Rule{{Sources: []string{"192.0.2.2"}, Connections: 1}, {Sources: []string{"192.0.2.1"}, MessagesPerConnection: 9}}
		}, conns: 15, messages: 9, msgFrom: "[[shape]] 2"},
		{name: "of a stream", domain: "other.test", change: func(s *Settings) {
			s.Shape = []shape.Rule{{Streams: []string{"bulk"}, Connections: 1}}
		}, conns: 15, messages: 50},
		{name: "a router's own stay", domain: "mail.test", change: func(s *Settings) {
			s.Router = Router{Host: "router.test", Peers: Peers{Limits: mta.Limits{Connections: 4}}}
			s.Shape = []shape.Rule{{Connections: 30, MessagesPerConnection: 6}}
		}, conns: 4, connFrom: "[router]", messages: 6, msgFrom: "[[shape]] 1"},
		{name: "no provider at a router", domain: "mail.test", change: func(s *Settings) { s.Router = Router{Host: "router.test"} }, conns: 15, messages: 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := standard()
			s.Sources = []mta.Source{{IP: netip.MustParseAddr("192.0.2.1"), Hostname: "out.origin.test"}}
			s.Limits = mta.Limits{Connections: 15, MessagesPerConnection: 50}
			c.change(&s)
			w := newWorld(t, s, limitsZone)
			r, f := w.p.Route(t.Context(), c.domain)
			if f != nil {
				t.Fatal(f)
			}
			l := r.Limits
			if l.Connections != c.conns || l.From.Connections != c.connFrom || l.MessagesPerConnection != c.messages || l.From.MessagesPerConnection != c.msgFrom {
				t.Errorf("%+v", l)
			}
			if len(l.Rates) != len(c.buckets) || len(l.Rates) > 0 && l.Rates[0].Bucket != c.buckets[0] {
				t.Errorf("%+v", l.Rates)
			}
		})
	}
}

func TestSlowedRoutes(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Shape = []shape.Rule{{Rates: []shape.RateLimit{{Count: 100, Per: time.Second}}}}
	w := newWorld(t, s, limitsZone)
	w.p.slowed = func(site, source string) (float64, string) {
		if site == "mx.other.test" && source == "out.origin.test" {
			return 0.5, "slowed to 50 %: busy"
		}
		return 1, ""
	}
	now := time.Now()
	r, _ := w.p.Route(t.Context(), "other.test")
	if l := r.Limits; l.Connections != 10 || l.Rates[0].Count != 50 || l.From.Connections != "slowed to 50 %: busy" || r.Expires.After(now.Add(slowedLife+time.Minute)) {
		t.Errorf("%+v until %v", l, r.Expires)
	}
	if r, _ := w.p.Route(t.Context(), "mail.test"); r.Limits.Connections != 10 || r.Limits.Rates[0].Count != 100 {
		t.Errorf("%+v", r.Limits)
	}
}

func TestShapeRulesAreChecked(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Shape = []shape.Rule{{MX: []string{"a*b"}}}
	if err := Check(s); err == nil {
		t.Error("a bad pattern")
	}
}
