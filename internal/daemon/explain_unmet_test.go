package daemon

import (
	"testing"
	"time"

	"mailout/internal/mta"
)

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
