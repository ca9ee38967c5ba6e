package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mailout/internal/mta"
)

// Source is one local address, or the address of a proxy, that mail goes out
// from.
type Source struct {
	mta.Source
	Weight int // its share of the mail among the sources of the default pool

	SOCKS5        string // HOST:PORT of a proxy; empty: none
	ProxyProtocol string // HOST:PORT of a proxy; empty: none
	Username      string // for SOCKS5
	Password      string // that of PasswordFile, when Load has read it
	PasswordFile  string
	Line          int // of ip in the file
	Warmup        Warmup
}

// DefaultPool is the pool of mail for which no other is named.
const DefaultPool = "default"

// Pool is some of the sources.
type Pool struct {
	Name    string
	Sources []string // addresses, or host names of sources
	Weights []int    // one for each of Sources; empty: the sources' own
	Line    int      // of name in the file
}

// Members gives the pool's sources with their weights in it, in its order.
func (c *Config) Members(p *Pool) []Source {
	var out []Source
	for n, name := range p.Sources {
		for i := range c.Sources {
			if !c.Sources[i].named(name) {
				continue
			}
			s := c.Sources[i]
			if n < len(p.Weights) {
				s.Weight = p.Weights[n]
			}
			out = append(out, s)
		}
	}
	return out
}

// named reports whether a pool means the source by name: its address or its
// host name.
func (s *Source) named(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap() == s.IP
	}
	return strings.EqualFold(name, s.Hostname)
}

// LocalSources gives the sources without what pools and proxies know of them.
func (c *Config) LocalSources() []mta.Source {
	var out []mta.Source
	for i := range c.Sources {
		out = append(out, c.Sources[i].Source)
	}
	return out
}

// maxWeight bounds the weights of sources.
const maxWeight = 10000

func sourceTable() *table {
	at := func(c *Config, i int) *Source { return &c.Sources[i] }
	return &table{name: "source", array: true, live: true,
		count: func(c *Config) int { return len(c.Sources) },
		grow:  func(c *Config) { c.Sources = append(c.Sources, Source{}) },
		doc:   "Addresses that connections go out from, any number of them. Without any the system chooses. Servers of a family that no source has are not tried.", keys: []*key{
			newKey("ip", address(), func(c *Config, i int) *netip.Addr { return &at(c, i).IP }).
				needs(`ip = "192.0.2.10"`, "An address of this machine; with `socks5` or `proxy_protocol`, the proxy's address as receivers see it."),
			newKey("hostname", text("host name", checkHostname), func(c *Config, i int) *string { return &at(c, i).Hostname }).
				derives("`hostname`", func(c *Config, i int) { at(c, i).Hostname = c.Hostname }, "EHLO name used from this address."),
			newKey("weight", integer[int](1, maxWeight), func(c *Config, i int) *int { return &at(c, i).Weight }).
				is(`1`, "Share of the mail beside the other sources of a pool: a source of weight 3 gets three times the mail of one of weight 1."),
			newKey("socks5", text("HOST:PORT", optionalProxy), func(c *Config, i int) *string { return &at(c, i).SOCKS5 }).
				is(`""`, "SOCKS 5 proxy that connections go out by. Empty: none."),
			newKey("username", text("user name", optionalCredential), func(c *Config, i int) *string { return &at(c, i).Username }).
				is(`""`, "Name to sign in to `socks5` with. Empty: without signing in."),
			secretKey(newKey("password", text("password", hiddenCredential), func(c *Config, i int) *string { return &at(c, i).Password })).
				is(`""`, "Password for `username`."),
			newKey("password_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).PasswordFile }).
				is(`""`, "File whose only line is the password, instead of `password`; not readable by everybody."),
			newKey("proxy_protocol", text("HOST:PORT", optionalProxy), func(c *Config, i int) *string { return &at(c, i).ProxyProtocol }).
				is(`""`, "Proxy that connections go out by, which is told their two ends by a PROXY protocol header of version 2. Empty: none."),
			sourceWarmup(),
		}}
}

func poolTable() *table {
	at := func(c *Config, i int) *Pool { return &c.Pools[i] }
	return &table{name: "pool", array: true, live: true,
		count: func(c *Config) int { return len(c.Pools) },
		grow:  func(c *Config) { c.Pools = append(c.Pools, Pool{}) },
		doc:   "Some of the sources, by a name that a `[[route]]` or `[[stream]]` uses. Mail for which no pool is named goes out from the pool `default`: all sources, unless a `[[pool]]` of that name says otherwise.", keys: []*key{
			newKey("name", text("pool name", checkPool), func(c *Config, i int) *string { return &at(c, i).Name }).
				needs(`name = "bulk"`, "Name of the pool."),
			newKey("sources", list(text("source", checkSourceName), 1, maxList, `["192.0.2.10"]`), func(c *Config, i int) *[]string { return &at(c, i).Sources }).
				needs(`sources = ["192.0.2.10"]`, "Sources by `ip`, or by `hostname`: all that have it."),
			newKey("weights", list(integer[int](1, maxWeight), 0, maxList, `[3, 1]`), func(c *Config, i int) *[]int { return &at(c, i).Weights }).
				is(`[]`, "Weights in this pool, one for each of `sources`. An empty list means the sources' own."),
		}}
}

// streamPool is the key of [[stream]] that names a pool.
func streamPool() *key {
	return newKey("pool", text("pool name", optionalPool), func(c *Config, i int) *string { return &c.Streams[i].Pool }).
		is(`""`, "Pool of sources that the stream's mail goes out from, unless a `[[route]]` names one. Empty: `default`.")
}

func checkPool(s string) string {
	if checkStream(s) != "" {
		return shown(s) + " is not a pool's name (1 to 64 letters, digits, and . _ -)"
	}
	return ""
}

func optionalPool(s string) string {
	if s == "" {
		return ""
	}
	return checkPool(s)
}

func checkSourceName(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	if problem := checkHostname(s); problem != "" {
		return shown(s) + ` is not a source (write its ip, or its hostname)`
	}
	return ""
}

// optionalProxy says why s is no proxy's place; empty when it is one, or none.
func optionalProxy(s string) string {
	if s == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 {
		return shown(s) + ` is not HOST:PORT (write for example "10.0.0.5:1080")`
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return shown(s) + " is not the address of a proxy"
		}
		return ""
	}
	return checkName(host)
}

// maxCredential bounds a SOCKS 5 user name and password (RFC 1929 2).
const maxCredential = 255

func optionalCredential(s string) string {
	if len(s) > maxCredential {
		return shown(s) + " is longer than " + itoa(maxCredential) + " octets"
	}
	return ""
}

// hiddenCredential is optionalCredential without the text: it is a password.
func hiddenCredential(s string) string {
	if len(s) > maxCredential {
		return "is longer than " + itoa(maxCredential) + " octets"
	}
	return ""
}

// sourcesApart: an address has one name and one way out.
func (l *loader) sourcesApart() {
	tbl := findTable("source")
	first := map[netip.Addr]int{}
	for i := range l.cfg.Sources {
		s := &l.cfg.Sources[i]
		if p, there := l.places[tbl.key("ip").full(i)]; there {
			s.Line, _ = l.doc.position(p.value.at)
		}
		full := tbl.full(i)
		if l.sound(full + ".ip") {
			if j, twice := first[s.IP]; twice {
				line, _ := l.doc.position(l.at(tbl.key("ip"), j))
				l.accuse("source", "ip", i, quote(s.IP.String())+" stands twice, first on line "+itoa(line)+" (receivers know an address by one name)")
			} else {
				first[s.IP] = i
			}
		}
		l.egress(i)
	}
}

// egress checks what a source says of its proxy, and makes mta.Egress of it.
func (l *loader) egress(i int) {
	s, full := &l.cfg.Sources[i], findTable("source").full(i)
	if !l.sound(full+".socks5", full+".proxy_protocol", full+".username", full+".password", full+".password_file") {
		return
	}
	switch {
	case s.SOCKS5 != "" && s.ProxyProtocol != "":
		l.accuse("source", "proxy_protocol", i, "stands beside socks5 (keep one of them)")
	case s.SOCKS5 == "" && s.Username != "":
		l.accuse("source", "username", i, "is for socks5, which is not there")
	case s.Username == "" && (s.Password != "" || s.PasswordFile != ""):
		l.accuse("source", "username", i, "is missing beside a password")
	case s.Password != "" && s.PasswordFile != "":
		l.accuse("source", "password_file", i, "stands beside password (keep one of them)")
	case s.Username != "" && s.Password == "" && s.PasswordFile == "":
		l.accuse("source", "password_file", i, "is missing beside username (write it, or password)")
	case s.SOCKS5 != "":
		s.Egress = &mta.Egress{Kind: mta.EgressSOCKS5, Address: s.SOCKS5, Username: s.Username, Password: s.Password}
	case s.ProxyProtocol != "":
		s.Egress = &mta.Egress{Kind: mta.EgressProxyProtocol, Address: s.ProxyProtocol}
	}
}

// readSourcePasswords takes the passwords of password_file.
func (l *loader) readSourcePasswords() {
	for i := range l.cfg.Sources {
		s := &l.cfg.Sources[i]
		if s.PasswordFile == "" || s.Egress == nil {
			continue
		}
		password, err := ReadSecret(s.PasswordFile)
		switch {
		case err != nil:
			l.accuse("source", "password_file", i, err.Error())
		case hiddenCredential(password) != "":
			l.accuse("source", "password_file", i, "the line of "+quote(s.PasswordFile)+" "+hiddenCredential(password))
		default:
			s.Password, s.Egress.Password = password, password
		}
	}
}

// poolsComplete: pools have names of their own and sources that are there, and
// what names a pool finds it.
func (l *loader) poolsComplete() {
	tbl := findTable("pool")
	first := map[string]int{}
	for i := range l.cfg.Pools {
		p, full := &l.cfg.Pools[i], tbl.full(i)
		if place, there := l.places[tbl.key("name").full(i)]; there {
			p.Line, _ = l.doc.position(place.value.at)
		}
		if j, twice := first[p.Name]; twice && l.sound(full+".name") {
			line, _ := l.doc.position(l.at(tbl.key("name"), j))
			l.accuse("pool", "name", i, quote(p.Name)+" stands twice, first on line "+itoa(line))
		} else {
			first[p.Name] = i
		}
		if l.sound(full + ".sources") {
			l.poolSources(i)
		}
		if len(p.Weights) > 0 && len(p.Weights) != len(p.Sources) && l.sound(full+".weights", full+".sources") {
			l.accuse("pool", "weights", i, "has "+itoa(len(p.Weights))+" values for "+itoa(len(p.Sources))+" sources (write one for each)")
		}
	}
	for i, s := range l.cfg.Streams {
		if full := findTable("stream").full(i) + ".pool"; l.sound(full) {
			if why := l.noPool(s.Pool); why != "" {
				l.accuse("stream", "pool", i, why)
			}
		}
	}
}

// poolSources: each source of a pool is there, once.
func (l *loader) poolSources(i int) {
	p, k := &l.cfg.Pools[i], findTable("pool").key("sources")
	place, there := l.places[k.full(i)]
	if !there {
		return
	}
	taken := map[netip.Addr]bool{}
	for n, name := range p.Sources {
		found, twice := false, false
		for j := range l.cfg.Sources {
			if s := &l.cfg.Sources[j]; s.named(name) {
				found, twice = true, twice || taken[s.IP]
				taken[s.IP] = true
			}
		}
		switch at := place.value.items[n].at; {
		case !found:
			l.fail(at, k.label(), quote(name)+" is neither ip nor hostname of a [[source]]")
		case twice:
			l.fail(at, k.label(), quote(name)+" names a source that the pool has already")
		}
	}
}

// noPool says why there is no pool of a name; empty when there is, or when name
// is empty.
func (l *loader) noPool(name string) string {
	if name == "" || name == DefaultPool || slices.ContainsFunc(l.cfg.Pools, func(p Pool) bool { return p.Name == name }) {
		return ""
	}
	names := []string{DefaultPool}
	for _, p := range l.cfg.Pools {
		names = append(names, p.Name)
	}
	why := quote(name) + " is no [[pool]]"
	if near := nearest(name, names); near != "" {
		why += " (did you mean " + quote(near) + "?)"
	}
	return why
}
