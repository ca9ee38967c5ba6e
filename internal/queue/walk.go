package queue

import (
	"slices"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// walk is one look through all destinations of the spool. Its goroutine owns
// it until the loop gets it back.
type walk struct {
	first bool          // the first one: it tells also those in memory
	keep  int           // how many are told at its end, the earliest
	soon  time.Duration // what is due before this is told at once, however many
	limit millis        // soon from the beginning of the current try

	batch []spool.Pending // to be told at once
	kept  []spool.Pending // the earliest of the others, up to twice keep
	// cut bounds what is kept: a destination that is not told is due then or
	// later. What is due at the same time as one that found no place is left out
	// too; once it is due soon the next walk takes it.
	cut  millis
	told int64 // destinations seen, those that were left out included

	took     time.Duration
	complete bool
}

// walk reads the destinations, again and again until the store has told them
// all: none may be forgotten.
func (q *Queue) walk(w *walk) {
	for wait := settleMin; ; wait = min(2*wait, settleMax) {
		begin := time.Now() // the length of a walk is no matter of the wall clock
		w.batch, w.kept, w.cut, w.told = nil, nil, never, 0
		w.limit = ms(q.opts.Now().Add(w.soon))
		ended := false
		err := q.guard("reading the destinations", func() error {
			return q.opts.Store.Destinations(q.work, func(p spool.Pending) bool {
				ended = !w.take(q, p)
				return !ended
			})
		})
		if err == nil && !ended && q.work.Err() == nil {
			w.finish(q)
			w.took, w.complete = time.Since(begin), true
			return
		}
		if ended || q.work.Err() != nil {
			return
		}
		q.opts.Logger.Error("the destinations in the spool could not be read; trying again", mta.KeyError, err)
		if !w.tell(q, w.batch) || !q.pause(q.work, wait) {
			return
		}
	}
}

// take looks at one destination; false when the loop has ended.
func (w *walk) take(q *Queue, p spool.Pending) bool {
	if p.Due.IsZero() {
		return true // all held
	}
	w.told++
	due := ms(p.Due)
	switch {
	case due < w.limit:
		w.batch = append(w.batch, p)
		if len(w.batch) < walkBatch {
			return true
		}
		list := w.batch
		w.batch = nil
		return w.tell(q, list)
	case due < w.cut:
		w.kept = append(w.kept, p)
		if len(w.kept) >= 2*w.keep {
			w.cutDown()
		}
	}
	return true
}

// cutDown leaves the keep earliest.
func (w *walk) cutDown() {
	if len(w.kept) <= w.keep {
		return
	}
	slices.SortFunc(w.kept, func(a, b spool.Pending) int { return a.Due.Compare(b.Due) })
	w.cut = ms(w.kept[w.keep].Due)
	n := w.keep
	for n > 0 && ms(w.kept[n-1].Due) >= w.cut {
		n--
	}
	clear(w.kept[n:])
	w.kept = w.kept[:n]
}

// finish tells what was kept.
func (w *walk) finish(q *Queue) {
	w.cutDown()
	list := append(w.batch, w.kept...)
	for len(list) > 0 && w.tell(q, list[:min(walkBatch, len(list))]) {
		list = list[min(walkBatch, len(list)):]
	}
	w.batch, w.kept = nil, nil
}

// tell hands destinations to the loop.
func (w *walk) tell(q *Queue, list []spool.Pending) bool {
	first := w.first
	return len(list) == 0 || q.send(event{kind: evCall, call: func(l *loop) { l.onPending(list, first) }})
}
