package dns

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"
)

// Probe is one question to one server, asked exactly as it says: no other
// server, no cache, no hosts file. It is for finding out about servers.
type Probe struct {
	Server           netip.AddrPort
	Name             string // a trailing dot makes no difference
	Type             uint16
	TCP              bool // only TCP; else UDP, and TCP when the answer is truncated
	NoEDNS           bool
	NoRecursion      bool          // for authoritative servers (RD clear)
	CheckingDisabled bool          // CD: the server is not to validate (RFC 4035 3.2.2)
	Timeout          time.Duration // DefaultTimeout when not positive
	// TLS asks over TLS, and nothing else (RFC 7858); TLSName is what the
	// certificate is for, empty for the address.
	TLS     bool
	TLSName string
	RootCAs *x509.CertPool // nil: the system's
}

// ProbeReply is what came.
type ProbeReply struct {
	Msg  *wire.Msg // any response code
	TCP  bool      // it came over TCP
	Took time.Duration
}

// Dialer makes a connected socket, as net.Dialer's DialContext.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Ask puts a Probe to its server. dial may be nil. The error says why there is
// no answer.
func Ask(ctx context.Context, dial Dialer, p Probe) (*ProbeReply, error) {
	s := &settings{timeout: p.Timeout, dial: dial}
	if s.timeout <= 0 {
		s.timeout = DefaultTimeout
	}
	if s.dial == nil {
		s.dial = new(net.Dialer).DialContext
	}
	if p.TLS {
		s.tls = newSecured(map[netip.AddrPort]string{p.Server: p.TLSName}, p.RootCAs)
		defer s.close()
	}
	start := time.Now()
	network := "udp"
	if p.TCP || p.TLS {
		network = "tcp"
	}
	m, err := s.probe(ctx, network, p)
	if network == "udp" && errors.Is(err, errTruncated) {
		network = "tcp"
		m, err = s.probe(ctx, network, p)
	}
	if err != nil {
		return nil, err
	}
	return &ProbeReply{Msg: m, TCP: network == "tcp", Took: time.Since(start)}, nil
}

func (s *settings) probe(ctx context.Context, network string, p Probe) (*wire.Msg, error) {
	q, err := pack(wire.Fqdn(p.Name), p.Type, !p.NoEDNS, wire.MsgHdr{
		RecursionDesired: !p.NoRecursion, AuthenticatedData: true, CheckingDisabled: p.CheckingDisabled,
	})
	if err != nil {
		return nil, err
	}
	return s.exchange(ctx, network, p.Server.String(), q)
}
