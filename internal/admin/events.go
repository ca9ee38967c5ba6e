package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/events"
)

// Receivers tells how those fare who get events.
type Receivers interface {
	Status() []events.Status
	// Lost is how many journal entries left for their age before everybody had them.
	Lost() uint64
}

var (
	descEventLag      = desc("mailout_events_lag_seconds", "Age of the oldest event that the receiver has not got.", "kind", "name")
	descEventPending  = desc("mailout_events_pending", "Journal entries that the receiver has not got, about.", "kind", "name")
	descEventSent     = desc("mailout_events_sent_total", "Events that the receiver has got since the start.", "kind", "name")
	descEventFailures = desc("mailout_events_failures_total", "Tries that failed since the start.", "kind", "name")
	descEventGivenUp  = desc("mailout_events_given_up_total", "Events given up since the start.", "kind", "name")
	descEventUp       = desc("mailout_events_receiver_up", "1 while the receiver takes events, 0 while it fails or is disabled.", "kind", "name")
	descEventLost     = desc("mailout_events_lost_entries_total", "Journal entries removed for their age since the start that a receiver had not got.")
)

// eventMetrics collects how receivers of events fare: a series each, as many as
// are configured.
type eventMetrics struct{ receivers Receivers }

// Describe implements prometheus.Collector.
func (m *eventMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEventLag, descEventPending, descEventSent, descEventFailures, descEventGivenUp, descEventUp, descEventLost} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *eventMetrics) Collect(c chan<- prometheus.Metric) {
	c <- prometheus.MustNewConstMetric(descEventLost, prometheus.CounterValue, float64(m.receivers.Lost()))
	for _, s := range m.receivers.Status() {
		one := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			c <- prometheus.MustNewConstMetric(d, kind, v, s.Kind, s.Name)
		}
		up := 1.0
		if s.Failing || s.Disabled {
			up = 0
		}
		one(descEventUp, prometheus.GaugeValue, up)
		one(descEventLag, prometheus.GaugeValue, s.Lag.Seconds())
		one(descEventPending, prometheus.GaugeValue, float64(s.Pending))
		one(descEventSent, prometheus.CounterValue, float64(s.Sent))
		one(descEventFailures, prometheus.CounterValue, float64(s.Failures))
		one(descEventGivenUp, prometheus.CounterValue, float64(s.GivenUp))
	}
}
