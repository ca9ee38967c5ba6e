package mta

import "time"

// TLSRequirement says how much TLS is demanded of a session.
type TLSRequirement uint8

// The requirements. Those of a configuration are the first four.
const (
	TLSOpportunistic TLSRequirement = iota // use it when offered; no certificate is required
	TLSNone                                // never
	TLSRequired                            // STARTTLS with a certificate for the host's name (PKIX), or defer
	TLSImplicit                            // TLS from the first octet, verified
	TLSEncrypted                           // STARTTLS with any certificate, or defer (RFC 7672 2.2: no TLSA record is usable)
	TLSDANE                                // STARTTLS with a certificate that a TLSA record of the host matches, or defer
)

// TLSOrigin says who demands what is demanded.
type TLSOrigin string

// The origins, from the strongest.
const (
	TLSByOperator TLSOrigin = "operator"   // tls of a [[route]] or of [router]
	TLSByMessage  TLSOrigin = "requiretls" // RFC 8689
	TLSByDANE     TLSOrigin = "dane"       // RFC 7672
	TLSBySTS      TLSOrigin = "mta-sts"    // RFC 8461
	TLSByDefault  TLSOrigin = "default"    // [tls] outbound
)

// TLSDemand is what a session with one host must fulfil, and who demands it. It
// is immutable and shared.
type TLSDemand struct {
	Requirement TLSRequirement
	Origin      TLSOrigin
	// Why names the configuration line, policy or record that demands it, for
	// people: "[[route]] 2", "the MTA-STS policy of example.com (id 2026a)",
	// "the TLSA records of _25._tcp.mx.example.com".
	Why  string
	DANE *DANE // with TLSDANE
	// Authentic says that the host's name is known to be the recipient domain's:
	// by signed DNS, or because an enforced MTA-STS policy names it (RFC 8689
	// 4.2.1).
	Authentic bool
	// Audit says that the certificate is to be checked for the host's name, and
	// that what comes out is told (Options.Secured of transport) but does not
	// count: MTA-STS in testing mode (RFC 8461 5).
	Audit bool
	// Mismatch, with Audit, says that the policy does not name the host, which
	// counts as much.
	Mismatch bool
}

// TLSA is one certificate association (RFC 6698 2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// DANE is what a host's certificate is matched with (RFC 7672 3.1).
type DANE struct {
	Records []TLSA   // usable ones, at least one
	Names   []string // reference identifiers for usage 2, the TLSA base domain first (RFC 7672 3.2.2)
	// Key is the same for all values that demand the same.
	Key string
}

// Same reports whether two demands ask the same of a session, so that one that
// was opened for either serves both.
func (d *TLSDemand) Same(other *TLSDemand) bool {
	if d.Requirement != other.Requirement || d.Audit != other.Audit {
		return false
	}
	return d.DANE == other.DANE || d.DANE != nil && other.DANE != nil && d.DANE.Key == other.DANE.Key
}

// Demand is what a session with one of the route's hosts must fulfil.
func (r *Route) Demand(h *Host) TLSDemand {
	if h.TLS != nil {
		return *h.TLS
	}
	return TLSDemand{Requirement: r.TLS, Origin: r.TLSOrigin, Why: r.TLSWhy, Authentic: r.Secure}
}

// TLSPolicy is what a recipient domain publishes about TLS, as reports name it
// (RFC 8460 4.4).
type TLSPolicy struct {
	Type    string   // "sts", "tlsa" or "no-policy-found"
	Domain  string   // the policy domain; of "tlsa" the TLSA base domain
	Strings []string // the lines of the policy, or the records
	MXHosts []string // of "sts": its mx patterns
	// Of "sts": the id of its record, its mode ("enforce"), when it was read last and
	// until when it holds.
	ID, Mode         string
	Fetched, Expires time.Time
	// Trouble is the result-type of RFC 8460 4.3 when the policy could not be had
	// or used ("sts-policy-fetch-error", "dnssec-invalid"), and Reason says it to
	// people; empty: none.
	Trouble, Reason string
}
