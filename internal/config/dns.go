package config

import (
	"net/netip"
	"strings"
	"time"

	"mailout/internal/dns"

	"github.com/pelletier/go-toml/v2/unstable"
)

// DNS says whom to ask, and whom to believe.
type DNS struct {
	Servers   []dns.Server  // empty: the system's resolvers
	Timeout   time.Duration // per query
	HostsFile string        // empty: none is read

	DNSSEC  dns.DNSSECMode
	Trusted []netip.Addr // servers whose AD bit is believed though they are elsewhere
	Anchors string       // file of trust anchors; empty: those built in
	Private []string     // zones that are used without signatures
}

var dnssecModes = words[dns.DNSSECMode]{
	{"auto", dns.DNSSECAuto}, {"trust", dns.DNSSECTrust}, {"validate", dns.DNSSECValidate}, {"off", dns.DNSSECOff},
}

func dnsTable() *table {
	return &table{name: "dns", doc: "Whom to ask for mail servers and addresses, and whose answers count as authenticated (docs/dnssec.md).", keys: []*key{
		newKey("servers", list(server(), 0, 16, `["192.0.2.1"]`), func(c *Config, _ int) *[]dns.Server { return &c.DNS.Servers }).
			is(`[]`, "DNS servers in the order in which they are asked; an empty list means the system's resolvers. `tls://192.0.2.1` is asked over TLS (RFC 7858, port 853) and never in clear; its certificate must name the address, or what stands behind a `#`: `tls://192.0.2.1#dns.example`."),
		newKey("timeout", duration(briefly, time.Minute, "5s"), func(c *Config, _ int) *time.Duration { return &c.DNS.Timeout }).
			is(`"5s"`, "Time for one query to one server."),
		newKey("hosts_file", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &c.DNS.HostsFile }).
			is(`"/etc/hosts"`, "File of host names and addresses that is looked at before DNS for the addresses of mail servers and routers. It never answers for a recipient's domain, whose MX records are always asked of DNS; an empty text means none."),
		newKey("dnssec", word(dnssecModes), func(c *Config, _ int) *dns.DNSSECMode { return &c.DNS.DNSSEC }).
			is(`"auto"`, "Who authenticates answers, which DANE stands on. `auto`: a server on this machine, one asked over TLS, or one in `trusted`, when a self-test shows that it checks signatures; the answers of others mailout checks itself. `trust`: such servers alone. `validate`: mailout checks everything itself. `off`: nobody, and there is no DANE."),
		newKey("trusted", list(address(), 0, 16, `["192.0.2.1"]`), func(c *Config, _ int) *[]netip.Addr { return &c.DNS.Trusted }).
			is(`[]`, "DNS servers elsewhere whose word (the AD bit) is believed: the way to them must be one that nobody else writes on."),
		newKey("trust_anchors", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &c.DNS.Anchors }).
			is(`""`, "File of DS or DNSKEY records in the form of zone files that signatures are checked from, read again every hour; an empty text means the keys of the DNS root, which are built in."),
		newKey("private", list(mapped("domain", privateZone, keep), 0, 100, `["corp.example.com"]`), func(c *Config, _ int) *[]string { return &c.DNS.Private }).
			is(`[]`, "Zones, with all below them, for which servers inside speak: their answers are used without signatures. For names that do not exist outside, or under `local`, `internal`, `lan` and the like, this is not needed; for a domain that is signed outside and answered otherwise inside it is, or its mail waits. It is for what mailout checks itself; a server that does so has its own list."),
	}}
}

// privateZone is a domain, or a single label: servers inside may have a top-level
// name of their own.
func privateZone(s string) (zone, problem string) {
	const above = ".example"
	s = strings.TrimSuffix(s, ".")
	if s == "" || strings.Contains(s, ".") {
		return canonicalDomain(s)
	}
	if zone, problem = canonicalDomain(s + above); problem != "" {
		return "", shown(s) + ` is not a domain (write for example "corp.example.com")`
	}
	return strings.TrimSuffix(zone, above), ""
}

// checkAnchors reads the file of trust anchors.
func (l *loader) checkAnchors() {
	file := l.cfg.DNS.Anchors
	if file == "" || !l.sound("dns.trust_anchors") {
		return
	}
	if _, _, err := dns.ReadAnchors(file); err != nil {
		l.accuse("dns", "trust_anchors", 0, quote(file)+" cannot be used: "+reason(err))
	}
}

// server is a DNS server: an address, with a port if it is not 53.
func server() kind[dns.Server] {
	return scalar("address, with :PORT if it is not 53, and tls:// for TLS", func(v *value) (dns.Server, string) {
		if v.kind == unstable.String {
			if s, err := dns.ParseServer(v.text); err == nil {
				return s, ""
			}
		}
		example := `"192.0.2.1" or "192.0.2.1:5353"`
		if strings.Contains(v.text, "#") || strings.Contains(v.text, "://") {
			example = `"192.0.2.1", or for TLS "tls://192.0.2.1" or "tls://192.0.2.1#dns.example"`
		}
		return dns.Server{}, v.shown() + ` is not the address of a DNS server (write for example ` + example + `)`
	}, dns.Server.String)
}
