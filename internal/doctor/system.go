package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"mailout/internal/dns"
)

// SystemWorld is the world as it is. learned may be nil.
func SystemWorld(learned func() []Learned) World {
	return World{
		Ask:  func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) { return dns.Ask(ctx, nil, p) },
		Dial: dialFrom, Addresses: interfaceAddresses, Outgoing: outgoing, Learned: learned, Now: time.Now,
	}
}

// dialFrom connects from a local address, or from whatever the system takes.
func dialFrom(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
	var d net.Dialer
	if source.IsValid() {
		local := netip.AddrPortFrom(source, 0)
		if strings.HasPrefix(network, "udp") {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
	}
	return d.DialContext(ctx, network, address)
}

func interfaceAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr.Unmap())
			}
		}
	}
	return out, nil
}

// The way out is the one towards a.root-servers.net. Connecting a UDP socket
// chooses the route and sends nothing.
const (
	outside4 = "198.41.0.4:53"
	outside6 = "[2001:503:ba3e::2:30]:53"
)

func outgoing(ctx context.Context, v6 bool) (netip.Addr, error) {
	network, to := "udp4", outside4
	if v6 {
		network, to = "udp6", outside6
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, to)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%s is no address", conn.LocalAddr())
	}
	return local.AddrPort().Addr().Unmap().WithZone(""), nil
}
