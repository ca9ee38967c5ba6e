package mta

import "net/netip"

// The bounds of one attempt when a route gives none (delivery.hosts,
// delivery.addresses).
const (
	DefaultMaxHosts     = 5
	DefaultMaxAddresses = 10
)

// Targets gives the addresses of one attempt in the order to try them: hosts by
// preference, shuffled inside one preference (RFC 5321 5.1), the addresses of
// each host with IPv6 and IPv4 in turn, IPv6 first. Hosts without a usable
// address do not count. A socket is like one address that every source reaches.
//
// At most MaxHosts hosts and MaxAddresses addresses are given. Each host gets
// its first address of either family before any gets its second, so that many
// dead addresses of one host or one family never keep an attempt from the
// others; where one address is left to give, it is IPv4. An address is left
// out when it is IPv6 and the route has none, or when sources are configured
// and none has its family.
//
// shuffle is rand.Shuffle, or nil to keep the look-up's order. The result is
// empty when no address can be used.
func (r *Route) Targets(shuffle func(n int, swap func(i, j int))) []Target {
	budget := r.MaxAddresses
	if budget <= 0 {
		budget = DefaultMaxAddresses
	}
	s4, ok4 := r.source(true)
	s6, ok6 := r.source(false)
	parts := r.parts(r.order(shuffle), ok4, ok6 && r.IPv6)
	out := make([]Target, 0, divide(parts, budget))
	for i := range parts {
		p := &parts[i]
		if p.socket > 0 {
			out = append(out, Target{Host: *p.host, Source: r.forSocket()})
		}
		for j := range max(p.n4, p.n6) {
			if j < p.n6 {
				out = append(out, Target{Host: *p.host, IP: p.v6[j], Source: s6})
			}
			if j < p.n4 {
				out = append(out, Target{Host: *p.host, IP: p.v4[j], Source: s4})
			}
		}
	}
	return out
}

// part is one host's share of an attempt.
type part struct {
	host   *Host
	v4, v6 []netip.Addr // usable, in the look-up's order
	n4, n6 int          // how many of each are tried
	socket int          // 1 when its socket is tried
}

// order gives the indices of the hosts, shuffled inside each run of one
// preference.
func (r *Route) order(shuffle func(n int, swap func(i, j int))) []int {
	order := make([]int, len(r.Hosts))
	for i := range order {
		order[i] = i
	}
	if shuffle == nil {
		return order
	}
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && r.Hosts[to].Preference == r.Hosts[from].Preference {
			to++
		}
		if run := order[from:to]; len(run) > 1 {
			shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] })
		}
		from = to
	}
	return order
}

// parts gives the first MaxHosts hosts that have an address of a family that
// can be used.
func (r *Route) parts(order []int, use4, use6 bool) []part {
	limit := r.MaxHosts
	if limit <= 0 {
		limit = DefaultMaxHosts
	}
	parts := make([]part, 0, min(limit, len(order)))
	for _, i := range order {
		if len(parts) == limit {
			break
		}
		p := part{host: &r.Hosts[i]}
		for _, a := range p.host.Addresses {
			switch is4 := a.Unmap().Is4(); {
			case is4 && use4:
				p.v4 = append(p.v4, a)
			case !is4 && use6:
				p.v6 = append(p.v6, a)
			}
		}
		if len(p.v4)+len(p.v6) > 0 || p.host.Socket != "" {
			parts = append(parts, p)
		}
	}
	return parts
}

// divide shares the budget out, one address of each family a host and round,
// and gives how many were given.
func divide(parts []part, budget int) int {
	given := 0
	for round, before := 0, -1; given < budget && given != before; round++ {
		before = given
		for i := range parts {
			p := &parts[i]
			if round == 0 && p.host.Socket != "" && given < budget {
				p.socket = 1
				given++
			}
			if round < len(p.v4) && given < budget {
				p.n4++
				given++
			}
			if round < len(p.v6) && given < budget {
				p.n6++
				given++
			}
		}
	}
	return given
}

// source gives the first source of the family. It reports false when sources
// are configured and none has it. A source without address serves both.
func (r *Route) source(is4 bool) (Source, bool) {
	if len(r.Sources) == 0 {
		return Source{Hostname: r.Helo}, true
	}
	for _, s := range r.Sources {
		if s.IP.IsValid() && s.IP.Unmap().Is4() != is4 {
			continue
		}
		if s.Hostname == "" {
			s.Hostname = r.Helo
		}
		return s, true
	}
	return Source{}, false
}

// forSocket gives what is said at a Unix socket: no address is used.
func (r *Route) forSocket() Source {
	if len(r.Sources) > 0 && r.Sources[0].Hostname != "" {
		return Source{Hostname: r.Sources[0].Hostname}
	}
	return Source{Hostname: r.Helo}
}
