package route

import (
	"errors"
	"testing"

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
