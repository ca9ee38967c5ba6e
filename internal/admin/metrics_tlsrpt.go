package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/tlsrpt"
)

var (
	descTLSSessions  = desc("mailout_tlsrpt_sessions_total", "Sessions with receivers' mail servers that were told to the reports of how TLS went.", "result")
	descTLSUncounted = desc("mailout_tlsrpt_uncounted_total", "Of them those that stand in no report, because too much was counted already.")
	descTLSDomains   = desc("mailout_tlsrpt_domains", "Domains whose sessions are counted now.")
	descTLSWaiting   = desc("mailout_tlsrpt_waiting", "Reports that wait to be sent, or for another attempt.")
	descTLSReports   = desc("mailout_tlsrpt_reports_total", "Reports at their receivers: handed to the queue as mail, taken by HTTPS, given up, not sent by mail because no DKIM key signs, or not made because too many wait.", "result")
)

// tlsReportMetrics collects the numbers of the reports of how TLS went.
type tlsReportMetrics struct {
	descs
	counts func() tlsrpt.Counts
}

func newTLSReportMetrics(counts func() tlsrpt.Counts) *tlsReportMetrics {
	return &tlsReportMetrics{descs{descTLSSessions, descTLSUncounted, descTLSDomains, descTLSWaiting, descTLSReports}, counts}
}

// Collect implements prometheus.Collector.
func (m *tlsReportMetrics) Collect(c chan<- prometheus.Metric) {
	n, to := m.counts(), sink(c)
	to.counter(descTLSSessions, float64(n.Success), "success")
	to.counter(descTLSSessions, float64(n.Failure), "failure")
	to.counter(descTLSUncounted, float64(n.Uncounted))
	to.gauge(descTLSDomains, float64(n.Domains))
	to.gauge(descTLSWaiting, float64(n.Waiting))
	for result, count := range map[string]int64{"mailed": n.Mailed, "posted": n.Posted, "given_up": n.GivenUp, "unsigned": n.Unsigned, "unmade": n.Unmade} {
		to.counter(descTLSReports, float64(count), result)
	}
}
