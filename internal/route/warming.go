package route

import (
	"net/netip"

	"mailout/internal/mta"
)

// Warming tells what a source's warm-up says of direct mail of a stream to a
// provider: the mark of routes from it (nil: it is warm), or why it must not
// carry that mail.
type Warming func(stream string, source netip.Addr, provider string) (mark *mta.Warming, why string)

// warm marks a route whose source is being warmed up. It says why the route must
// not be used; empty: nothing is against it. What a router gets is not counted:
// receivers see the router's address.
func (p *Planner) warm(r *mta.Route, stream string) (why string) {
	if p.warming == nil || r.Router != "" {
		return ""
	}
	for _, s := range r.Sources {
		mark, why := p.warming(stream, s.IP, r.Provider)
		if why != "" {
			return why
		}
		if r.Warming == nil {
			r.Warming = mark
		}
	}
	return ""
}

// apart reports that of a route's two sources one is being warmed up and the
// other is not. They are no pair then: the ceilings of the new one would hold for
// all mail.
func (p *Planner) apart(r *mta.Route, stream string) bool {
	if p.warming == nil || r.Router != "" || len(r.Sources) != 2 {
		return false
	}
	cold := 0
	for _, s := range r.Sources {
		if mark, why := p.warming(stream, s.IP, r.Provider); mark != nil || why != "" {
			cold++
		}
	}
	return cold == 1
}
