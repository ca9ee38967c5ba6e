package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"mailout/internal/dns"
	"mailout/internal/doctor"
	"mailout/internal/events"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/returns"
	"mailout/internal/spool/pebble"
	"mailout/internal/submit/smtpd"
	"mailout/internal/suppress"
	"mailout/internal/tlspolicy"
	"mailout/internal/tlsrpt"
	"mailout/internal/transport"
	"mailout/internal/unsubscribe"
	"mailout/internal/warmup"
)

// meters is every part that tells metrics, with something to tell of each.
type meters struct {
	sites int   // how many there are
	err   error // of those that can fail
}

func (m meters) Metrics() pebble.Metrics { return pebble.Metrics{Messages: 7, Corrupt: 1} }

func (m meters) Tally() (t pebble.Tally) {
	t.Events = map[pebble.TallyEvent]uint64{{Event: mta.EventDelivered, Stream: "a\xff"}: 3}
	t.Outcomes = map[pebble.TallyOutcome]uint64{{Event: "deferred", Class: "temporary", Scope: "site"}: 2}
	t.TLS = map[string]uint64{"": 1, "TLS1.3": 2}
	t.Delivered[0], t.Delivered[1], t.Delivered[len(pebble.DeliveryTimes)], t.Seconds = 1, 1, 1, 90000
	return t
}

func (m meters) Syncs() pebble.Syncs { return pebble.Syncs{Seconds: 0.5} }

func (m meters) Disk(context.Context) (pebble.Disk, error) {
	return pebble.Disk{Free: 5, Size: 10, MinFree: 1, Journal: 2}, m.err
}

func (m meters) Full() bool { return true }

func (m meters) Streak() int { return 2 }

func (m meters) Load(_ context.Context, n int) (queue.Load, error) {
	load := queue.Load{Connections: 9, Idle: 2, Ready: 4, Unreachable: 1}
	for i := range min(m.sites, n) {
		load.Busiest = append(load.Busiest, queue.SiteLoad{Site: fmt.Sprintf("mx%d.example", i), Connections: 1, Allowed: 20, Ready: 2})
	}
	return load, m.err
}

func (m meters) Status() []events.Status {
	return []events.Status{{Kind: "webhook", Name: "shop", Lag: time.Minute, Sent: 4}}
}

func (m meters) Lost() uint64 { return 0 }

func (m meters) doors() []Door {
	return []Door{{Listener: "127.0.0.1:25", Counts: smtpd.Counts{Connections: 5, TurnedAway: 1}, Expires: time.Unix(2e9, 0)}}
}

// allMetered is a server with every part, each of which has something to tell.
func allMetered(m meters) *Server {
	w := &watchman{last: examined(), held: []Hold{{Hold: doctor.Hold{Local: netip.MustParseAddr("192.0.2.10"), Check: doctor.Check{ID: "address.record"}}}}}
	return New(Options{
		Store: &store{}, History: bookless{&store{}}, Queue: scheduler{}, Doctor: w, Events: m, Standing: ledger{}, Signing: keyring{}, Version: "v1.2.3", Logger: slog.New(slog.DiscardHandler),
		Meters: Meters{
			Spool: m, Sites: m, Doors: m.doors,
			DNS:      func() dns.Counts { return dns.Counts{Hosts: 1, Cached: 2} },
			Sessions: func() transport.Counts { return transport.Counts{Opened: 3} },
			Memory:   func() Memory { return Memory{Limit: 1 << 30} },
			Sources:  func() map[string]bool { return map[string]bool{"192.0.2.11": true, "192.0.2.12": false} },
			Routers:  func() []Router { return []Router{{Name: "smart.example", Up: true}, {Name: "gone.example"}} },
			Warmup: func() []warmup.State {
				return []warmup.State{{Source: netip.MustParseAddr("192.0.2.11"), Provider: "google", Day: 3, Days: 30, Ceiling: 98, Sent: 12, Stopped: "3 complaints"}}
			},
			Returns:     func() returns.Counts { return returns.Counts{Bounced: 3} },
			Unsubscribe: func() unsubscribe.Counts { return unsubscribe.Counts{Left: 4, Own: 5} },
			TLSPolicies: func() TLSPolicies { return TLSPolicies{STS: tlspolicy.STSCounts{Enforce: 2}} },
			TLSRPT:      func() tlsrpt.Counts { return tlsrpt.Counts{Mailed: 2} },
			Suppress: func() suppress.Counts {
				return suppress.Counts{Added: 7, Entries: map[suppress.Reason]int64{suppress.Dead: 4}, Stopped: map[suppress.Place]map[suppress.Reason]int64{suppress.AtIntake: {}}}
			},
		},
	})
}

func TestMetricsOfAllParts(t *testing.T) {
	t.Parallel()
	text := get(allMetered(meters{sites: 2}), "/metrics", nil).Body.String()
	for _, line := range []string{
		`mailout_build_info{goversion="go`, "mailout_ready 1",
		"mailout_memory_limit_bytes 1.073741824e+09", `mailout_suppress_entries{reason="dead"} 4`, "mailout_suppress_added_total 7", `mailout_returns_total{outcome="bounced"} 3`, `mailout_unsubscribe_total{outcome="left"} 4`, `mailout_unsubscribe_fields_total{outcome="own"} 5`, "mailout_spool_full 1", "mailout_spool_disk_free_bytes 5", "mailout_journal_size_bytes 2",
		`mailout_journal_events_total{event="delivered",stream="a` + "\uFFFD" + `"} 3`,
		`mailout_delivery_failures_total{class="temporary",event="deferred",scope="site"} 2`,
		`mailout_deliveries_tls_total{version="none"} 1`, `mailout_deliveries_tls_total{version="TLS1.3"} 2`,
		`mailout_delivery_time_seconds_bucket{le="0.1"} 1`, `mailout_delivery_time_seconds_bucket{le="86400"} 2`,
		`mailout_delivery_time_seconds_bucket{le="+Inf"} 3`, "mailout_delivery_time_seconds_sum 90000",
		`mailout_queue_connections{state="busy"} 7`, `mailout_site_ready{site="mx1.example"} 2`,
		`mailout_smtp_connections_total{listener="127.0.0.1:25",result="served"} 4`,
		`mailout_smtp_certificate_expiry_timestamp_seconds{listener="127.0.0.1:25"} 2e+09`,
		`mailout_dns_lookups_total{source="cache"} 2`, `mailout_sessions_total{result="opened"} 3`,
		`mailout_source_up{source="192.0.2.11"} 1`, `mailout_source_up{source="192.0.2.12"} 0`,
		`mailout_standing_sites{kind="slowed"} 4`, `mailout_standing_changes_total{kind="suspension"} 7`, `mailout_standing_probes_total{result="refused"} 2`,
		`mailout_warmup_ceiling{provider="google",source="192.0.2.11"} 98`, `mailout_warmup_stopped{provider="google",source="192.0.2.11"} 1`,
		"process_start_time_seconds ", "go_goroutines ",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "mailout_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestMetricsWithoutAPart: a part that does not answer takes nothing from the
// others, and is counted.
func TestMetricsWithoutAPart(t *testing.T) {
	t.Parallel()
	s := allMetered(meters{err: errors.New("the queue stands still")})
	for range 2 { // the counter tells of the scrape before
		w := get(s, "/metrics", nil)
		text := w.Body.String()
		if w.Code != http.StatusOK || !strings.Contains(text, "\nmailout_spool_messages_stored_total 7") || strings.Contains(text, "mailout_queue_connections{") {
			t.Fatalf("%d %s", w.Code, text)
		}
	}
	if text := get(s, "/metrics", nil).Body.String(); !strings.Contains(text, `promhttp_metric_handler_errors_total{cause="gathering"} `) ||
		strings.Contains(text, `promhttp_metric_handler_errors_total{cause="gathering"} 0`) {
		t.Error(text)
	}
}

// TestMetricsDescribeWhatTheyCollect: a pedantic registry refuses a sample that
// its collector did not announce.
func TestMetricsDescribeWhatTheyCollect(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(allMetered(meters{sites: 3}).collectors()...)
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

// TestMetricsPage holds docs/metrics.md to what is exported, both ways: names,
// types and labels.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	text := get(allMetered(meters{sites: 1}), "/metrics", nil).Body.String()
	exported := make(map[string]string)
	label := regexp.MustCompile(`([a-z]+)="`)
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" && strings.HasPrefix(f[2], "mailout_") {
			exported[f[2]] = f[3] + ":"
			continue
		}
		name := line[:max(strings.IndexAny(line, "{ "), 0)]
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, part); exported[base] == "histogram:" {
				name = ""
			}
		}
		if was, ours := exported[name]; ours && strings.HasSuffix(was, ":") {
			for _, m := range label.FindAllStringSubmatch(line, -1) {
				was += " " + m[1]
			}
			exported[name] = was
		}
	}
	documented := documentedMetrics(t)
	for name, what := range exported {
		if documented[name] != what {
			t.Errorf("%s: the page has %q, exported is %q", name, documented[name], what)
		}
	}
	for name := range documented {
		if exported[name] == "" {
			t.Errorf("%s is not exported", name)
		}
	}
	if len(exported) < 60 {
		t.Errorf("only %d metrics", len(exported))
	}
}

// documentedMetrics reads the tables: "name" → "type: labels", in order.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := make(map[string]string)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Split(lines.Text(), "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[1], " `mailout_") {
			continue
		}
		labels := strings.FieldsFunc(cells[3], func(r rune) bool { return strings.ContainsRune(" `,", r) })
		slices.Sort(labels)
		what := strings.TrimSpace(cells[2]) + ":"
		for _, l := range labels {
			what += " " + l
		}
		out[strings.Trim(cells[1], " `")] = what
	}
	return out
}

// TestMetricsBounded: ten thousand sites do not make more series than twenty.
func TestMetricsBounded(t *testing.T) {
	t.Parallel()
	text := get(allMetered(meters{sites: 10_000}), "/metrics", nil).Body.String()
	if n := strings.Count(text, "\nmailout_site_ready{"); n != metricSites {
		t.Errorf("%d sites have series", n)
	}
}
