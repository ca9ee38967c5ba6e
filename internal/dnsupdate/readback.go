package dnsupdate

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// Seen is what one of a zone's own servers says after an update.
type Seen struct {
	Zone   string // without the trailing dot
	Server string // its name, or address
	Agrees bool
	Said   string // when it does not: the first record that differs, or why there is no answer
}

// Agree reports that every server has the new records.
func Agree(all []Seen) bool {
	return len(all) > 0 && !slices.ContainsFunc(all, func(s Seen) bool { return !s.Agrees })
}

// ReadBack asks the zones' own servers until each has the new records, at most
// 30 s. The primary comes first.
func (u *Updater) ReadBack(ctx context.Context, edits []Edit) []Seen {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var out []Seen
	var ends []netip.AddrPort
	var sets [][]Edit
	zones, byZone := group(edits)
	for _, zone := range zones {
		for _, s := range u.servers(ctx, zone) {
			out = append(out, s.Seen)
			ends, sets = append(ends, s.addr), append(sets, byZone[zone])
		}
	}
	var wg sync.WaitGroup
	for i := range out {
		if ends[i].IsValid() {
			wg.Go(func() { u.follow(ctx, &out[i], ends[i], sets[i]) })
		}
	}
	wg.Wait()
	return out
}

// end is a server to read back from; without an address Said says why.
type end struct {
	Seen
	addr netip.AddrPort
}

// servers are the primary and those of the zone's NS records.
func (u *Updater) servers(ctx context.Context, zone string) []end {
	primary, err := u.server(ctx)
	if err != nil {
		return []end{{Seen: Seen{Zone: plain(zone), Server: u.o.Server, Said: err.Error()}}}
	}
	out := []end{{Seen{Zone: plain(zone), Server: u.o.Server}, primary}}
	m, err := u.ask(ctx, primary, zone, wire.TypeNS, true)
	if err != nil {
		return out // which will show in its own answer
	}
	for _, rr := range m.Answer {
		ns, ok := rr.(*wire.NS)
		if !ok || len(out) == maxServers {
			continue
		}
		s := end{Seen: Seen{Zone: plain(zone), Server: plain(strings.ToLower(ns.Ns))}}
		addr, err := u.address(ctx, ns.Ns)
		if err != nil {
			s.Said = "its address is not known: " + err.Error()
		} else {
			s.addr = netip.AddrPortFrom(addr, 53)
		}
		if !slices.ContainsFunc(out, func(o end) bool { return o.addr.IsValid() && o.addr.Addr() == s.addr.Addr() }) {
			out = append(out, s)
		}
	}
	return out
}

// The waits between two questions to one server: each twice the one before.
const (
	firstWait = 250 * time.Millisecond
	mostWait  = 4 * time.Second
)

// follow asks one server until it agrees or the time is over.
func (u *Updater) follow(ctx context.Context, s *Seen, server netip.AddrPort, edits []Edit) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for next := firstWait; ; next = min(2*next, mostWait) {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		said := u.differs(ctx, server, edits)
		if said == "" {
			s.Agrees, s.Said = true, ""
			return
		}
		if ctx.Err() == nil || s.Said == "" { // the end of time is no answer of the server
			s.Said = said
		}
		wait.Reset(next)
	}
}

// differs tells the first set of records that a server does not have as it
// should be.
func (u *Updater) differs(ctx context.Context, server netip.AddrPort, edits []Edit) string {
	for _, e := range edits {
		m, err := u.ask(ctx, server, e.Name, e.qtype, false)
		if err != nil {
			return err.Error()
		}
		if m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
			return "it answered " + wire.RcodeToString[m.Rcode]
		}
		var have []wire.RR
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == e.qtype {
				have = append(have, rr)
			}
		}
		if same(have, e.new) {
			continue
		}
		if len(have) == 0 {
			return fmt.Sprintf("it has no %s record of %s yet", e.Type, plain(e.Name))
		}
		return fmt.Sprintf("it still has %s %s %s", plain(e.Name), e.Type, strings.Join(values(have), ", "))
	}
	return ""
}

func same(a, b []wire.RR) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(rr wire.RR) bool { return !holds(b, rr) })
}
