package doctor

import (
	"context"
	"net"
	"net/netip"
	"time"

	"mailout/internal/dns"
)

// World is everything outside that checks touch. Tests replace it.
type World struct {
	// Ask puts one question to one DNS server and shows what came.
	Ask func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error)
	// Dial connects from a local address; an invalid one leaves the choice to
	// the system. network is "tcp4", "tcp6", "tcp" or "udp".
	Dial func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error)
	// Addresses are those of this machine's interfaces.
	Addresses func() ([]netip.Addr, error)
	// Outgoing is the local address that traffic to the world leaves from, by
	// family. Nothing is sent to find it.
	Outgoing func(ctx context.Context, v6 bool) (netip.Addr, error)
	// Learned is what receivers have said of our address lately; nil: nothing.
	Learned func() []Learned
	Machine Machine // the zero value asks the system
	Now     func() time.Time
}

// throughTLS asks those servers over TLS that are to be, whatever a check wanted.
func (id *Identity) throughTLS(w World) World {
	names := id.TLSServers
	if len(names) == 0 {
		return w
	}
	ask := w.Ask
	w.Ask = func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) {
		if name, ok := names[p.Server]; ok {
			roots, err := id.roots()
			if err != nil {
				return nil, err
			}
			p.TLS, p.TLSName, p.RootCAs = true, name, roots
		}
		return ask(ctx, p)
	}
	return w
}
