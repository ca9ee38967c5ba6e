package route

import (
	"net/netip"
	"slices"
	"strings"

	"mailout/internal/mta"
)

// The pool that mail goes out from, and how a decided route becomes one route a
// member.
//
// A member is what one session needs: a source, or an IPv4 and an IPv6 source of
// one host name, so that the addresses of a host can be tried in turn whatever
// their family. Sources are paired in their order, the first IPv4 with the first
// IPv6 one of the same name; in a pool with one source of each family these two
// are a pair whatever their names. A pair of which one source is being warmed up
// goes apart until it is warm.
//
// Of the members those are left out that cannot send: whose source is down (not
// on this machine), that no address of the hosts fits, whose warm-up is not for
// this stream, and, while others are left, whose source is held (Hold). With nothing left the mail waits.

// Pool is some of the sources, by name.
type Pool struct {
	Name    string // empty: of mail for which no pool is named
	Sources []PoolSource
}

// PoolSource is a source in a pool.
type PoolSource struct {
	mta.Source
	Weight int // 0 counts as 1
}

// member is what one route of a plan sends from. Immutable.
type member struct {
	sources []mta.Source // one, or one of each family, IPv4 first
	weight  int          // the greater of theirs
}

// makePools makes the members of all pools, that named "" included.
func makePools(s *Settings) map[string][]member {
	pools := make(map[string][]member, len(s.Pools)+1)
	all := make([]PoolSource, len(s.Sources))
	for i := range s.Sources {
		all[i] = PoolSource{Source: s.Sources[i]}
	}
	pools[""] = membersOf(all)
	for _, p := range s.Pools {
		pools[p.Name] = membersOf(p.Sources)
	}
	return pools
}

// membersOf pairs sources.
func membersOf(sources []PoolSource) []member {
	var four, six []int
	for i := range sources {
		if sources[i].is4() {
			four = append(four, i)
		} else {
			six = append(six, i)
		}
	}
	lone := len(four) == 1 && len(six) == 1
	mate := make(map[int]int, len(sources)) // of each paired source
	taken := make(map[int]bool, len(six))
	for _, i := range four {
		for _, j := range six {
			if !taken[j] && (lone || strings.EqualFold(sources[i].Hostname, sources[j].Hostname)) {
				mate[i], mate[j], taken[j] = j, i, true
				break
			}
		}
	}
	var out []member
	for i := range sources {
		j, paired := mate[i]
		m := member{sources: []mta.Source{sources[i].Source}, weight: max(sources[i].Weight, 1)}
		if paired {
			if j < i {
				continue
			}
			m.weight = max(m.weight, sources[j].Weight)
			if m.sources = append(m.sources, sources[j].Source); !sources[i].is4() {
				m.sources[0], m.sources[1] = m.sources[1], m.sources[0]
			}
		}
		out = append(out, m)
	}
	return out
}

// is4 reports a source for IPv4. One without address serves both, and is no
// pair of another.
func (s *PoolSource) is4() bool { return !s.IP.IsValid() || s.IP.Unmap().Is4() }

// Down replaces what is known of sources that cannot be used, with the reason of
// each, for the calls that follow.
func (p *Planner) Down(down map[netip.Addr]string) { p.down.Store(&down) }

// HasPool reports whether a pool is configured.
func (p *Planner) HasPool(name string) bool {
	_, there := p.settings.Load().pools[name]
	return there || name == DefaultPool
}

// DefaultPool is the word for the pool of mail for which none is named.
const DefaultPool = "default"

// spread makes the plan of a route that is decided but for its source: a route
// for each member of its pool that can carry it. Route.Pool names the pool; empty,
// it is the stream's. A source without address in Route.Sources gives its host
// name to all.
func (p *Planner) spread(r *mta.Route, stream string) (*mta.Plan, *mta.Failure) {
	c := p.settings.Load()
	if r.Pool == "" {
		r.Pool = c.StreamPools[stream]
	}
	if r.Pool == DefaultPool {
		r.Pool = ""
	}
	members, there := c.pools[r.Pool]
	if !there {
		return nil, fail(mta.CauseLocal, nil, "there is no pool %q", r.Pool)
	}
	if len(members) == 0 || onlySockets(r) {
		if len(r.Targets(nil)) == 0 {
			return nil, fail(mta.CauseLocal, nil, "no address of %s can be reached (delivery.ipv6 = %t)", r.Hosts[0].Name, r.IPv6)
		}
		p.shape(r, stream)
		p.withhold(r)
		return mta.OnePlan(r), nil
	}
	s := spreading{p: p, stream: stream, down: p.downNow()}
	for i := range members {
		s.member(r, &members[i])
	}
	return s.plan(r)
}

func onlySockets(r *mta.Route) bool {
	for i := range r.Hosts {
		if r.Hosts[i].Socket == "" {
			return false
		}
	}
	return true
}

// downNow gives what Down was told last.
func (p *Planner) downNow() map[netip.Addr]string {
	if d := p.down.Load(); d != nil {
		return *d
	}
	return nil
}

// spreading is one call of spread.
type spreading struct {
	p      *Planner
	stream string
	down   map[netip.Addr]string
	free   []*mta.Route
	held   []*mta.Route
	out    []mta.LeftOut
}

// member makes the route of one member, or says why there is none.
func (s *spreading) member(base *mta.Route, m *member) {
	r := *base
	r.Weight, r.Sources = m.weight, m.sources
	if len(base.Sources) > 0 {
		r.Sources = named(m.sources, base.Sources[0].Hostname)
	}
	up := make([]mta.Source, 0, len(m.sources))
	for _, source := range r.Sources {
		if why, down := s.down[source.IP]; down {
			s.leave(source, why)
			continue
		}
		up = append(up, source)
	}
	if len(up) < len(m.sources) {
		r.Sources = up
	}
	if len(up) == 0 {
		return
	}
	if s.p.apart(&r, s.stream) {
		for i := range up {
			s.member(base, &member{sources: up[i : i+1], weight: m.weight})
		}
		return
	}
	if len(r.Targets(nil)) == 0 {
		for _, source := range up {
			s.leave(source, s.noFamily(base, source))
		}
		return
	}
	if why := s.p.warm(&r, s.stream); why != "" {
		for _, source := range up {
			s.leave(source, why)
		}
		return
	}
	s.p.shape(&r, s.stream)
	s.p.withhold(&r)
	if r.HeldBy != "" {
		s.held = append(s.held, &r)
		return
	}
	s.free = append(s.free, &r)
}

func (s *spreading) leave(source mta.Source, why string) {
	s.out = append(s.out, mta.LeftOut{Source: source, Why: why})
}

// noFamily says why a source that is up reaches no host.
func (s *spreading) noFamily(r *mta.Route, source mta.Source) string {
	switch four := source.IP.Unmap().Is4(); {
	case !four && !r.IPv6:
		return "IPv6 is not used (delivery.ipv6 = false)"
	case four:
		return "the hosts have no IPv4 address"
	}
	return "the hosts have no IPv6 address"
}

// plan gives what came of it: held routes only when nothing else is left.
func (s *spreading) plan(base *mta.Route) (*mta.Plan, *mta.Failure) {
	routes := s.free
	if len(routes) == 0 {
		routes = s.held
	} else {
		for _, r := range s.held {
			for _, source := range r.Sources {
				s.leave(source, r.HeldBy)
			}
		}
	}
	if len(routes) > 0 {
		others(routes)
		return &mta.Plan{Routes: routes, LeftOut: s.out, Expires: base.Expires}, nil
	}
	var why []string
	for _, out := range s.out {
		why = append(why, out.Source.IP.String()+": "+out.Why)
	}
	return nil, fail(mta.CauseLocal, nil, "no source of %s can send to %s: %s", poolWords(base.Pool), base.Hosts[0].Name, strings.Join(why, "; "))
}

// poolWords names a pool in a sentence.
func poolWords(pool string) string {
	if pool == "" {
		return "the default pool"
	}
	return "pool " + pool
}

// named gives sources another EHLO name.
func named(sources []mta.Source, helo string) []mta.Source {
	out := slices.Clone(sources)
	for i := range out {
		out[i].Hostname = helo
	}
	return out
}

// others tells each route of the others.
func others(routes []*mta.Route) {
	if len(routes) < 2 || routes[0].Router == "" { // of direct ones our standing is looked at first
		return
	}
	keys := make([]string, len(routes))
	for i, r := range routes {
		keys[i] = r.SourceKey()
	}
	for i, r := range routes {
		r.Others = slices.Concat(keys[:i], keys[i+1:])
	}
}
