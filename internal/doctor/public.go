package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
)

// How the visible address of a source is found: by everybody who can tell, at
// the same time, and then by vote.
//
// Those outside say what they see: mail servers in their reply to EHLO (the
// very path that mail takes, so they count first where votes are equal),
// reflectors, and receivers of late deliveries. Two inside only believe to
// know: the configuration, and the interface when its address is a global
// one. The inside decides when nobody outside speaks. Rejected: to ask one
// well-known service, because none may be assumed; and to believe the
// configuration before the outside, because a changed address of a DSL line
// is exactly what is to be noticed.

// wayKind is who makes a statement about the visible address.
type wayKind uint8

// The kinds, the most trusted first.
const (
	wayGreeting wayKind = iota // a mail server's reply to EHLO, now
	wayReflector
	wayLearned // a mail server's reply to EHLO, in a late delivery
	wayConfigured
	wayInterface
)

// outside reports whether it is somebody else's observation of this moment.
func (k wayKind) outside() bool { return k == wayGreeting || k == wayReflector }

// Bounds of what deliveries have taught.
const (
	learnedFor  = time.Hour // older ones may be from before a change
	maxLearned  = 4         // the newest, each of another host
	maxReflects = 4         // reflectors asked
)

// findFaces makes the list of faces and asks about all of them side by side.
func (x *exam) findFaces(ctx context.Context) []face {
	faces := x.outline(ctx)
	all := slices.Clone(faces) // to be read while each of faces is written
	var wg group
	for i := range faces {
		wg.Go(func() {
			faces[i].Ways = x.ways(ctx, faces[i], all)
			faces[i].Visible = decide(faces[i].Ways)
		})
	}
	wg.Wait()
	return faces
}

// outline is the faces before anything is known of their visible addresses. A
// family that has no way out makes no face, unless neither has.
func (x *exam) outline(ctx context.Context) []face {
	sources := x.id.Sources
	if len(sources) == 0 {
		sources = []mta.Source{{}}
	}
	var out []face
	for _, s := range sources {
		name := cmp.Or(s.Hostname, x.id.Hostname)
		if s.IP.IsValid() {
			ip := s.IP.Unmap()
			out = append(out, face{Hostname: name, V6: ip.Is6(), Local: ip})
			continue
		}
		out = append(out, x.systemFaces(ctx, name)...)
	}
	return slices.DeleteFunc(out, func(f face) bool {
		return f.V6 && !x.id.IPv6 ||
			len(x.opts.Sources) > 0 && !slices.Contains(x.opts.Sources, f.Local)
	})
}

// systemFaces are those of a source that leaves the address to the system.
func (x *exam) systemFaces(ctx context.Context, name string) []face {
	var out []face
	for _, v6 := range []bool{false, true} {
		if local, err := x.world.Outgoing(ctx, v6); err == nil {
			out = append(out, face{Hostname: name, V6: v6, Local: local.Unmap()})
		}
	}
	if len(out) == 0 {
		out = append(out, face{Hostname: name})
	}
	return out
}

// ways asks everybody who can tell.
func (x *exam) ways(ctx context.Context, f face, all []face) []way {
	out := []way{x.configuredWay(f, all), interfaceWay(f)}
	out = append(out, x.learnedWays(f)...)
	if f.Local.IsValid() && !x.opts.Offline {
		out = append(out, x.outsideWays(ctx, f)...)
	}
	out = slices.DeleteFunc(out, func(w way) bool { return w.Name == "" })
	slices.SortStableFunc(out, func(a, b way) int { return cmp.Compare(a.kind, b.kind) })
	return out
}

// configuredWay reads identity.public_ip for a face: the one that is its local
// address, the only one of its family, or where there is one for each source
// of the family, the one in its place.
func (x *exam) configuredWay(f face, all []face) way {
	given := slices.DeleteFunc(slices.Clone(x.id.PublicIP), func(a netip.Addr) bool { return a.Unmap().Is6() != f.V6 })
	family := slices.DeleteFunc(slices.Clone(all), func(o face) bool { return o.V6 != f.V6 })
	w := way{Name: "configured", kind: wayConfigured}
	switch {
	case slices.Contains(given, f.Local):
		w.Visible = f.Local
	case len(given) == 1:
		w.Visible = given[0].Unmap()
	case len(given) > 1 && len(given) == len(family):
		w.Visible = given[slices.IndexFunc(family, func(o face) bool { return o.Local == f.Local && o.Hostname == f.Hostname })].Unmap()
	default:
		return way{}
	}
	return w
}

// interfaceWay believes an interface that has a global address.
func interfaceWay(f face) way {
	if !f.Local.IsValid() || innerNetwork(f.Local) != "" {
		return way{}
	}
	return way{Name: "the interface", kind: wayInterface, Visible: f.Local}
}

// learnedWays are what receivers said in late deliveries, the newest first.
func (x *exam) learnedWays(f face) []way {
	if x.world.Learned == nil {
		return nil
	}
	now := x.world.Now()
	all := slices.Clone(x.world.Learned())
	slices.SortStableFunc(all, func(a, b Learned) int { return b.Time.Compare(a.Time) })
	var out []way
	seen := map[string]bool{}
	for _, l := range all {
		if len(out) == maxLearned || now.Sub(l.Time) > learnedFor {
			break
		}
		ours := !l.Source.IsValid() || l.Source.Unmap() == f.Local
		if ours && l.Visible.Unmap().Is6() == f.V6 && !seen[l.From] {
			seen[l.From] = true
			age := now.Sub(l.Time).Round(time.Minute)
			out = append(out, way{Name: fmt.Sprintf("%s said %d min ago in a delivery", l.From, age/time.Minute), kind: wayLearned,
				Visible: l.Visible.Unmap(), witness: strings.ToLower(l.From)})
		}
	}
	return out
}

// outsideWays asks mail servers and reflectors side by side.
func (x *exam) outsideWays(ctx context.Context, f face) []way {
	var asks []func() way
	for _, p := range x.probesInUse() {
		asks = append(asks, func() way { return x.greetingWay(ctx, f, p) })
	}
	for _, r := range x.id.Reflectors[:min(maxReflects, len(x.id.Reflectors))] {
		asks = append(asks, func() way { return x.reflectorWay(ctx, f, r) })
	}
	out := make([]way, len(asks))
	var wg group
	for i, ask := range asks {
		wg.Go(func() { out[i] = ask() })
	}
	wg.Wait()
	return oneVote(out)
}

// oneVote leaves each witness its first statement: who is configured twice must
// neither outvote others nor confirm itself.
func oneVote(all []way) []way {
	told := map[string]bool{}
	var out []way
	for _, mute := range []bool{false, true} {
		for _, w := range all {
			if (w.Err != nil) != mute || told[w.witness] {
				continue
			}
			told[w.witness] = w.witness != ""
			out = append(out, w)
		}
	}
	return out
}

// greetingWay is what a mail server says in its reply to EHLO.
func (x *exam) greetingWay(ctx context.Context, f face, server string) way {
	g := x.greet(ctx, f.caller(), server)
	w := way{Name: g.server + " said", kind: wayGreeting, Visible: g.said, witness: strings.ToLower(g.host)}
	switch {
	case g.err != nil:
		w.Name, w.Err = g.server, g.err
	case !g.said.IsValid():
		w.Name, w.Err = g.server, errSaysNothing
	case innerNetwork(g.said) != "" && innerNetwork(g.addr.Addr()) == "": // behind a load balancer, which it sees
		w.Name, w.Visible, w.Err = g.server, netip.Addr{}, fmt.Errorf("it sees %s, %s of its own network", g.said, innerNetwork(g.said))
	}
	return w
}

// decide takes the address with the most votes of the first who speak: those
// outside now, those of late deliveries, the configuration, the interface. An
// address of an inner network counts only when nobody names a global one: who
// sees it is not out there.
func decide(ways []way) netip.Addr {
	global := slices.DeleteFunc(slices.Clone(ways), func(w way) bool { return innerNetwork(w.Visible) != "" })
	if a := elected(global); a.IsValid() {
		return a
	}
	return elected(ways)
}

func elected(ways []way) netip.Addr {
	only := func(kind wayKind) func(wayKind) bool { return func(k wayKind) bool { return k == kind } }
	for _, rank := range []struct {
		counts func(wayKind) bool
		least  int // votes
	}{
		{wayKind.outside, 1},
		{only(wayLearned), 2}, // anybody can be a receiver: one alone proves nothing
		{only(wayConfigured), 1}, {only(wayInterface), 1}, {only(wayLearned), 1},
	} {
		if a, votes := winner(ways, rank.counts); votes >= rank.least {
			return a
		}
	}
	return netip.Addr{}
}

// winner counts the votes of some kinds; the first said wins a tie.
func winner(ways []way, counts func(wayKind) bool) (best netip.Addr, most int) {
	votes := map[netip.Addr]int{}
	for _, w := range ways {
		if w.Err == nil && w.Visible.IsValid() && counts(w.kind) {
			votes[w.Visible]++
		}
	}
	for _, w := range ways {
		if n := votes[w.Visible]; n > most {
			best, most = w.Visible, n
		}
	}
	return best, most
}

// innerNetwork names what kind of inner network an address is of, or that no
// machine has it; empty for a global one, which receivers on the internet can see.
func innerNetwork(a netip.Addr) string {
	if n := mta.NetworkOf(a); !n.Global() {
		return n.String()
	}
	return ""
}

// elsewhere reports a witness of this moment that sees another address; one
// that sees an inner network does not count against a global address.
func (f face) elsewhere(w way) bool {
	return w.Err == nil && w.kind.outside() && w.Visible.IsValid() && w.Visible != f.Visible &&
		(innerNetwork(w.Visible) == "" || innerNetwork(f.Visible) != "")
}

// said tells the ways that agree on an address, then those that do not, then
// those that could not tell.
func saidBy(f face) (agree int, text string) {
	var yes, no, mute []string
	for _, w := range f.Ways {
		switch {
		case w.Err != nil:
			mute = append(mute, w.Name+" could not tell ("+w.Err.Error()+")")
		case w.Visible == f.Visible:
			yes = append(yes, w.Name)
		default:
			no = append(no, w.Name+" "+w.Visible.String())
		}
	}
	text = f.Visible.String() + " (" + strings.Join(yes, ", ") + ")"
	if !f.Visible.IsValid() {
		text = "nobody could tell"
	}
	if len(no) > 0 {
		text += "; otherwise: " + strings.Join(no, ", ")
	}
	if len(mute) > 0 {
		text += "; " + strings.Join(mute, "; ")
	}
	return len(yes), text
}
