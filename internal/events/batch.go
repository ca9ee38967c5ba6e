package events

import (
	"context"
	"slices"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// batch is a range of the journal whose events go in one request. A receiver's
// loop owns it; while it flies, the request's goroutine reads id and body.
type batch struct {
	from, to spool.Position // the records behind from, up to to
	ids      []mta.ID       // of their messages
	count    int
	oldest   time.Time // of the first record
	id       string    // webhook-id
	body     []byte    // nil once it was tried; read anew for the next try
	tries    int
	first    time.Time // since when it is tried
	tried    time.Time // last; zero: never
	due      time.Time
	flying   bool
	halve    bool // before the next try
}

// content is what a reading of the feed collects for one request.
type content struct {
	ids            []mta.ID
	count          int
	oldest, newest time.Time
	id             string
	body           []byte
	stuck          bool // its messages wait for an earlier event
}

// collect reads the selected records behind from, up to until, for one request:
// at most most of them. It gives the place where it stopped, and whether that
// is the end of the feed. Events of messages that are stuck are never together
// with others.
func (w *webhook) collect(ctx context.Context, from, until spool.Position, most int, stuck map[mta.ID]bool) (c content, next spool.Position, end bool, err error) {
	full := false
	var failed error
	take := func(at spool.Position, r *mta.Record) bool {
		switch {
		case at.Compare(until) > 0:
			full = true
			return false
		case !w.conf.Filter.Match(r):
			return true
		case c.count >= most || len(c.body) >= batchOctets || c.count > 0 && stuck[r.ID] != c.stuck:
			full = true
			return false
		}
		if failed = c.add(at, r, w.conf.Batch > 1); failed != nil {
			return false
		}
		c.stuck = stuck[r.ID]
		return true
	}
	next = from
	for calls := 0; !full; calls++ {
		if calls >= collectCalls && c.count == 0 {
			return c, next, false, nil
		}
		before := next
		if next, err = w.feed.Follow(ctx, before, take); err == nil {
			err = failed
		}
		if err != nil {
			return c, from, false, err
		}
		if next == before {
			end = true
			break
		}
	}
	c.finish(w.conf.Batch > 1)
	return c, next, end, nil
}

// add appends one event.
func (c *content) add(at spool.Position, r *mta.Record, list bool) (err error) {
	switch {
	case c.count > 0:
		c.body = append(c.body, ',')
	case list:
		c.body = append(c.body, '[')
	}
	if c.body, err = appendEvent(c.body, at, r); err != nil {
		return err
	}
	if c.count == 0 {
		c.id, c.oldest = IDOf(at, r), r.Time
	}
	c.count++
	c.newest = newest(c.newest, r.Time)
	if !slices.Contains(c.ids[max(0, len(c.ids)-8):], r.ID) {
		c.ids = append(c.ids, r.ID)
	}
	return nil
}

func (c *content) finish(list bool) {
	if list && c.count > 0 {
		c.body = append(c.body, ']')
		c.id += "-of-" + itoa(c.count)
	}
}

// take makes the content the batch's.
func (b *batch) take(c *content) {
	b.ids, b.count, b.oldest, b.id, b.body = c.ids, c.count, c.oldest, c.id, c.body
}

// stuck are the messages of events that the receiver did not take, alone in
// their batches.
func (w *webhook) stuck() map[mta.ID]bool {
	var out map[mta.ID]bool
	for _, b := range w.open {
		if b.tries == 0 || b.count != 1 {
			continue
		}
		if out == nil {
			out = make(map[mta.ID]bool)
		}
		out[b.ids[0]] = true
	}
	return out
}

// room reports whether another batch may be opened. Those that wait behind a
// stuck message do not count, up to a point.
func (w *webhook) room() bool {
	n, stuck := 0, w.stuck()
	for _, b := range w.open {
		if !stuck[b.ids[0]] {
			n++
		}
	}
	return n < w.conf.Concurrency+spareBatches && len(w.open) < stateOfBatches
}

// sift takes the events of stuck messages out of the batches behind them, so
// that the others in there need not wait.
func (w *webhook) sift(ctx context.Context) error {
	stuck := w.stuck()
	if stuck == nil {
		return nil
	}
	for i := 0; i < len(w.open); i++ {
		b := w.open[i]
		held := func(id mta.ID) bool { return stuck[id] }
		if b.flying || !slices.ContainsFunc(b.ids, held) || !slices.ContainsFunc(b.ids, func(id mta.ID) bool { return !stuck[id] }) {
			continue
		}
		if len(w.open) >= stateOfBatches {
			return nil
		}
		c, mid, _, err := w.collect(ctx, b.from, b.to, MaxBatch, stuck)
		if err != nil {
			return err
		}
		if c.count > 0 && c.count < b.count {
			if err := w.divide(ctx, i, c, mid); err != nil {
				return err
			}
		}
	}
	return nil
}

// divide cuts open batch i at mid; c is what it has before that.
func (w *webhook) divide(ctx context.Context, i int, c content, mid spool.Position) error {
	b := w.open[i]
	rest, _, _, err := w.collect(ctx, mid, b.to, MaxBatch, nil)
	if err != nil || rest.count == 0 {
		return err
	}
	second := &batch{from: mid, to: b.to, tries: b.tries, first: b.first, tried: b.tried, due: b.due}
	second.take(&rest)
	second.body = nil
	b.to = mid
	b.take(&c)
	w.open = slices.Insert(w.open, i+1, second)
	w.dirty = true
	return nil
}

// ready gives the batch to be tried next, or nil and when there may be one by
// the passing of time (zero: never). It is due, not under way, and without a
// message of an earlier batch. To a receiver that fails goes whichever waits
// longest, due or not: the receiver's own pause is what counts then.
func (w *webhook) ready(now time.Time) (best *batch, later time.Time) {
	if now.Before(w.gate) {
		if len(w.open) > w.flying {
			later = w.gate
		}
		return nil, later
	}
	earlier := make(map[mta.ID]bool)
	for _, b := range w.open {
		blocked := b.flying || slices.ContainsFunc(b.ids, func(id mta.ID) bool { return earlier[id] })
		switch {
		case blocked:
		case w.failing > 0:
			if best == nil || b.tried.Before(best.tried) {
				best = b
			}
		case !b.due.After(now):
			return b, later
		case later.IsZero() || b.due.Before(later):
			later = b.due
		}
		for _, id := range b.ids {
			earlier[id] = true
		}
	}
	return best, later
}

// cut halves a batch, so that one event that the receiver cannot take is found.
// Both halves begin their retries anew, but not their three days.
func (w *webhook) cut(ctx context.Context, b *batch) error {
	b.halve = false
	if b.count < 2 || len(w.open) >= stateOfBatches {
		return nil
	}
	c, mid, _, err := w.collect(ctx, b.from, b.to, (b.count+1)/2, nil)
	if err != nil || c.count == 0 || c.count == b.count {
		return err
	}
	b.tries = 1
	return w.divide(ctx, slices.Index(w.open, b), c, mid)
}

// remove takes a batch out that is done with.
func (w *webhook) remove(b *batch) {
	if i := slices.Index(w.open, b); i >= 0 {
		w.open = slices.Delete(w.open, i, i+1)
	}
}
