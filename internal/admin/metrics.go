package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsTime bounds one scrape.
const metricsTime = 5 * time.Second

// maxScrapes bounds the scrapes under way; more get 503.
const maxScrapes = 4

// metrics gives GET /metrics, in a registry of its own. Everything is read when
// it is asked for: no part keeps numbers for it but counters. A part that does
// not answer leaves its own series out, and is counted.
func (s *Server) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(s.collectors()...)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		Registry: r, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, Timeout: 2 * metricsTime,
	})
}

// collectors are those of the parts that there are.
func (s *Server) collectors() []prometheus.Collector {
	all := []prometheus.Collector{
		newServerMetrics(s), &queueMetrics{s.opts.Queue},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	add := func(there bool, c prometheus.Collector) {
		if there {
			all = append(all, c)
		}
	}
	m := &s.opts.Meters
	add(s.opts.Doctor != nil, &identityMetrics{s.opts.Doctor})
	add(s.opts.Events != nil, &eventMetrics{s.opts.Events})
	add(m.Spool != nil, newSpoolMetrics(m.Spool))
	add(m.Sites != nil, newSiteMetrics(m.Sites))
	add(m.Sessions != nil, newSessionMetrics(m.Sessions))
	add(m.Doors != nil, newDoorMetrics(m.Doors))
	add(m.DNS != nil, newDNSMetrics(m.DNS))
	add(m.Sources != nil, newSourceMetrics(m.Sources))
	add(m.Routers != nil, newRouterMetrics(m.Routers))
	add(s.opts.Standing != nil, newStandingMetrics(s.opts.Standing))
	add(s.opts.Signing != nil, newKeyMetrics(s.opts.Signing))
	add(m.Warmup != nil, newWarmupMetrics(m.Warmup))
	add(m.Suppress != nil, newSuppressMetrics(m.Suppress))
	add(m.Returns != nil, newReturnMetrics(m.Returns))
	add(m.Unsubscribe != nil, newUnsubscribeMetrics(m.Unsubscribe))
	add(m.TLSRPT != nil, newTLSReportMetrics(m.TLSRPT))
	add(m.TLSPolicies != nil, newTLSPolicyMetrics(m.TLSPolicies))
	return all
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descCheck   = desc("mailout_identity_check", "One series a check of the identity, with its status now; always 1.", "id", "subject", "status")
	descAge     = desc("mailout_identity_age_seconds", "Time since the last examination of the identity began.")
	descHeld    = desc("mailout_identity_held", "One series a source whose mail identity.guard holds now; always 1.", "source", "check")
	descUpdates = desc("mailout_identity_dns_updates_total", "DNS updates of address records that follow the visible address.", "result")

	descDeliveries   = desc("mailout_queue_deliveries", "Open deliveries by state.", "state")
	descActive       = desc("mailout_queue_active", "Attempts under way.")
	descDestinations = desc("mailout_queue_destinations", "Destinations with open deliveries.")
	descSites        = desc("mailout_queue_sites", "Sites that are known to be theirs.")
	descOldest       = desc("mailout_queue_oldest_seconds", "Age of the oldest message in the queue.")
	descHolds        = desc("mailout_queue_holds", "Destinations whose mail an operator holds, also what comes later.")
	descReroutes     = desc("mailout_queue_reroutes", "Destinations that an operator gave another route.")
	descUncertain    = desc("mailout_uncertain_total", "Final replies lost since the start: each may have become a duplicate.")
)

// identityMetrics collects what the watch found last.
type identityMetrics struct{ doctor Doctor }

// Describe implements prometheus.Collector.
func (m *identityMetrics) Describe(c chan<- *prometheus.Desc) {
	c <- descCheck
	c <- descAge
	c <- descHeld
	c <- descUpdates
}

// Collect implements prometheus.Collector. Before the first examination has
// ended there is nothing of its findings.
func (m *identityMetrics) Collect(c chan<- prometheus.Metric) {
	one := func(d *prometheus.Desc, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, 1, labels...)
	}
	for _, h := range m.doctor.Held() {
		source := h.Hostname
		if h.Local.IsValid() {
			source = h.Local.String()
		}
		one(descHeld, source, h.Check.ID)
	}
	made, failed := m.doctor.Updates()
	c <- prometheus.MustNewConstMetric(descUpdates, prometheus.CounterValue, float64(made), "made")
	c <- prometheus.MustNewConstMetric(descUpdates, prometheus.CounterValue, float64(failed), "failed")
	e := m.doctor.Last()
	if e == nil {
		return
	}
	c <- prometheus.MustNewConstMetric(descAge, prometheus.GaugeValue, time.Since(e.At).Seconds())
	for _, check := range e.Report.Checks {
		one(descCheck, check.ID, check.Subject, string(check.Status))
	}
}

// queueMetrics collects what the scheduler counts.
type queueMetrics struct{ queue Queue }

// Describe implements prometheus.Collector.
func (m *queueMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDeliveries, descActive, descDestinations, descSites, descOldest, descHolds, descReroutes, descUncertain} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *queueMetrics) Collect(c chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
	defer cancel()
	sum, err := m.queue.Summary(ctx)
	if err != nil {
		c <- prometheus.NewInvalidMetric(descDeliveries, err)
		return
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(descDeliveries, sum.Queued, "queued")
	gauge(descDeliveries, sum.Deferred, "deferred")
	gauge(descDeliveries, sum.Held, "held")
	gauge(descActive, sum.Active)
	gauge(descDestinations, sum.Destinations)
	gauge(descSites, sum.Sites)
	gauge(descOldest, sum.OldestS)
	gauge(descHolds, int64(len(sum.Holds)))
	gauge(descReroutes, int64(len(sum.Reroutes)))
	c <- prometheus.MustNewConstMetric(descUncertain, prometheus.CounterValue, float64(sum.Uncertain))
}
