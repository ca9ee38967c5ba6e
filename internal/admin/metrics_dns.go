package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/dns"
)

var (
	descLookups = desc("mailout_dns_lookups_total", "Look-ups since the start, by where the answer came from; joined is one that was under way already.", "source")
	descAnswers = desc("mailout_dns_answers_total", "What the name servers answered since the start; temporary is no usable answer.", "result")
	descEntries = desc("mailout_dns_cache_entries", "Answers in the cache.")
)

// dnsMetrics collects what the resolver does.
type dnsMetrics struct {
	descs
	counts func() dns.Counts
}

func newDNSMetrics(counts func() dns.Counts) *dnsMetrics {
	return &dnsMetrics{descs{descLookups, descAnswers, descEntries}, counts}
}

// Collect implements prometheus.Collector.
func (m *dnsMetrics) Collect(c chan<- prometheus.Metric) {
	to, n := sink(c), m.counts()
	to.counter(descLookups, float64(n.Hosts), "hosts")
	to.counter(descLookups, float64(n.Cached), "cache")
	to.counter(descLookups, float64(n.Joined), "joined")
	to.counter(descLookups, float64(n.Asked), "servers")
	to.counter(descAnswers, float64(n.Found), "found")
	to.counter(descAnswers, float64(n.NoData), "nodata")
	to.counter(descAnswers, float64(n.NXDomain), "nxdomain")
	to.counter(descAnswers, float64(n.Temporary), "temporary")
	to.counter(descAnswers, float64(n.Bogus), "bogus")
	to.gauge(descEntries, float64(n.Entries))
}
