package doctor

import (
	"context"
	"net/netip"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// Identity is who this machine says it is and how it delivers: all that the
// checks know of the configuration.
type Identity struct {
	Hostname string       // EHLO name
	Sources  []mta.Source // local addresses with their EHLO names; none: whatever routes out, as Hostname
	IPv6     bool         // delivery over IPv6 is on
	Port     uint16       // of mail servers, 25

	Router Router
	Routes []Route // before Router, first match wins

	Servers []netip.AddrPort // DNS servers in use
	// TLSServers are those of Servers that are asked over TLS, with the names in
	// their certificates (empty: the address).
	TLSServers map[netip.AddrPort]string
	// DNSSEC tells who authenticates the answers of Servers; nil: that is told by
	// what the servers do alone.
	DNSSEC        func(context.Context) dns.DNSSECState
	SystemServers bool     // they are the system's, not configured
	HostsFile     string   // looked at before DNS for the router's name; empty: none
	ExternalNames []string // names of others that every DNS server must know
	BogusName     string   // whose DNSSEC signatures are wrong on purpose; empty: no such test

	Postmaster string   // mailbox
	Domains    []string // sender domains: of From fields and return paths
	// Returns is the domain of the return paths that mail goes out with, when it
	// is one of its own ([returns] domain); empty: it has those of Domains.
	Returns   string
	DKIM      []DKIMKey
	TrustedCA string // PEM file of extra roots; empty: none

	PublicIP   []netip.Addr // configured as visible; empty: to be found out
	Reflectors []string     // "dns:NAME/TYPE@SERVER", "http://…", "https://…", "smtp:HOST[:PORT]"
	Probes     []string     // mail servers, HOST or HOST:PORT, to try port 25 at
	BlockLists []string     // zones of addresses; "domain:ZONE" of names

	Spool     string // directory
	SpoolFree int64  // octets below which new mail is refused
	MaxFiles  uint64 // open files that the configured connections need
}

// Router is the smart host.
type Router struct {
	Host string // empty: none, direct delivery
	Port uint16
	Use  string // "always", "unresolved" or "fallback"
	TLS  mta.TLSRequirement
	Auth *mta.Credentials // nil: none; never shown but for the user name
	// AuthTrouble is why there are no credentials though some are configured: a
	// file that cannot be read, or that only the daemon may ask for a token.
	AuthTrouble *AuthTrouble
	// Ask, when set, gives Auth and AuthTrouble at each examination: they change
	// with the files that they stand in.
	Ask func() (*mta.Credentials, *AuthTrouble)
	// NotLookedAt says what a router is whose name and session are not examined
	// ("a socket of this machine"); empty: they are.
	NotLookedAt string
	Line        int // of its host in the configuration file; 0: not there
}

// AuthTrouble says why a router's credentials cannot be had.
type AuthTrouble struct {
	Why   string
	Known bool // it is wrong; else it cannot be found out here
}

// Route is one exception to the rule.
type Route struct {
	Domains []string
	Host    string // empty: direct
	Port    uint16
	Line    int // in the configuration file
	// Of are further conditions in words: "of streams newsletter".
	Of string
	// Way, where there is no host, says what becomes of the mail: "is held".
	// Directly says that some of it may go directly all the same.
	Way      string
	Directly bool
}

// DKIMKey is one [[dkim]].
type DKIMKey struct {
	Domain, Selector string
	Path             string // PEM file of the private key
}

// Learned is what a receiver's reply to our EHLO said of our address, or what
// a reflector said.
type Learned struct {
	Source  netip.Addr `json:"source,omitzero"` // local; invalid when none was chosen
	Visible netip.Addr `json:"visible"`
	From    string     `json:"from"` // host or reflector that said it
	Time    time.Time  `json:"time"`
}
