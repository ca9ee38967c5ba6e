package standing

import (
	"fmt"
	"sort"
	"time"

	"mailout/internal/mta"
)

// Entry is one thing that holds for a site now.
type Entry struct {
	Site   string
	Source string // mta.Route.SourceKey; empty: all sources
	Kind   string // "fallback", "suspended", "avoided" or "slowed"
	Why    string
	Since  time.Time // of a fallback or a slowing; zero otherwise
	Until  time.Time // of a suspension; of a fallback: when direct delivery is tried again
	Factor float64   // of limits, with "slowed"
}

// The kinds of entries.
const (
	KindFallback  = "fallback"  // a router stands in
	KindSuspended = "suspended" // nothing is sent
	KindAvoided   = "avoided"   // other sources are used
	KindSlowed    = "slowed"
)

// Entries lists what holds now, by site and source; of one site, or of all with
// an empty name.
func (s *Standing) Entries(name string) []Entry {
	now, router := s.now(), s.settings.Load().fallback.Router != ""
	var out []Entry
	s.mu.Lock()
	for _, st := range s.mu.sites {
		if name == "" || st.name == name {
			out = st.entries(out, now, router)
		}
	}
	s.mu.Unlock()
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		switch {
		case a.Site != b.Site:
			return a.Site < b.Site
		case a.Source != b.Source:
			return a.Source < b.Source
		}
		return a.Kind < b.Kind
	})
	return out
}

// entries appends what holds; router tells whether there is one to stand in.
func (st *site) entries(out []Entry, now time.Time, router bool) []Entry {
	if r := &st.router; r.on && router {
		out = append(out, Entry{Site: st.name, Kind: KindFallback, Why: r.why, Since: r.since, Until: r.next})
	}
	for key, f := range st.from {
		if now.Before(f.until) {
			kind := KindAvoided
			if f.hard {
				kind = KindSuspended
			}
			out = append(out, Entry{Site: st.name, Source: key, Kind: kind, Why: f.why, Until: f.until})
		}
		if share := f.share(now); share < 0.99 {
			out = append(out, Entry{Site: st.name, Source: key, Kind: KindSlowed, Why: f.slowWhy, Since: f.slowed, Factor: max(share, leastFactor)})
		}
	}
	return out
}

// Clear forgets what was learnt of a site, or of all with an empty name, with
// the lengths of earlier suspensions, and gives how many things held. by says
// who asked.
func (s *Standing) Clear(name, by string) int {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, st := range s.mu.sites {
		if name != "" && st.name != name {
			continue
		}
		held := st.entries(nil, now, true)
		n += len(held)
		s.forget(st)
		if len(held) > 0 {
			s.keeper.tell(Change{Time: now, Site: st.name, Words: fmt.Sprintf("%s cleared what was learnt of %s: %s", by, st.name, kinds(held))})
		}
	}
	return n
}

func kinds(list []Entry) (words string) {
	for i, e := range list {
		if i > 0 {
			words += ", "
		}
		words += e.Kind
		if e.Source != "" {
			words += " from " + e.Source
		}
	}
	return words
}

// Counts are numbers for measurement: how many things hold now, and what
// happened since the start.
type Counts struct {
	Sites                                 int // remembered
	Fallbacks, Suspended, Avoided, Slowed int // hold now
	Suspensions, Slowings, StoodIn        int64
	Probes, ProbesFailed                  int64
	Lost                                  int64 // writes of notes that failed
}

// Counts counts.
func (s *Standing) Counts() (c Counts) {
	now, router := s.now(), s.settings.Load().fallback.Router != ""
	s.mu.Lock()
	c.Sites = len(s.mu.sites)
	var list []Entry
	for _, st := range s.mu.sites {
		for _, e := range st.entries(list[:0], now, router) {
			switch e.Kind {
			case KindFallback:
				c.Fallbacks++
			case KindSuspended:
				c.Suspended++
			case KindAvoided:
				c.Avoided++
			case KindSlowed:
				c.Slowed++
			}
		}
	}
	s.mu.Unlock()
	n := &s.counts
	c.Suspensions, c.Slowings, c.StoodIn = n.suspensions.Load(), n.slowings.Load(), n.fallbacks.Load()
	c.Probes, c.ProbesFailed, c.Lost = n.probes.Load(), n.probesFailed.Load(), n.lost.Load()
	return c
}

// Words says an entry in a sentence.
func (e *Entry) Words() string {
	switch e.Kind {
	case KindFallback:
		return "the router stands in since " + mta.FormatTime(e.Since) + ", direct delivery is tried again at " + mta.FormatTime(e.Until) + ": " + e.Why
	case KindSlowed:
		return fmt.Sprintf("slowed to %.0f %%: %s", e.Factor*100, e.Why)
	}
	return e.Kind + " until " + mta.FormatTime(e.Until) + ": " + e.Why
}
