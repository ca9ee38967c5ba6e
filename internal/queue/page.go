package queue

import (
	"context"
	"errors"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Paging: what is outside memory comes in when it is due and memory runs low.
// docs/queue.md states the invariant that this file keeps.

// sweep is a walk over everything outside memory, in pages, beside the normal
// cursor.
type sweep struct {
	after spool.Cursor
	site  string    // releases what was deferred for this site's sake; empty: only looks for notices
	until time.Time // deferred before this
	one   bool      // no more than one is released
}

// pageAgain is the wait after a page of which nothing found room.
const pageAgain = time.Second

// noticeSweep is how often a backlog that does not move is looked through for
// owed notices.
const noticeSweep = time.Hour

// wantPage asks for a page when something outside is due, or a sweep is on,
// and memory runs low.
func (l *loop) wantPage(d *dest) {
	if !d.more {
		d.sweep = nil
		return
	}
	if d.paging || d.wanted || l.nowMS < d.retryAt {
		return
	}
	l.wantNoticeSweep(d)
	per := l.set.limits.PerDestination
	stuck := l.stuck(d)
	low := stuck+d.active() <= min(max(d.page, firstPage), per)/2
	sweeping := d.sweep != nil && stuck+d.active() <= per/2
	if d.sweep != nil && d.sweep.site == "" {
		sweeping = d.flying < per
	}
	if d.paced > 0 && d.inMemory() > per*3/4 {
		low, sweeping = false, false // a page for each that its rate lets go would be too many
	}
	if sweeping || low && d.nextDue <= l.nowMS {
		d.wanted = true
		l.pages.push(d)
		l.serveHelpers()
	}
}

// stuck counts what is due and cannot move on, for a plan is awaited: as much
// as there is room for where it is all of the destination's mail, so that no
// more is read.
func (l *loop) stuck(d *dest) int {
	n := 0
	for w := &d.first; w != nil; w = w.next {
		if l.waits(w) {
			continue
		}
		if d.first.next == nil {
			return l.set.limits.PerDestination
		}
		n += len(w.due)
	}
	return n
}

// wantNoticeSweep starts a sweep when the backlog outside has been due for
// longer than the notice time: only a dead or very slow site has one.
func (l *loop) wantNoticeSweep(d *dest) {
	if d.sweep != nil || l.nowMS-d.sweptAt < noticeSweep.Milliseconds() {
		return
	}
	if d.nextDue > l.nowMS || l.allTimeless(d) {
		return
	}
	at, ever := l.set.schedules.For(d.key.Stream).NoticeWaiting(time.UnixMilli(d.nextDue), l.q.started)
	if ever && !at.After(l.now) {
		d.sweptAt = l.nowMS
		d.sweep = &sweep{after: d.cursor}
	}
}

func (l *loop) startPage(d *dest) {
	d.wanted = false
	if d.removed || !d.more {
		return
	}
	after, sw := d.cursor, d.sweep
	if sw != nil {
		after = sw.after
	}
	n := l.set.limits.PerDestination - min(d.active(), l.set.limits.PerDestination/2)
	if sw == nil {
		l.sizePage(d)
		n = min(n, d.page)
	}
	n += d.inMemory() // which the page may show again
	d.paging, d.dropped, d.touched = true, never, nil
	l.paging[d] = l.nowMS
	q, key := l.q, d.key
	l.help(func() func(*loop) {
		var list []*mta.Delivery
		err := q.guard("reading a page of the spool", func() (err error) {
			list, err = q.opts.Store.Page(q.work, key, after, n)
			return err
		})
		return func(l *loop) { l.onPage(d, sw, after, n, list, err) }
	})
}

// sizePage decides how many deliveries are read at a time: few at first, more
// while the destination drains them quickly, fewer when they last. A mailing to
// a thousand domains behind one site, which takes twenty at a time, does not
// bring two hundred of each into memory; a single destination has its whole
// share after four pages, a few milliseconds.
func (l *loop) sizePage(d *dest) {
	switch since := l.nowMS - d.pagedAt; {
	case d.page == 0:
		d.page = firstPage
	case since >= 0 && since < fastPage.Milliseconds():
		d.page *= 2
	case since > slowPage.Milliseconds():
		d.page /= 2
	}
	d.page = min(max(d.page, firstPage), l.set.limits.PerDestination)
}

// onPage takes a page in.
func (l *loop) onPage(d *dest, sw *sweep, after spool.Cursor, n int, list []*mta.Delivery, err error) {
	delete(l.paging, d)
	switch {
	case err != nil:
		d.paging = false
		d.retryAt = l.nowMS + settleMax.Milliseconds()
		if !l.stopping && !errors.Is(err, context.Canceled) {
			l.q.opts.Logger.Error("the spool could not be read; trying again", mta.KeyDestination, d.key.String(), mta.KeyError, err)
		}
	case sw != nil:
		l.sweepPage(d, sw, n, list)
	default:
		l.takePage(d, after, n, list)
	}
	d.touched = nil
	l.advance(d)
}

// takePage admits in due order up to the first that finds no room, and moves
// the cursor to before it.
func (l *loop) takePage(d *dest, cursor spool.Cursor, n int, list []*mta.Delivery) {
	d.pagedAt = l.nowMS
	d.more, d.vague = len(list) >= n, false
	next := never
	for i, m := range list {
		if !l.known(d, m) && !l.admit(d, m, ms(m.Due), false) {
			d.more = true
			if next = ms(m.Due); i == 0 {
				d.retryAt = l.nowMS + pageAgain.Milliseconds()
			}
			break
		}
		cursor = spool.Cursor{Due: m.Due, Key: m.Key()}
	}
	d.paging = false
	d.cursor = cursor
	if d.nextDue = next; next == never {
		d.nextDue = cursor.Due.UnixMilli() // what follows the last one seen
	}
	if d.dropped != never { // left memory meanwhile
		d.outside(time.UnixMilli(d.dropped))
	}
}

// known reports whether a delivery that a page shows is in memory or left it
// while the page was read, so that the page's copy is stale.
func (l *loop) known(d *dest, m *mta.Delivery) bool {
	if _, ok := l.entries[m.Key()]; ok {
		return true
	}
	_, ok := d.touched[m.Key()]
	return ok
}

// sweepPage looks at a page beside the cursor: what a success released comes
// in at once, and so does what owes a notice or has expired; the rest stays
// outside.
func (l *loop) sweepPage(d *dest, sw *sweep, n int, list []*mta.Delivery) {
	at := sw.after
	end := len(list) < n
	for _, m := range list {
		due := ms(m.Due)
		if sw.site == "" && due > l.nowMS {
			end = true // only what is overdue is looked at
			break
		}
		wanted := due <= l.nowMS && l.checkAt(m) <= l.nowMS && !l.timeless(l.wayOf(d, m))
		if sw.site != "" && due > l.nowMS && blames(m.Last, sw.site) && m.Last.Time.Before(sw.until) {
			wanted, due = true, l.nowMS
		}
		if wanted && !l.known(d, m) && !l.sweepIn(d, m, due, sw.site == "") {
			end = false
			break
		}
		at = spool.Cursor{Due: m.Due, Key: m.Key()}
		if wanted && sw.one {
			end = true
			break
		}
	}
	if end && len(list) == 0 && sw.after == d.cursor && d.dropped == never {
		d.more, d.vague = false, false // there was nothing to be found
	}
	d.paging = false
	if !end && at == sw.after { // memory is full
		d.retryAt = l.nowMS + pageAgain.Milliseconds()
	}
	sw.after = at
	if end && d.sweep == sw {
		d.sweep = nil
	}
}

// sweepIn takes in one delivery of a sweep. For a notice memory may be
// exceeded for the moment that the clerk needs: it is a page's worth.
func (l *loop) sweepIn(d *dest, m *mta.Delivery, due millis, notice bool) bool {
	if !notice {
		return l.admit(d, m, due, false)
	}
	e := &entry{d: m, index: -1}
	l.entries[m.Key()] = e
	l.enter(d, e, due)
	return true
}
