package admin

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/transport"
)

// metricSites is how many sites have series of their own: those with the most
// to do when they are asked for. All others are in the sums alone.
const metricSites = 20

var (
	descConnections = desc("mailout_queue_connections", "Connections to sites, by whether they have work.", "state")
	descWaiting     = desc("mailout_queue_ready", "Deliveries that are due and wait for a connection or a turn.")
	descUnreachable = desc("mailout_queue_sites_unreachable", "Sites that are taken for unreachable and only probed.")

	descSiteConnections = desc("mailout_site_connections", "Connections to the site; of the busiest sites only.", "site")
	descSiteAllowed     = desc("mailout_site_connections_allowed", "Connections that the site may have now; 0 while it is unreachable; of the busiest sites only.", "site")
	descSitePace        = desc("mailout_site_pace", "Messages a second that the site was found to take; 0 where no bound was found; of the busiest sites only.", "site")
	descSiteReady       = desc("mailout_site_ready", "Deliveries that are due and wait for the site; of the busiest sites only.", "site")

	descSessions    = desc("mailout_sessions_total", "Sessions with receiving hosts since the start: opened, or failed on the way to the first command.", "result")
	descSessionFell = desc("mailout_sessions_without_tls_total", "Sessions opened in clear text since the start because TLS fails there.")
)

// siteMetrics collects what the scheduler does to whom.
type siteMetrics struct {
	descs
	sites SiteMeter
}

func newSiteMetrics(s SiteMeter) *siteMetrics {
	return &siteMetrics{descs{descConnections, descWaiting, descUnreachable, descSiteConnections, descSiteAllowed, descSitePace, descSiteReady}, s}
}

// Collect implements prometheus.Collector.
func (m *siteMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
	defer cancel()
	load, err := m.sites.Load(ctx, metricSites)
	if err != nil {
		to <- prometheus.NewInvalidMetric(descConnections, err)
		return
	}
	to.gauge(descConnections, float64(load.Connections-load.Idle), "busy")
	to.gauge(descConnections, float64(load.Idle), "idle")
	to.gauge(descWaiting, float64(load.Ready))
	to.gauge(descUnreachable, float64(load.Unreachable))
	for _, s := range load.Busiest {
		to.gauge(descSiteConnections, float64(s.Connections), s.Site)
		to.gauge(descSiteAllowed, float64(s.Allowed), s.Site)
		to.gauge(descSitePace, s.Pace, s.Site)
		to.gauge(descSiteReady, float64(s.Ready), s.Site)
	}
}

// sessionMetrics collects what became of connections.
type sessionMetrics struct {
	descs
	counts func() transport.Counts
}

func newSessionMetrics(counts func() transport.Counts) *sessionMetrics {
	return &sessionMetrics{descs{descSessions, descSessionFell}, counts}
}

// Collect implements prometheus.Collector.
func (m *sessionMetrics) Collect(c chan<- prometheus.Metric) {
	to, n := sink(c), m.counts()
	to.counter(descSessions, float64(n.Opened), "opened")
	to.counter(descSessions, float64(n.Failed), "failed")
	to.counter(descSessionFell, float64(n.Clear))
}
