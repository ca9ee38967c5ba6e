package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/suppress"
)

var (
	descListed       = desc("mailout_suppress_entries", "Addresses on the suppression list.", "reason")
	descStopped      = desc("mailout_suppress_stopped_total", "Recipients who got no mail for being on the suppression list.", "at", "reason")
	descLearned      = desc("mailout_suppress_learned_total", "Addresses listed by what receivers said or what came back.", "reason")
	descListAdded    = desc("mailout_suppress_added_total", "Addresses listed by command.")
	descListRemoved  = desc("mailout_suppress_removed_total", "Addresses taken off the list by command.")
	descListErrors   = desc("mailout_suppress_errors_total", "Look-ups in the suppression list and changes of it that failed.")
	descListUnlooked = desc("mailout_suppress_unread_total", "Replies that the suppression list did not look at, because there were too many at once.")
)

// suppressMetrics collects the numbers of the suppression list.
type suppressMetrics struct {
	descs
	counts func() suppress.Counts
}

func newSuppressMetrics(counts func() suppress.Counts) *suppressMetrics {
	return &suppressMetrics{descs{descListed, descStopped, descLearned, descListAdded, descListRemoved, descListErrors, descListUnlooked}, counts}
}

// Collect implements prometheus.Collector.
func (m *suppressMetrics) Collect(c chan<- prometheus.Metric) {
	n, to := m.counts(), sink(c)
	for _, r := range suppress.Reasons {
		to.gauge(descListed, float64(n.Entries[r]), string(r))
		to.counter(descLearned, float64(n.Learned[r]), string(r))
		for at, by := range n.Stopped {
			to.counter(descStopped, float64(by[r]), at.String(), string(r))
		}
	}
	to.counter(descListAdded, float64(n.Added))
	to.counter(descListRemoved, float64(n.Removed))
	to.counter(descListErrors, float64(n.Errors))
	to.counter(descListUnlooked, float64(n.Dropped))
}
