package tlspolicy

import (
	"errors"
	"fmt"
	"testing"

	"mailout/internal/mta"
)

// every calls f with every combination of inputs: 3 × 4 × 2 × 2 × 2 × 4 × 5.
func every(f func(in Inputs)) {
	requirements := []mta.TLSRequirement{mta.TLSNone, mta.TLSOpportunistic, mta.TLSRequired}
	sts := []HostSTS{{}, {Mode: ModeTesting, Names: true}, {Mode: ModeTesting}, {Mode: ModeEnforce, Names: true}, {Mode: ModeEnforce}}
	for i := range sts {
		sts[i].Why = "the policy"
	}
	danes := []HostDANE{{}, {State: DANEUnusable, Why: "the records"}, {State: DANEUsable, DANE: &mta.DANE{Key: "k"}, Why: "the records"}, {State: DANEFailed, Why: "nobody knows", Err: errors.New("SERVFAIL")}}
	for _, standard := range requirements {
		for rule := -1; rule < len(requirements); rule++ {
			for n := range 8 {
				for _, dane := range danes {
					for _, s := range sts {
						in := Inputs{Default: standard, DefaultWhy: "default", RuleWhy: "rule", RequireTLS: n&1 != 0, AnyTLS: n&2 != 0, Named: n&4 != 0, DANE: dane, STS: s}
						if rule >= 0 {
							in.Rule = &requirements[rule]
						}
						f(in)
					}
				}
			}
		}
	}
}

// TestJoinIsNeverWeaker: what is joined is at least what each source alone
// demands, but for the two that may set aside what a domain publishes.
func TestJoinIsNeverWeaker(t *testing.T) {
	n := 0
	every(func(in Inputs) {
		n++
		v := Join(&in)
		name := fmt.Sprintf("%+v: %+v", in, v)
		got := strength(v.Demand.Requirement)
		if in.Rule != nil && got < strength(*in.Rule) || in.Rule == nil && got < strength(in.Default) {
			t.Errorf("below the operator's: %s", name)
		}
		if in.RequireTLS && got < strength(mta.TLSRequired) {
			t.Errorf("below REQUIRETLS: %s", name)
		}
		exempt := in.Rule != nil && *in.Rule != mta.TLSRequired || in.AnyTLS && !in.RequireTLS
		if exempt != !in.Published() {
			t.Errorf("Published: %s", name)
		}
		if exempt {
			if v.Against != nil || v.Demand.DANE != nil || v.Demand.Audit || v.Demand.Origin == mta.TLSByDANE || v.Demand.Origin == mta.TLSBySTS {
				t.Errorf("a policy that does not count: %s", name)
			}
			return
		}
		dane := in.DANE.State
		if dane == DANEUsable && (v.Demand.Requirement != mta.TLSDANE || v.Demand.DANE != in.DANE.DANE || v.Against != nil) {
			t.Errorf("DANE does not win: %s", name)
		}
		if dane == DANEUnusable && got < strength(mta.TLSEncrypted) || dane == DANEFailed && (v.Against == nil || v.Against.Cause != mta.CauseDNS) {
			t.Errorf("below DANE: %s", name)
		}
		if dane == DANENone || dane == DANEUnusable {
			switch enforced := in.STS.Mode == ModeEnforce; {
			case enforced && got < strength(mta.TLSRequired), enforced != (v.Against != nil) && !in.STS.Names, v.Against != nil && in.STS.Names:
				t.Errorf("below MTA-STS: %s", name)
			case v.Demand.Audit != (in.STS.Mode == ModeTesting) || v.Demand.Mismatch != (v.Demand.Audit && !in.STS.Names):
				t.Errorf("testing: %s", name)
			}
		}
		if (v.Demand.Requirement == mta.TLSDANE) != (v.Demand.DANE != nil) || v.Demand.Why == "" || v.Demand.Origin == "" {
			t.Errorf("not whole: %s", name)
		}
	})
	if n != 3*4*8*4*5 {
		t.Errorf("%d combinations", n)
	}
}

// TestJoinAddsNothing: without policies and REQUIRETLS the operator's word stands,
// and nobody is said to be known who is not.
func TestJoinAddsNothing(t *testing.T) {
	every(func(in Inputs) {
		v := Join(&in)
		published := in.Published() && (in.DANE.State != DANENone || in.STS.Mode != ModeNone)
		if !in.RequireTLS && !published {
			want, by := in.Default, mta.TLSByDefault
			if in.Rule != nil {
				want, by = *in.Rule, mta.TLSByOperator
			}
			if v.Demand.Requirement != want || v.Demand.Origin != by || v.Against != nil || v.Demand.Authentic != in.Named {
				t.Errorf("%+v: %+v", in, v)
			}
		}
		known := in.Named || in.Published() && (in.DANE.State == DANEUsable || in.STS.Mode == ModeEnforce && in.STS.Names)
		if v.Demand.Authentic && !known {
			t.Errorf("authentic: %+v: %+v", in, v)
		}
	})
}

// TestJoin: the order of strength, with the words that people see.
func TestJoin(t *testing.T) {
	required, none, opportunistic := mta.TLSRequired, mta.TLSNone, mta.TLSOpportunistic
	dane := HostDANE{State: DANEUsable, DANE: &mta.DANE{Key: "k"}, Why: "TLSA"}
	unusable := HostDANE{State: DANEUnusable, Why: "TLSA"}
	enforce := HostSTS{Mode: ModeEnforce, Names: true, Why: "STS"}
	other := HostSTS{Mode: ModeEnforce, Why: "STS"}
	testing_ := HostSTS{Mode: ModeTesting, Why: "STS"}
	for name, c := range map[string]struct {
		in   Inputs
		want string
	}{
		"nothing":                       {Inputs{}, "0 default: outbound"},
		"MTA-STS":                       {Inputs{STS: enforce}, "2 mta-sts: STS, authentic"},
		"another host":                  {Inputs{STS: other}, "STS does not name it"},
		"testing":                       {Inputs{STS: testing_}, "0 default: outbound, audit, mismatch"},
		"testing and outbound":          {Inputs{Default: required, STS: testing_}, "2 default: outbound, audit, mismatch"},
		"outbound none and MTA-STS":     {Inputs{Default: none, STS: enforce}, "2 mta-sts: STS, authentic"},
		"outbound required and MTA-STS": {Inputs{Default: required, STS: enforce}, "2 mta-sts: STS, authentic"},
		"DANE":                          {Inputs{DANE: dane, Named: true}, "5 dane: TLSA, authentic"},
		"DANE wins over MTA-STS":        {Inputs{DANE: dane, STS: other, Named: true}, "5 dane: TLSA, authentic"},
		"unusable":                      {Inputs{DANE: unusable}, "4 dane: TLSA, none of which can be used (RFC 7672 2.2)"},
		"unusable and outbound":         {Inputs{DANE: unusable, Default: required}, "2 default: outbound"},
		"unusable and MTA-STS":          {Inputs{DANE: unusable, STS: enforce}, "2 mta-sts: STS, authentic"},
		"unusable and testing":          {Inputs{DANE: unusable, STS: testing_}, "4 dane: TLSA, none of which can be used (RFC 7672 2.2), audit, mismatch"},
		"a rule":                        {Inputs{Rule: &required}, "2 operator: rule"},
		"a rule and MTA-STS":            {Inputs{Rule: &required, STS: enforce}, "2 operator: rule, authentic"},
		"a rule and another host":       {Inputs{Rule: &required, STS: other}, "STS does not name it"},
		"a rule and DANE":               {Inputs{Rule: &required, DANE: dane, Named: true}, "5 dane: TLSA, authentic"},
		"a rule for clear text":         {Inputs{Rule: &none, DANE: dane, STS: other}, "1 operator: rule"},
		"a rule for anything":           {Inputs{Rule: &opportunistic, Default: required, DANE: HostDANE{State: DANEFailed}}, "0 operator: rule"},
		"REQUIRETLS":                    {Inputs{RequireTLS: true}, "2 requiretls: " + requireWhy},
		"REQUIRETLS and clear text":     {Inputs{RequireTLS: true, Rule: &none}, "2 requiretls: " + requireWhy},
		"REQUIRETLS and a rule":         {Inputs{RequireTLS: true, Rule: &required}, "2 operator: rule"},
		"REQUIRETLS and DANE":           {Inputs{RequireTLS: true, DANE: dane, Named: true}, "5 requiretls: " + requireWhy + ", and TLSA, authentic"},
		"REQUIRETLS and unusable":       {Inputs{RequireTLS: true, DANE: unusable}, "2 requiretls: " + requireWhy},
		"REQUIRETLS and MTA-STS":        {Inputs{RequireTLS: true, STS: enforce}, "2 requiretls: " + requireWhy + ", and STS, authentic"},
		"TLS-Required: No":              {Inputs{AnyTLS: true, DANE: dane, STS: other}, "0 default: outbound"},
		"TLS-Required: No and outbound": {Inputs{AnyTLS: true, Default: required}, "2 default: outbound"},
		"both words":                    {Inputs{AnyTLS: true, RequireTLS: true, STS: enforce}, "2 requiretls: " + requireWhy + ", and STS, authentic"},
	} {
		c.in.DefaultWhy, c.in.RuleWhy = "outbound", "rule"
		v := Join(&c.in)
		got := fmt.Sprintf("%d %s: %s", v.Demand.Requirement, v.Demand.Origin, v.Demand.Why)
		for _, is := range []struct {
			is   bool
			word string
		}{{v.Demand.Authentic, "authentic"}, {v.Demand.Audit, "audit"}, {v.Demand.Mismatch, "mismatch"}} {
			if is.is {
				got += ", " + is.word
			}
		}
		if v.Against != nil {
			got = v.Against.Text
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}
