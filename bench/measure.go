package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mailout/internal/mtatest"
)

// Bounds of one measurement.
const (
	idleLimit = 20 * time.Second // without an arrival: what is missing is lost, or waits for a retry
	settle    = 400 * time.Millisecond
	// sourceLimit is how long the source may take to end behind the last arrival.
	sourceLimit = 10 * time.Second
	maxFailed   = 2 // then the relay is left out of the case's further rounds
)

// bench is a run of everything.
type bench struct {
	opt     *options
	mx      *mtatest.MX
	last    atomic.Int64 // when the last message came, Unix nanoseconds
	results map[string][]*result
	sync    map[string][]float64
	facts   *facts
	took    time.Duration
}

// result is one relay in one case and round.
type result struct {
	sent, arrived, unique int
	octets                int64 // delivered
	rate                  float64
	cpu                   time.Duration
	memory, written, disk int64
	err                   error
}

// newBench starts the receiving hosts. One server is behind all their
// addresses; each value of Message-ID is counted, which both sources make
// different for every message.
func newBench(o *options) (*bench, error) {
	debug.SetGCPercent(400) // the receiving side is not what is measured
	b := &bench{opt: o, results: map[string][]*result{}, sync: map[string][]float64{}}
	b.mx = mtatest.NewMX(mtatest.MXConfig{
		Hostname: "mx.bench.test", Discard: true, Remember: "Message-ID",
		OnMessage: func(*mtatest.Message) { b.last.Store(time.Now().UnixNano()) },
	})
	for i := range sinkHosts {
		if _, err := b.mx.Listen(fmt.Sprintf("198.18.1.%d:25", i+1)); err != nil {
			b.mx.Stop()
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() { b.mx.Stop() }

func key(c benchCase, p peer) string { return c.id + " " + p.name }

// measure runs one relay in one case and keeps the result.
func (b *bench) measure(ctx context.Context, round int, c benchCase, p peer) {
	failed := 0
	for _, r := range b.results[key(c, p)] {
		if r.err != nil {
			failed++
		}
	}
	if p.missing() || failed >= maxFailed {
		return
	}
	r := b.once(ctx, c, p)
	b.results[key(c, p)] = append(b.results[key(c, p)], r)
	note := ""
	if r.err != nil {
		note = "  FAILED: " + r.err.Error()
	}
	fmt.Printf("round %d case %s %-10s %6d messages %8.0f/s  cpu %6.2fs  memory %4d MB%s\n",
		round+1, c.id, p.name, r.sent, r.rate, r.cpu.Seconds(), r.memory>>20, note)
}

func (b *bench) once(ctx context.Context, c benchCase, p peer) *result {
	r := &result{sent: c.count(b.opt.n, p)}
	b.mx.Reset()
	process, err := p.start(ctx, b.opt.profile)
	if err != nil {
		r.err = err
		return r
	}
	defer process.stop()
	flushDisk() // what the start and earlier runs left
	before, stats := process.usage(), b.mx.Stats()
	sampler := process.sample(ctx)
	begin := time.Now()
	sourceCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	source := c.source(sourceCtx, p, r.sent)
	var said bytes.Buffer
	source.Stdout, source.Stderr = &said, &said
	if r.err = source.Start(); r.err == nil {
		b.last.Store(begin.UnixNano())
		done := make(chan error, 1)
		go func() { done <- source.Wait() }()
		b.await(ctx, r, stats, done)
		defer time.AfterFunc(sourceLimit, cancel).Stop()
		r.err = sourceError(source, <-done, &said)
	}
	took := time.Unix(0, b.last.Load()).Sub(begin)
	_ = pause(ctx, settle)
	r.memory = sampler.stop()
	flushDisk()
	r.count(b, stats)
	if took > 0 {
		r.rate = float64(r.unique) / took.Seconds()
	}
	after := process.usage()
	r.cpu, r.written, r.disk = after.cpu-before.cpu, after.written-before.written, after.disk-before.disk
	if r.err == nil && (r.arrived != r.sent || r.unique != r.sent) {
		r.err = fmt.Errorf("%d sent, %d arrived, %d of them different", r.sent, r.arrived, r.unique)
	}
	p.keepLog(r.err != nil)
	if v := b.mx.Violations(); len(v) > 0 {
		fmt.Printf("  note: the receiver saw %d breaches of the protocol, first: %s\n", len(v), strconv.Quote(v[0]))
	}
	return r
}

// await waits until everything has come, or nothing comes any more.
func (b *bench) await(ctx context.Context, r *result, before mtatest.Stats, done chan error) {
	for pause(ctx, 5*time.Millisecond) == nil {
		if int(b.mx.Stats().Messages-before.Messages) >= r.sent && len(b.mx.Seen()) >= r.sent {
			return
		}
		if time.Since(time.Unix(0, b.last.Load())) > idleLimit {
			return
		}
		select {
		case err := <-done: // for whoever reads it next
			done <- err
			if err != nil && time.Since(time.Unix(0, b.last.Load())) > time.Second {
				return
			}
		default:
		}
	}
}

func (r *result) count(b *bench, before mtatest.Stats) {
	now := b.mx.Stats()
	r.arrived, r.octets, r.unique = int(now.Messages-before.Messages), now.Octets-before.Octets, len(b.mx.Seen())
}

// sourceError says what the source complained about.
func sourceError(c *exec.Cmd, err error, said *bytes.Buffer) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(said.String())
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return fmt.Errorf("the source (%s): %w: %s", c.Args[0], err, text)
}

// measureSync measures how many records of 4 KB this disk takes per second
// when writers share their syncs.
func (b *bench) measureSync(ctx context.Context) error {
	for _, writers := range []string{"20", "100"} {
		for _, kind := range []string{"growing", "written"} {
			out, err := exec.CommandContext(ctx, base+"/bin/syncrate", "-dir", base+"/spool", "-writers", writers, "-file", kind).Output()
			if err != nil {
				return fmt.Errorf("syncrate: %w", err)
			}
			rate, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			if err != nil {
				return fmt.Errorf("syncrate: %w", err)
			}
			b.sync[kind+" "+writers] = append(b.sync[kind+" "+writers], rate)
		}
	}
	return nil
}
