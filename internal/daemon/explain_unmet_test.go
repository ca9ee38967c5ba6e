package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// TestVouched: of mail with REQUIRETLS explain says what will become of it: a host of
// which nothing is known may do yet.
func TestVouched(t *testing.T) {
	t.Parallel()
	plain := mta.Host{Name: "mx1.example.com", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	known := plain
	known.TLS = &mta.TLSDemand{Requirement: mta.TLSRequired, Authentic: true}
	failed := mta.Host{Name: "mx2.example.com", Failure: &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseDNS, Text: "SERVFAIL"}}
	gone := mta.Host{Name: "mx3.example.com", Failure: &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseNoDomain, Text: "no such name"}}
	for _, c := range []struct {
		hosts []mta.Host
		want  string // of the failure
	}{
		{[]mta.Host{known, plain}, ""},
		{[]mta.Host{plain}, "neither signed DNS"},
		{[]mta.Host{plain, failed}, "SERVFAIL"},
		{[]mta.Host{failed, plain}, "SERVFAIL"},
		{[]mta.Host{plain, gone}, "neither signed DNS"},
	} {
		r := &mta.Route{Domain: "example.com", Hosts: c.hosts}
		only, f := vouched(r)
		if (f == nil) != (c.want == "") || f != nil && !strings.Contains(f.Text, c.want) {
			t.Errorf("%v: %v, want %q", c.hosts, f, c.want)
		}
		for i, h := range only.Hosts {
			if barred := h.Name == plain.Name && (c.hosts[i].TLS == nil); barred != (h.Failure != nil && c.hosts[i].Failure == nil) {
				t.Errorf("%s: %v", h.Name, h.Failure)
			}
		}
	}
	if plain.Failure != nil || len(plain.Addresses) != 1 {
		t.Error("the plan itself was changed")
	}
}

// TestExplainUnmetPolicies: the policies that leave mail no host are told, and
// no others are made up.
func TestExplainUnmetPolicies(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	unmet := &mta.Failure{Cause: mta.CauseTLSPolicy, Err: &mta.TLSUnmet{Domain: "example.com", Policies: []mta.TLSPolicy{
		{Type: "sts", Domain: "example.com", ID: "7", Mode: "enforce", Strings: []string{"version: STSv1"}, Fetched: now.Add(-time.Minute), Expires: now.Add(time.Hour)}}}}
	if out := unmetPolicies(unmet, now); len(out) != 1 || out[0].ID != "7" || out[0].Age != 60 || len(out[0].Lines) != 1 {
		t.Errorf("%+v", out)
	}
	if out := unmetPolicies(&mta.Failure{Cause: mta.CauseNoDomain}, now); out == nil || len(out) != 0 {
		t.Errorf("%+v", out)
	}
}
