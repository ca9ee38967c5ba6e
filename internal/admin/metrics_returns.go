package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/returns"
)

var descReturns = desc("mailout_returns_total", "What came back, by what it was.", "outcome")

// returnMetrics collects what came back.
type returnMetrics struct {
	descs
	counts func() returns.Counts
}

func newReturnMetrics(counts func() returns.Counts) *returnMetrics {
	return &returnMetrics{descs{descReturns}, counts}
}

// Collect implements prometheus.Collector.
func (m *returnMetrics) Collect(c chan<- prometheus.Metric) {
	n, to := m.counts(), sink(c)
	for outcome, v := range map[string]int64{
		"bounced": n.Bounced, "complained": n.Complained, "ignored": n.Ignored, "unmatched": n.Unmatched,
		"refused": n.Refused, "later": n.Later, "trouble": n.Trouble,
	} {
		to.counter(descReturns, float64(v), outcome)
	}
}
