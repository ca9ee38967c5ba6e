package daemon

import (
	"errors"
	"net/netip"
	"testing"

	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/tlsrpt"
)

// TestUnmetPoliciesAreCounted: an attempt that policies left no host for counts
// for each host that they forbade.
func TestUnmetPoliciesAreCounted(t *testing.T) {
	t.Parallel()
	d := &Daemon{tlsReports: tlsrpt.New(tlsrpt.Options{Settings: tlsrpt.Settings{Send: true, Contact: "x@sender.example"}})}
	forbidden := &mta.Failure{Cause: mta.CauseTLSPolicy, Text: "not named"}
	d.unmet(&mta.Failure{Cause: mta.CauseTLSPolicy, Err: &mta.TLSUnmet{
		Domain: "example.com", Hosts: []mta.Host{{Name: "mx1.example.com", Failure: forbidden}, {Name: "mx2.example.com", Failure: &mta.Failure{Cause: mta.CauseNoAddress}}},
		Policies: []mta.TLSPolicy{{Type: "sts", Domain: "example.com", Strings: []string{"version: STSv1"}}},
	}})
	d.unmet(&mta.Failure{Cause: mta.CauseDNS, Err: errors.New("SERVFAIL")})
	d.unmet(&mta.Failure{Cause: mta.CauseNoDomain})
	if n := d.tlsReports.Counts(); n.Failure != 1 || n.Success != 0 || n.Domains != 1 {
		t.Errorf("counted %+v", n)
	}
}

// TestReportsNameTheVisibleAddress: receivers are told the address that they see,
// and nothing of a network behind a translator.
func TestReportsNameTheVisibleAddress(t *testing.T) {
	t.Parallel()
	d := &Daemon{sentinel: &sentinel{}}
	global, private, other := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.6")
	d.sentinel.learner.Learn(doctor.Learned{Source: private, Visible: global, From: "mx.example.com"})
	for local, want := range map[netip.Addr]netip.Addr{global: global, private: global, other: {}} {
		if got := d.seenAs(local); got != want {
			t.Errorf("%s is shown as %s", local, got)
		}
	}
}
