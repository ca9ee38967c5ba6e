package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// Identity says how the machine's identity is examined: its host name,
// addresses and records as other servers see them.
type Identity struct {
	Guard         Guard
	Unaligned     submit.Unaligned
	PublicIP      []netip.Addr // as others see them; empty: to be found out
	Reflectors    []string     // "dns:NAME/TYPE@SERVER", "http://…", "https://…", "smtp:HOST[:PORT]"
	Domains       []string     // sender domains, lower-case A-labels
	Probes        []string     // mail servers, HOST or HOST:PORT
	BlockLists    []string     // zones of addresses; "domain:ZONE" of names
	ExternalNames []string     // that every DNS server must know
	BogusName     string       // whose DNSSEC signatures are wrong on purpose; empty: none
	Interval      time.Duration
	ListsInterval time.Duration
	DNSUpdate     DNSUpdate
}

// Guard says what a failing identity means for the mail.
type Guard uint8

// The guards.
const (
	GuardWarn Guard = iota // it is reported
	GuardHold              // and the source's mail is held until it passes
)

// String gives the word of the configuration file.
func (g Guard) String() string { return guards.word(g) }

// DNSUpdate is how records are published by dynamic update (RFC 2136).
type DNSUpdate struct {
	Server        string // HOST or HOST:PORT; empty: records are not published
	Zone          string // without the trailing dot; empty: found by SOA
	KeyName       string // of the TSIG key (RFC 8945); empty: updates are not signed
	KeyAlgorithm  string // "hmac-sha256", …
	KeySecret     string // base64; empty with KeySecretFile
	KeySecretFile string
	TTL           time.Duration // of published records, whole seconds
	KeepAddress   bool          // the host name's address records follow the visible address
	MinInterval   time.Duration // between two updates of the address
}

// Secret gives the TSIG key's secret, base64, from the file if it is there.
func (u *DNSUpdate) Secret() (string, error) {
	if u.KeySecretFile == "" {
		return u.KeySecret, nil
	}
	secret, err := ReadSecret(u.KeySecretFile)
	if err != nil {
		return "", err
	}
	if problem := checkBase64(secret); problem != "" {
		return "", fmt.Errorf("%s %s", quote(u.KeySecretFile), problem)
	}
	return secret, nil
}

func checkSecretFile(file string) error {
	_, err := (&DNSUpdate{KeySecretFile: file}).Secret()
	return err
}

// DKIMKey is a signing key and where its public half is published.
type DKIMKey struct {
	Domain   string // d=, lower-case A-labels
	Selector string // s=
	Key      string // PEM file of the private key, absolute
	Line     int    // in the file
}

// What is asked when the file says nothing. All of it may be emptied: the
// doctor finds out what it can without, and says what it could not.
const (
	defaultReflectors = `["dns:o-o.myaddr.l.google.com/TXT@ns1.google.com", "dns:myip.opendns.com/A@resolver1.opendns.com", "dns:myip.opendns.com/AAAA@resolver1.opendns.com"]`
	defaultProbes     = `["gmail-smtp-in.l.google.com", "outlook-com.olc.protection.outlook.com", "mx01.mail.icloud.com"]`
	defaultExternal   = `["example.com", "gmail.com"]`
	defaultBogus      = `"dnssec-failed.org"`
	defaultBlockLists = `["bl.spamcop.net", "psbl.surriel.com", "dnsbl.dronebl.org"]`
)

func dkimTable() *table {
	at := func(c *Config, i int) *DKIMKey { return &c.DKIM[i] }
	return &table{name: "dkim", array: true, live: true,
		count: func(c *Config) int { return len(c.DKIM) },
		grow:  func(c *Config) { c.DKIM = append(c.DKIM, DKIMKey{}) },
		doc:   "DKIM keys, which sign the mail of their domain and of the domains under it. Of a domain's keys of one algorithm the last one signs whose record is published; `mailout dkim` makes and changes them.", keys: []*key{
			newKey("domain", mapped("domain", canonicalDomain, keep), func(c *Config, i int) *string { return &at(c, i).Domain }).
				needs(`domain = "example.com"`, "Domain that signs (`d=`)."),
			newKey("selector", mapped("selector", canonicalSelector, keep), func(c *Config, i int) *string { return &at(c, i).Selector }).
				needs(`selector = "m2026"`, "Selector (`s=`): the public key is the TXT record at SELECTOR._domainkey.DOMAIN."),
			newKey("key", mapped("path", requiredPath, keep), func(c *Config, i int) *string { return &at(c, i).Key }).
				needs(`key = "/etc/mailout/dkim/example.com.m2026.pem"`, "PEM file of the private key, RSA or Ed25519, for the daemon's user alone to read. A reload reads it again. One that cannot be read is an alarm and no error: mail goes on, without its signature."),
		}}
}

func identityTable() *table {
	at := func(c *Config) *Identity { return &c.Identity }
	return &table{name: "identity", doc: "How the identity of this machine is examined: what other servers see of its name, addresses and records.", keys: []*key{
		newKey("guard", word(guards), func(c *Config, _ int) *Guard { return &at(c).Guard }).
			is(`"warn"`, "What a source whose identity fails means for its mail: `warn` reports it; `hold` also holds the mail, and releases it when the checks pass again."),
		unalignedKey(),
		newKey("public_ip", list(publicAddress(), 0, 16, `["203.0.113.5"]`), func(c *Config, _ int) *[]netip.Addr { return &at(c).PublicIP }).
			is(`[]`, "Addresses that other servers see this machine as; an empty list means that they are found out."),
		newKey("reflectors", list(mapped("reflector", reflector, keep), 0, 16, `["https://ip.example.net/"]`), func(c *Config, _ int) *[]string { return &at(c).Reflectors }).
			is(defaultReflectors, "Services that answer with the address that they see: `dns:NAME/TYPE@SERVER` with the type A, AAAA or TXT, an `http://` or `https://` address, or `smtp:HOST[:PORT]`, whose reply to EHLO is read."),
		newKey("domains", list(mapped("domain", canonicalDomain, keep), 0, 1000, `["example.com"]`), func(c *Config, _ int) *[]string { return &at(c).Domains }).
			derives("the domain of `postmaster` and those of `[[dkim]]`", deriveDomains, "Sender domains to examine: those of From fields and return paths."),
		newKey("probes", list(mapped("host", probeHost, keep), 0, 16, `["mx.example.net"]`), func(c *Config, _ int) *[]string { return &at(c).Probes }).
			is(defaultProbes, "Mail servers at which it is tried whether port 25 is open: HOST or HOST:PORT. They see EHLO and QUIT, never mail."),
		newKey("blocklists", list(mapped("block list", blockList, keep), 0, 64, `["dnsbl.example.net"]`), func(c *Config, _ int) *[]string { return &at(c).BlockLists }).
			is(defaultBlockLists, "DNS block lists to look the addresses up in; with `domain:` before it, a list of domain names."),
		newKey("external_names", list(mapped("domain", canonicalDomain, keep), 0, 16, `["example.com"]`), func(c *Config, _ int) *[]string { return &at(c).ExternalNames }).
			is(defaultExternal, "Names outside of this network; each DNS server must know one of them."),
		newKey("bogus_name", mapped("domain", optionalDomain, keep), func(c *Config, _ int) *string { return &at(c).BogusName }).
			is(defaultBogus, "A name whose DNSSEC signatures are wrong on purpose, and which DNS servers that check them must not answer; an empty text means that this is not tried."),
		newKey("interval", duration(time.Second, day, "15m"), func(c *Config, _ int) *time.Duration { return &at(c).Interval }).
			is(`"15m"`, "How often the running daemon repeats the checks."),
		newKey("lists_interval", duration(time.Second, 7*day, "1h"), func(c *Config, _ int) *time.Duration { return &at(c).ListsInterval }).
			is(`"1h"`, "How often it looks into the block lists."),
	}}
}

func dnsUpdateTable() *table {
	at := func(c *Config) *DNSUpdate { return &c.Identity.DNSUpdate }
	return &table{name: "identity.dns_update", doc: "Publishing records by DNS update (RFC 2136). Without `server` nothing is published.", keys: []*key{
		newKey("server", mapped("host", optionalHost, keep), func(c *Config, _ int) *string { return &at(c).Server }).
			is(`""`, "The zone's primary name server, HOST or HOST:PORT; an empty text means none."),
		newKey("zone", mapped("domain", optionalDomain, keep), func(c *Config, _ int) *string { return &at(c).Zone }).
			is(`""`, "Zone to change; an empty text means the zone that the name is in, by its SOA record."),
		newKey("key_name", mapped("key name", keyName, keep), func(c *Config, _ int) *string { return &at(c).KeyName }).
			is(`""`, "Name of the TSIG key (RFC 8945) that signs updates; an empty text means that they are not signed."),
		newKey("key_algorithm", word(tsigAlgorithms), func(c *Config, _ int) *string { return &at(c).KeyAlgorithm }).
			is(`"hmac-sha256"`, "Algorithm of the key."),
		newKey("key_secret", secretText(), func(c *Config, _ int) *string { return &at(c).KeySecret }).
			is(`""`, "Secret of the key in base64.").hides(),
		newKey("key_secret_file", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).KeySecretFile }).
			is(`""`, "File whose one line is the secret, instead of `key_secret`; not readable by everybody."),
		newKey("ttl", duration(time.Second, 7*day, "5m"), func(c *Config, _ int) *time.Duration { return &at(c).TTL }).
			is(`"5m"`, "Time to live of the records published."),
		newKey("keep_address", boolean(), func(c *Config, _ int) *bool { return &at(c).KeepAddress }).
			is(`false`, "Whether the running daemon keeps the host name's address records equal to the visible address, when that changes."),
		newKey("min_interval", duration(time.Second, 30*day, "5m"), func(c *Config, _ int) *time.Duration { return &at(c).MinInterval }).
			is(`"5m"`, "Least time between two such changes."),
	}}
}

// hides makes the key a secret: show and get do not give its value.
func (k *key) hides() *key {
	k.secret = true
	return k
}

// deriveDomains: what mail comes from, as far as the file tells.
func deriveDomains(c *Config, _ int) {
	c.Identity.Domains = []string{}
	add := func(domain string) {
		if domain != "" && !slices.Contains(c.Identity.Domains, domain) {
			c.Identity.Domains = append(c.Identity.Domains, domain)
		}
	}
	add(strings.ToLower(c.Postmaster[strings.LastIndexByte(c.Postmaster, '@')+1:]))
	for _, k := range c.DKIM {
		add(k.Domain)
	}
}

// publicAddress is one that others may see.
func publicAddress() kind[netip.Addr] {
	of := address()
	read := of.read
	of.read = func(v *value) (netip.Addr, []complaint) {
		a, bad := read(v)
		if bad == nil && a.Zone() != "" {
			return a, one(v, "%s has a zone, which other servers do not see", v.shown())
		}
		return a, bad
	}
	return of
}

// canonicalDomain makes a mail domain lower-case A-labels.
func canonicalDomain(s string) (domain, problem string) {
	if strings.ContainsAny(s, "*[") {
		return "", shown(s) + ` is not a domain (write for example "example.com")`
	}
	return canonicalPattern(s)
}

func optionalDomain(s string) (domain, problem string) {
	if s == "" {
		return "", ""
	}
	return canonicalDomain(strings.TrimSuffix(s, "."))
}

// canonicalSelector: one or several labels (RFC 6376 3.1).
func canonicalSelector(s string) (selector, problem string) {
	const domain = ".example" // a selector may be a number, a host name may not
	if p := smtp.NameProblem(s + domain); p != "" {
		return "", problemOf(s, strings.Replace(p, "a host name", "a selector", 1))
	}
	return strings.ToLower(s), ""
}

func keyName(s string) (name, problem string) {
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", ""
	}
	name, problem = canonicalSelector(s)
	return name, strings.Replace(problem, "selector", "key name", 1)
}

// probeHost reads HOST, HOST:PORT or [IPV6]:PORT.
func probeHost(s string) (host, problem string) {
	const write = ` is not a host (write for example "mx.example.net", "mx.example.net:2525" or "[2001:db8::1]:2525")`
	if _, err := netip.ParseAddr(s); err == nil {
		return s, ""
	}
	name := s
	if strings.ContainsAny(s, ":[") {
		h, port, err := net.SplitHostPort(s)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 {
			return "", shown(s) + write
		}
		if name = h; strings.HasPrefix(s, "[") != strings.Contains(h, ":") {
			return "", shown(s) + write
		}
	}
	if name == "" {
		return "", shown(s) + write
	}
	return s, checkPeer(name)
}

func optionalHost(s string) (host, problem string) {
	if s == "" {
		return "", ""
	}
	return probeHost(s)
}

// reflector reads one way to be told our own address.
func reflector(s string) (kept, problem string) {
	const write = ` is not a reflector (write for example "dns:myip.example.net/A@ns.example.net", "https://ip.example.net/" or "smtp:mx.example.net")`
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "dns":
		question, server, ok := strings.Cut(rest, "@")
		name, qtype, typed := strings.Cut(question, "/")
		if !ok || !typed || !slices.Contains([]string{"A", "AAAA", "TXT"}, qtype) || checkName(strings.TrimSuffix(name, ".")) != "" {
			return "", shown(s) + write
		}
		_, problem := probeHost(server)
		return s, problem
	case "smtp":
		_, problem := probeHost(rest)
		return s, problem
	case "http", "https":
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || checkPeer(u.Hostname()) != "" {
			return "", shown(s) + write
		}
		return s, ""
	}
	return "", shown(s) + write
}

// blockList reads a zone, or "domain:" and a zone.
func blockList(s string) (kept, problem string) {
	zone, named := strings.CutPrefix(s, "domain:")
	zone, problem = optionalDomain(zone)
	switch {
	case problem != "":
		return "", problem
	case zone == "":
		return "", shown(s) + ` is not a block list (write for example "dnsbl.example.net")`
	case named:
		return "domain:" + zone, ""
	}
	return zone, ""
}

// secretText is base64 whose errors do not repeat it.
func secretText() kind[string] {
	of := text("secret", checkBase64)
	read := of.read
	of.read = func(v *value) (string, []complaint) {
		s, bad := read(v)
		if bad != nil {
			return "", one(v, "is not base64 (write it in quotes, as the name server's key file has it)")
		}
		return s, nil
	}
	return of
}

func checkBase64(s string) string {
	if _, err := base64.StdEncoding.DecodeString(s); err != nil {
		return "is not base64"
	}
	return ""
}

// selectorsOnce: a name holds one key.
func (l *loader) selectorsOnce() {
	first := map[string]int{}
	for i, k := range l.cfg.DKIM {
		full := findTable("dkim").full(i)
		if !l.sound(full+".domain", full+".selector") {
			continue
		}
		name := k.Selector + "._domainkey." + k.Domain
		if line, twice := first[name]; twice {
			l.accuse("dkim", "selector", i, quote(k.Selector)+" of "+quote(k.Domain)+" stands twice, first on line "+itoa(line)+" (one key a selector)")
			continue
		}
		first[name], _ = l.doc.position(l.at(findTable("dkim").key("selector"), i))
	}
}

// updateComplete: a table that says half of what an update needs does nothing,
// silently.
func (l *loader) updateComplete() {
	const table = "identity.dns_update"
	if s := l.sections[table]; s == nil || !l.sound(table+".server", table+".key_name", table+".key_secret", table+".key_secret_file") {
		return
	}
	u := l.cfg.Identity.DNSUpdate
	switch {
	case u.Server == "" && u.KeepAddress:
		l.accuse(table, "keep_address", 0, `needs a server to publish at (write server = "ns.example.com")`)
	case u.KeySecret != "" && u.KeySecretFile != "":
		l.accuse(table, "key_secret_file", 0, "stands beside key_secret (keep one of the two)")
	case u.KeyName == "" && u.KeySecret != "":
		l.accuse(table, "key_secret", 0, `has no key_name beside it (write key_name = "mailout")`)
	case u.KeyName == "" && u.KeySecretFile != "":
		l.accuse(table, "key_secret_file", 0, `has no key_name beside it (write key_name = "mailout")`)
	case u.KeyName != "" && u.KeySecret == "" && u.KeySecretFile == "":
		l.accuse(table, "key_name", 0, `has no secret beside it (write key_secret_file = "/etc/mailout/dns.key")`)
	}
}

// The closed sets.
var (
	guards         = words[Guard]{{"warn", GuardWarn}, {"hold", GuardHold}}
	tsigAlgorithms = words[string]{{"hmac-sha256", "hmac-sha256"}, {"hmac-sha512", "hmac-sha512"}, {"hmac-sha384", "hmac-sha384"}, {"hmac-sha224", "hmac-sha224"}, {"hmac-sha1", "hmac-sha1"}}
)
