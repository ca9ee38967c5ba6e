package daemon

import (
	"strings"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/route"
)

// withPools adds the sources' pools to the planner's settings. The pool that
// mail goes out from for which none is named has no name there.
func withPools(s route.Settings, c *config.Config) route.Settings {
	s.Sources = c.LocalSources()
	all := make([]string, len(c.Sources))
	for i := range c.Sources {
		all[i] = c.Sources[i].IP.String()
	}
	pools := append([]config.Pool{{Name: config.DefaultPool, Sources: all}}, c.Pools...)
	for i := range pools {
		p := route.Pool{Name: pools[i].Name}
		if p.Name == config.DefaultPool {
			p.Name = ""
		}
		for _, m := range c.Members(&pools[i]) {
			p.Sources = append(p.Sources, route.PoolSource{Source: m.Source, Weight: m.Weight})
		}
		s.Pools = append(s.Pools, p)
	}
	s.StreamPools = map[string]string{}
	for _, stream := range c.Streams {
		if stream.Pool != "" {
			s.StreamPools[stream.Name] = stream.Pool
		}
	}
	return s
}

// peers are the hosts of a [router] or [[route]]; host is the only one where
// there is no list.
func peers(p *config.Peers, host string) route.Peers {
	out := route.Peers{Hosts: p.Hosts, Protocol: p.Protocol, Helo: p.Helo}
	if len(out.Hosts) == 0 && host != "" {
		out.Hosts = []string{host}
	}
	out.Limits.Connections, out.Limits.MessagesPerConnection = p.Connections, p.MessagesPerConnection
	if p.Rate.Messages > 0 {
		out.Limits.Rates = []mta.Rate{{Count: p.Rate.Messages, Per: p.Rate.Per}}
	}
	return out
}

// examined is the router as the doctor looks at it: the first of its hosts.
func examined(c *config.Config) doctor.Router {
	r := &c.Router
	out := doctor.Router{Host: r.Host, Port: r.Port, Use: r.Use.String(), TLS: r.TLS, Line: r.Line, Ask: askRouter(c)}
	first := true
	r.EachPeer(r.Host, r.Port, func(p route.Peer) {
		if !first || r.Host == "" {
			return
		}
		first = false
		switch {
		case p.Socket != "":
			out.NotLookedAt = "a socket of this machine"
		case p.MX:
			out.NotLookedAt = "found by the MX records of " + p.Host
		case r.Protocol == mta.LMTP:
			out.NotLookedAt = "a server of LMTP"
			fallthrough
		default:
			out.Host, out.Port = p.Host, p.Port
		}
	})
	return out
}

// hostWords names the hosts of a [[route]] that are more than a name and a port;
// empty when they are not.
func hostWords(r *config.Route) string {
	if len(r.Hosts) > 0 {
		return strings.Join(r.Hosts, ", ")
	}
	if p, err := route.ParsePeer(r.Host); err == nil && (p.MX || p.Socket != "" || p.Port != 0) {
		return r.Host
	}
	return ""
}

// explainPool tells which sources a plan's mail may go out from.
func explainPool(out *admin.Explanation, plan *mta.Plan) {
	if out.Pool = plan.Routes[0].Pool; out.Pool == "" {
		out.Pool = config.DefaultPool
	}
	for _, r := range plan.Routes {
		if from := explainedFrom(r.Sources); len(from.Addresses) > 0 {
			from.Weight, from.HeldBy, from.Avoided = max(r.Weight, 1), r.HeldBy, r.AvoidWhy
			out.Sources = append(out.Sources, from)
		}
	}
	for _, left := range plan.LeftOut {
		from := explainedFrom([]mta.Source{left.Source})
		from.LeftOut = left.Why
		out.Sources = append(out.Sources, from)
	}
}

func explainedFrom(sources []mta.Source) admin.ExplainedFrom {
	from := admin.ExplainedFrom{Addresses: []string{}}
	for _, s := range sources {
		if !s.IP.IsValid() {
			continue
		}
		from.Addresses = append(from.Addresses, s.IP.String())
		from.Helo = s.Hostname
		if s.Egress != nil {
			from.Proxy = s.Egress.Kind.String() + " " + s.Egress.Address
		}
	}
	return from
}
