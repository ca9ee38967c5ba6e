package route

import (
	"net/netip"
	"strings"

	"mailout/internal/mta"
)

// refused says why mail found by DNS is not sent to an address, or "".
func refused(a netip.Addr, allowPrivate bool) string { return mta.Refused(a, allowPrivate) }

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
