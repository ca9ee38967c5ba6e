package admin

import "github.com/prometheus/client_golang/prometheus"

// Router is a configured smart host as far as it is counted.
type Router struct {
	Name string // as routes name it
	Up   bool   // nothing is known against it
}

var descRouterUp = desc("mailout_router_up", "Whether a router can be used: 0 from when it was told that it cannot be until it takes us again.", "router")

// routerMetrics collects which routers can be used.
type routerMetrics struct {
	descs
	routers func() []Router
}

func newRouterMetrics(routers func() []Router) *routerMetrics {
	return &routerMetrics{descs{descRouterUp}, routers}
}

// Collect implements prometheus.Collector.
func (m *routerMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	for _, r := range m.routers() {
		up := 0.0
		if r.Up {
			up = 1
		}
		to.gauge(descRouterUp, up, r.Name)
	}
}
