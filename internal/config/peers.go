package config

import (
	"strings"

	"mailout/internal/account"
	"mailout/internal/mta"
	way "mailout/internal/route"
)

// Peers is what [router] and [[route]] say of their hosts beyond the first.
type Peers struct {
	// Hosts are in their order of preference, as route.Peers has them. When there
	// are any, the table's Host is the first of them.
	Hosts                 []string
	Protocol              mta.Protocol
	Helo                  string // EHLO name; empty: the source's
	Connections           int    // to all of them at once; 0: as to others
	MessagesPerConnection int    // 0: as to others
	Rate                  account.Rate
}

var protocols = words[mta.Protocol]{{"smtp", mta.SMTP}, {"lmtp", mta.LMTP}}

// peerKeys are the keys of Peers, for [router] and [[route]].
func peerKeys(at func(c *Config, i int) *Peers) []*key {
	return []*key{
		newKey("hosts", list(text("host", checkHosts), 0, maxPeers, `["a.example.com:587", "b.example.com"]`), func(c *Config, i int) *[]string { return &at(c, i).Hosts }).
			is(`[]`, "Several hosts instead of `host`, tried in their order; hosts with `|` between them are tried in any order. Each is as `host`."),
		newKey("protocol", word(protocols), func(c *Config, i int) *mta.Protocol { return &at(c, i).Protocol }).
			is(`"smtp"`, "`smtp`, or `lmtp` (RFC 2033) for a mailbox server that answers for each recipient."),
		newKey("helo", text("host name", optionalHostname), func(c *Config, i int) *string { return &at(c, i).Helo }).
			is(`""`, "EHLO name for these hosts. Empty: that of the source."),
		newKey("connections", integer[int](0, 10000), func(c *Config, i int) *int { return &at(c, i).Connections }).
			is(`0`, "Most connections at once to these hosts, from each source. `0`: as to other sites."),
		newKey("messages_per_connection", integer[int](0, 100000), func(c *Config, i int) *int { return &at(c, i).MessagesPerConnection }).
			is(`0`, "Most messages over one connection. `0`: as to other sites."),
		newKey("rate", messageRate(), func(c *Config, i int) *account.Rate { return &at(c, i).Rate }).
			is(`""`, "Most messages to these hosts in a time, such as `100/m` (`/s`, `/m`, `/h`, `/d`), from all sources together. Empty: no bound."),
	}
}

// maxPeers bounds the entries of hosts.
const maxPeers = 32

// hostKey shows host only where it is what the file gave.
func hostKey(k *key, at func(c *Config, i int) *Peers, without string) *key {
	toml, plain := k.toml, k.plain
	k.toml = func(c *Config, i int) string {
		if len(at(c, i).Hosts) > 0 {
			return quote(without)
		}
		return toml(c, i)
	}
	k.plain = func(c *Config, i int) string {
		if len(at(c, i).Hosts) > 0 {
			return without
		}
		return plain(c, i)
	}
	return k
}

func optionalHostname(s string) string {
	if s == "" {
		return ""
	}
	return checkHostname(s)
}

// checkPeer says why s is no host to connect to; empty when it is one. A name
// without a domain is allowed: a hosts file or an inner DNS may know it.
func checkPeer(s string) string {
	if s == "" {
		return `is empty (write a host name or an address)`
	}
	if strings.Contains(s, "|") {
		return shown(s) + ` is more than one host (write hosts = [` + quote(s) + `])`
	}
	return checkHosts(s)
}

// checkHosts is checkPeer for hosts with "|" between them.
func checkHosts(s string) string {
	for one := range strings.SplitSeq(s, "|") {
		one = strings.TrimSpace(one)
		if err := way.CheckPeer(one); err != nil {
			if name, port := splitPort(one); port == "" && checkName(name) != "" && !strings.HasPrefix(one, "mx:") && !strings.HasPrefix(one, "unix:") {
				return checkName(name)
			}
			return strings.TrimPrefix(err.Error(), "host: ")
		}
	}
	return ""
}

// defaultPort is the port of hosts that name none.
func defaultPort(tls mta.TLSRequirement, speaks mta.Protocol) uint16 {
	if speaks == mta.LMTP {
		return 24 // RFC 2033 5 forbids 25
	}
	return smtpPort(tls)
}

// EachPeer calls f with every host of a table, in order.
func (p *Peers) EachPeer(host string, port uint16, f func(way.Peer)) {
	hosts := p.Hosts
	if len(hosts) == 0 {
		hosts = []string{host}
	}
	for _, group := range hosts {
		for one := range strings.SplitSeq(group, "|") {
			if peer, err := way.ParsePeer(strings.TrimSpace(one)); err == nil {
				if peer.Port == 0 {
					peer.Port = port
				}
				f(peer)
			}
		}
	}
}

// peersComplete: hosts stand in one place, with one port, and can be reached the
// way that is asked for. It also fills in Host.
func (l *loader) peersComplete() {
	r := &l.cfg.Router
	l.peers("router", 0, &r.Peers, &r.Host, r.Port, r.TLS)
	for i := range l.cfg.Routes {
		r := &l.cfg.Routes[i]
		l.peers("route", i, &r.Peers, &r.Host, r.Port, r.TLS)
	}
}

func (l *loader) peers(table string, i int, p *Peers, host *string, port uint16, tls mta.TLSRequirement) {
	full := findTable(table).full(i)
	if !l.sound(full+".host", full+".hosts", full+".port", full+".protocol", full+".tls") {
		return
	}
	name := "host"
	if len(p.Hosts) == 0 {
		p.Hosts = nil
	} else {
		if *host != "" {
			l.accuse(table, "hosts", i, "stands beside host (keep one of them)")
			return
		}
		name = "hosts"
		*host, _, _ = strings.Cut(p.Hosts[0], "|")
		*host = strings.TrimSpace(*host)
	}
	if *host == "" {
		return
	}
	if table == "route" && (*host == RouteDirect || *host == RouteRouter) {
		if p.Protocol != mta.SMTP || p.Helo != "" {
			l.accuse(table, "host", i, "names no host that protocol or helo could be for")
		}
		return
	}
	given := uint16(0)
	if l.cfg.given[full+".port"] && name == "host" {
		given = port
	}
	err := way.CheckPeers(&way.Peers{Hosts: p.Hosts, Protocol: p.Protocol}, *host, given, port, tls)
	if err != nil {
		_, words, _ := strings.Cut(err.Error(), ": ")
		l.accuse(table, name, i, words)
	}
}
