package shape

import "time"

// Bucket lets at most so many messages pass in a time, filled evenly. Make it
// with NewBucket. It is not safe for concurrent use.
//
// Goal: never more than count in any stretch of per, at least 98 % of it for
// who always has more to send, and no jerks: "1000/h" does not send a thousand
// in the first second.
//
// Method: virtual scheduling (ITU-T I.371's GCRA). What may pass at once, the
// burst, is a fiftieth of count, a minute's worth at most, and one at least: 16
// for "1000/h", 2 for "100/s". The rest is spread over per, so that burst and
// filling together stay within count. State is one moment: when the bucket is
// full again.
type Bucket struct {
	step  time.Duration // between two messages
	depth time.Duration // step × burst
	full  int64         // Unix nanoseconds
}

// burstShare is which part of a rate may go at once.
const burstShare = 50

// NewBucket makes a full bucket of count messages in per. A count under one is
// one, a time that is not positive a second.
func NewBucket(count int, per time.Duration, now time.Time) *Bucket {
	b := &Bucket{full: now.UnixNano()}
	b.set(count, per)
	return b
}

func (b *Bucket) set(count int, per time.Duration) {
	if per <= 0 {
		per = time.Second
	}
	n := int64(max(count, 1))
	burst := n / burstShare
	if per > time.Minute {
		burst = min(burst, int64(float64(n)*float64(time.Minute)/float64(per)))
	}
	burst = max(burst, 1)
	spread := n - burst + 1
	b.step = max((per+time.Duration(spread)-1)/time.Duration(spread), 1)
	b.depth = b.step * time.Duration(burst)
}

// Burst is how many may pass at once when the bucket is full.
func (b *Bucket) Burst() int { return int(b.depth / b.step) }

// Configure changes the rate at now. What was taken from the old one counts on
// under the new.
func (b *Bucket) Configure(count int, per time.Duration, now time.Time) {
	taken := float64(b.full-now.UnixNano()) / float64(b.step)
	b.set(count, per)
	b.full = now.UnixNano()
	if taken > 0 {
		b.full += int64(min(taken*float64(b.step), float64(b.depth)))
	}
}

// Take takes one message out of the bucket, or says when there is one again. A
// clock that goes back neither fills nor empties it for longer than it takes to
// fill.
func (b *Bucket) Take(now time.Time) (ok bool, again time.Time) {
	at := now.UnixNano()
	full := min(max(b.full, at), at+int64(b.depth))
	if wait := full + int64(b.step) - int64(b.depth) - at; wait > 0 {
		b.full = full
		return false, now.Add(time.Duration(wait))
	}
	b.full = full + int64(b.step)
	return true, time.Time{}
}

// Full reports whether the bucket is as a new one: it need not be kept.
func (b *Bucket) Full(now time.Time) bool { return b.full <= now.UnixNano() }
