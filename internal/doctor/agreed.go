package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// Agreed is one name in EHLO, in one address family, with the addresses that
// receivers see it come from, if that is certain enough to act on.
//
// An address is certain when somebody outside sees it at this moment (a mail
// server in its reply to EHLO, or a reflector), at least one other says the
// same (another of those, a receiver of a late delivery, the configuration, or
// the interface), and nobody outside sees another at this moment. So a single
// reflector, which may lie or be in another's hand, never changes a record,
// nor do receivers' words, which may be from before a change.
type Agreed struct {
	Hostname string
	V6       bool
	Addrs    []netip.Addr // of all sources with the name, sorted; empty with Why
	Why      string       // why it is not certain; empty: it is
}

// agreed sums up the faces by name and family.
func agreed(all []stance) []Agreed {
	var out []Agreed
	for _, s := range all {
		i := slices.IndexFunc(out, func(a Agreed) bool {
			return strings.EqualFold(a.Hostname, s.face.Hostname) && a.V6 == s.face.V6
		})
		if i < 0 {
			i = len(out)
			out = append(out, Agreed{Hostname: s.face.Hostname, V6: s.face.V6})
		}
		a := &out[i]
		if why := s.face.uncertain(); why != "" && a.Why == "" {
			a.Why = why
		}
		if !slices.Contains(a.Addrs, s.face.Visible) {
			a.Addrs = append(a.Addrs, s.face.Visible)
		}
	}
	for i := range out {
		slices.SortFunc(out[i].Addrs, netip.Addr.Compare)
		if out[i].Why != "" {
			out[i].Addrs = nil
		}
	}
	return out
}

// uncertain says why the visible address is none to act on; empty when it is.
func (f face) uncertain() string {
	outside, others := 0, 0
	now := map[string]bool{} // witnesses who speak now: what they said before is no second voice
	for _, w := range f.Ways {
		if f.elsewhere(w) {
			return w.Name + " " + w.Visible.String() + ", and others " + f.Visible.String()
		}
		if w.Err == nil && w.Visible == f.Visible && w.kind.outside() {
			outside++
			now[w.witness] = w.witness != ""
		}
	}
	for _, w := range f.Ways {
		if w.Err == nil && w.Visible == f.Visible && !w.kind.outside() && !now[w.witness] {
			others++
		}
	}
	switch {
	case !f.Visible.IsValid():
		return "nobody could tell"
	case f.Visible.Is6() != f.V6:
		return f.Visible.String() + " is of the other address family"
	case innerNetwork(f.Visible) != "":
		return f.Visible.String() + " is " + innerNetwork(f.Visible)
	case outside == 0:
		return "nobody outside says now that it is " + f.Visible.String()
	case outside+others < 2:
		return "only one says that it is " + f.Visible.String()
	}
	return ""
}
