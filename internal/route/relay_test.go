package route

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

const relayZone = `
a.test MX 10 mx.test
mx.test A 198.51.100.1
smart.test A 198.51.100.50
smart.test MX 10 wrong.test
wrong.test A 198.51.100.51
null.test MX 0 .
lo.test A 127.0.0.1
txt.test TXT "nothing"
`

func TestRulesByPattern(t *testing.T) {
	t.Parallel()
	required := mta.TLSRequired
	s := standard()
	s.Rules = []Rule{
		{Domains: []string{"Near.example.", "*.partner.example"}, Host: "10.1.2.3", Line: 31},
		{Domains: []string{".sub.example", "b.partner.example", "early.late.example"}, Host: "smart.test:2525"},
		{Domains: []string{"a.test"}, Host: Direct, Port: 2626, TLS: &required},
		{Domains: []string{"bücher.example"}, Host: "[smart.test]:587"},
		{Domains: []string{"[192.0.2.7]"}, Host: "[2001:db8::7]", Port: 26},
		{Domains: []string{"near.example", "*.late.example", "*.a.late.example"}, Host: "never.test"},
		{Domains: []string{"*"}, Host: "smart.test"},
	}
	w := newWorld(t, s, relayZone)
	for _, c := range []struct{ domain, matched, want string }{
		{"near.example", "[[route]] 1 (line 31)", "router:10.1.2.3: 10.1.2.3(0) 10.1.2.3"},
		{"x.near.example", "[[route]] 7", "router:smart.test: smart.test(0) 198.51.100.50"},
		{"x.partner.example", "[[route]] 1 (line 31)", "router:10.1.2.3: 10.1.2.3(0) 10.1.2.3"},
		{"b.partner.example", "[[route]] 1 (line 31)", "router:10.1.2.3: 10.1.2.3(0) 10.1.2.3"},
		{"x.y.partner.example", "[[route]] 1 (line 31)", "router:10.1.2.3: 10.1.2.3(0) 10.1.2.3"},
		{"partner.example", "[[route]] 7", "router:smart.test: smart.test(0) 198.51.100.50"},
		{"notpartner.example", "[[route]] 7", "router:smart.test: smart.test(0) 198.51.100.50"},
		{"early.late.example", "[[route]] 2", "router:smart.test:2525: smart.test(0) 198.51.100.50"},
		{"x.sub.example", "[[route]] 2", "router:smart.test:2525: smart.test(0) 198.51.100.50"},
		{"a.test", "[[route]] 3", "mx.test:2626/required: mx.test(10) 198.51.100.1"},
		{"xn--bcher-kva.example", "[[route]] 4", "router:smart.test:587: smart.test(0) 198.51.100.50"},
		{"[192.0.2.7]", "[[route]] 5", "router:[2001:db8::7]:26: 2001:db8::7(0) 2001:db8::7"},
	} {
		w.expect(c.domain, c.want)
		if r, _ := w.p.Route(t.Context(), c.domain); r.Matched != c.matched {
			t.Errorf("%s: matched %s, want %s", c.domain, r.Matched, c.matched)
		}
	}
	if w.dns.Count("", "MX") != 0 && w.dns.Count("smart.test", "MX") != 0 {
		t.Error("the MX records of a configured host were asked for")
	}
	r, _ := w.p.Route(t.Context(), "x.sub.example")
	if r.Router != "smart.test:2525" || r.Port != 2525 || r.TLS != mta.TLSOpportunistic {
		t.Errorf("%+v", r)
	}
}

func TestRouterAlways(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Rules = []Rule{{Domains: []string{"a.test"}, Host: Direct}}
	s.Router = Router{Host: "smart.test", TLS: mta.TLSImplicit, Line: 4}
	w := newWorld(t, s, relayZone)
	w.expect("null.test", "router:smart.test:465/implicit: smart.test(0) 198.51.100.50")
	w.expect("nothing.test", "router:smart.test:465/implicit: smart.test(0) 198.51.100.50")
	w.expect("[10.0.0.1]", "router:smart.test:465/implicit: smart.test(0) 198.51.100.50")
	w.expect("a.test", "mx.test: mx.test(10) 198.51.100.1")
	r, _ := w.p.Route(t.Context(), "any.test")
	if r.Matched != "[router] (line 4)" || r.Router != "smart.test" || r.TLS != mta.TLSImplicit || r.Port != 465 {
		t.Errorf("%+v", r)
	}
	for _, none := range []string{"", "none"} {
		s.Router.Host = none
		if err := w.p.Reconfigure(s); err != nil {
			t.Fatal(err)
		}
		w.expect("null.test", "null mx")
	}
}

func TestRouterWhenUnresolved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := standard()
		s.Router = Router{Host: "smart.test", Use: UseUnresolved}
		s.Rules = []Rule{{Domains: []string{"direct.test"}, Host: Direct}}
		w := newWorld(t, s, relayZone+"out.origin.test MX 10 out.origin.test\nprivate.test A 10.0.0.1\nfail.test A 198.51.100.7\n")
		w.dns.Script("fail.test", wire.TypeMX, mtatest.Script{Rcode: wire.RcodeServerFailure})
		const smart = "router:smart.test: smart.test(0) 198.51.100.50"
		w.expect("a.test", "mx.test: mx.test(10) 198.51.100.1")
		w.expect("nothing.test", smart)
		w.expect("txt.test", smart)
		w.expect("fail.test", smart)
		w.expect("null.test", "null mx") // an answer
		w.expect("out.origin.test", "loop")
		w.expect("private.test", "forbidden address")
		w.expect("direct.test", "no domain") // "direct" means direct
		r, _ := w.p.Route(t.Context(), "a.test")
		if r.Router != "" || r.Matched != "direct (before [router])" {
			t.Errorf("%+v", r)
		}
	})
}

// TRAPS 34: a router name that does not resolve is deferred and alarmed, never
// bounced: the cause is the router's whatever DNS says.
func TestTrap34_RouterDoesNotResolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, host := range []string{"nothing.test", "txt.test", "fail.test"} {
			s := standard()
			s.Router = Router{Host: host}
			s.Rules = []Rule{{Domains: []string{"rule.test"}, Host: host}}
			w := newWorld(t, s, relayZone)
			w.dns.Script("fail.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure})
			for range 3 {
				w.expect("a.test", "router")
				w.expect("rule.test", "router")
			}
			if n := strings.Count(w.log.String(), "name does not resolve; its mail waits"); n != 2 {
				t.Errorf("%s: %d alarms for two routers:\n%s", host, n, w.log.String())
			}
			time.Sleep(warnEvery) // virtual
			w.expect("a.test", "router")
			if n := strings.Count(w.log.String(), "name does not resolve; its mail waits"); n != 3 {
				t.Errorf("%s: no alarm a minute later", host)
			}
			if err := w.dns.Add(host + " A 198.51.100.77"); err != nil {
				t.Fatal(err)
			}
			w.dns.Unscript()
			time.Sleep(6 * time.Minute)
			w.expect("a.test", "router:"+host+": "+host+"(0) 198.51.100.77")
		}
	})
}

func TestRouterMayBePrivateButNotOurselves(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:25")}
	s.Router = Router{Host: "lo.test", Port: 2525}
	w := newWorld(t, s, relayZone)
	w.expect("a.test", "router:lo.test:2525: lo.test(0) 127.0.0.1")
	s.Router = Router{Host: "lo.test"}
	if err := w.p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	w.expect("a.test", "router")
	s.Router = Router{Host: "127.0.0.1"}
	if err := w.p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	w.expect("a.test", "router")
}
