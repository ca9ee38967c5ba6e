package mta

import "testing"

// TestPolicyFault: what keeps mail from a host is told when it is the domain's
// policy, and not when it is trouble of DNS or our own.
func TestPolicyFault(t *testing.T) {
	t.Parallel()
	forbidden := &Failure{Stage: StageRoute, Cause: CauseTLSPolicy, Text: "the policy does not name it"}
	unknown := &Failure{Stage: StageRoute, Cause: CauseDNS, Text: "SERVFAIL"}
	records := &Failure{Stage: StageRoute, Cause: CauseDNS, Text: "SERVFAIL", Err: &TLSFault{Result: ResultDNSSECInvalid, Text: "SERVFAIL of the records"}}
	sts := TLSPolicy{Type: "sts", Domain: "example.com", Strings: []string{"version: STSv1"}}
	bogus := TLSPolicy{Type: "tlsa", Domain: "mx.example.com", Trouble: "dnssec-invalid", Reason: "SERVFAIL of the records"}
	for name, c := range map[string]struct {
		failure  *Failure
		policies []TLSPolicy
		want     string
	}{
		"a usable host":                  {nil, []TLSPolicy{sts, bogus}, ""},
		"not named":                      {forbidden, []TLSPolicy{sts}, "validation-failure: the policy does not name it"},
		"a policy that cannot be read":   {forbidden, []TLSPolicy{{Type: "no-policy-found", Domain: "example.com"}}, ""},
		"a policy that was not fetched":  {forbidden, []TLSPolicy{{Type: "sts", Domain: "example.com", Trouble: "sts-policy-fetch-error"}}, ""},
		"records that nobody can check":  {records, []TLSPolicy{sts, bogus}, "dnssec-invalid: SERVFAIL of the records"},
		"the same, at an alias' end":     {records, []TLSPolicy{{Type: "tlsa", Domain: "real.example.com", Trouble: "dnssec-invalid"}}, "dnssec-invalid: SERVFAIL of the records"},
		"an address that nobody knows":   {unknown, []TLSPolicy{sts}, ""},
		"the same beside records":        {unknown, []TLSPolicy{{Type: "tlsa", Domain: "mx.example.com"}, bogus}, ""},
		"a message that asks for no TLS": {forbidden, nil, ""},
	} {
		got := ""
		if f := PolicyFault(&Host{Name: "mx.example.com", Failure: c.failure}, c.policies); f != nil {
			got = f.Result + ": " + f.Text
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
