package admin

import (
	"context"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descBuild = desc("mailout_build_info", "The program that runs; always 1.", "version", "goversion")
	descReady = desc("mailout_ready", "1 while mail can be taken and delivered, as /readyz says it.")

	descMemoryLive  = desc("mailout_memory_live_bytes", "Memory in use as the last collection of garbage found it.")
	descMemoryHeld  = desc("mailout_memory_held_bytes", "Memory that the process holds of the system's, garbage included.")
	descMemoryLimit = desc("mailout_memory_limit_bytes", "[limits] memory.")
	descMemoryShort = desc("mailout_memory_short", "1 while new mail is refused because memory is short.")
)

// descs is a Collector's Describe.
type descs []*prometheus.Desc

// Describe implements prometheus.Collector.
func (l descs) Describe(c chan<- *prometheus.Desc) {
	for _, d := range l {
		c <- d
	}
}

// sink takes the samples of one Collect. A sample that cannot be made (a
// stranger's octets in a label) is told as an error of its own.
type sink chan<- prometheus.Metric

func (c sink) add(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	m, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	c <- m
}

func (c sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.add(d, prometheus.GaugeValue, v, labels...)
}

func (c sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	c.add(d, prometheus.CounterValue, v, labels...)
}

func (c sink) flag(d *prometheus.Desc, on bool) {
	if on {
		c.gauge(d, 1)
		return
	}
	c.gauge(d, 0)
}

// histogram shows counts by bounds, those beyond the last in one more.
func (c sink) histogram(d *prometheus.Desc, bounds []float64, counts []uint64, sum float64) {
	all, buckets := uint64(0), make(map[float64]uint64, len(bounds))
	for i, n := range counts {
		all += n
		if i < len(bounds) {
			buckets[bounds[i]] = all
		}
	}
	m, err := prometheus.NewConstHistogram(d, all, sum, buckets)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	c <- m
}

// serverMetrics collects what the program is and whether it works.
type serverMetrics struct {
	descs
	s *Server
}

func newServerMetrics(s *Server) *serverMetrics {
	m := &serverMetrics{descs{descBuild, descReady}, s}
	if s.opts.Meters.Memory != nil {
		m.descs = append(m.descs, descMemoryLive, descMemoryHeld, descMemoryLimit, descMemoryShort)
	}
	return m
}

// Collect implements prometheus.Collector.
func (m *serverMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	to.gauge(descBuild, 1, m.s.opts.Version, runtime.Version())
	ready := true
	if m.s.opts.Ready != nil {
		ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
		defer cancel()
		ready = m.s.health.ask(ctx, m.s.opts.Ready) == nil
	}
	to.flag(descReady, ready)
	if m.s.opts.Meters.Memory == nil {
		return
	}
	memory := m.s.opts.Meters.Memory()
	to.gauge(descMemoryLive, float64(memory.Live))
	to.gauge(descMemoryHeld, float64(memory.Held))
	to.gauge(descMemoryLimit, float64(memory.Limit))
	to.flag(descMemoryShort, memory.Short)
}
