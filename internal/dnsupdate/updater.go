package dnsupdate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// The bounds of the package.
const (
	MaxChanges = 100 // of a plan

	updateTimeout = 10 * time.Second
	settleTimeout = 30 * time.Second
	maxServers    = 8 // of a zone, read back from
	dnsPort       = "53"
	fudge         = 300 // seconds between the clocks (RFC 8945 10)
)

// Key is a TSIG key. Without Name updates are not signed.
type Key struct {
	Name      string
	Algorithm string // "hmac-sha256", …
	Secret    string // base64
}

// Options say where and how records are published.
type Options struct {
	Server string // the primary, HOST or HOST:PORT
	Zone   string // to change; empty: of each name the zone that it is in
	Key    Key
	TTL    time.Duration // of published records, whole seconds

	// Resolve gives the addresses of a name server.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Ask puts a question to a server; nil: dns.Ask.
	Ask func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error)
	// Dial connects for an update; nil: the system.
	Dial dns.Dialer
	Now  func() time.Time // nil: time.Now
}

// Updater publishes at one server. It keeps no state and may be used from
// several goroutines.
type Updater struct {
	o    Options
	zone string // canonical; empty: found for each name
	key  Key    // canonical names
}

// New makes an Updater. Server and Resolve must be there.
func New(o Options) *Updater {
	if o.Ask == nil {
		o.Ask = func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) { return dns.Ask(ctx, o.Dial, p) }
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	u := &Updater{o: o, key: o.Key}
	if o.Zone != "" {
		u.zone = wire.CanonicalName(o.Zone)
	}
	if o.Key.Name != "" {
		u.key.Name, u.key.Algorithm = wire.CanonicalName(o.Key.Name), wire.CanonicalName(o.Key.Algorithm)
	}
	return u
}

// server is the primary's address.
func (u *Updater) server(ctx context.Context) (netip.AddrPort, error) {
	host, port := u.o.Server, dnsPort
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		if host, port, err = net.SplitHostPort(host); err != nil {
			return netip.AddrPort{}, fmt.Errorf("the DNS server %q: %w", u.o.Server, err)
		}
	}
	addr, err := u.address(ctx, host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the DNS server for updates, %s, is not found: %w", host, err)
	}
	return netip.ParseAddrPort(net.JoinHostPort(addr.String(), port))
}

// address is one of a server's, IPv4 first.
func (u *Updater) address(ctx context.Context, host string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, nil
	}
	addrs, err := u.o.Resolve(ctx, strings.ToLower(plain(host)))
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("%s has no address", host)
	}
	return addrs[0], nil
}

// ask puts a question to one of the zone's own servers.
func (u *Updater) ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16, tcp bool) (*wire.Msg, error) {
	r, err := u.o.Ask(ctx, dns.Probe{Server: server, Name: name, Type: qtype, TCP: tcp, NoRecursion: true})
	if err != nil {
		return nil, fmt.Errorf("%s gave no answer: %w", server, err)
	}
	return r.Msg, nil
}

// Reach finds out whether the server can be asked at all, so that its silence
// is told before anything else is done.
func (u *Updater) Reach(ctx context.Context, name string) error {
	server, err := u.server(ctx)
	if err != nil {
		return err
	}
	if u.zone != "" {
		name = u.zone
	}
	_, err = u.ask(ctx, server, name, wire.TypeSOA, true)
	return err
}

// Authoritative asks the server, past every cache, what a resolver would be
// asked. It gives nil when the server is not the authority for the name, or
// the name is an alias: then a resolver is to be asked.
func (u *Updater) Authoritative(ctx context.Context, name string, qtype uint16) *wire.Msg {
	if u.zone != "" && !wire.IsSubDomain(u.zone, wire.CanonicalName(name)) {
		return nil
	}
	server, err := u.server(ctx)
	if err != nil {
		return nil
	}
	m, err := u.ask(ctx, server, name, qtype, true)
	if err != nil || !m.Authoritative || m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
		return nil
	}
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == wire.TypeCNAME && qtype != wire.TypeCNAME {
			return nil
		}
	}
	return m
}
