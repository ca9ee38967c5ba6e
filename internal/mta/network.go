package mta

import "net/netip"

// Network is the kind of network that an address belongs to.
type Network uint8

// The kinds of network. Nobody can ever be contacted at an address of the last
// four; those before them, but for Global, are no part of the public internet.
const (
	GlobalNetwork Network = iota
	LoopbackNetwork
	LinkLocalNetwork
	PrivateNetwork  // RFC 1918, RFC 4193, RFC 3879
	SharedNetwork   // RFC 6598
	ProtocolNetwork // set aside for protocols: RFC 6890 2.1, RFC 8215
	MulticastNetwork
	UnspecifiedNetwork
	ReservedNetwork // RFC 1112 4 and the broadcast address, RFC 6666, RFC 4291 2.5.5.1
	NoNetwork       // the zero Addr
)

var networkWords = [...]string{
	"a global address", "a loopback address", "a link-local address", "a private address",
	"an address of a provider's shared network (carrier-grade NAT, RFC 6598)", "an address of no public network",
	"a multicast address", "an unspecified address", "a reserved address", "no address",
}

// String gives the words for an address of the network, with an article.
func (n Network) String() string { return networkWords[n] }

// Global reports the public internet.
func (n Network) Global() bool { return n == GlobalNetwork }

// Impossible reports that nobody can be contacted there.
func (n Network) Impossible() bool { return n >= MulticastNetwork }

// Address ranges, from the registries of RFC 6890 and its successors.
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	reserved4   = netip.MustParsePrefix("240.0.0.0/4") // the broadcast address included
	compatible6 = netip.MustParsePrefix("::/96")       // IPv4-compatible, deprecated; also :: and ::1
	discard6    = netip.MustParsePrefix("100::/64")
	shared4     = netip.MustParsePrefix("100.64.0.0/10")
	protocols4  = netip.MustParsePrefix("192.0.0.0/24")
	nat64Local  = netip.MustParsePrefix("64:ff9b:1::/48")
	siteLocal6  = netip.MustParsePrefix("fec0::/10")
)

// NetworkOf gives the network of an address. An IPv4-mapped IPv6 address is of
// its IPv4 address's.
func NetworkOf(a netip.Addr) Network {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return NoNetwork
	case a.IsLoopback():
		return LoopbackNetwork
	case a.IsUnspecified(), thisNetwork.Contains(a):
		return UnspecifiedNetwork
	case a.IsMulticast():
		return MulticastNetwork
	case reserved4.Contains(a), discard6.Contains(a), compatible6.Contains(a):
		return ReservedNetwork
	case a.IsLinkLocalUnicast():
		return LinkLocalNetwork
	case shared4.Contains(a):
		return SharedNetwork
	case a.IsPrivate(), siteLocal6.Contains(a):
		return PrivateNetwork
	case protocols4.Contains(a), nat64Local.Contains(a):
		return ProtocolNetwork
	}
	return GlobalNetwork
}

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

// Refused says why nothing is connected to at an address that DNS gave for a
// stranger's name, or "". An address that embeds another is judged by both.
func Refused(a netip.Addr, allowPrivate bool) string {
	a = a.Unmap()
	for _, each := range []netip.Addr{a, embedded(a)} {
		if n := NetworkOf(each); n.Impossible() || !n.Global() && !allowPrivate {
			return n.String()
		}
	}
	return ""
}
