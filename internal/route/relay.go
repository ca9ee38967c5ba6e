package route

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"mailout/internal/mta"
)

// lmtpPort is the port of LMTP by TCP; it must not be 25 (RFC 2033 5).
const lmtpPort = 24

// The prefixes of configured hosts that are no name or address.
const (
	byMX     = "mx:"
	bySocket = "unix:"
)

// maxPeers bounds the hosts of one router.
const maxPeers = 32

// Peers is what [router] and [[route]] say of the hosts that mail goes to.
//
// A host is a name, an address, "[host]" or "[address]", each also with
// ":port"; or "mx:name", also with ":port"; or "unix:/path". A name's addresses
// are looked up and its MX records are not, with and without brackets; "mx:"
// asks for the MX records. Hosts with "|" between them are preferred equally.
type Peers struct {
	// Hosts are tried in their order of preference. When there are any, Host is
	// empty.
	Hosts    []string
	Protocol mta.Protocol
	Helo     string // the EHLO name; empty: the source's
	// Limits are those of the hosts together; zero values are of Settings.Limits.
	// The planner names the buckets of its rates.
	Limits mta.Limits
	Auth   *mta.Credentials // nil: none
}

// relay is a router, parsed.
type relay struct {
	text     string // as configured, and as
	peers    []peer // by preference
	port     uint16 // where a peer has none
	tls      mta.TLSRequirement
	protocol mta.Protocol
	helo     string
	limits   mta.Limits
	auth     *mta.Credentials
	as       string // "/" and the user name, where other credentials are used for the same hosts

	warned atomic.Int64 // when the operator was told that it does not resolve, Unix nanoseconds
}

// peer is one configured host.
type peer struct {
	name   string     // to look up; empty when addr or socket is given
	mx     bool       // by the MX records of name
	addr   netip.Addr // zero when name is given
	socket string     // path
	port   uint16     // 0: the relay's
	rank   int        // preference
}

// relay parses the hosts. A port other than 0 is that of hosts without one; a
// lone Host must not contradict it. fallback is the port when none is named,
// but for LMTP and TLSImplicit, which have their own.
func (p *Peers) relay(host string, port, fallback uint16, tls mta.TLSRequirement) (*relay, error) {
	hosts, strict := p.Hosts, false
	if len(hosts) == 0 {
		hosts, strict = []string{host}, port != 0
	}
	switch {
	case port != 0:
	case p.Protocol == mta.LMTP:
		port = lmtpPort
	case tls == mta.TLSImplicit:
		port = smtpsPort
	default:
		port = fallback
	}
	r := &relay{text: strings.Join(hosts, ", "), port: port, tls: tls, protocol: p.Protocol, helo: p.Helo, limits: p.Limits, auth: p.Auth}
	for rank, group := range hosts {
		for text := range strings.SplitSeq(group, "|") {
			one, err := parsePeer(strings.TrimSpace(text))
			if err == nil {
				err = r.suits(&one, text, strict)
			}
			if err != nil {
				return nil, err
			}
			one.rank = rank
			r.peers = append(r.peers, one)
		}
	}
	if len(r.peers) == 1 {
		r.port = r.portOf(r.peers[0])
	}
	if len(r.peers) > maxPeers {
		return nil, fmt.Errorf("hosts: there are %d (at most %d are possible)", len(r.peers), maxPeers)
	}
	return r, nil
}

// suits reports what keeps a peer from being one of the relay's.
func (r *relay) suits(p *peer, text string, strict bool) error {
	switch {
	case strict && p.port != 0 && p.port != r.port:
		return fmt.Errorf("host: %q has another port than port = %d", text, r.port)
	case p.socket != "" && (r.tls == mta.TLSRequired || r.tls == mta.TLSImplicit):
		return fmt.Errorf("host: %q is a socket, which has no name that TLS could verify", text)
	case r.protocol == mta.LMTP && p.socket == "" && r.portOf(*p) == smtpPort:
		return fmt.Errorf("host: %q: LMTP is not spoken at port 25 (RFC 2033 5)", text)
	}
	return nil
}

// parseRelay reads one configured host.
func parseRelay(text string, port, fallback uint16) (*relay, error) {
	return (&Peers{}).relay(text, port, fallback, mta.TLSOpportunistic)
}

// CheckPeer says what is wrong with a configured host, or with several that are
// preferred equally.
func CheckPeer(text string) error {
	_, err := parseRelay(text, 0, smtpPort)
	return err
}

// CheckPeers says what is wrong with hosts as Rule and Router have them. A port
// other than 0 must not be contradicted by a lone host's; fallback is that of
// hosts without one.
func CheckPeers(p *Peers, host string, port, fallback uint16, tls mta.TLSRequirement) error {
	_, err := p.relay(host, port, fallback, tls)
	return err
}

// Peer is one configured host.
type Peer struct {
	Host   string // a name in A-labels or an address; empty with Socket
	Port   uint16 // 0: none is named
	MX     bool   // found by the MX records of Host
	Socket string // path
}

// ParsePeer reads one configured host.
func ParsePeer(text string) (Peer, error) {
	p, err := parsePeer(text)
	if err != nil {
		return Peer{}, err
	}
	out := Peer{Host: p.name, Port: p.port, MX: p.mx, Socket: p.socket}
	if p.addr.IsValid() {
		out.Host = p.addr.String()
	}
	return out, nil
}

// parsePeer reads one host.
func parsePeer(text string) (peer, error) {
	if path, ok := strings.CutPrefix(text, bySocket); ok {
		if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) || len(path) > maxSocket {
			return peer{}, fmt.Errorf("host: %q is no path of a socket (write for example \"unix:/run/dovecot/lmtp\", at most %d octets)", text, maxSocket)
		}
		return peer{socket: path}, nil
	}
	rest, mx := strings.CutPrefix(text, byMX)
	host, port, err := splitPort(rest)
	if err != nil {
		return peer{}, err
	}
	if addr, err := netip.ParseAddr(strings.TrimPrefix(host, "IPv6:")); err == nil && !mx {
		addr = addr.Unmap()
		if n := mta.NetworkOf(addr); n.Impossible() {
			return peer{}, fmt.Errorf("host: %s is %s", addr, n)
		}
		return peer{addr: addr, port: port}, nil
	}
	name, err := ascii(host)
	if err != nil || strings.ContainsFunc(name, notInName) || name == Direct {
		return peer{}, fmt.Errorf("host: %q is neither a host name nor an address", text)
	}
	if isAddressText(name) && mx {
		return peer{}, fmt.Errorf("host: %q: an address has no MX records", text)
	}
	return peer{name: name, mx: mx, port: port}, nil
}

// maxSocket is the longest path of a Unix socket that every system takes.
const maxSocket = 103

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

// site names a router: what is configured, not what it resolves to. A port other
// than 25 stands behind its host.
func (r *relay) site(c *compiled) string {
	var b strings.Builder
	b.WriteString("router:")
	for i, p := range r.peers {
		switch {
		case i > 0 && p.rank == r.peers[i-1].rank:
			b.WriteByte('=')
		case i > 0:
			b.WriteByte(',')
		}
		b.WriteString(p.text())
		if port := r.portOf(p); port != smtpPort && p.socket == "" {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(int(port)))
		}
	}
	name := shorten(b.String())
	if r.protocol == mta.LMTP {
		name += "/lmtp"
	}
	if r.helo != "" {
		name += "/" + r.helo
	}
	name += r.as
	return c.site(name, smtpPort, r.tls, smtpPort)
}

// portOf gives a peer's port.
func (r *relay) portOf(p peer) uint16 {
	if p.port != 0 {
		return p.port
	}
	return r.port
}

// text is the peer without its port.
func (p peer) text() string {
	switch {
	case p.socket != "":
		return bySocket + p.socket
	case p.addr.IsValid():
		return bracketed(p.addr.String())
	case p.mx:
		return byMX + p.name
	}
	return p.name
}

// bracketed sets an IPv6 address apart from the port that may follow it.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
