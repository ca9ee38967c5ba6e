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
	Sources  []mta.Source // local addresses and the EHLO names used from them; none: the system chooses
	// Listen are the addresses that we accept mail on, to find ourselves in MX
	// sets. An unspecified address stands for all of this machine's.
	Listen          []netip.AddrPort
	Port            uint16 // delivery.port; 0 means 25
	IPv6            bool   // delivery.ipv6
	PrivateNetworks bool   // delivery.private_networks
	MaxHosts        int    // delivery.hosts; 0 means 5
	MaxAddresses    int    // delivery.addresses; 0 means 10
	TLS             mta.TLSRequirement
	Limits          mta.Limits // of every route, until shaping gives others
	Rules           []Rule     // [[route]] in order; the first match wins; at most MaxRules
	Router          Router     // [router]
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
)

// Router is a smart host.
type Router struct {
	Host string // as in Rule, without "direct"; empty or "none": there is no router
	Port uint16 // 0: the one in Host, else 25, with TLSImplicit 465
	Use  Use
	TLS  mta.TLSRequirement
	Line int // in the configuration file; 0: unknown
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
	past      atomic.Pointer[compiled] // the settings before; nil: none, or forgotten
}

// relay is a configured host, parsed.
type relay struct {
	text string     // as configured
	name string     // to look up; empty when addr is given
	addr netip.Addr // zero when name is given
	port uint16
	tls  mta.TLSRequirement

	warned atomic.Int64 // when the operator was told that it does not resolve, Unix nanoseconds
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
	var errs []error
	if err := c.setRouter(&s.Router); err != nil {
		errs = append(errs, fmt.Errorf("[router]: %w", err))
	}
	return c, errors.Join(append(errs, c.addRules()...)...)
}

func sourceNames(sources []mta.Source) []string {
	names := make([]string, len(sources))
	for i := range sources {
		names[i] = sources[i].Hostname
	}
	return names
}

func (c *compiled) setRouter(r *Router) error {
	if r.Host == "" || r.Host == "none" {
		return nil
	}
	fallback := uint16(smtpPort)
	if r.TLS == mta.TLSImplicit {
		fallback = smtpsPort
	}
	var err error
	c.router, err = parseRelay(r.Host, r.Port, fallback)
	if err != nil {
		return err
	}
	c.router.tls = r.TLS
	return nil
}

// at gives a place in the configuration as people read it.
func at(what string, line int) string {
	if line > 0 {
		return what + " (line " + strconv.Itoa(line) + ")"
	}
	return what
}

// parseRelay reads a configured host. A port may stand in it or beside it, or
// in both when they agree.
func parseRelay(text string, port, fallback uint16) (*relay, error) {
	r := &relay{text: text, port: port}
	host, in, err := splitPort(text)
	if err != nil {
		return nil, err
	}
	switch {
	case in != 0 && port != 0 && in != port:
		return nil, fmt.Errorf("host: %q has another port than port = %d", text, port)
	case in != 0:
		r.port = in
	case port == 0:
		r.port = fallback
	}
	if addr, err := netip.ParseAddr(strings.TrimPrefix(host, "IPv6:")); err == nil {
		r.addr = addr.Unmap()
		if n := mta.NetworkOf(r.addr); n.Impossible() {
			return nil, fmt.Errorf("host: %s is %s", addr, n)
		}
		return r, nil
	}
	if r.name, err = ascii(host); err != nil || strings.ContainsFunc(r.name, notInName) || r.name == Direct {
		return nil, fmt.Errorf("host: %q is neither a host name nor an address", text)
	}
	return r, nil
}

// splitPort takes brackets and port off a configured host.
func splitPort(text string) (host string, port uint16, err error) {
	host, after := text, ""
	switch {
	case strings.HasPrefix(text, "["):
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return "", 0, fmt.Errorf("host: %q lacks its closing bracket", text)
		}
		host, after = text[1:end], text[end+1:]
	case strings.Count(text, ":") == 1:
		colon := strings.IndexByte(text, ':')
		host, after = text[:colon], text[colon:]
	}
	if after == "" {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(after, ":"), 10, 16)
	if err != nil || n == 0 || after[0] != ':' {
		return "", 0, fmt.Errorf("host: %q has no port between 1 and 65535 after its colon", text)
	}
	return host, uint16(n), nil
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
