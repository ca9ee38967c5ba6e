package admin

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/spool/pebble"
)

var (
	descStored      = desc("mailout_spool_messages_stored_total", "Messages stored since the start, reports of the daemon's own included.")
	descSettled     = desc("mailout_spool_settlements_total", "Outcomes of attempts stored since the start.")
	descCommits     = desc("mailout_spool_commits_total", "Batches written and synced since the start.")
	descSync        = desc("mailout_spool_sync_seconds", "Time that commits waited for stable storage.")
	descLogBytes    = desc("mailout_spool_log_written_bytes_total", "Octets written to the spool's log since the start.")
	descTableBytes  = desc("mailout_spool_tables_written_bytes_total", "Octets written to the spool's table files since the start.")
	descCorrupt     = desc("mailout_spool_corrupt_records_total", "Records set aside as damaged, and contents found damaged, since the start.")
	descFull        = desc("mailout_spool_full", "1 while new mail is refused because the disk is nearly full.")
	descFree        = desc("mailout_spool_disk_free_bytes", "Free space of the spool's file system.")
	descDisk        = desc("mailout_spool_disk_size_bytes", "Size of the spool's file system.")
	descMinFree     = desc("mailout_spool_disk_reserve_bytes", "Free space under which new mail is refused.")
	descJournal     = desc("mailout_journal_size_bytes", "Size of the journal and its indices on disk, about.")
	descCrashStarts = desc("mailout_unclean_starts", "Starts in a row before this one that did not end in order.")

	descEvents    = desc("mailout_journal_events_total", "What happened to mail since the start, one for each recipient.", "event", "stream")
	descFailures  = desc("mailout_delivery_failures_total", "Recipients whose attempt did not deliver, or whose time was over, since the start.", "event", "class", "scope")
	descTLS       = desc("mailout_deliveries_tls_total", "Recipients delivered since the start, by the version of TLS; none is clear text.", "version")
	descDelivered = desc("mailout_delivery_time_seconds", "Time from acceptance to delivery, one for each recipient.")
)

// clearText stands for a delivery without TLS.
const clearText = "none"

// spoolMetrics collects what the store does, and what its journal tells.
type spoolMetrics struct {
	descs
	spool SpoolMeter
}

func newSpoolMetrics(s SpoolMeter) *spoolMetrics {
	return &spoolMetrics{descs{
		descStored, descSettled, descCommits, descSync, descLogBytes, descTableBytes, descCorrupt, descFull, descFree, descDisk,
		descMinFree, descJournal, descCrashStarts, descEvents, descFailures, descTLS, descDelivered,
	}, s}
}

// Collect implements prometheus.Collector.
func (m *spoolMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	n := m.spool.Metrics()
	to.counter(descStored, float64(n.Messages))
	to.counter(descSettled, float64(n.Settlements))
	to.counter(descCommits, float64(n.Commits))
	to.counter(descLogBytes, float64(n.LogBytes))
	to.counter(descTableBytes, float64(n.TableBytes))
	to.counter(descCorrupt, float64(n.Corrupt))
	to.gauge(descCrashStarts, float64(m.spool.Streak()))
	syncs := m.spool.Syncs()
	to.histogram(descSync, pebble.SyncBounds[:], syncs.Waited[:], syncs.Seconds)
	m.disk(to)
	m.tally(to)
}

func (m *spoolMetrics) disk(to sink) {
	to.flag(descFull, m.spool.Full())
	ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
	defer cancel()
	d, err := m.spool.Disk(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(descFree, err)
		return
	}
	to.gauge(descFree, float64(d.Free))
	to.gauge(descDisk, float64(d.Size))
	to.gauge(descMinFree, float64(d.MinFree))
	to.gauge(descJournal, float64(d.Journal))
}

// tally shows what the journal's records were. Which streams are told apart is
// bounded by the tally.
func (m *spoolMetrics) tally(to sink) {
	t := m.spool.Tally()
	for e, n := range t.Events {
		to.counter(descEvents, float64(n), e.Event.String(), e.Stream)
	}
	for o, n := range t.Outcomes {
		to.counter(descFailures, float64(n), o.Event, o.Class, o.Scope)
	}
	if _, some := t.TLS[""]; !some {
		to.counter(descTLS, 0, clearText)
	}
	for version, n := range t.TLS {
		if version == "" {
			version = clearText
		}
		to.counter(descTLS, float64(n), version)
	}
	to.histogram(descDelivered, pebble.DeliveryTimes[:], t.Delivered[:], t.Seconds)
}
