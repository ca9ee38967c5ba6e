package dns

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
)

// The defaults of Options.
const (
	DefaultTimeout   = 5 * time.Second
	DefaultCacheSize = 100_000

	maxCacheCost = 64 << 20 // octets
	rounds       = 2        // over the servers
	downTime     = 10 * time.Second
)

// Options configure a Resolver. The zero value asks the system's servers.
type Options struct {
	// Servers are asked in this order, at most 16; port 0 means 53. None means
	// those of ResolvConf, which is read again when it changes.
	Servers []netip.AddrPort
	// TLS names those of Servers that are asked over TLS alone (RFC 7858), with
	// the names that their certificates are to be for; empty for the address.
	TLS map[netip.AddrPort]string
	// RootCAs are the authorities of those certificates; nil means the system's.
	RootCAs *x509.CertPool
	// DNSSEC says when an answer is secure.
	DNSSEC DNSSECMode
	// Trusted are servers whose AD bit counts, besides those on this machine and
	// those asked over TLS.
	Trusted []netip.Addr
	// TrustAnchors is a file of DS or DNSKEY records that signatures are checked
	// from; empty: the keys of the root that are built in. It is read again with
	// each self-test.
	TrustAnchors string
	// Private are names of zones that are not checked here, with all below them:
	// inner servers speak for them, without signatures or with others than the
	// world's (RFC 7646).
	Private []string
	// BogusName is a name whose signatures are wrong on purpose: a server that
	// checks signatures does not answer for it. Empty: that is not tried.
	BogusName string
	// ResolvConf is the file to take the system's servers from; empty means
	// SystemResolvers. A file that names none means this machine, port 53.
	ResolvConf string
	// Timeout is for one query to one server; DefaultTimeout when not positive.
	// A look-up takes at most 2 rounds × servers × (UDP and TCP) of it.
	Timeout time.Duration
	// HostsFile maps names to addresses before DNS; empty means never. It is
	// for the addresses of hosts: the MX records of a domain are asked for in
	// DNS all the same. Read again when it changes, looked at no more than once
	// a second.
	HostsFile string
	// Dialer makes the sockets: network is "udp" or "tcp". Read and Write of a
	// "udp" connection carry one datagram each. nil means net.Dialer.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// CacheSize is the number of answers kept; DefaultCacheSize when not
	// positive. Fixed when the resolver is made.
	CacheSize int
	// Logger gets warnings about servers and files; nil means none.
	Logger *slog.Logger
}

// settings are one immutable generation of a resolver's configuration, with
// what was learned about its servers.
type settings struct {
	fixed   []netip.AddrPort
	system  *systemServers      // when fixed is empty
	hosts   *hostsFile          // nil: never
	tls     map[string]*secured // by address and port
	trust   *trust              // nil: the AD bit is taken as it comes
	timeout time.Duration
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	log     *slog.Logger
	heard   atomic.Bool // a usable answer came since the self-test asked last

	mu struct {
		sync.Mutex
		down map[netip.AddrPort]time.Time // gave no answer; until when it is asked last
	}
}

func newSettings(o Options) *settings {
	s := &settings{timeout: o.Timeout, dial: o.Dialer, log: o.Logger}
	if s.timeout <= 0 {
		s.timeout = DefaultTimeout
	}
	if s.dial == nil {
		s.dial = new(net.Dialer).DialContext
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, a := range o.Servers[:min(len(o.Servers), maxServers)] {
		if a.Port() == 0 {
			a = netip.AddrPortFrom(a.Addr(), 53)
		}
		s.fixed = append(s.fixed, a)
	}
	if len(s.fixed) == 0 {
		path := o.ResolvConf
		if path == "" {
			path = SystemResolvers
		}
		s.system = newSystemServers(path, s.log)
	}
	s.tls = newSecured(o.TLS, o.RootCAs)
	s.trust = newTrust(&o, s.log)
	if o.HostsFile != "" {
		s.hosts = newHostsFile(o.HostsFile, s.log)
	}
	s.mu.down = make(map[netip.AddrPort]time.Time)
	return s
}

// close ends what a generation keeps, when nobody begins anything with it any
// more. The caller holds Resolver.mu.
func (s *settings) close() {
	for _, d := range s.tls {
		d.close()
	}
	if s.trust != nil && s.trust.end != nil {
		s.trust.end()
	}
}

// configured gives the servers in their configured order; not to be changed.
func (s *settings) configured() []netip.AddrPort {
	if s.system != nil {
		return s.system.get()
	}
	return s.fixed
}

// servers gives the servers in the order to ask them now: the configured one,
// with those that gave no answer lately at the end. When a silent one's time is
// over it is put in its old place for this one caller; everyone else waits for
// what that shows.
func (s *settings) servers(now time.Time) []netip.AddrPort {
	list := s.configured()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.down) == 0 {
		return list
	}
	up := make([]netip.AddrPort, 0, len(list))
	var down []netip.AddrPort
	for _, a := range list {
		until, silent := s.mu.down[a]
		if silent && now.Before(until) {
			down = append(down, a)
			continue
		}
		if silent {
			s.mu.down[a] = now.Add(downTime)
		}
		up = append(up, a)
	}
	return append(up, down...)
}

// silent notes that a server gave no answer; answered notes that it did. Each
// change is logged, not each query.
func (s *settings) silent(server netip.AddrPort, err error) {
	s.mu.Lock()
	_, known := s.mu.down[server]
	if !known && len(s.mu.down) >= 4*maxServers {
		clear(s.mu.down) // the system's servers change too often to remember them
	}
	s.mu.down[server] = time.Now().Add(downTime)
	s.mu.Unlock()
	if !known {
		s.log.Warn("a name server gives no answer; the others are asked first for a while", mta.KeyServer, server.String(), mta.KeyError, err)
	}
}

func (s *settings) answered(server netip.AddrPort) {
	s.mu.Lock()
	_, was := s.mu.down[server]
	delete(s.mu.down, server)
	s.mu.Unlock()
	if was {
		s.log.Info("a name server answers again", mta.KeyServer, server.String())
	}
}

// local answers from the hosts file, and about localhost (RFC 6761 6.3). It
// gives nil for what is to be asked in DNS.
func (s *settings) local(k key, now time.Time) *result {
	if k.qtype != wire.TypeA && k.qtype != wire.TypeAAAA {
		return nil
	}
	var addrs []netip.Addr
	if s.hosts != nil {
		addrs = s.hosts.lookup(k.name)
	}
	if len(addrs) == 0 && isLocalhost(k.name) {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if len(addrs) == 0 {
		return nil
	}
	r := &result{expires: now.Add(hostsTTL), canonical: plain(k.name)}
	r.addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Is4() != (k.qtype == wire.TypeA) })
	if len(r.addrs) == 0 {
		r.err = k.failure(NoData, "this machine's hosts file has other addresses for it")
		r.err.Expires = r.expires
	}
	return r
}
