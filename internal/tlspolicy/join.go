package tlspolicy

import (
	"mailout/internal/mta"
)

// Inputs are what everyone demands of one host of a recipient domain.
type Inputs struct {
	// Rule is what an operator's rule for the domain says; nil: none does.
	Rule    *mta.TLSRequirement
	RuleWhy string
	// Default is [tls] outbound.
	Default    mta.TLSRequirement
	DefaultWhy string
	// RequireTLS is of a message with REQUIRETLS, AnyTLS of one with "TLS-Required:
	// No". With both REQUIRETLS counts (RFC 8689 3).
	RequireTLS bool
	AnyTLS     bool
	// Named says that the host's name is known to be the recipient domain's: signed
	// DNS vouches for the MX records, or the host is the domain itself.
	Named bool
	DANE  HostDANE
	STS   HostSTS
}

// HostDANE is what the TLSA records of a host demand.
type HostDANE struct {
	State DANEState
	DANE  *mta.DANE // with DANEUsable
	Why   string    // "the TLSA records of _25._tcp.mx.example.com"; with DANEFailed what went wrong
	Err   error     // with DANEFailed, an *mta.TLSFault
}

// DANEState says what is known of a host's TLSA records.
type DANEState uint8

// The states.
const (
	DANENone     DANEState = iota // there are none, or signed DNS does not vouch for them or for the host
	DANEUnusable                  // there are some, and none can be used: TLS without authentication (RFC 7672 2.2)
	DANEUsable
	DANEFailed // nobody knows, where signed DNS vouches for the host: the host is not used (RFC 7672 2.1.2)
)

// HostSTS is what the domain's MTA-STS policy says of a host.
type HostSTS struct {
	Mode  Mode
	Names bool   // one of the policy's mx patterns matches the host
	Why   string // "the MTA-STS policy of example.com (id 2026a)"
}

// Verdict is what comes of it.
type Verdict struct {
	Demand mta.TLSDemand
	// Against says that the host must not get the mail now; nil: it may.
	Against *mta.Failure
}

// strength orders requirements. A DANE match counts for more than a certificate
// that public authorities vouch for; those with TLS from the first octet are the
// operator's alone.
func strength(r mta.TLSRequirement) int {
	switch r {
	case mta.TLSNone:
		return 0
	case mta.TLSOpportunistic:
		return 1
	case mta.TLSEncrypted:
		return 2
	case mta.TLSRequired, mta.TLSImplicit:
		return 3
	}
	return 4 // TLSDANE
}

// Published reports whether what the domain publishes counts. Where it does not
// nobody needs to look it up.
func (in *Inputs) Published() bool {
	if in.Rule != nil && strength(*in.Rule) < strength(mta.TLSRequired) {
		return false
	}
	return in.RequireTLS || !in.AnyTLS
}

// Join makes one demand of all. It is pure.
func Join(in *Inputs) Verdict {
	v := Verdict{Demand: in.own()}
	if in.Published() {
		in.publish(&v)
	}
	if in.RequireTLS {
		in.require(&v.Demand)
	}
	return v
}

// own is what the operator demands.
func (in *Inputs) own() mta.TLSDemand {
	d := mta.TLSDemand{Requirement: in.Default, Origin: mta.TLSByDefault, Why: in.DefaultWhy, Authentic: in.Named}
	if in.Rule != nil {
		d.Requirement, d.Origin, d.Why = *in.Rule, mta.TLSByOperator, in.RuleWhy
	}
	return d
}

// publish raises a demand to what the domain publishes.
func (in *Inputs) publish(v *Verdict) {
	d := &v.Demand
	switch in.DANE.State {
	case DANEFailed:
		v.Against = &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseDNS, Text: in.DANE.Why, Err: in.DANE.Err}
		return
	case DANEUsable:
		d.Requirement, d.Origin, d.Why = mta.TLSDANE, mta.TLSByDANE, in.DANE.Why
		d.DANE, d.Authentic = in.DANE.DANE, true
		return
	case DANEUnusable:
		raise(d, mta.TLSEncrypted, mta.TLSByDANE, in.DANE.Why+", none of which can be used (RFC 7672 2.2)")
	}
	switch in.STS.Mode {
	case ModeEnforce:
		raise(d, mta.TLSRequired, mta.TLSBySTS, in.STS.Why)
		d.Authentic = d.Authentic || in.STS.Names
		if !in.STS.Names {
			v.Against = &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseTLSPolicy, Text: in.STS.Why + " does not name it"}
		}
	case ModeTesting:
		d.Audit, d.Mismatch = true, !in.STS.Names
	}
}

// raise makes a demand another's that is stronger, or as strong as the default.
func raise(d *mta.TLSDemand, to mta.TLSRequirement, by mta.TLSOrigin, why string) {
	have, want := strength(d.Requirement), strength(to)
	if want > have || want == have && d.Origin == mta.TLSByDefault {
		d.Requirement, d.Origin, d.Why = to, by, why
	}
}

// require raises a demand to RFC 8689's: a certificate that PKIX or a TLSA record
// vouches for. Only an operator's rule that asks for as much comes before it.
func (in *Inputs) require(d *mta.TLSDemand) {
	switch {
	case strength(d.Requirement) < strength(mta.TLSRequired):
		d.Requirement, d.Why = mta.TLSRequired, requireWhy
	case d.Origin == mta.TLSByOperator:
		return
	default:
		d.Why = requireWhy + ", and " + d.Why
	}
	d.Origin = mta.TLSByMessage
}

const requireWhy = "the message asks for REQUIRETLS (RFC 8689)"
