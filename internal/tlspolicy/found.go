package tlspolicy

import (
	"time"

	"mailout/internal/mta"
)

// DomainSTS is what is known of a domain's MTA-STS policy.
type DomainSTS struct {
	Policy  *Policy // in force, or none can be had
	ID      string
	Fetched time.Time // when it was read last
	Expires time.Time
	// Trouble and Reason are as in mta.TLSPolicy: why there is no policy, or no new
	// one.
	Trouble, Reason string
	// Again is when to ask again; zero: when it suits.
	Again time.Time
	// Against says that mail must wait, because nobody knows whether there is a
	// policy; nil: it need not.
	Against *mta.Failure
	// Unknown says that the domain's record could not be looked for, and that no
	// policy is known: only mail that may not go without one must wait for that.
	Unknown *mta.Failure
}

// Host is what the policy says of one host of the domain.
func (s *DomainSTS) Host(domain, host string) HostSTS {
	if s.Policy == nil || s.Policy.Mode == ModeNone {
		return HostSTS{}
	}
	return HostSTS{Mode: s.Policy.Mode, Names: s.Policy.Names(host), Why: "the MTA-STS policy of " + domain + " (id " + s.ID + ")"}
}

// Report is the policy as reports tell of it; nil when the domain has none.
func (s *DomainSTS) Report(domain string) *mta.TLSPolicy {
	if s.Policy == nil && s.Trouble == "" {
		return nil
	}
	p := &mta.TLSPolicy{Type: "sts", Domain: domain, Trouble: s.Trouble, Reason: s.Reason}
	if s.Policy != nil {
		p.Strings, p.MXHosts = s.Policy.Lines(), s.Policy.MX
		p.ID, p.Mode, p.Fetched, p.Expires = s.ID, s.Policy.Mode.String(), s.Fetched, s.Expires
	}
	return p
}

// Report is what a host's TLSA records are in reports; nil when it has none.
func (f *Found) Report() *mta.TLSPolicy {
	p := &mta.TLSPolicy{Type: "tlsa", Domain: f.Base, Strings: f.Records}
	switch f.State {
	case DANENone:
		return nil
	case DANEUnusable:
		p.Trouble, p.Reason = "tlsa-invalid", "none of the records can be used"
	case DANEFailed:
		p.Trouble, p.Reason = mta.ResultDNSSECInvalid, f.Why
	}
	return p
}

// NoPolicy is what reports tell of a domain that publishes neither.
func NoPolicy(domain string) mta.TLSPolicy {
	return mta.TLSPolicy{Type: "no-policy-found", Domain: domain}
}
