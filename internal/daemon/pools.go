package daemon

import (
	"mailout/internal/config"
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
