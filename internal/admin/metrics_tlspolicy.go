package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/route"
	"mailout/internal/tlspolicy"
)

// TLSPolicies are the numbers of what recipient domains demand of TLS.
type TLSPolicies struct {
	STS  tlspolicy.STSCounts
	DANE route.DANECounts
}

var (
	descPolicies = desc("mailout_tls_policies", "MTA-STS policies in memory that hold, by mode.", "mode")
	descFetches  = desc("mailout_tls_policy_fetches_total", "Fetches of MTA-STS policies since the start.", "result")
	descDANE     = desc("mailout_dane_hosts_total", "Look-ups of TLSA records for a mail server that signed DNS vouches for, by what they gave; failed keeps mail from the server.", "result")
)

// tlsPolicyMetrics collects them.
type tlsPolicyMetrics struct {
	descs
	counts func() TLSPolicies
}

func newTLSPolicyMetrics(counts func() TLSPolicies) *tlsPolicyMetrics {
	return &tlsPolicyMetrics{descs{descPolicies, descFetches, descDANE}, counts}
}

// Collect implements prometheus.Collector.
func (m *tlsPolicyMetrics) Collect(c chan<- prometheus.Metric) {
	n, to := m.counts(), sink(c)
	to.gauge(descPolicies, float64(n.STS.None), "none")
	to.gauge(descPolicies, float64(n.STS.Testing), "testing")
	to.gauge(descPolicies, float64(n.STS.Enforce), "enforce")
	to.counter(descFetches, float64(n.STS.Fetched), "read")
	to.counter(descFetches, float64(n.STS.Failed), "failed")
	to.counter(descDANE, float64(n.DANE.None), "none")
	to.counter(descDANE, float64(n.DANE.Usable), "usable")
	to.counter(descDANE, float64(n.DANE.Unusable), "unusable")
	to.counter(descDANE, float64(n.DANE.Failed), "failed")
}
