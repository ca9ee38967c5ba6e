package route

import (
	"net/netip"
	"strings"
)

// Address ranges, from the registries of RFC 6890 and its successors.
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	reserved4   = netip.MustParsePrefix("240.0.0.0/4") // the broadcast address included
	compatible6 = netip.MustParsePrefix("::/96")       // IPv4-compatible, deprecated; also :: and ::1
	shared4     = netip.MustParsePrefix("100.64.0.0/10")
	protocols4  = netip.MustParsePrefix("192.0.0.0/24")
	siteLocal6  = netip.MustParsePrefix("fec0::/10")
	discard6    = netip.MustParsePrefix("100::/64")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local  = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour   = netip.MustParsePrefix("2002::/16")
)

// impossible says why nobody may ever be contacted at an address, or "".
func impossible(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return "no address"
	case a.IsUnspecified(), thisNetwork.Contains(a):
		return "an unspecified address"
	case a.IsMulticast():
		return "a multicast address"
	case reserved4.Contains(a), discard6.Contains(a), compatible6.Contains(a) && !a.IsLoopback():
		return "a reserved address"
	}
	return ""
}

// private says why an address is not one of the public internet, or "".
func private(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return "a loopback address"
	case a.IsPrivate():
		return "a private address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case shared4.Contains(a), protocols4.Contains(a), siteLocal6.Contains(a), nat64Local.Contains(a):
		return "an address of no public network"
	}
	return ""
}

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

// refused says why mail found by DNS is not sent to an address, or "".
func refused(a netip.Addr, allowPrivate bool) string {
	a = a.Unmap()
	if why := impossible(a); why != "" {
		return why
	}
	inner := embedded(a)
	if why := impossible(inner); why != "" {
		return why
	}
	if allowPrivate {
		return ""
	}
	if why := private(a); why != "" {
		return why
	}
	return private(inner)
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
