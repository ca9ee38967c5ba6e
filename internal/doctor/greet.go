package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/smtpclient"
)

// Strangers' mail servers are asked as little as possible: for each face one
// connection to each of the first maxProbes servers, EHLO and QUIT, whatever
// number of checks wants to know.
const (
	maxProbes      = 4
	connectTimeout = 5 * time.Second // then packets are taken for dropped
	greetTimeout   = 9 * time.Second // for all of it
)

// caller is who connects: a face before its visible address is known.
type caller struct {
	local netip.Addr
	v6    bool
	hello string
}

func (f face) caller() caller { return caller{f.Local, f.V6, f.Hostname} }

// greeting is what came of connecting to one mail server.
type greeting struct {
	server  string // as configured
	host    string // its name or address without the port
	addr    netip.AddrPort
	err     error      // no address, or no connection
	lookup  bool       // err is about finding its address
	open    bool       // connected
	banner  mta.Reply  // zero: none came in time
	ehlo    mta.Reply  // zero: it did not come to that
	said    netip.Addr // the address that it sees us at; invalid when it does not say
	trouble string     // what broke off after the connection; empty: nothing
}

// greetKey makes greetings shared.
type greetKey struct {
	caller caller
	server string
}

// greet connects to a mail server, once in an examination.
func (x *exam) greet(ctx context.Context, c caller, server string) greeting {
	return x.greetings.get(greetKey{c, server}, func() greeting { return x.sayHello(ctx, c, server) })
}

// probesInUse are the configured mail servers, each once, at most maxProbes.
func (x *exam) probesInUse() []string {
	var out []string
	seen := map[string]bool{}
	for _, p := range x.id.Probes {
		if p = strings.ToLower(p); !seen[p] && len(out) < maxProbes {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// sayHello resolves, connects, says EHLO and QUIT.
func (x *exam) sayHello(ctx context.Context, c caller, server string) greeting {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	g := greeting{server: server}
	host, port := splitServer(server, x.smtpPort())
	g.host = host
	addr, err := x.resolve(ctx, host, c.v6)
	if err != nil {
		g.err, g.lookup = err, true
		return g
	}
	g.addr = netip.AddrPortFrom(addr, port)
	conn, err := x.connect(ctx, c, g.addr)
	if err != nil {
		g.err = err
		return g
	}
	g.open = true
	g.converse(ctx, conn, c)
	return g
}

// connect makes the TCP connection within connectTimeout.
func (x *exam) connect(ctx context.Context, c caller, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	network := "tcp4"
	if c.v6 {
		network = "tcp6"
	}
	return x.world.Dial(ctx, c.local, network, to.String())
}

// converse says EHLO and QUIT. A host name that a session refuses is replaced
// by the address, so that the other checks can run.
func (g *greeting) converse(ctx context.Context, conn net.Conn, c caller) {
	hello := c.hello
	if !smtp.ValidHelo(hello) {
		hello = "[127.0.0.1]"
		if c.local.IsValid() {
			hello = smtp.AddressLiteral(c.local)
		}
	}
	session, failure := smtpclient.Open(ctx, conn, smtpclient.Options{
		Hello: hello, Host: g.host, TLS: mta.TLSNone, NeedESMTP: true,
		Observe: func(s smtpclient.Step) {
			switch {
			case s.Stage == mta.StageBanner:
				g.banner = s.Reply
			case s.Stage == mta.StageEhlo && s.Command != "":
				g.ehlo = s.Reply
			}
		},
	})
	if failure != nil {
		g.trouble = failure.Error()
	} else {
		session.Quit()
	}
	if said := smtp.SaidAddress(g.ehlo); g.ehlo.Code/100 == 2 && said.IsValid() && said.Is6() == c.v6 &&
		said != g.addr.Addr().Unmap() && smtp.AddressLiteral(said) != hello {
		g.said = said
	}
}

// smtpPort is the port of mail servers.
func (x *exam) smtpPort() uint16 {
	if x.id.Port == 0 {
		return 25
	}
	return x.id.Port
}

// splitServer takes HOST, HOST:PORT, an address or [ADDRESS]:PORT apart.
func splitServer(s string, port uint16) (string, uint16) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), port
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return s, port
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return s, port
	}
	return host, uint16(n)
}

// errOtherFamily says that a server has addresses of the other family only.
var errOtherFamily = errors.New("has no address of this family")

// resolve gives one address of a name in one family; an address is itself.
func (x *exam) resolve(ctx context.Context, host string, v6 bool) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Unmap().Is6() != v6 {
			return netip.Addr{}, fmt.Errorf("%s %w", host, errOtherFamily)
		}
		return a.Unmap(), nil
	}
	a := x.look(ctx, host, addressType(v6))
	switch addrs := a.addrs(); {
	case a.err != nil:
		return netip.Addr{}, fmt.Errorf("the address of %s was not found: %w", host, a.err)
	case len(addrs) > 0:
		return addrs[0], nil
	case a.rcode == wire.RcodeNameError:
		return netip.Addr{}, fmt.Errorf("%s does not exist (NXDOMAIN)", host)
	}
	return netip.Addr{}, fmt.Errorf("%s %w", host, errOtherFamily)
}

// addressType is the type of address records of a family.
func addressType(v6 bool) uint16 {
	if v6 {
		return wire.TypeAAAA
	}
	return wire.TypeA
}

// obstacle is how a connection did not come about.
type obstacle string

// The obstacles, which point at different culprits.
const (
	obstacleRefused     obstacle = "refused"     // somebody answers: nothing listens, or a firewall that says so
	obstacleDropped     obstacle = "dropped"     // nobody answers: a firewall that swallows
	obstacleFiltered    obstacle = "filtered"    // a router on the way, or this machine's own firewall, forbids it
	obstacleUnreachable obstacle = "unreachable" // there is no route
	obstacleLocal       obstacle = "local"       // the source address cannot be used on this machine
	obstacleBroken      obstacle = "broken"      // anything else
)

// obstacleOf reads a dial error. What a router answers (RFC 1812 5.2.7.1)
// arrives as one of these: "administratively prohibited" as EHOSTUNREACH or,
// for IPv6, EACCES.
func obstacleOf(err error) obstacle {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return obstacleRefused
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return obstacleLocal
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EHOSTUNREACH):
		return obstacleFiltered
	case errors.Is(err, syscall.ENETUNREACH):
		return obstacleUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return obstacleDropped
	}
	return obstacleBroken
}

// words explains an obstacle to people.
func (o obstacle) words() string {
	switch o {
	case obstacleRefused:
		return "refused"
	case obstacleDropped:
		return "no answer, the packets are dropped"
	case obstacleFiltered:
		return "filtered: a router or firewall says that it is forbidden"
	case obstacleUnreachable:
		return "unreachable: no route leads there"
	case obstacleLocal:
		return "this machine does not have the source address"
	}
	return "broke off"
}
