package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/warmup"
)

var (
	descWarmupDay     = desc("mailout_warmup_day", "Day of the plan that a source's warm-up is on at a provider, from 1; 0 before the first.", "source", "provider")
	descWarmupDays    = desc("mailout_warmup_last_day", "Last day of that plan.", "source", "provider")
	descWarmupCeiling = desc("mailout_warmup_ceiling", "Most recipients that a warming source may write to at a provider today.", "source", "provider")
	descWarmupSent    = desc("mailout_warmup_sent", "Recipients at the provider that the warming source has written to today.", "source", "provider")
	descWarmupStopped = desc("mailout_warmup_stopped", "1 when bad signs ended the warming source's day at the provider.", "source", "provider")
)

// warmupMetrics collects how far the warming sources are.
type warmupMetrics struct {
	descs
	states func() []warmup.State
}

func newWarmupMetrics(states func() []warmup.State) *warmupMetrics {
	return &warmupMetrics{descs{descWarmupDay, descWarmupDays, descWarmupCeiling, descWarmupSent, descWarmupStopped}, states}
}

// Collect implements prometheus.Collector. Sources that are warm have no series.
func (m *warmupMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	for _, s := range m.states() {
		source, stopped := s.Source.String(), 0.0
		if s.Stopped != "" {
			stopped = 1
		}
		to.gauge(descWarmupDay, float64(s.Day), source, s.Provider)
		to.gauge(descWarmupDays, float64(s.Days), source, s.Provider)
		to.gauge(descWarmupCeiling, float64(s.Ceiling), source, s.Provider)
		to.gauge(descWarmupSent, float64(s.Sent), source, s.Provider)
		to.gauge(descWarmupStopped, stopped, source, s.Provider)
	}
}
