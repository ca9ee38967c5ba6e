package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"mailout/internal/control"
	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
)

// controls measures what an operator's commands take among n deferred messages,
// of which a tenth are to one destination and ten to each of the others. Each
// command is a run of `mailout queue`, its time from start to end of the
// process. At the end the journal is counted: each delivery that a command
// changed must have its record.
func controls(ctx context.Context, o options) error {
	fmt.Println("\n| deferred | command | deliveries | time | a second | CPU µs each | memory, peak |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
	for _, n := range o.sizes {
		if n < 1000 {
			continue
		}
		if err := controlled(ctx, o, n); err != nil {
			return fmt.Errorf("%d messages: %w", n, err)
		}
	}
	return nil
}

func controlled(ctx context.Context, o options, n int) error {
	b := deferred(o, n)
	b.large = 10
	// Not due for long: a spool that stays is measured again on the same day.
	b.due = func() time.Time { return time.Now().Add(48*time.Hour + time.Duration(rand.Int64N(int64(3*time.Hour)))) }
	kept, err := b.prepare(ctx, o)
	if err != nil {
		return err
	}
	dir := kept
	if o.keep != "" { // the commands change it
		dir = filepath.Join(o.dir, "copy")
		if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
			return err
		}
	}
	defer os.RemoveAll(dir)
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.stop()
	if _, err := w.receiver(backlogIP, "mx.backlog.example", mtatest.MXConfig{}, "*.backlog.example"); err != nil {
		return err
	}
	w.start()
	d, err := w.serve(o, dir, "")
	if err != nil {
		return err
	}
	defer d.kill()
	large := largeName + "." + b.domain
	want := make(map[mta.Event]int64)
	for _, c := range []struct {
		words []string
		event mta.Event
	}{
		{[]string{"hold", "--destination", "d11." + b.domain}, mta.EventHeld},
		{[]string{"reroute", "--destination", "d12." + b.domain, "--to", "192.0.2.1"}, mta.EventRerouted},
		{[]string{"cancel", "--destination", "d13." + b.domain}, mta.EventCancelled},
		{[]string{"hold", "--destination", large}, mta.EventHeld},
		{[]string{"reroute", "--destination", large, "--to", "192.0.2.1"}, mta.EventRerouted},
		{[]string{"cancel", "--destination", large}, mta.EventCancelled},
		{[]string{"hold", "--all"}, mta.EventHeld},
		{[]string{"cancel", "--all"}, mta.EventCancelled},
	} {
		before := d.cpu()
		changed, took, err := d.command(ctx, o, c.words...)
		if err != nil {
			return err
		}
		want[c.event] += changed
		_, peak := d.memory()
		fmt.Printf("| %d | %s | %d | %v | %.0f | %.0f | %s |\n", n, c.words[0]+" "+c.words[1], changed, round(took),
			float64(changed)/took.Seconds(), float64((d.cpu()-before).Microseconds())/float64(max(changed, 1)), mb(peak))
	}
	if _, err := d.stop(); err != nil {
		return err
	}
	return counted(ctx, dir, want)
}

// command runs one command and tells how many deliveries it changed.
func (d *daemon) command(ctx context.Context, o options, words ...string) (changed int64, took time.Duration, err error) {
	args := append([]string{"queue"}, words...)
	cmd := exec.CommandContext(ctx, o.binary, append(args, "--yes", "--json", "--reason", "measured", "--config", filepath.Join(d.dir, "mailout.toml"))...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	out, err := cmd.Output()
	took = time.Since(began)
	if err != nil {
		return 0, took, fmt.Errorf("queue %v: %w: %s", words, err, errs.Bytes())
	}
	var r control.Result
	if err := json.Unmarshal(out, &r); err != nil || !r.Finished {
		return 0, took, fmt.Errorf("queue %v answers %s: %v", words, out, err)
	}
	return r.Changed + r.Flight, took, nil
}

// counted holds the journal to what the commands told.
func counted(ctx context.Context, dir string, want map[mta.Event]int64) error {
	store, err := pebble.Open(ctx, pebble.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), FreshBytes: -1})
	if err != nil {
		return err
	}
	defer store.Close()
	got := make(map[mta.Event]int64)
	if err := store.Records(ctx, spool.RecordFilter{}, func(r *mta.Record) bool {
		if want[r.Event] > 0 {
			got[r.Event]++
		}
		return true
	}); err != nil {
		return err
	}
	for event, n := range want {
		if got[event] != n {
			return fmt.Errorf("the journal has %d records %s, and the commands told of %d deliveries", got[event], event, n)
		}
	}
	fmt.Fprintf(os.Stderr, "the journal is complete: %v\n", got)
	return nil
}
