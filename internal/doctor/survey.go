package doctor

import (
	"context"
	"net/netip"
)

// Survey is an examination in several parts, for a set-up that goes step by
// step: what one part has asked for, another does not ask for again. It is not
// safe for use by several goroutines. To look again, begin another.
type Survey struct{ x *exam }

// NewSurvey begins one. Of opts, Only does not count.
func NewSurvey(id Identity, world World, opts Options) *Survey {
	return &Survey{&exam{id: id, world: id.throughTLS(world), opts: opts}}
}

// Examine runs some checks, as Examine does.
func (s *Survey) Examine(ctx context.Context, only ...string) *Report {
	s.x.opts.Only = only
	return s.x.examine(ctx)
}

// Routed reports whether routers take all mail, so that receivers never see
// this machine.
func (s *Survey) Routed() bool { return s.x.routed() }

// Face is one source in one address family, as the world sees it.
type Face struct {
	Hostname string     // EHLO name used from it
	V6       bool       // its family
	Local    netip.Addr // where traffic leaves; invalid when there is no way out
	Visible  netip.Addr // what receivers see; invalid when nobody could tell
	Agree    int        // how many say so
	Said     string     // who said what, for people
}

// Faces finds the visible addresses within the time-out.
func (s *Survey) Faces(ctx context.Context) []Face {
	ctx, cancel := s.x.bounded(ctx)
	defer cancel()
	var out []Face
	for _, f := range s.x.faces(ctx) {
		agree, said := saidBy(f)
		out = append(out, Face{Hostname: f.Hostname, V6: f.V6, Local: f.Local, Visible: f.Visible, Agree: agree, Said: said})
	}
	return out
}

// ReverseName is what a reverse record calls an address.
type ReverseName struct {
	Name      string
	Confirmed bool   // the name has the address
	Generic   string // what looks made by a machine; empty when nothing does
}

// ReverseNames are the names in the reverse records of an address; none also
// when nobody could tell.
func (s *Survey) ReverseNames(ctx context.Context, addr netip.Addr) []ReverseName {
	ctx, cancel := s.x.bounded(ctx)
	defer cancel()
	v := s.x.reverse(ctx, addr.Unmap())
	var out []ReverseName
	for _, name := range v.names {
		r := ReverseName{Name: name, Generic: genericSign(name, addr.Unmap())}
		for _, c := range v.confirmed {
			r.Confirmed = r.Confirmed || c == name
		}
		out = append(out, r)
	}
	return out
}
