package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	descDoorSessions    = desc("mailout_smtp_sessions", "Sessions open at the listener.", "listener")
	descDoorConnections = desc("mailout_smtp_connections_total", "Connections at the listener since the start; turned_away for a limit of connections.", "listener", "result")
	descDoorMessages    = desc("mailout_smtp_messages_total", "Messages at the listener since the start, by what they were answered.", "listener", "result")
	descDoorRecipients  = desc("mailout_smtp_recipients_total", "Recipients of accepted messages since the start.", "listener")
	descDoorOctets      = desc("mailout_smtp_received_bytes_total", "Content of accepted messages since the start.", "listener")
	descDoorRelay       = desc("mailout_smtp_relay_denied_total", "Recipients refused since the start because the client may not send.", "listener")
	descDoorErrors      = desc("mailout_smtp_client_errors_total", "Commands answered with an error since the start.", "listener")
	descDoorTimedOut    = desc("mailout_smtp_timeouts_total", "Sessions ended by a time limit since the start.", "listener")
	descDoorInternal    = desc("mailout_smtp_internal_errors_total", "Commands answered 451 4.3.0 since the start: errors of this server.", "listener")
	descDoorTLS         = desc("mailout_smtp_tls_handshakes_total", "TLS handshakes with clients since the start.", "listener", "result")
	descDoorSignIns     = desc("mailout_smtp_sign_ins_total", "AUTH since the start; failed is denied or put off.", "listener", "result")
	descDoorExpires     = desc("mailout_smtp_certificate_expiry_timestamp_seconds", "When the certificate of the listener expires, as Unix time.", "listener")
)

// doorMetrics collects what comes to the SMTP doors.
type doorMetrics struct {
	descs
	doors func() []Door
}

func newDoorMetrics(doors func() []Door) *doorMetrics {
	return &doorMetrics{descs{
		descDoorSessions, descDoorConnections, descDoorMessages, descDoorRecipients, descDoorOctets, descDoorRelay, descDoorErrors,
		descDoorTimedOut, descDoorInternal, descDoorTLS, descDoorSignIns, descDoorExpires,
	}, doors}
}

// Collect implements prometheus.Collector: a set of series for each [[listen]].
func (m *doorMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	for _, d := range m.doors() {
		count := func(desc *prometheus.Desc, n int64, result ...string) {
			to.counter(desc, float64(n), append([]string{d.Listener}, result...)...)
		}
		to.gauge(descDoorSessions, float64(d.Active), d.Listener)
		count(descDoorConnections, d.Connections-d.TurnedAway, "served")
		count(descDoorConnections, d.TurnedAway, "turned_away")
		count(descDoorMessages, d.Messages, "accepted")
		count(descDoorMessages, d.Refused, "refused")
		count(descDoorRecipients, d.Recipients)
		count(descDoorOctets, d.Octets)
		count(descDoorRelay, d.RelayDenied)
		count(descDoorErrors, d.Errors)
		count(descDoorTimedOut, d.TimedOut)
		count(descDoorInternal, d.Internal)
		count(descDoorTLS, d.TLS, "done")
		count(descDoorTLS, d.TLSFailed, "failed")
		count(descDoorSignIns, d.SignedIn, "done")
		count(descDoorSignIns, d.SignInFailed, "failed")
		if !d.Expires.IsZero() {
			to.gauge(descDoorExpires, float64(d.Expires.Unix()), d.Listener)
		}
	}
}
