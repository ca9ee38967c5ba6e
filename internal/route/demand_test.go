package route

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/tlspolicy"
)

// policies are the MTA-STS policies of a test's domains.
type policies struct {
	mu      sync.Mutex
	of      map[string]tlspolicy.DomainSTS
	fresh   map[string]tlspolicy.DomainSTS // what Renew finds
	found   int
	renewed int
}

func (p *policies) Find(_ context.Context, domain string) tlspolicy.DomainSTS {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found++
	return p.of[domain]
}

func (p *policies) Renew(_ context.Context, domain string) tlspolicy.DomainSTS {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed++
	if f, ok := p.fresh[domain]; ok {
		return f
	}
	return p.of[domain]
}

func policy(mode tlspolicy.Mode, mx ...string) tlspolicy.DomainSTS {
	return tlspolicy.DomainSTS{Policy: &tlspolicy.Policy{Mode: mode, MaxAge: time.Hour, MX: mx}, ID: "1", Expires: time.Now().Add(24 * time.Hour)}
}

// demanded gives a plan's first route in one line: "site: tls origin; host tls
// origin; …; policies".
func (w *world) demanded(domain, variant string) string {
	w.t.Helper()
	plan, f := w.p.PlanFor(w.t.Context(), mta.Destination{Domain: domain, Stream: mta.DefaultStream}, variant)
	if f != nil {
		return f.Cause.String() + ": " + f.Text
	}
	r := plan.Routes[0]
	out := fmt.Sprintf("%s: %d %s", r.Site, r.TLS, r.TLSOrigin)
	for i := range r.Hosts {
		h := &r.Hosts[i]
		d := r.Demand(h)
		out += fmt.Sprintf("; %s %d %s", h.Name, d.Requirement, d.Origin)
		for _, is := range []struct {
			is   bool
			word string
		}{{d.Authentic, " authentic"}, {d.Audit, " audit"}, {d.Mismatch, " mismatch"}, {h.Failure != nil, " failed"}} {
			if is.is {
				out += is.word
			}
		}
	}
	for _, p := range r.Policies {
		out += "; " + p.Type + " " + p.Domain
		if p.Trouble != "" {
			out += " " + p.Trouble
		}
	}
	return out
}

const (
	tlsaEE  = "3 1 1 0101010101010101010101010101010101010101010101010101010101010101"
	tlsaOdd = "9 9 9 01"
)

const demandZone = `
plain.test MX 10 mx.plain.test
mx.plain.test A 198.51.100.1
dane.test MX 10 mx.dane.test
mx.dane.test A 198.51.100.2
_25._tcp.mx.dane.test TLSA ` + tlsaEE + `
unusable.test MX 10 mx.unusable.test
mx.unusable.test A 198.51.100.3
_25._tcp.mx.unusable.test TLSA ` + tlsaOdd + `
signed.test MX 10 mx.signed.test
mx.signed.test A 198.51.100.4
broken.test MX 10 mx.broken.test
broken.test MX 20 mx.signed.test
mx.broken.test A 198.51.100.5
lone.test MX 10 mx.broken.test
lonealias.test MX 10 www.lonealias.test
www.lonealias.test CNAME mx.broken.test
implicit.test A 198.51.100.6
_25._tcp.implicit.test TLSA ` + tlsaEE + `
mixed.test MX 10 mx.dane.test
mixed.test MX 20 mx.plain.test
bysts.test MX 10 mx.plain.test
other.test MX 10 mx.plain.test
other.test MX 20 mx.signed.test
none.test MX 10 mx.plain.test
trying.test MX 10 mx.plain.test
unread.test MX 10 mx.plain.test
aliased.test MX 10 www.dane.test
www.dane.test CNAME mx.dane.test
outside.test MX 10 out.dane.test
out.dane.test CNAME mx.plain.test
_25._tcp.out.dane.test TLSA ` + tlsaEE + `
hop.test CNAME dane.test
ttl.test 3600 MX 10 mx.ttl.test
mx.ttl.test 3600 A 198.51.100.8
_25._tcp.mx.ttl.test 30 TLSA ` + tlsaEE + `
six.test MX 10 mx.six.test
mx.six.test A 198.51.100.7
_25._tcp.mx.six.test TLSA ` + tlsaEE + `
`

func newDemandWorld(t *testing.T, change func(*Settings)) (*world, *policies) {
	s := standard()
	s.DANE, s.IPv6 = true, false
	if change != nil {
		change(&s)
	}
	w := newWorld(t, s, demandZone)
	for _, name := range []string{"dane", "unusable", "signed", "broken", "lone", "lonealias", "implicit", "mixed", "aliased", "outside", "hop", "six", "ttl"} {
		w.dns.Secure(name + ".test")
	}
	w.dns.Script("_25._tcp.mx.broken.test", wire.TypeTLSA, mtatest.Script{Rcode: wire.RcodeServerFailure})
	w.dns.Script("mx.six.test", wire.TypeAAAA, mtatest.Script{Rcode: wire.RcodeServerFailure})
	p := &policies{of: map[string]tlspolicy.DomainSTS{
		"bysts.test":  policy(tlspolicy.ModeEnforce, "*.plain.test"),
		"other.test":  policy(tlspolicy.ModeEnforce, "mx.signed.test"),
		"mixed.test":  policy(tlspolicy.ModeEnforce, "mx.plain.test"),
		"none.test":   policy(tlspolicy.ModeNone),
		"trying.test": policy(tlspolicy.ModeTesting, "elsewhere.test"),
		"unread.test": {Against: &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseTLSPolicy, Text: "the kept policy of unread.test cannot be read"}},
		"plain.test":  {Trouble: "sts-policy-fetch-error", Reason: "it times out"},
	}}
	w.p.sts = p
	return w, p
}

// TestDemands: each kind of policy makes its demand, its site and its report.
func TestDemands(t *testing.T) {
	t.Parallel()
	w, _ := newDemandWorld(t, nil)
	for domain, want := range map[string]string{
		"dane.test":     "mx.dane.test/dane: 0 default; mx.dane.test 5 dane authentic; tlsa mx.dane.test",
		"unusable.test": "mx.unusable.test/dane: 0 default; mx.unusable.test 4 dane authentic; tlsa mx.unusable.test tlsa-invalid",
		"signed.test":   "mx.signed.test: 0 default; mx.signed.test 0 default authentic; no-policy-found signed.test",
		"broken.test":   "mx.broken.test,mx.signed.test: 0 default; mx.broken.test 0 default authentic failed; mx.signed.test 0 default authentic; tlsa mx.broken.test dnssec-invalid",
		"implicit.test": "implicit.test/dane: 0 default; implicit.test 5 dane authentic; tlsa implicit.test",
		"mixed.test":    "mx.dane.test,mx.plain.test/dane+mta-sts: 0 default; mx.dane.test 5 dane authentic; mx.plain.test 2 mta-sts authentic; tlsa mx.dane.test; sts mixed.test",
		"plain.test":    "mx.plain.test: 0 default; mx.plain.test 0 default; sts plain.test sts-policy-fetch-error",
		"bysts.test":    "mx.plain.test/mta-sts: 0 default; mx.plain.test 2 mta-sts authentic; sts bysts.test",
		"other.test":    "mx.signed.test/mta-sts: 0 default; mx.plain.test 0 default failed; mx.signed.test 2 mta-sts authentic; sts other.test",
		"none.test":     "mx.plain.test: 0 default; mx.plain.test 0 default; sts none.test",
		"trying.test":   "mx.plain.test: 0 default; mx.plain.test 0 default audit mismatch; sts trying.test",
		"aliased.test":  "www.dane.test/dane: 0 default; www.dane.test 5 dane authentic; tlsa mx.dane.test",
		"outside.test":  "out.dane.test/dane: 0 default; out.dane.test 5 dane authentic; tlsa out.dane.test",
		"hop.test":      "mx.dane.test/dane: 0 default; mx.dane.test 5 dane authentic; tlsa mx.dane.test",
		"unread.test":   "tls policy: no mail server of unread.test can be used: the kept policy of unread.test cannot be read",
		"[192.0.2.1]":   "[192.0.2.1]: 0 default; 192.0.2.1 0 default",
	} {
		if got := w.demanded(domain, ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", domain, got, want)
		}
	}
	if got := w.demanded("lone.test", ""); !strings.HasPrefix(got, "dns: no mail server of lone.test can be used: nobody knows whether mx.broken.test has TLSA records") {
		t.Error(got)
	}
}

// TestDemandsOfMessages: REQUIRETLS and "TLS-Required: No" are planned apart (RFC
// 8689 4.2.1, 3), also behind rules that look at messages.
func TestDemandsOfMessages(t *testing.T) {
	t.Parallel()
	w, p := newDemandWorld(t, func(s *Settings) {
		s.Rules = []Rule{{Senders: []string{"a@b.test"}, Domains: []string{"plain.test"}, Action: ActionHold}}
	})
	variant := func(m mta.Message) string {
		return w.p.Variant(&m, mta.Destination{Domain: "plain.test", Stream: mta.DefaultStream})
	}
	requires, anyTLS := variant(mta.Message{Envelope: mta.Envelope{RequireTLS: true}, AnyTLS: true}), variant(mta.Message{AnyTLS: true})
	for domain, want := range map[string]string{
		"plain.test":    "mx.plain.test/requiretls: 2 requiretls; mx.plain.test 2 requiretls; sts plain.test sts-policy-fetch-error",
		"dane.test":     "mx.dane.test/requiretls: 2 requiretls; mx.dane.test 5 requiretls authentic; tlsa mx.dane.test",
		"unusable.test": "mx.unusable.test/requiretls: 2 requiretls; mx.unusable.test 2 requiretls authentic; tlsa mx.unusable.test tlsa-invalid",
		"bysts.test":    "mx.plain.test/requiretls: 2 requiretls; mx.plain.test 2 requiretls authentic; sts bysts.test",
		"[192.0.2.1]":   "[192.0.2.1]/requiretls: 2 requiretls; 192.0.2.1 2 requiretls",
	} {
		if got := w.demanded(domain, requires); got != want {
			t.Errorf("REQUIRETLS to %s:\n got %s\nwant %s", domain, got, want)
		}
	}
	// Whether a policy vouches for the host is not known: it bounces nothing.
	p.of["none.test"] = tlspolicy.DomainSTS{Unknown: &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseDNS, Text: "SERVFAIL"}}
	p.of["signed.test"] = p.of["none.test"]
	for _, c := range [][3]string{
		{"none.test", requires, "dns: no mail server of none.test can be used: SERVFAIL"},
		{"signed.test", requires, "mx.signed.test/requiretls: 2 requiretls; mx.signed.test 2 requiretls authentic; no-policy-found signed.test"},
		{"none.test", variant(mta.Message{}), "mx.plain.test: 0 default; mx.plain.test 0 default; no-policy-found none.test"},
	} {
		if got := w.demanded(c[0], c[1]); got != c[2] {
			t.Errorf("%s, whose record nobody knows:\n got %s\nwant %s", c[0], got, c[2])
		}
	}
	p.found = 0
	before := w.dns.Count("_25._tcp.mx.broken.test", "")
	for domain, want := range map[string]string{
		"dane.test":   "mx.dane.test: 0 default; mx.dane.test 0 default authentic",
		"broken.test": "mx.broken.test,mx.signed.test: 0 default; mx.broken.test 0 default authentic; mx.signed.test 0 default authentic",
		"unread.test": "mx.plain.test: 0 default; mx.plain.test 0 default",
		"other.test":  "mx.plain.test,mx.signed.test: 0 default; mx.plain.test 0 default; mx.signed.test 0 default",
	} {
		if got := w.demanded(domain, anyTLS); got != want {
			t.Errorf("TLS-Required: No to %s:\n got %s\nwant %s", domain, got, want)
		}
	}
	if p.found > 0 || w.dns.Count("_25._tcp.mx.broken.test", "") > before {
		t.Error("policies were asked for that do not count")
	}
	held := mta.Message{Envelope: mta.Envelope{RequireTLS: true, Sender: "a@b.test"}}
	if plan, f := w.p.PlanFor(t.Context(), mta.Destination{Domain: "plain.test"}, variant(held)); f != nil || plan.Stop == nil {
		t.Errorf("%+v %v", plan, f)
	}
	released := mta.VariantReleased + variant(held)
	if got := w.demanded("plain.test", released); !strings.HasPrefix(got, "mx.plain.test/requiretls: ") {
		t.Error(got)
	}
	if got := w.p.Variant(&mta.Message{}, mta.Destination{Domain: "plain.test"}); strings.Contains(got, "tls") {
		t.Errorf("%q", got)
	}
}

// TestRulesAndPolicies: a rule's word about TLS, and an operator's route.
func TestRulesAndPolicies(t *testing.T) {
	t.Parallel()
	none, required := mta.TLSNone, mta.TLSRequired
	w, p := newDemandWorld(t, func(s *Settings) {
		s.Rules = []Rule{
			{Domains: []string{"dane.test", "unread.test"}, Host: Direct, TLS: &none, Line: 3},
			{Domains: []string{"plain.test", "unusable.test"}, Host: Direct, TLS: &required},
			{Domains: []string{"bysts.test"}, Host: Direct},
			{Domains: []string{"routed.test"}, Peers: Peers{Hosts: []string{"mx.dane.test"}}, TLS: &required},
		}
	})
	for domain, want := range map[string]string{
		"dane.test":     "mx.dane.test/none: 1 operator; mx.dane.test 1 operator authentic",
		"unread.test":   "mx.plain.test/none: 1 operator; mx.plain.test 1 operator",
		"plain.test":    "mx.plain.test/required: 2 operator; mx.plain.test 2 operator; sts plain.test sts-policy-fetch-error",
		"unusable.test": "mx.unusable.test/required: 2 operator; mx.unusable.test 2 operator authentic; tlsa mx.unusable.test tlsa-invalid",
		"bysts.test":    "mx.plain.test/mta-sts: 0 default; mx.plain.test 2 mta-sts authentic; sts bysts.test",
		"routed.test":   "router:mx.dane.test/required: 2 operator; mx.dane.test 2 operator",
	} {
		if got := w.demanded(domain, ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", domain, got, want)
		}
	}
	if got := w.demanded("dane.test", mta.VariantRequireTLS); got != "dns: x" && !strings.HasPrefix(got, "mx.dane.test/requiretls: 2 requiretls; mx.dane.test 2 requiretls authentic") {
		t.Error(got)
	}
	w.p.Reroute([]Reroute{{Domain: "bysts.test", To: ViaDirect, Why: "by hand"}})
	if got := w.demanded("bysts.test", mta.VariantRequireTLS); !strings.HasPrefix(got, "mx.plain.test/requiretls: ") {
		t.Error(got)
	}
	if p.found == 0 {
		t.Error("nobody asked for policies")
	}
}

// TestNoRouterAroundAPolicy: a router that takes what DNS does not place gets no
// mail because its safety is in doubt.
func TestNoRouterAroundAPolicy(t *testing.T) {
	t.Parallel()
	for _, use := range []Use{UseUnresolved, UseFallback} {
		w, _ := newDemandWorld(t, func(s *Settings) {
			s.Router = Router{Host: "mx.plain.test", Use: use, Unresolved: true}
		})
		for domain, want := range map[string]string{"lone.test": "dns: ", "lonealias.test": "dns: ", "unread.test": "tls policy: ", "nowhere.test": "router:mx.plain.test: "} {
			if got := w.demanded(domain, ""); !strings.HasPrefix(got, want) {
				t.Errorf("%d: %s: %s", use, domain, got)
			}
		}
		// A router without REQUIRETLS would return what only waits for DNS.
		w.dns.Script("servfail.test", wire.TypeMX, mtatest.Script{Rcode: wire.RcodeServerFailure})
		for variant, want := range map[string]string{"": "router:mx.plain.test: ", mta.VariantRequireTLS: "dns: "} {
			if got := w.demanded("servfail.test", variant); !strings.HasPrefix(got, want) {
				t.Errorf("%d: %q: %s", use, variant, got)
			}
		}
	}
}

// TestPoliciesTurnedOff: [tls] dane and mta_sts.
func TestPoliciesTurnedOff(t *testing.T) {
	t.Parallel()
	w, _ := newDemandWorld(t, func(s *Settings) { s.DANE = false })
	w.p.sts = nil
	for domain, want := range map[string]string{
		"dane.test":   "mx.dane.test: 0 default; mx.dane.test 0 default authentic",
		"broken.test": "mx.broken.test,mx.signed.test: 0 default; mx.broken.test 0 default authentic; mx.signed.test 0 default authentic",
		"bysts.test":  "mx.plain.test: 0 default; mx.plain.test 0 default",
	} {
		if got := w.demanded(domain, ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", domain, got, want)
		}
	}
}

// TestMismatchIsAskedAgain: before a policy counts against a host the domain's
// record is looked at (RFC 8461 5.1); a policy that names all is not looked at.
func TestMismatchIsAskedAgain(t *testing.T) {
	t.Parallel()
	w, p := newDemandWorld(t, nil)
	p.fresh = map[string]tlspolicy.DomainSTS{"other.test": policy(tlspolicy.ModeEnforce, "mx.signed.test", "mx.plain.test")}
	if got := w.demanded("bysts.test", ""); p.renewed != 0 {
		t.Error("looked at again: ", got)
	}
	want := "mx.plain.test,mx.signed.test/mta-sts: 0 default; mx.plain.test 2 mta-sts authentic; mx.signed.test 2 mta-sts authentic; sts other.test"
	if got := w.demanded("other.test", ""); got != want || p.renewed != 1 {
		t.Errorf("%s (%d)", got, p.renewed)
	}
	p.fresh = map[string]tlspolicy.DomainSTS{"bysts.test": policy(tlspolicy.ModeEnforce, "x.test")}
	p.of["bysts.test"] = p.fresh["bysts.test"]
	want = "tls policy: no mail server of bysts.test can be used: mx.plain.test gets no mail for bysts.test: the MTA-STS policy of bysts.test (id 1) does not name it"
	if got := w.demanded("bysts.test", ""); got != want {
		t.Error(got)
	}
}

// TestHalfAnAnswerIsNoDowngrade: whoever can make the look-up of IPv6 addresses
// fail cannot turn DANE off that way.
func TestHalfAnAnswerIsNoDowngrade(t *testing.T) {
	t.Parallel()
	w, _ := newDemandWorld(t, func(s *Settings) { s.IPv6 = true })
	if got := w.demanded("six.test", ""); got != "mx.six.test/dane: 0 default; mx.six.test 5 dane authentic; tlsa mx.six.test" {
		t.Error(got)
	}
}

// TestRouteEndsWithItsRecords: nor longer than its TLSA records.
func TestRouteEndsWithItsRecords(t *testing.T) {
	t.Parallel()
	w, _ := newDemandWorld(t, nil)
	before := time.Now()
	r, f := w.p.Route(t.Context(), "ttl.test")
	if f != nil || r.Expires.After(time.Now().Add(30*time.Second)) || r.Expires.Before(before.Add(29*time.Second)) {
		t.Errorf("%+v %v", r, f)
	}
	if n := w.p.DANECounts(); n != (DANECounts{Usable: 1}) {
		t.Errorf("%+v", n)
	}
}

// TestRouteEndsWithItsPolicy: a route is not used longer than its policies hold.
func TestRouteEndsWithItsPolicy(t *testing.T) {
	t.Parallel()
	w, p := newDemandWorld(t, nil)
	soon := time.Now().Add(10 * time.Second)
	for _, change := range []func(*tlspolicy.DomainSTS){func(s *tlspolicy.DomainSTS) { s.Expires = soon }, func(s *tlspolicy.DomainSTS) { s.Again = soon }} {
		s := policy(tlspolicy.ModeEnforce, "*.plain.test")
		change(&s)
		p.of["bysts.test"] = s
		r, f := w.p.Route(t.Context(), "bysts.test")
		if f != nil || r.Expires.After(soon) {
			t.Errorf("%+v %v", r, f)
		}
	}
}
