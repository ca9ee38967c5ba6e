package returns

import (
	"sync/atomic"

	"mailout/internal/header"
)

// counters count since the start.
type counters struct{ bounced, complained, ignored, unmatched, refused, later, trouble atomic.Int64 }

// Counts are totals since the start.
type Counts struct {
	Bounced    int64 // recipients whose mail came back
	Complained int64 // recipients who complained
	Ignored    int64 // delays, successes, auto-replies and what is no report
	Unmatched  int64 // reports that name no message or recipient that the journal knows
	Refused    int64 // addresses that are none of ours
	Later      int64 // put off: too much at once
	Trouble    int64 // that could not be stored, and will come again
}

// Counts gives the numbers.
func (f *Office) Counts() Counts {
	c := &f.counts
	return Counts{c.bounced.Load(), c.complained.Load(), c.ignored.Load(), c.unmatched.Load(), c.refused.Load(), c.later.Load(), c.trouble.Load()}
}

// clean makes a stranger's words fit for a line.
func clean(s string, most int) string { return header.Harmless(s, most) }
