// Package retry says when a delivery is tried again, when its sender hears of
// the delay, and when it expires: pure functions of the history and of now.
//
// It has no clock, no randomness (the jitter is given to it), no I/O, no
// goroutine and no log. The queue calls it when it concludes an attempt;
// config checks an operator's schedule with Validate.
package retry

import (
	"errors"
	"fmt"
	"time"
)

// MaxWait bounds what a receiver's hint may ask for. Our own intervals are
// the operator's business and may be longer.
const MaxWait = 4 * time.Hour

// Jitter is how far an interval is stretched or cut, as a part of it.
const Jitter = 0.1

// maxGrace bounds Grace.
const maxGrace = 10 * time.Minute

// minWait is the least distance to the next attempt, whatever was configured:
// it keeps a broken schedule from turning into a busy loop.
const minWait = 100 * time.Millisecond

// Schedule is the retry policy of one stream. The zero Schedule behaves as
// Default.
type Schedule struct {
	// Intervals are the waits after the first, second, … failed attempt; the
	// last repeats. Empty: the default list.
	Intervals []time.Duration
	// Expire is the age at which a message is given up; 0: five days.
	Expire time.Duration
	// DelayNotice is the age at which the sender is told once that the message
	// is late; at or beyond Expire, or negative: never. 0: four hours.
	DelayNotice time.Duration
}

var defaultIntervals = []time.Duration{
	5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour,
}

// Default is the schedule of RFC 5321 4.5.4.1's spirit: 5, 15, 30 minutes, 1,
// 2, 4 hours and every 4 after that; notice after 4 hours; given up after 5
// days.
func Default() Schedule {
	return Schedule{
		Intervals:   append([]time.Duration(nil), defaultIntervals...),
		Expire:      5 * 24 * time.Hour,
		DelayNotice: 4 * time.Hour,
	}
}

func (s Schedule) intervals() []time.Duration {
	if len(s.Intervals) == 0 {
		return defaultIntervals
	}
	return s.Intervals
}

func (s Schedule) expire() time.Duration {
	if s.Expire <= 0 {
		return 5 * 24 * time.Hour
	}
	return s.Expire
}

func (s Schedule) delayNotice() time.Duration {
	if s.DelayNotice == 0 {
		return 4 * time.Hour
	}
	return s.DelayNotice
}

// Validate reports what is wrong with a schedule that an operator wrote.
func (s Schedule) Validate() error {
	var errs []error
	for i, d := range s.Intervals {
		if d < minWait {
			errs = append(errs, fmt.Errorf("retry interval %d: %v is shorter than %v", i+1, d, minWait))
		}
	}
	if s.Expire < 0 {
		errs = append(errs, fmt.Errorf("expire: %v is negative", s.Expire))
	}
	return errors.Join(errs...)
}

// Interval is the wait after the given number of failed attempts, without
// jitter. Fewer than one counts as one.
func (s Schedule) Interval(attempts int) time.Duration {
	list := s.intervals()
	i := min(max(attempts, 1), len(list)) - 1
	return max(list[i], minWait)
}

// shortHints is after how many attempts a hint shorter than the interval is
// followed no more.
const shortHints = 3

// Next is the time of the next attempt after one that failed at now: attempts
// is how many have failed, this one counted; arrived is the message's arrival;
// hint is what the receiver asked for (0: nothing); jitter is a random number
// in [0,1).
//
// A hint replaces the interval: never earlier than the hint, up to a tenth
// later, and at most MaxWait plus that tenth. A hint that is shorter than the
// interval is followed after the first shortHints attempts only: a receiver
// that says "try again in 5 seconds" for ever must not be asked for ever.
// Without one the interval is stretched or cut by up to a tenth. An attempt
// planned past the expiry is moved to the expiry, so that a message never
// expires without a last attempt; once the expiry has passed (the report could
// not be made, say) the interval counts alone.
//
// The result is after now (by at least 100 ms unless the expiry is nearer), has millisecond precision, and
// depends on the difference of now and arrived only through the expiry: a
// clock that jumps cannot make it overflow or stand still.
func (s Schedule) Next(attempts int, now, arrived time.Time, hint time.Duration, jitter float64) time.Time {
	wait := s.stretched(attempts, hint, jitter)
	next := now.Add(wait)
	if deadline := s.Deadline(arrived); now.Before(deadline) && next.After(deadline) {
		// Also when the receiver asked for more: an early last attempt is better
		// than none.
		next = deadline
	}
	return roundUp(next)
}

func (s Schedule) stretched(attempts int, hint time.Duration, jitter float64) time.Duration {
	jitter = min(max(jitter, 0), 1)
	if hint > 0 && (attempts <= shortHints || hint >= s.Interval(attempts)) {
		base := max(min(hint, MaxWait), minWait)
		return base + time.Duration(float64(base)*Jitter*jitter)
	}
	base := s.Interval(attempts)
	f := float64(base) * (1 - Jitter + 2*Jitter*jitter)
	if f > float64(100*365*24*time.Hour) { // an absurd interval must not overflow
		return 100 * 365 * 24 * time.Hour
	}
	return max(time.Duration(f), minWait)
}

// roundUp cuts to milliseconds without moving a time to before itself.
func roundUp(t time.Time) time.Time {
	r := t.Truncate(time.Millisecond)
	if r.Before(t) {
		r = r.Add(time.Millisecond)
	}
	return r
}

// Deadline is when a message is given up.
func (s Schedule) Deadline(arrived time.Time) time.Time { return arrived.Add(s.expire()) }

// Expired reports whether an attempt that failed at now was the last.
func (s Schedule) Expired(now, arrived time.Time) bool { return !now.Before(s.Deadline(arrived)) }

// Grace is how long past its time a waiting delivery gets for a last attempt
// before it expires (or before its notice is sent) without one: a twentieth of
// span, at most ten minutes.
func Grace(span time.Duration) time.Duration { return min(span/20, maxGrace) }

// Within is the schedule of a message that has its own expiry, span after its
// start; the schedule's own is the latest.
func (s Schedule) Within(span time.Duration) Schedule {
	s.Expire = min(s.expire(), max(span, 1)) // 0 would be the default
	return s
}

// LastChance is when a message that is to end at end is tried for the last
// time, when the regular attempt would come too late: some grace before the
// end. False when that has passed at now.
func LastChance(now, start, end time.Time) (time.Time, bool) {
	t := roundUp(end.Add(-Grace(end.Sub(start))))
	return t, t.After(now) && t.Before(end)
}

// Overdue is when a delivery that merely waits is given up: some grace after
// the deadline, counted from since (the start of the process) when that is
// later, so that mail found after a long stop gets an attempt.
func (s Schedule) Overdue(arrived, since time.Time) time.Time {
	t := s.Deadline(arrived)
	if since.After(t) {
		t = since
	}
	return t.Add(Grace(s.expire()))
}

// Notice is when the sender is told of the delay; false when never.
func (s Schedule) Notice(arrived time.Time) (time.Time, bool) {
	d := s.delayNotice()
	if d < 0 || d >= s.expire() {
		return time.Time{}, false
	}
	return arrived.Add(d), true
}

// NoticeDue reports whether an attempt that failed at now owes the notice.
func (s Schedule) NoticeDue(now, arrived time.Time, sent bool) bool {
	at, ever := s.Notice(arrived)
	return ever && !sent && !now.Before(at)
}

// NoticeWaiting is when a delivery that merely waits owes the notice; false
// when never. The grace lets an attempt come first.
func (s Schedule) NoticeWaiting(arrived, since time.Time) (time.Time, bool) {
	t, ever := s.Notice(arrived)
	if !ever {
		return t, false
	}
	if since.After(t) {
		t = since
	}
	return t.Add(Grace(s.delayNotice())), true
}

// Schedules holds the schedule of every stream. It is immutable and shared.
type Schedules struct {
	Default Schedule
	Streams map[string]Schedule // those that differ, whole
}

// For gives a stream's schedule.
func (s Schedules) For(stream string) Schedule {
	if v, ok := s.Streams[stream]; ok {
		return v
	}
	return s.Default
}

// Shortest is the shortest first interval of all streams: no site may be left
// without a probe for longer.
func (s Schedules) Shortest() time.Duration {
	d := s.Default.Interval(1)
	for _, v := range s.Streams {
		d = min(d, v.Interval(1))
	}
	return d
}
