package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

const (
	fastIP     = "127.0.3.1"
	backlogIP  = "127.0.3.2"
	fastDomain = "fast.example"
)

// letter is a message that the receiver tells apart by its X-Id.
func letter(id string) []byte {
	return []byte("From: <app@sender.example>\r\nTo: <user@fast.example>\r\nSubject: " + id +
		"\r\nMessage-ID: <" + id + "@sender.example>\r\nX-Id: " + id + "\r\n\r\nA code of six digits.\r\n")
}

// arrivals tells when messages with an X-Id arrived.
type arrivals struct{ at sync.Map }

func (a *arrivals) onMessage(m *mtatest.Message) {
	if id := m.Header("X-Id"); id != "" && id[0] == 's' { // single
		a.at.Store(id, time.Now())
	}
}

// wait gives the time of arrival.
func (a *arrivals) wait(ctx context.Context, id string) (time.Time, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if at, ok := a.at.Load(id); ok {
			return at.(time.Time), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// backlogs measures each number of deferred messages.
func backlogs(ctx context.Context, o options) error {
	fmt.Println("\n| deferred | destinations | spool on disk | start to ready | start to first delivery | summary, first | summary, median | memory ready | at rest | peak | under load | peak | accepted/s | delivered/s | CPU µs/message | full speed after | stop |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, n := range o.sizes {
		if err := oneBacklog(ctx, o, n); err != nil {
			return fmt.Errorf("%d messages: %w", n, err)
		}
	}
	return nil
}

// deferred is the backlog of n messages.
func deferred(o options, n int) *backlog {
	b := &backlog{messages: n, domains: max(n/10, 1), domain: "backlog.example", stream: mta.DefaultStream, state: mta.Deferred,
		due: func() time.Time { return time.Now().Add(time.Hour + time.Duration(rand.Int64N(int64(3*time.Hour)))) }}
	if o.overdue {
		b.due = func() time.Time { return time.Now().Add(-time.Duration(rand.Int64N(int64(time.Hour)))) }
	}
	return b
}

// fillOnly fills the spool that stays.
func fillOnly(ctx context.Context, o options) error {
	if o.keep == "" {
		return errors.New("-keep says where the spool is to be")
	}
	_, err := deferred(o, o.sizes[0]).prepare(ctx, o)
	return err
}

// prepare fills the spool, unless one is there that stays, and gives its directory.
func (b *backlog) prepare(ctx context.Context, o options) (string, error) {
	dir := filepath.Join(o.dir, "spool")
	if o.keep != "" {
		dir = o.keep
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
	}
	if b.messages == 0 {
		return dir, nil
	}
	began := time.Now()
	if err := b.fill(ctx, dir); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "filled with %d messages in %v\n", b.messages, time.Since(began).Round(time.Second))
	return dir, nil
}

func oneBacklog(ctx context.Context, o options, n int) error {
	b := deferred(o, n)
	spool, err := b.prepare(ctx, o)
	if err != nil {
		return err
	}
	if o.keep == "" {
		defer os.RemoveAll(spool)
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.stop()
	seen := &arrivals{}
	fast, err := w.receiver(fastIP, "mx.fast.example", mtatest.MXConfig{OnMessage: seen.onMessage}, fastDomain)
	if err != nil {
		return err
	}
	if _, err := w.receiver(backlogIP, "mx.backlog.example", mtatest.MXConfig{}, "*.backlog.example"); err != nil {
		return err
	}
	w.start()
	size := diskSize(spool)
	d, err := w.serve(o, spool, "")
	if err != nil {
		return err
	}
	defer d.kill()
	if err := d.post(ctx, "", "user@"+fastDomain, letter("s-first")); err != nil {
		return err
	}
	at, err := seen.wait(ctx, "s-first")
	if err != nil {
		return err
	}
	first := at.Sub(d.process.Began)
	atReady, _ := d.memory()
	speed := w.speedAfterStart(ctx, d, fast)
	_, summary0, err := d.summary()
	if err != nil {
		return err
	}
	rest(ctx, d.process.Began.Add(o.rest))
	atRest, restPeak := d.memory()
	var times []time.Duration
	for range 5 {
		_, took, err := d.summary()
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	r := w.relay(ctx, d, fast, "user@"+fastDomain, o.seconds)
	loaded, peak := d.memory()
	stopped, err := d.stop()
	if err != nil {
		return err
	}
	if r.first != nil && !errors.Is(r.first, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, "the load met trouble first:", r.first)
	}
	fmt.Printf("| %d | %d | %s | %v | %v | %v | %v | %s | %s | %s | %s | %s | %.0f | %.0f | %.0f | %s | %v |\n",
		n, b.domains, mb(size), round(d.process.Startup()), round(first), round(summary0), round(median(times)),
		mb(atReady), mb(atRest), mb(restPeak), mb(loaded), mb(peak), r.taken, r.delivered, r.cpu, speed, round(stopped))
	return nil
}

// speedAfterStart loads the daemon right after its start and tells when, since
// the start, the first second at 90 % of the later speed began. It is the
// median of the last half that counts as that speed.
func (w *world) speedAfterStart(ctx context.Context, d *daemon, mx *mtatest.MX) string {
	const seconds = 8
	counts := make([]int64, 0, seconds)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	load := mtatest.Load{Addr: d.smtp, Sessions: 20, Size: 4096, Reconnect: true, To: func(int) []string { return []string{"user@" + fastDomain} }}
	wg.Go(func() { load.Run(ctx) })
	from := time.Since(d.process.Began)
	tick := time.NewTicker(time.Second)
	last := mx.Stats().Messages
	for range seconds {
		<-tick.C
		now := mx.Stats().Messages
		counts = append(counts, now-last)
		last = now
	}
	tick.Stop()
	cancel()
	wg.Wait()
	usual := slices.Sorted(slices.Values(counts[seconds/2:]))[seconds/4]
	for i, c := range counts {
		if c*10 >= usual*9 {
			return fmt.Sprint(round(from + time.Duration(i)*time.Second))
		}
	}
	return "never"
}

// tarpits measures one fast destination without and with tar pits.
func tarpits(ctx context.Context, o options) error {
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.stop()
	fast, err := w.receiver(fastIP, "mx.fast.example", mtatest.MXConfig{}, fastDomain)
	if err != nil {
		return err
	}
	if err := w.tarpits(o.tarpits); err != nil {
		return err
	}
	w.start()
	spool := filepath.Join(o.dir, "spool")
	defer os.RemoveAll(spool)
	d, err := w.serve(o, spool, "")
	if err != nil {
		return err
	}
	defer d.kill()
	to := "user@" + fastDomain
	w.relay(ctx, d, fast, to, 2*time.Second) // warms up
	var without, with []rate
	for range 3 {
		without = append(without, w.relay(ctx, d, fast, to, o.seconds/3))
	}
	load := mtatest.Load{Addr: d.smtp, Sessions: 10, Messages: o.tarpits, Size: 1000, To: func(n int) []string {
		return []string{fmt.Sprintf("user@t%d.tar.example", (n-1)%o.tarpits)}
	}}
	if r := load.Run(ctx); len(r.Accepted) < o.tarpits {
		return fmt.Errorf("only %d messages for the tar pits were taken: %w", len(r.Accepted), r.First)
	}
	w.settled(ctx)
	for range 3 {
		with = append(with, w.relay(ctx, d, fast, to, o.seconds/3))
	}
	now, peak := d.memory()
	a, b := medianRate(without), medianRate(with)
	fmt.Printf("\n| tar pits | connections held | delivered/s without | with | change | CPU µs/message without | with | memory | peak |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	fmt.Printf("| %d | %d | %.0f | %.0f | %+.1f %% | %.0f | %.0f | %s | %s |\n",
		o.tarpits, w.most.Load(), a.delivered, b.delivered, 100*(b.delivered/a.delivered-1), a.cpu, b.cpu, mb(now), mb(peak))
	return nil
}

// settled waits until the tar pits hold no more connections than a second ago.
func (w *world) settled(ctx context.Context) {
	for last := int64(-1); w.most.Load() > last && ctx.Err() == nil; {
		last = w.most.Load()
		rest(ctx, time.Now().Add(2*time.Second))
	}
}

// singlesEvery is the distance of the single messages.
const singlesEvery = 20 * time.Millisecond

// mailing measures single messages of a stream of their own, alone and beside
// a mailing that goes to the same receiver.
func mailing(ctx context.Context, o options) error {
	fmt.Printf("\n| mailing | sent meanwhile | left | connections | singles | median | 99 %% | most | memory peak |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, n := range []int{0, o.mailing} {
		if err := oneMailing(ctx, o, n); err != nil {
			return err
		}
	}
	return nil
}

func oneMailing(ctx context.Context, o options, n int) error {
	spool := filepath.Join(o.dir, "spool")
	defer os.RemoveAll(spool)
	if n > 0 {
		b := &backlog{messages: n, domains: 1000, domain: "news.example", stream: "news", state: mta.Queued,
			due: func() time.Time { return time.Now().Add(-time.Minute) }}
		if err := b.fill(ctx, spool); err != nil {
			return err
		}
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.stop()
	seen := &arrivals{}
	// A receiver that thinks for 20 ms takes at most 1,000 a second over 20
	// connections: the mailing is there all the time.
	mx, err := w.receiver(fastIP, "mx.news.example", mtatest.MXConfig{OnMessage: seen.onMessage, Rules: []mtatest.Rule{
		{Stage: mtatest.StageDot, Action: mtatest.Action{Delay: 20 * time.Millisecond}}}}, fastDomain, "*.news.example")
	if err != nil {
		return err
	}
	w.start()
	d, err := w.serve(o, spool, "")
	if err != nil {
		return err
	}
	defer d.kill()
	sent, failed := trickle(ctx, d, o.seconds)
	delays := make([]time.Duration, 0, len(sent))
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for id, began := range sent {
		at, err := seen.wait(limit, id)
		if err != nil {
			return fmt.Errorf("a single message did not arrive: %w", err)
		}
		delays = append(delays, at.Sub(began))
	}
	s, _, err := d.summary()
	if err != nil {
		return err
	}
	_, peak := d.memory()
	slices.Sort(delays)
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "%d singles were refused\n", failed)
	}
	fmt.Printf("| %d | %d | %.0f | %d | %d | %v | %v | %v | %s |\n", n, mx.Stats().Messages-int64(len(sent)), s["queued"]+s["active"], mx.Stats().MaxOpen, len(delays),
		round(delays[len(delays)/2]), round(delays[len(delays)*99/100]), round(delays[len(delays)-1]), mb(peak))
	return nil
}

// trickle posts singles at an even pace, whatever becomes of the earlier ones.
func trickle(ctx context.Context, d *daemon, length time.Duration) (map[string]time.Time, int64) {
	sent := map[string]time.Time{}
	var mu sync.Mutex
	var failed atomic.Int64
	var wg sync.WaitGroup
	tick := time.NewTicker(singlesEvery)
	defer tick.Stop()
	for i := range int(length / singlesEvery) {
		<-tick.C
		wg.Go(func() {
			id, began := fmt.Sprintf("s-%d", i), time.Now()
			if err := d.post(ctx, "codes", "user@"+fastDomain, letter(id)); err != nil {
				failed.Add(1)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			sent[id] = began
		})
	}
	wg.Wait()
	return sent, failed.Load()
}

func rest(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func diskSize(dir string) (size int64) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

func median(all []time.Duration) time.Duration { return slices.Sorted(slices.Values(all))[len(all)/2] }

func medianRate(all []rate) rate {
	slices.SortFunc(all, func(a, b rate) int { return int(a.delivered - b.delivered) })
	return all[len(all)/2]
}

func mb(octets int64) string { return fmt.Sprintf("%d MB", octets/1e6) }

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}
