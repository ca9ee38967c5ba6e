package events

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// The road of a follower that writes lines, one after another: what is written
// and safe moves its cursor. When writing fails it begins again with the first
// line that is not safe, after a pause.

const (
	linesOctets = 1 << 20 // made before they are written
	linesRest   = 200 * time.Millisecond
	linesTick   = time.Minute // for what goes by the clock, such as rotation
)

// lineWaits are the pauses after failures, the last repeating.
var lineWaits = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute}

// line is one event as it is written, and the position behind it.
type line struct {
	at   spool.Position
	text []byte
}

// output is where lines go. Its methods are called by one goroutine.
type output interface {
	// render makes the text of an event.
	render(at spool.Position, r *mta.Record) ([]byte, error)
	// write makes lines safe, in order, and tells how many are.
	write(ctx context.Context, lines []line) (safe int, err error)
	// last is the position behind the last line that is known to be safe, when
	// the output knows better than the cursor; zero when it does not.
	last() spool.Position
	// tick does what goes by the clock.
	tick(ctx context.Context) error
	// close ends it; a write opens it again.
	close()
}

// liner is a follower that writes lines; run owns the fields below the line.
type liner struct {
	name   string
	feed   spool.Feed
	filter Filter
	log    *slog.Logger
	told   *telling
	out    output
	as     func(s *Settings) bool // same

	// -------------------------------------------------------------------------
	read    spool.Position // what comes next
	failing int
	since   time.Time
	dirty   bool
	saved   time.Time
	ticked  time.Time
	lines   []line
	oldest  time.Time // of the records in lines
	size    int
}

func (l *liner) follower() string         { return l.name }
func (l *liner) telling() *telling        { return l.told }
func (l *liner) same(s *Settings) bool    { return l.as(s) }
func (l *liner) pace() time.Duration      { return saveEvery }
func (l *liner) closed(err error) bool    { return errors.Is(err, spool.ErrClosed) }
func (l *liner) due(now time.Time) bool   { return l.dirty && now.Sub(l.saved) >= l.pace() }
func (l *liner) position() lineState      { return lineState{Read: l.read} }
func (l *liner) ticks(now time.Time) bool { return now.Sub(l.ticked) >= linesTick }

// lineState is what such a follower keeps in the spool.
type lineState struct {
	Read spool.Position `json:"read"`
}

// begin implements follower. A new one stands at the end of the journal.
func (l *liner) begin(ctx context.Context, known []spool.Follower) error {
	end := l.feed.End()
	l.read = end
	for _, f := range known {
		if f.Name != l.name {
			continue
		}
		var s lineState
		if err := json.Unmarshal(f.State, &s); err != nil || s.Read.Compare(end) > 0 {
			l.log.Error("the cursor of a receiver of events is not of this journal; it begins anew with events from now on", "follower", l.name, "read", s.Read, "end", end)
			continue
		}
		l.read = s.Read
		if at := l.out.last(); at.Compare(l.read) > 0 && at.Compare(end) <= 0 {
			l.read = at // written, and the cursor was not saved any more
		}
	}
	l.dirty = true
	return l.save(ctx)
}

func (l *liner) save(ctx context.Context) error {
	text, err := json.Marshal(l.position())
	if err != nil {
		return err
	}
	l.saved = time.Now()
	if err := l.feed.SaveFollower(ctx, spool.Follower{Name: l.name, Floor: l.read, State: text}); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

// keep saves, and tells when it cannot.
func (l *liner) keep(ctx context.Context) {
	err := l.save(ctx)
	if err != nil {
		l.saved = l.saved.Add(saveAgain)
	}
	if err != nil && !l.closed(err) && ctx.Err() == nil {
		l.log.Error("how far a receiver of events has got could not be kept; after a restart some events come again", "follower", l.name, mta.KeyError, err)
	}
}

// run implements follower.
func (l *liner) run(ctx, hard context.Context) {
	defer l.out.close()
	for ctx.Err() == nil {
		now := time.Now()
		if l.ticks(now) {
			l.ticked = now
			l.noted(l.out.tick(ctx), now)
		}
		end := l.collect(ctx)
		l.tell()
		if len(l.lines) > 0 {
			l.write(ctx)
		}
		if l.due(time.Now()) {
			l.keep(hard)
		}
		l.pause(ctx, end)
	}
	last, cancel := lastWords(hard)
	defer cancel()
	if l.dirty {
		l.keep(last)
	}
}

// collect makes lines of what comes next, and reports whether that was all.
func (l *liner) collect(ctx context.Context) (end bool) {
	if len(l.lines) > 0 { // not written yet
		return false
	}
	var failed error
	next, err := l.feed.Follow(ctx, l.read, func(at spool.Position, r *mta.Record) bool {
		if l.size >= linesOctets {
			return false
		}
		if !l.filter.Match(r) {
			return true
		}
		var text []byte
		if text, failed = l.out.render(at, r); failed != nil {
			return false
		}
		if len(l.lines) == 0 {
			l.oldest = r.Time
		}
		l.lines = append(l.lines, line{at, text})
		l.size += len(text)
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		l.lines, l.size = l.lines[:0], 0
		if ctx.Err() == nil && !l.closed(err) {
			l.log.Error("the journal cannot be read for a receiver of events", "follower", l.name, mta.KeyError, err)
			l.failing = max(l.failing, 1) // for a pause
		}
		return false
	}
	if len(l.lines) > 0 {
		l.lines[len(l.lines)-1].at = next // over what nobody wants behind it
		return false
	}
	end = next == l.read
	l.dirty = l.dirty || !end
	l.read = next
	return end
}

// write hands the lines to the output.
func (l *liner) write(ctx context.Context) {
	n, err := l.out.write(ctx, l.lines)
	if n > 0 {
		l.read, l.dirty = l.lines[n-1].at, true
		l.told.sent.Add(uint64(n))
	}
	l.lines = append(l.lines[:0], l.lines[n:]...)
	if len(l.lines) == 0 {
		l.size = 0
		clear(l.lines[:cap(l.lines)])
	}
	l.noted(err, time.Now())
}

// noted takes note of how the output fares.
func (l *liner) noted(err error, now time.Time) {
	switch {
	case err != nil:
		if l.failing == 0 {
			l.since = now
			l.log.Error("events cannot be written; they stay in the journal and are written later", "follower", l.name, mta.KeyError, err)
		}
		l.failing++
		l.told.failures.Add(1)
	case l.failing > 0 && len(l.lines) == 0:
		l.log.Info("events are written again", "follower", l.name, "failed_since", l.since)
		l.failing = 0
	}
}

// pause waits: after a failure for a while, at the end for more, and otherwise
// not at all while there is much.
func (l *liner) pause(ctx context.Context, end bool) {
	if l.failing > 0 {
		sleep(ctx, wait(lineWaits, l.failing))
		return
	}
	if !end {
		return
	}
	most := linesTick
	if l.dirty {
		most = l.pace()
	}
	waiting, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if l.feed.Await(waiting, l.read) == nil {
		sleep(ctx, linesRest) // so that many events share a write
	} else if waiting.Err() == nil {
		sleep(ctx, time.Second) // the store is closed or failed: the daemon ends
	}
}

func (l *liner) tell() {
	oldest := time.Time{}
	if len(l.lines) > 0 {
		oldest = l.oldest
	}
	l.told.set(l.read, oldest, l.failing > 0, false)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
