package route

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/net/idna"

	"mailout/internal/mta"
	"mailout/internal/shape"
)

// Direct is the Host of a Rule that sends by the domain's mail exchangers.
const Direct = "direct"

// The SMTP ports (RFC 5321 4.5.4.2, RFC 8314 7.3).
const (
	smtpPort  = 25
	smtpsPort = 465
)

// Settings are what the operator configured. They are read-only once given.
type Settings struct {
	Hostname string       // our name: the EHLO name without sources, and ourselves in MX sets
	Sources  []mta.Source // all addresses that mail goes out from, with their EHLO names; none: the system chooses
	// Pools are some of them, by name. The one named "" carries what names none;
	// when it is not there it has all Sources, of one weight.
	Pools []Pool
	// StreamPools are the pools of streams' mail, by stream.
	StreamPools map[string]string
	// Listen are the addresses that we accept mail on, to find ourselves in MX
	// sets. An unspecified address stands for all of this machine's.
	Listen          []netip.AddrPort
	Port            uint16             // delivery.port; 0 means 25
	IPv6            bool               // delivery.ipv6
	PrivateNetworks bool               // delivery.private_networks
	MaxHosts        int                // delivery.hosts; 0 means 5
	MaxAddresses    int                // delivery.addresses; 0 means 10
	TLS             mta.TLSRequirement // [tls] outbound
	DANE            bool               // [tls] dane: TLSA records are asked for where signed DNS vouches for a host
	Limits          mta.Limits         // of every route, where nothing of the following says otherwise
	// Shape are the limits for some mail, in order; the first match wins.
	Shape            []shape.Rule
	NoProviderLimits bool   // what is known of providers does not lower limits
	Rules            []Rule // [[route]] in order; the first match wins; at most MaxRules
	Router           Router // [router]
	// Roots verify the services of tables; nil: the system's.
	Roots *x509.CertPool
}

// Use says when a router carries mail.
type Use uint8

// The uses of a router.
const (
	// UseAlways sends all mail by the router (IBM i: FIREWALL(*YES)).
	UseAlways Use = iota
	// UseUnresolved sends by the router what DNS cannot place: no such domain,
	// no address, or no answer (IBM i: FIREWALL(*NO)). A null MX is an answer,
	// and so are a loop and a forbidden address: that mail fails.
	UseUnresolved
	// UseFallback sends by the router what receivers refuse to take from us, as
	// Options.Fallback knows.
	UseFallback
)

// Router is a smart host.
type Router struct {
	Host string // as in Rule, without "direct"; empty or "none": there is no router, but for Hosts
	Peers
	Port uint16 // 0: the one in Host, else 25, with TLSImplicit 465
	Use  Use
	TLS  mta.TLSRequirement
	Line int // in the configuration file; 0: unknown
	// Unresolved, with UseFallback, has the router take what DNS does not place.
	Unresolved bool
}

// compiled are settings in the form that planning works with. Immutable, but for
// what tables learn.
type compiled struct {
	Settings
	router *relay // nil: none
	rules  []compiledRule
	index  *index
	// dependent: some rule looks at messages.
	dependent bool
	none      string // the variant of messages for which none of those holds: the generation
	unmatched target // of mail without a rule
	tables    tables
	ourNames  map[string]bool
	pools     map[string][]member
	shape     *shape.Rules
	past      atomic.Pointer[compiled] // the settings before; nil: none, or forgotten
}

// compile checks settings and prepares them. The error joins everything wrong.
func compile(s Settings, have tables, generation uint64) (*compiled, error) {
	if s.Port == 0 {
		s.Port = smtpPort
	}
	if s.MaxHosts <= 0 {
		s.MaxHosts = mta.DefaultMaxHosts
	}
	if s.MaxAddresses <= 0 {
		s.MaxAddresses = mta.DefaultMaxAddresses
	}
	c := &compiled{Settings: s, tables: have, none: strconv.FormatUint(generation, 36), ourNames: map[string]bool{}}
	for _, name := range append([]string{s.Hostname}, sourceNames(s.Sources)...) {
		if name != "" {
			c.ourNames[lower(name)] = true
		}
	}
	c.pools = makePools(&s)
	var errs []error
	var err error
	if c.shape, err = shape.NewRules(s.Shape); err != nil {
		errs = append(errs, err)
	}
	if err := c.setRouter(&s.Router); err != nil {
		errs = append(errs, fmt.Errorf("[router]: %w", err))
	}
	errs = append(errs, c.addRules()...)
	c.tellApart()
	return c, errors.Join(errs...)
}

// tellApart names routers by their users where routes have other credentials for
// the hosts of another: those that one refuses are no trouble of the other's mail.
func (c *compiled) tellApart() {
	first := map[string]*relay{}
	if c.router != nil {
		first[c.router.text] = c.router
	}
	for i := range c.rules {
		r := c.rules[i].target.relay
		if r == nil {
			continue
		}
		if f := first[r.text]; f == nil {
			first[r.text] = r
		} else if f.auth != r.auth {
			r.as = "/-"
			if r.auth != nil {
				r.as = "/" + r.auth.Username
			}
			r.text += r.as
		}
	}
}

func sourceNames(sources []mta.Source) []string {
	names := make([]string, len(sources))
	for i := range sources {
		names[i] = sources[i].Hostname
	}
	return names
}

func (c *compiled) setRouter(r *Router) error {
	if len(r.Hosts) == 0 && (r.Host == "" || r.Host == "none") {
		return nil
	}
	var err error
	c.router, err = r.relay(r.Host, r.Port, smtpPort, r.TLS)
	return err
}

// at gives a place in the configuration as people read it.
func at(what string, line int) string {
	if line > 0 {
		return what + " (line " + strconv.Itoa(line) + ")"
	}
	return what
}

// ascii gives a domain as it is compared and asked for: A-labels in lower case
// without a trailing dot (RFC 5891 4.4). Names that are ASCII already are not
// judged further here; dns does that.
func ascii(domain string) (string, error) {
	domain = strings.TrimSuffix(domain, ".")
	if domain == "" {
		return "", errors.New("the name is empty")
	}
	for i := range len(domain) {
		if domain[i] >= 0x80 {
			return idna.Lookup.ToASCII(domain)
		}
	}
	return strings.ToLower(domain), nil
}

// notInName reports what cannot stand in a host name in lower case.
func notInName(c rune) bool {
	return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
}

// lower gives a name for comparison.
func lower(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// isLiteral reports whether a domain is an address literal (RFC 5321 4.1.3).
func isLiteral(domain string) bool { return strings.HasPrefix(domain, "[") }
