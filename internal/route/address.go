package route

import (
	"net/netip"
	"strings"

	"mailout/internal/mta"
)

// Ranges of IPv6 that stand for addresses of IPv4.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// embedded gives the IPv4 address that packets to a translated IPv6 address
// end at (RFC 6052 2.1, RFC 3056 2), or a itself.
func embedded(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// refused says why mail found by DNS is not sent to an address, or "". An
// address that embeds another is judged by both.
func refused(a netip.Addr, allowPrivate bool) string {
	a = a.Unmap()
	for _, each := range []netip.Addr{a, embedded(a)} {
		if n := mta.NetworkOf(each); n.Impossible() || !n.Global() && !allowPrivate {
			return n.String()
		}
	}
	return ""
}

// isLocalhost reports names that mean "this machine" to everyone (RFC 6761 6.3).
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "localhost.localdomain"
}

// literal gives the address of a domain literal (RFC 5321 4.1.3). It reports
// false for a literal of another kind or form.
func literal(domain string) (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(domain, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !ok || !closed {
		return netip.Addr{}, false
	}
	six := len(inner) > 5 && strings.EqualFold(inner[:5], "ipv6:")
	if six {
		inner = inner[5:]
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Zone() != "" || a.Is4() == six {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}
