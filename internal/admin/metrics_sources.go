package admin

import "github.com/prometheus/client_golang/prometheus"

var descSourceUp = desc("mailout_source_up", "1 when mail can go out from the source; 0 when its address is not on this machine, or its proxy does not serve us.", "source")

// sourceMetrics collects which sources can be used.
type sourceMetrics struct {
	descs
	up func() map[string]bool
}

func newSourceMetrics(up func() map[string]bool) *sourceMetrics {
	return &sourceMetrics{descs{descSourceUp}, up}
}

// Collect implements prometheus.Collector. Without [[source]] there is no series.
func (m *sourceMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	for source, up := range m.up() {
		value := 0.0
		if up {
			value = 1
		}
		to.gauge(descSourceUp, value, source)
	}
}
