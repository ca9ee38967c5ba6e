package mta

import (
	"net/netip"
	"strings"
	"time"
)

// Host is one mail server name with its preference and addresses.
type Host struct {
	Name       string // A-label form without a trailing dot; an address literal's host has the address as name
	Preference uint16
	Addresses  []netip.Addr // as the look-up gave them, forbidden ones left out
	Secure     bool         // signed DNS vouches for the addresses
	Failure    *Failure     // why there are no addresses; nil when there are some
	Port       uint16       // where it differs from the route's; 0: the route's
	Socket     string       // path of a Unix socket, which has no addresses
	TLS        *TLSDemand   // nil: the route's; see Route.Demand
}

// Protocol is what a host speaks.
type Protocol uint8

// The protocols.
const (
	SMTP Protocol = iota
	LMTP          // RFC 2033: an answer for each recipient after the content
)

// Source is one local address and the EHLO name used from it.
type Source struct {
	IP       netip.Addr // zero: the system chooses
	Hostname string
	// Egress is a proxy that its connections go out by; IP is the proxy's address
	// then, as receivers see it. nil: none. Sources are compared with their
	// Egress by pointer.
	Egress *Egress
}

// EgressKind is what a proxy for connections out speaks.
type EgressKind uint8

// The kinds.
const (
	EgressSOCKS5        EgressKind = iota // RFC 1928
	EgressProxyProtocol                   // a PROXY protocol header of version 2, then SMTP
)

// String gives the kind's name.
func (k EgressKind) String() string { return [...]string{"SOCKS 5", "PROXY protocol"}[k] }

// Egress is a proxy that connections go out by.
type Egress struct {
	Kind     EgressKind
	Address  string // HOST:PORT
	Username string // of SOCKS 5 (RFC 1929); empty: none
	Password string
}

// Limits bound the traffic of one site × source. Zero values mean the
// defaults given.
type Limits struct {
	Connections           int // at once; default 20
	MessagesPerConnection int // default 100
	RecipientsPerMessage  int // RCPTs in one transaction; default 100 (RFC 5321 4.5.3.1.10)
	Rates                 []Rate
	Origin                string // the configuration line they come from
	// From says where each number comes from, for people; empty: [delivery], or
	// the default.
	From LimitOrigins
}

// LimitOrigins are configuration lines, or "provider default …".
type LimitOrigins struct{ Connections, MessagesPerConnection, RecipientsPerMessage string }

// Route is the decision for a recipient domain: which hosts, how, from where.
// It is immutable and shared.
type Route struct {
	Domain  string // the recipient domain asked for
	Matched string // the configuration that chose it: "direct (default)", "[router]", "[[route]] 2"
	Router  string // host as configured when mail goes through a router; empty when direct
	// Site names what shares limits and connections: the MX set, port and TLS
	// demand in canonical form. Readable: "mx1.example.net,mx2.example.net".
	Site  string
	Hosts []Host // by preference; in the look-up's order inside one preference
	Port  uint16
	TLS   TLSRequirement
	// TLSOrigin and TLSWhy say who demands TLS, of a host that has no demand of
	// its own.
	TLSOrigin TLSOrigin
	TLSWhy    string
	// Policies are what the recipient domain publishes about TLS; they are told in
	// reports. Empty for a router, and where nobody looked.
	Policies []TLSPolicy
	Secure   bool // signed DNS vouches for the MX answer
	// Unsigned, of mail with REQUIRETLS, is why nobody here could tell whether signed
	// DNS vouches for it; empty: it could be told.
	Unsigned string
	Sources  []Source // at most one an address family is used; empty: system's choice with the default hostname
	Helo     string   // the EHLO name when no source matches
	Limits   Limits
	IPv6     bool
	// Provider is who runs the hosts ("google"), as limits, warm-up and
	// statistics have it; empty: nobody known.
	Provider string
	Pool     string   // of Sources; empty: the default
	Weight   int      // share of the mail among the plan's routes; 0 counts as 1
	Warming  *Warming // of a source that is being warmed up
	Protocol Protocol
	Auth     *Credentials // nil: no AUTH
	// AvoidUntil is until when the route is not used while its plan has others,
	// because of what the receiver said of its source; AvoidWhy says it.
	AvoidUntil time.Time
	AvoidWhy   string
	// Others are the other routes of the plan, by SourceKey.
	Others []string
	// Fallback says that a router takes over where the receiver refuses us
	// ([router] use = "fallback"): the result of an attempt may be Elsewhere then.
	Fallback bool
	// Instead is the direct site that the router stands in for, of a route that it
	// has for that reason.
	Instead string
	// Probe says that a router stands in for this way already, and that it is
	// tried by a single delivery once in a while: the queue asks Quota before each
	// (Warming is set).
	Probe bool
	// HeldBy says why nothing is sent by this route now (identity.guard); empty:
	// nothing is against it.
	HeldBy string
	// MaxHosts and MaxAddresses bound one attempt (delivery.hosts, delivery.addresses).
	MaxHosts, MaxAddresses int
	Expires                time.Time // ask again after this
}

// Target is one address to try.
type Target struct {
	Host   Host
	IP     netip.Addr // zero for a socket
	Source Source     // Hostname is never empty
}

// PortOf gives the port of one of the route's hosts.
func (r *Route) PortOf(h *Host) uint16 {
	if h.Port != 0 {
		return h.Port
	}
	return r.Port
}

// SourceKey names where the route comes from, the same for all sites and
// routes of one member of a pool: its addresses, or its EHLO names where the
// system chooses the addresses.
func (r *Route) SourceKey() string {
	if len(r.Sources) == 0 {
		return r.Helo
	}
	var b strings.Builder
	for i := range r.Sources {
		if i > 0 {
			b.WriteByte(',')
		}
		if s := &r.Sources[i]; s.IP.IsValid() {
			b.WriteString(s.IP.Unmap().String())
		} else {
			b.WriteString(s.Hostname)
		}
	}
	return b.String()
}
