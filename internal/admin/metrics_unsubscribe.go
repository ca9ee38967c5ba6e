package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/unsubscribe"
)

var (
	descLinks = desc("mailout_unsubscribe_fields_total", "Messages of streams whose mail gets a link to unsubscribe, by whether they got it.", "outcome")
	descLeft  = desc("mailout_unsubscribe_total", "Requests where the links lead, by what became of them.", "outcome")
)

// unsubscribeMetrics collects what links were made, and who followed them.
type unsubscribeMetrics struct {
	descs
	counts func() unsubscribe.Counts
}

func newUnsubscribeMetrics(counts func() unsubscribe.Counts) *unsubscribeMetrics {
	return &unsubscribeMetrics{descs{descLinks, descLeft}, counts}
}

// Collect implements prometheus.Collector.
func (m *unsubscribeMetrics) Collect(c chan<- prometheus.Metric) {
	n, to := m.counts(), sink(c)
	for outcome, v := range map[string]int64{"link": n.Links, "own": n.Own, "unfit": n.Unfit} {
		to.counter(descLinks, float64(v), outcome)
	}
	for outcome, v := range map[string]int64{
		"left": n.Left, "again": n.Again, "shown": n.Shown, "unknown": n.Unknown, "malformed": n.Malformed, "limited": n.Limited, "trouble": n.Trouble,
	} {
		to.counter(descLeft, float64(v), outcome)
	}
}
