package route

import (
	"net/netip"

	"mailout/internal/mta"
)

// Hold keeps direct mail from one source in one address family: the guard has
// found that receivers would refuse it.
type Hold struct {
	Source netip.Addr // of a configured source; zero: the system's choice, where no source is configured
	V6     bool
	Reason string // a sentence for HeldBy
}

// Hold replaces what is held, for the calls that follow. Mail by routers is
// never held.
func (p *Planner) Hold(holds []Hold) { p.holds.Store(&holds) }

// withhold marks a fresh route, if it is direct. Where only IPv6 is held, IPv4 carries
// the mail if the hosts have it. The other way round the mail waits: nobody
// knows that IPv6, which most machines have only in name, would do better.
func (p *Planner) withhold(r *mta.Route) {
	holds := p.holds.Load()
	if holds == nil || len(*holds) == 0 || r.Router != "" {
		return
	}
	for _, h := range *holds {
		switch {
		case !concerns(r, h):
		case !h.V6:
			r.HeldBy = h.Reason
			return
		default:
			with := r.IPv6
			if r.IPv6 = false; len(r.Targets(nil)) == 0 {
				r.IPv6, r.HeldBy = with, h.Reason
			}
		}
	}
}

// concerns reports whether a route sends from a held source in its family: the
// first of the family is the one in use.
func concerns(r *mta.Route, h Hold) bool {
	for _, s := range r.Sources {
		if s.IP.IsValid() && s.IP.Unmap().Is6() != h.V6 {
			continue
		}
		return !s.IP.IsValid() || s.IP.Unmap() == h.Source
	}
	return len(r.Sources) == 0
}
