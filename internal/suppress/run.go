package suppress

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// sweepEvery is how often what has expired is removed.
const sweepEvery = time.Hour

// maxSweep is how many entries that have expired are removed at a time; the others
// wait for the next.
const maxSweep = 100_000

// Start begins to read the list and to write what is learned. The end of ctx
// does not stop it, Stop does.
func (l *List) Start(ctx context.Context) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.stopped.Go(func() { l.run(run) })
}

// Stop writes what was learned and ends the goroutine. The list can be asked
// afterwards, as long as the store is open.
func (l *List) Stop() {
	if l.stop != nil {
		l.stop()
		l.stopped.Wait()
	}
}

// run is the list's goroutine.
func (l *List) run(ctx context.Context) {
	l.tidy(ctx)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case h := <-l.heard:
			l.take(ctx, h)
		case <-l.crowded:
			if f := l.filter.Load(); f != nil && f.crowded() {
				l.tidy(ctx)
			}
		case <-tick.C:
			l.tidy(ctx)
		case <-ctx.Done():
			l.last(ctx)
			return
		}
	}
}

// last writes what was heard before the stop; ctx has ended, so that nobody is
// asked any more.
func (l *List) last(ctx context.Context) {
	for {
		select {
		case h := <-l.heard:
			l.take(ctx, h)
		default:
			return
		}
	}
}

// take writes what was heard, with what else waits, in one commit.
func (l *List) take(ctx context.Context, first heard) {
	batch := append(make([]heard, 0, heardBatch), first)
	for more := true; more && len(batch) < heardBatch; {
		select {
		case h := <-l.heard:
			batch = append(batch, h)
		default:
			more = false
		}
	}
	rulings := make([]ruling, len(batch))
	gone := map[string]bool{} // DNS is asked once a domain
	for i := range batch {
		if !batch[i].well {
			rulings[i] = l.rule(ctx, &batch[i].Evidence, gone)
		}
	}
	l.writes.Lock()
	defer l.writes.Unlock()
	changes := map[string][]byte{}
	keep := context.WithoutCancel(ctx)
	var err error
	for i := range batch {
		if batch[i].well {
			err = l.cleared(keep, fold(batch[i].Address), changes)
		} else {
			_, err = l.weigh(keep, &batch[i].Evidence, rulings[i], changes)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = l.set(keep, changes)
	}
	if err != nil {
		l.counts.errors.Add(1)
		l.trouble.Do(func() {
			l.log.Error("the suppression list cannot be written; what was learned is lost", mta.KeyError, err)
		})
	}
}

// cleared forgets what was unclear about an address that mail has reached. What
// came back from servers that had taken mail stays: they take it again each time.
func (l *List) cleared(ctx context.Context, key string, changes map[string][]byte) error {
	name := doubtName(key)
	value := changes[name]
	if value == nil {
		var err error
		if value, err = l.opts.Notes.Note(ctx, name); err != nil || value == nil {
			return err
		}
	}
	var d doubt
	if json.Unmarshal(value, &d) != nil || !d.Back {
		changes[name] = nil
	}
	return nil
}

// tidy reads the whole list: it makes the filter anew, counts, and removes what
// has expired.
func (l *List) tidy(ctx context.Context) {
	number := 0
	if f := l.filter.Load(); f != nil {
		number = int(f.held.Load())
	} else if err := l.each(ctx, func(string, []byte) { number++ }); err != nil {
		return // the next hour; until then everything is looked up
	}
	f := newFilter(number)
	l.loading.Store(f)
	defer l.loading.Store(nil)
	by := map[Reason]int64{}
	var old []string
	now := l.now()
	err := l.each(ctx, func(name string, value []byte) {
		address, expired, reason := l.read(name, value, now)
		if expired {
			if len(old) < maxSweep {
				old = append(old, name)
			}
			return
		}
		f.add(address)
		by[reason]++
	})
	if err != nil {
		return
	}
	l.filter.Store(f)
	l.counts.listed(by)
	l.sweep(ctx, old)
}

// each reads every note of the list.
func (l *List) each(ctx context.Context, f func(name string, value []byte)) error {
	for _, prefix := range []string{entryPrefix, doubtPrefix} {
		err := l.opts.Notes.Notes(ctx, prefix, "", func(name string, value []byte) bool {
			f(name, value)
			return ctx.Err() == nil
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			if ctx.Err() == nil {
				l.counts.errors.Add(1)
				l.trouble.Do(func() { l.log.Error("the suppression list cannot be read", mta.KeyError, err) })
			}
			return err
		}
	}
	return nil
}

// read tells what a note is about. A damaged entry counts as expired.
func (l *List) read(name string, value []byte, now time.Time) (address string, expired bool, reason Reason) {
	if address, ok := strings.CutPrefix(name, doubtPrefix); ok {
		var d doubt
		err := json.Unmarshal(value, &d)
		return address, err != nil || now.Sub(d.First) > l.settings.Load().UnsureWithin, ""
	}
	e, err := decodeEntry(name, value)
	if err != nil {
		return "", true, ""
	}
	return e.Address, !e.active(now), e.Reason
}

// sweep removes what has expired, unless it was renewed meanwhile.
func (l *List) sweep(ctx context.Context, old []string) {
	for len(old) > 0 && ctx.Err() == nil {
		n := min(len(old), MaxBatch)
		if err := l.drop(ctx, old[:n]); err != nil {
			return
		}
		old = old[n:]
	}
}

func (l *List) drop(ctx context.Context, names []string) error {
	l.writes.Lock()
	defer l.writes.Unlock()
	changes := make(map[string][]byte, min(len(names), spool.MaxNoteChanges))
	now := l.now()
	for _, name := range names {
		value, err := l.opts.Notes.Note(ctx, name)
		if err != nil {
			return err
		}
		if _, expired, _ := l.read(name, value, now); value != nil && expired {
			changes[name] = nil
		}
	}
	return l.set(ctx, changes)
}
