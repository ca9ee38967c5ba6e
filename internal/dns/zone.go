package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	wire "github.com/miekg/dns"
)

// Look asks a resolver for a name's records of one type. The error says that
// nothing is known; a name without such records is no error.
type Look func(ctx context.Context, name string, qtype uint16) (Looked, error)

// Looked is what a resolver said.
type Looked struct {
	Records []wire.RR // at the end of the chain of aliases
	Alias   bool      // the name is one (CNAME)
}

// Zone is the zone that a name is in, and its own servers.
type Zone struct {
	Name    string // canonical, with the trailing dot
	Servers []NameServer
}

// NameServer is one of a zone's own servers.
type NameServer struct {
	Name  string           // without the trailing dot
	Addrs []netip.AddrPort // at least one, IPv4 first
}

// MaxNameServers bounds the servers of a zone that are looked at.
const MaxNameServers = 13

// FindZone finds the zone of a name, by its SOA record, and the addresses of
// that zone's servers. The error says why they are not known; Name may be set
// all the same.
func FindZone(ctx context.Context, look Look, name string) (Zone, error) {
	name = wire.CanonicalName(name)
	for zone, more := name, true; more; zone, more = Parent(zone) {
		soa, err := look(ctx, zone, wire.TypeSOA)
		if err != nil {
			return Zone{}, err
		}
		if len(soa.Records) > 0 && !soa.Alias {
			return zoneServers(ctx, look, zone)
		}
	}
	return Zone{}, fmt.Errorf("no zone was found for %s", name)
}

// Parent is the name above, and false for a name of one label.
func Parent(name string) (string, bool) {
	i, end := wire.NextLabel(name, 0)
	if end || name[i:] == "" {
		return "", false
	}
	return name[i:], true
}

func zoneServers(ctx context.Context, look Look, zone string) (Zone, error) {
	z := Zone{Name: zone}
	ns, err := look(ctx, zone, wire.TypeNS)
	if err != nil {
		return z, fmt.Errorf("the name servers of %s: %w", zone, err)
	}
	for _, rr := range ns.Records[:min(len(ns.Records), 2*MaxNameServers)] {
		host, ok := rr.(*wire.NS)
		if !ok || len(z.Servers) == MaxNameServers {
			continue
		}
		s := NameServer{Name: strings.TrimSuffix(wire.CanonicalName(host.Ns), ".")}
		for _, qtype := range []uint16{wire.TypeA, wire.TypeAAAA} {
			found, _ := look(ctx, host.Ns, qtype) //nolint:errcheck // a server without a known address is told below
			s.Addrs = append(s.Addrs, serverAddrs(found.Records)...)
		}
		if len(s.Addrs) > 0 {
			z.Servers = append(z.Servers, s)
		}
	}
	switch {
	case len(ns.Records) == 0:
		return z, fmt.Errorf("%s has no name servers (NS)", zone)
	case len(z.Servers) == 0:
		return z, fmt.Errorf("none of the name servers of %s has an address", zone)
	}
	return z, nil
}

func serverAddrs(records []wire.RR) []netip.AddrPort {
	var out []netip.AddrPort
	for _, rr := range records {
		var addr netip.Addr
		switch r := rr.(type) {
		case *wire.A:
			addr, _ = netip.AddrFromSlice(r.A)
		case *wire.AAAA:
			addr, _ = netip.AddrFromSlice(r.AAAA)
		}
		if addr.IsValid() {
			out = append(out, netip.AddrPortFrom(addr.Unmap(), 53))
		}
	}
	return out
}

// maxChain bounds how many aliases Chain follows.
const maxChain = 16

// Chain takes the records of a type out of a message, along the aliases of the
// name, which it gives in order without their trailing dots.
func Chain(m *wire.Msg, name string, qtype uint16) (records []wire.RR, aliases []string) {
	name = wire.CanonicalName(name)
	for range maxChain {
		i := slices.IndexFunc(m.Answer, func(rr wire.RR) bool {
			return rr.Header().Rrtype == wire.TypeCNAME && wire.CanonicalName(rr.Header().Name) == name
		})
		if i < 0 || qtype == wire.TypeCNAME {
			break
		}
		name = wire.CanonicalName(m.Answer[i].(*wire.CNAME).Target)
		aliases = append(aliases, strings.TrimSuffix(name, "."))
	}
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype == qtype && wire.CanonicalName(h.Name) == name {
			records = append(records, rr)
		}
	}
	return records, aliases
}

// Texts are the TXT records among records, the strings of each joined, as the
// octets that they are.
func Texts(records []wire.RR) []string {
	var out []string
	for _, rr := range records {
		if r, ok := rr.(*wire.TXT); ok {
			out = append(out, unescape(strings.Join(r.Txt, "")))
		}
	}
	return out
}
