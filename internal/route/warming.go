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
