package setup

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"mailout/internal/dns"
	"mailout/internal/doctor"
)

var errOffline = errors.New("not asked: this is a set-up without network")

// offline is a world of which nothing is asked.
func offline(w doctor.World) doctor.World {
	w.Ask = func(context.Context, dns.Probe) (*dns.ProbeReply, error) { return nil, errOffline }
	w.Dial = func(context.Context, netip.Addr, string, string) (net.Conn, error) { return nil, errOffline }
	return w
}
