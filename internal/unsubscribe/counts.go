package unsubscribe

import "sync/atomic"

// counters count since the start.
type counters struct {
	links, own, unfit                                        atomic.Int64
	left, again, shown, unknown, malformed, limited, trouble atomic.Int64
}

// Counts are totals since the start.
type Counts struct {
	Links int64 // messages that went out with a link
	Own   int64 // messages of such streams that brought fields of their own
	Unfit int64 // messages that got no link: too long an address for a link

	Left      int64 // who left a stream
	Again     int64 // who had left it before
	Shown     int64 // pages that ask whether to leave
	Unknown   int64 // links that are none of ours
	Malformed int64 // requests that say something else
	Limited   int64 // put off: too many unknown links from one address, or too much at once
	Trouble   int64 // that could not be stored
}

// Counts gives the numbers.
func (d *Desk) Counts() Counts {
	c := &d.counts
	return Counts{
		c.links.Load(), c.own.Load(), c.unfit.Load(),
		c.left.Load(), c.again.Load(), c.shown.Load(), c.unknown.Load(), c.malformed.Load(), c.limited.Load(), c.trouble.Load(),
	}
}
