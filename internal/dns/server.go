package dns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Ports of name servers.
const (
	plainPort = 53
	tlsPort   = 853 // RFC 7858 3.1
)

// Server is one name server as a configuration names it.
type Server struct {
	netip.AddrPort
	// TLS says that it is asked over TLS alone (RFC 7858), and never in clear.
	TLS bool
	// Name is what its certificate must be for; empty: the address.
	Name string
}

// ParseServer reads "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53",
// "tls://192.0.2.1", "tls://192.0.2.1:853#dns.example".
func ParseServer(text string) (Server, error) {
	s := Server{}
	rest, tls := strings.CutPrefix(text, "tls://")
	port := uint16(plainPort)
	if tls {
		s.TLS, port = true, tlsPort
		var named bool
		if rest, s.Name, named = strings.Cut(rest, "#"); named {
			full, ok := fqdn(s.Name)
			if !ok {
				return Server{}, fmt.Errorf("%q is not the name of a server", s.Name)
			}
			s.Name = plain(full)
		}
	}
	if a, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		s.AddrPort = netip.AddrPortFrom(a, port)
		return s, nil
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil || ap.Port() == 0 {
		return Server{}, fmt.Errorf("%q is not the address of a name server", text)
	}
	s.AddrPort = ap
	return s, nil
}

// String gives the server as ParseServer reads it.
func (s Server) String() string {
	port := uint16(plainPort)
	if s.TLS {
		port = tlsPort
	}
	text := s.AddrPort.String()
	if s.Port() == port {
		text = s.Addr().String()
		if s.TLS && s.Addr().Is6() {
			text = "[" + text + "]"
		}
	}
	if !s.TLS {
		return text
	}
	text = "tls://" + text
	if s.Name != "" {
		text += "#" + s.Name
	}
	return text
}

// Use sets Servers and TLS from a list.
func (o *Options) Use(servers []Server) {
	o.Servers, o.TLS = Addresses(servers), TLSNames(servers)
}

// Addresses gives the addresses of servers, in their order.
func Addresses(servers []Server) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range servers {
		out = append(out, s.AddrPort)
	}
	return out
}

// TLSNames gives, for those of servers that are asked over TLS, the names that
// their certificates are to be for; empty for the address.
func TLSNames(servers []Server) map[netip.AddrPort]string {
	var out map[netip.AddrPort]string
	for _, s := range servers {
		if !s.TLS {
			continue
		}
		if out == nil {
			out = make(map[netip.AddrPort]string)
		}
		out[s.AddrPort] = s.Name
	}
	return out
}

// DNSSECMode says when the Secure of an answer is set.
type DNSSECMode uint8

// The modes. All but the first two begin with a self-test and repeat it.
const (
	// AsSaid takes the AD bit of whatever server answered for the truth: for
	// tests and tools that examine servers.
	AsSaid DNSSECMode = iota
	// DNSSECOff: nothing is ever secure.
	DNSSECOff
	// DNSSECAuto believes the AD bit of trusted servers that check signatures,
	// and checks the answers of all others here, where that is possible.
	DNSSECAuto
	// DNSSECTrust believes trusted servers, and checks nothing here.
	DNSSECTrust
	// DNSSECValidate checks everything here, and believes no AD bit.
	DNSSECValidate
)

var modeWords = [...]string{"as said", "off", "auto", "trust", "validate"}

// String gives the mode's word in the configuration.
func (m DNSSECMode) String() string {
	if int(m) < len(modeWords) {
		return modeWords[m]
	}
	return "mode " + strconv.Itoa(int(m))
}
