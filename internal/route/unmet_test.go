package route

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/tlspolicy"
)

// TestUnmetPolicies: where policies leave no host, the failure tells which, so
// that reports can; where something else does, it tells nothing.
func TestUnmetPolicies(t *testing.T) {
	t.Parallel()
	w, p := newDemandWorld(t, nil)
	p.of["bysts.test"] = policy(tlspolicy.ModeEnforce, "elsewhere.test")
	for domain, want := range map[string]string{
		"bysts.test":     "mx.plain.test validation-failure",
		"lone.test":      "mx.broken.test dnssec-invalid",
		"lonealias.test": "www.lonealias.test dnssec-invalid",
		"unread.test":    "",
		"gone.test":      "",
	} {
		for _, variant := range []string{"", mta.VariantAnyTLS} {
			plan, f := w.p.PlanFor(t.Context(), mta.Destination{Domain: domain, Stream: mta.DefaultStream}, variant)
			if variant != "" && domain != "gone.test" {
				if f != nil {
					t.Errorf("%s, which no policy stops: %v", domain, f)
				}
				continue
			}
			if f == nil {
				t.Fatalf("%s has a plan: %+v", domain, plan)
			}
			got := ""
			var u *mta.TLSUnmet
			if errors.As(f.Err, &u) {
				for i := range u.Hosts {
					if why := mta.PolicyFault(&u.Hosts[i], u.Policies); why != nil {
						got += u.Hosts[i].Name + " " + why.Result
					}
				}
				if u.Domain != domain || u.Error() == "" {
					t.Errorf("%s: %+v", domain, u)
				}
			}
			if got != want {
				t.Errorf("%s tells %q, want %q", domain, got, want)
			}
		}
	}
}

// withoutDNSSEC has the planner ask a resolver that authenticates nothing, and gives
// the one before.
func withoutDNSSEC(t *testing.T, w *world) (before *dns.Resolver) {
	off := dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Dialer: w.dns.DialContext, DNSSEC: dns.DNSSECOff})
	t.Cleanup(func() { off.Close() })
	before, w.p.resolver = w.p.resolver, off
	return before
}

// TestUnsignedIsRemembered: a route of mail with REQUIRETLS that was made while
// nobody could tell signed answers says so as long as it is used; else its mail
// would come back as soon as somebody can.
func TestUnsignedIsRemembered(t *testing.T) {
	t.Parallel()
	w, _ := newDemandWorld(t, nil)
	route := func(domain, variant string) *mta.Route {
		t.Helper()
		plan, f := w.p.PlanFor(t.Context(), mta.Destination{Domain: domain, Stream: mta.DefaultStream}, variant)
		if f != nil {
			t.Fatal(f)
		}
		return plan.Routes[0]
	}
	for _, domain := range []string{"none.test", "dane.test"} {
		if r := route(domain, mta.VariantRequireTLS); r.Unsigned != "" {
			t.Errorf("%s, of which it is known: %q", domain, r.Unsigned)
		}
	}
	withoutDNSSEC(t, w)
	for _, domain := range []string{"none.test", "dane.test", "implicit.test"} {
		if r := route(domain, mta.VariantRequireTLS); r.Unsigned == "" || r.Secure || time.Until(r.Expires) > partialLife {
			t.Errorf("%s: %q until %v", domain, r.Unsigned, r.Expires)
		}
	}
	if r := route("none.test", ""); r.Unsigned != "" {
		t.Errorf("without REQUIRETLS: %q", r.Unsigned)
	}
}

// TestPlansAreMadeAnewWhenAnswersAreSigned: what was planned while nobody could
// tell signed answers goes without DANE no longer than that lasts.
func TestPlansAreMadeAnewWhenAnswersAreSigned(t *testing.T) {
	t.Parallel()
	w, _ := newDemandWorld(t, nil)
	demand := func() mta.TLSRequirement {
		t.Helper()
		plan, f := w.p.PlanFor(t.Context(), mta.Destination{Domain: "dane.test", Stream: mta.DefaultStream}, "")
		if f != nil {
			t.Fatal(f)
		}
		return plan.Routes[0].Demand(&plan.Routes[0].Hosts[0]).Requirement
	}
	if d := demand(); d != mta.TLSDANE || w.p.Refresh() {
		t.Errorf("with signatures: demand %d, or plans are made anew for nothing", d)
	}
	signed := withoutDNSSEC(t, w)
	if d := demand(); d != mta.TLSOpportunistic || w.p.Refresh() {
		t.Errorf("without: demand %d, or plans are made anew for nothing", d)
	}
	w.p.resolver = signed
	if !w.p.Refresh() || w.p.Refresh() {
		t.Error("plans are not made anew once")
	}
}
