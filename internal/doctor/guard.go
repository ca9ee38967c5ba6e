package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The guard: which sources' mail receivers would refuse now, so that it is
// better kept.
//
// A source is judged in each address family by the checks that receivers make
// of the connection itself: whether its name can exist (name.form), whether
// the name leads to the address that is seen (address.record), and whether the
// reverse record that was right before still is (ptr.exists, ptr.confirmed).
// That the configuration names another address (address.public) is nothing that
// a receiver can know. A reverse record that was never right is no reason: who
// has none chose to send without, and a new address of a line that changes would
// be held for ever. What receivers of deliveries said never holds mail by
// itself: else any receiver could stop us by a word.
//
// Only a check that failed closes a source, and only one that passes or warns
// opens it again: what could not be found out (unknown) changes nothing. A right
// record that caches do not know yet opens it after some patience. And once
// somebody outside has told which address is seen, the configuration's and the
// interface's belief is not enough to change anything: when the reflectors are
// silent for a moment, nobody knows better.

// patience is how long the guard waits for caches to forget an old record, once
// the zone has the right one. It is the usual time to live of a name whose
// address changes; with a day, most receivers have not asked before.
const patience = 5 * time.Minute

// guardIDs are the checks that the guard goes by, the most telling first.
var guardIDs = []string{"name.form", "address.record", "ptr.exists", "ptr.confirmed"}

// Hold is one source in one address family whose mail is better kept.
type Hold struct {
	Source   netip.Addr `json:"source,omitzero"` // of [[source]]; zero: whatever the system takes
	V6       bool       `json:"ipv6"`
	Hostname string     `json:"hostname"`
	Visible  netip.Addr `json:"visible,omitzero"`
	Check    Check      `json:"check"` // the first that fails
	Since    time.Time  `json:"since"`
	Local    netip.Addr `json:"local,omitzero"` // where its traffic leaves, when it was found

	stale time.Time // since when the right record is published and not known everywhere
}

// Reason is a sentence that names the cause and what mends it.
func (h Hold) Reason() string {
	from := h.Hostname
	if h.Local.IsValid() {
		from = h.Local.String()
	}
	text := fmt.Sprintf("identity.guard holds mail from %s: %s of %s: %s", from, h.Check.ID, h.Check.Subject, h.Check.Seen)
	switch f := h.Check.Fix; {
	case f == nil:
	case f.Record != "":
		text += "; missing: " + f.Record
	default:
		text += ". " + f.Text
	}
	return text
}

// stance is what an examination found of one face, as the guard sees it.
type stance struct {
	face   face
	key    holdKey
	checks map[string]Check // by id, those of guardIDs that concern it
	stale  bool             // the right address record is published, and caches do not know it
}

// holdKey names a source for as long as the configuration has it.
type holdKey struct {
	source netip.Addr
	v6     bool
}

// recorded is what judging a name's address records found, for the guard.
type recorded struct {
	host    string
	v6      bool
	missing []netip.Addr
	stale   bool
}

// note keeps what was found of a claim's records.
func (x *exam) note(c claim, missing []netip.Addr, stale bool) {
	x.records.mu.Lock()
	defer x.records.mu.Unlock()
	x.records.list = append(x.records.list, recorded{c.host, c.v6, missing, stale})
}

// stances sums up the faces, if this examination looked at them.
func (x *exam) stances(checks []Check) (out []stance) {
	defer func() {
		if recover() != nil { // as finding the faces did, which the checks tell
			out = nil
		}
	}()
	faces := x.visible.get(struct{}{}, func() []face { return nil })
	for _, f := range faces {
		if !f.Local.IsValid() {
			continue // no way out: nothing is found and nothing is sent
		}
		s := stance{face: f, key: holdKey{v6: f.V6}, checks: map[string]Check{}}
		if len(x.id.Sources) > 0 {
			s.key.source = f.Local
		}
		for _, c := range checks {
			if slices.Contains(guardIDs, c.ID) && strings.EqualFold(c.Subject, guardSubject(c.ID, f)) {
				s.checks[c.ID] = c
			}
		}
		x.ownRecord(&s)
		out = append(out, s)
	}
	return out
}

// guardSubject is the subject of the check that concerns a face.
func guardSubject(id string, f face) string {
	switch id {
	case "name.form":
		return f.Hostname
	case "address.record":
		return claim{host: f.Hostname, v6: f.V6}.subject()
	}
	return f.label()
}

// ownRecord tells a face's own records from those of others with its name: the
// check is one for all of them.
func (x *exam) ownRecord(s *stance) {
	x.records.mu.Lock()
	defer x.records.mu.Unlock()
	for _, r := range x.records.list {
		if r.v6 != s.face.V6 || !strings.EqualFold(r.host, s.face.Hostname) {
			continue
		}
		s.stale = r.stale
		if c, found := s.checks["address.record"]; found && c.Status == Fail && !slices.Contains(r.missing, s.face.Visible) {
			c.Status = Warn
			s.checks["address.record"] = c
		}
	}
}

// hearsay reports that only receivers of deliveries said what the visible
// address is.
func (s *stance) hearsay() bool {
	return s.face.Visible.IsValid() && !slices.ContainsFunc(s.face.Ways, func(w way) bool {
		return w.Err == nil && w.kind != wayLearned && w.Visible == s.face.Visible
	})
}

// witnessed reports that somebody outside sees the visible address now.
func (s *stance) witnessed() bool { return s.face.witnessed() }

func (f face) witnessed() bool {
	return slices.ContainsFunc(f.Ways, func(w way) bool {
		return w.Err == nil && w.kind.outside() && w.Visible == f.Visible
	})
}

// disputed reports that witnesses of this moment see different addresses: one
// that lies, or a second line, is no reason to close a source.
func (s *stance) disputed() bool { return slices.ContainsFunc(s.face.Ways, s.face.elsewhere) }

// guard remembers what the examinations before found. One goroutine owns it.
type guard struct {
	holds    map[holdKey]Hold
	passed   map[passedKey]bool     // reverse records that were right, of the addresses in address
	outsider map[holdKey]bool       // somebody outside has told the address
	address  map[holdKey]netip.Addr // last seen, by somebody outside if one ever told
}

type passedKey struct {
	id      string
	visible netip.Addr
}

// seed takes over what was in force before a restart.
func (g *guard) seed(holds []Hold) {
	g.holds, g.passed, g.outsider = make(map[holdKey]Hold), make(map[passedKey]bool), make(map[holdKey]bool)
	g.address = make(map[holdKey]netip.Addr)
	for _, h := range holds {
		g.holds[holdKey{h.Source, h.V6}] = h
		g.outsider[holdKey{h.Source, h.V6}] = true // perhaps; it is careful
		g.address[holdKey{h.Source, h.V6}] = h.Visible
		if strings.HasPrefix(h.Check.ID, "ptr.") { // it was right once
			g.passed[passedKey{h.Check.ID, h.Visible}] = true
		}
	}
}

// judge takes in an examination and gives the holds now in force, in the
// order of the sources.
func (g *guard) judge(id Identity, r *Report, now time.Time) []Hold {
	holds := make(map[holdKey]Hold)
	for key, h := range g.holds {
		if id.has(key) && !slices.ContainsFunc(r.stances, func(s stance) bool { return s.key == key }) {
			holds[key] = h // not looked at, or there is no way out just now
		}
	}
	for _, s := range r.stances {
		old, held := g.holds[s.key]
		c, fails := g.failing(&s)
		vague := s.hearsay() || !s.witnessed() && g.outsider[s.key] && len(id.Reflectors)+len(id.Probes) > 0
		switch {
		case fails && (!vague && !s.disputed() || c.ID == "name.form"):
			h := Hold{Source: s.key.source, V6: s.key.v6, Hostname: s.face.Hostname, Visible: s.face.Visible,
				Check: c, Since: now, Local: s.face.Local}
			if held {
				h.Since = old.Since
			}
			holds[s.key] = h
		case held && (fails || s.undecided(old.Check.ID) || vague && old.Check.ID != "name.form"):
			old.stale = time.Time{}
			holds[s.key] = old
		case held && old.Check.ID == "address.record" && s.stale && s.checks["address.record"].Status != Pass:
			if old.stale.IsZero() {
				old.stale = now
			}
			old.Check = s.checks["address.record"]
			if now.Sub(old.stale) < patience {
				holds[s.key] = old
			}
		}
	}
	g.holds = holds
	if len(r.stances) > 0 {
		g.remember(r.stances)
	}
	return g.list()
}

// has reports whether the configuration has a source.
func (id Identity) has(key holdKey) bool {
	if key.v6 && !id.IPv6 || id.routed() {
		return false
	}
	if len(id.Sources) == 0 {
		return !key.source.IsValid()
	}
	for _, s := range id.Sources {
		if s.IP.Unmap() == key.source {
			return true
		}
	}
	return false
}

// failing gives the first check that closes a source.
func (g *guard) failing(s *stance) (Check, bool) {
	for _, id := range guardIDs {
		c := s.checks[id]
		if c.Status != Fail || strings.HasPrefix(id, "ptr.") && !g.passed[passedKey{id, s.face.Visible}] {
			continue
		}
		return c, true
	}
	return Check{}, false
}

// undecided reports that a check which closed a source could not be made.
func (s *stance) undecided(id string) bool {
	c, made := s.checks[id]
	return !made || c.Status == Unknown
}

// remember keeps which reverse records have been right, and whose address
// somebody outside has told.
func (g *guard) remember(all []stance) {
	if g.outsider == nil {
		g.outsider = make(map[holdKey]bool)
	}
	address := make(map[holdKey]netip.Addr)
	passed := make(map[passedKey]bool)
	for _, s := range all {
		if s.witnessed() {
			g.outsider[s.key] = true
		}
		if address[s.key] = g.address[s.key]; s.face.Visible.IsValid() && (s.witnessed() || !g.outsider[s.key]) {
			address[s.key] = s.face.Visible
		}
		for _, id := range []string{"ptr.exists", "ptr.confirmed"} {
			if c := s.checks[id]; c.Status == Pass && s.face.Visible.IsValid() {
				passed[passedKey{id, s.face.Visible}] = true
			}
			if key := (passedKey{id, address[s.key]}); g.passed[key] {
				passed[key] = true
			}
		}
	}
	g.address, g.passed = address, passed
}

func (g *guard) list() []Hold {
	out := make([]Hold, 0, len(g.holds))
	for _, h := range g.holds {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Hold) int {
		if d := a.Source.Compare(b.Source); d != 0 {
			return d
		}
		if a.V6 != b.V6 && b.V6 {
			return -1
		}
		return 1
	})
	return out
}
