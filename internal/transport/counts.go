package transport

import "sync/atomic"

// Counts are numbers of sessions since the start, for the metrics.
type Counts struct {
	Opened int64 // sessions that got through the greeting, and TLS where it was wanted
	Failed int64 // targets that gave no session
	Clear  int64 // of the opened, those in clear text because TLS fails there
}

// counts is Counts in the making.
type counts struct{ opened, failed, clear atomic.Int64 }

// Counts gives the numbers of sessions since the start.
func (c *Carrier) Counts() Counts {
	return Counts{Opened: c.counts.opened.Load(), Failed: c.counts.failed.Load(), Clear: c.counts.clear.Load()}
}
