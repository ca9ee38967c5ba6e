package dnsupdate

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"
)

// Apply makes the changes of a plan, all of a zone or none of it, zone after
// zone. The error of a server that refuses is an *Error. Edits of zones before
// the one that failed are made.
func (u *Updater) Apply(ctx context.Context, edits []Edit) error {
	server, err := u.server(ctx)
	if err != nil {
		return err
	}
	zones, byZone := group(edits)
	for _, zone := range zones {
		if err := u.send(ctx, server, zone, u.message(zone, byZone[zone], false)); err != nil {
			return err
		}
	}
	return nil
}

// group keeps the order in which zones come up.
func group(edits []Edit) (zones []string, byZone map[string][]Edit) {
	byZone = map[string][]Edit{}
	for _, e := range edits {
		if byZone[e.Zone] == nil {
			zones = append(zones, e.Zone)
		}
		byZone[e.Zone] = append(byZone[e.Zone], e)
	}
	return zones, byZone
}

// message is the update of one zone; with onlyIf it has the prerequisites
// alone and changes nothing.
func (u *Updater) message(zone string, edits []Edit, onlyIf bool) *wire.Msg {
	m := new(wire.Msg).SetUpdate(zone)
	for _, e := range edits {
		set := []wire.RR{&wire.ANY{Hdr: e.header()}}
		if len(e.old) == 0 {
			m.RRsetNotUsed(set)
		} else {
			m.Used(copies(e.old))
		}
		if len(e.old) == 0 && e.qtype != wire.TypeCNAME {
			alias := e.header()
			alias.Rrtype = wire.TypeCNAME
			m.RRsetNotUsed([]wire.RR{&wire.ANY{Hdr: alias}})
		}
		if onlyIf {
			continue
		}
		if len(e.old) > 0 {
			m.RemoveRRset(set)
		}
		m.Insert(copies(e.new))
	}
	if u.key.Name != "" {
		m.SetTsig(u.key.Name, u.key.Algorithm, fudge, u.o.Now().Unix())
	}
	return m
}

// copies, because the library changes what it is given.
func copies(rrs []wire.RR) []wire.RR {
	out := make([]wire.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = wire.Copy(rr)
	}
	return out
}

// send makes one update over TCP.
func (u *Updater) send(ctx context.Context, server netip.AddrPort, zone string, m *wire.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	conn, err := u.o.Dial(ctx, "tcp", server.String())
	if err != nil {
		return fmt.Errorf("the DNS server %s takes no connection for an update: %w", server, err)
	}
	defer conn.Close()
	// A deadline in the past ends the exchange when the caller gives up.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	co := &wire.Conn{Conn: conn}
	if u.key.Name != "" {
		co.TsigSecret = map[string]string{u.key.Name: u.key.Secret}
	}
	if err := co.WriteMsg(m); err != nil {
		return fmt.Errorf("the update of %s could not be sent to %s: %w", plain(zone), server, err)
	}
	reply, err := co.ReadMsg()
	if reply == nil {
		return fmt.Errorf("the DNS server %s gave no reply to the update of %s, which it may have made all the same (look again): %w", server, plain(zone), err)
	}
	return u.judge(server, zone, m.Id, reply, err)
}
