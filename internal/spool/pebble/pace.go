package pebble

import (
	"sync/atomic"
	"time"
)

// busySync is how long the log waits after a sync before the next one while
// many callers commit, so that more of them share it.
const busySync = 500 * time.Microsecond

// busyCommits is how many commits between two syncs are many.
const busyCommits = 4

// pace says how long the log is to wait after each sync. A sync costs
// processor time and writes the last page of the log again, so under load
// fewer are better for everybody; a caller alone is never kept waiting. It
// belongs to the log writer's goroutine.
type pace struct {
	applied *atomic.Uint64 // commits
	before  uint64         // of them when the last sync ended
}

// next is called when a sync has ended.
func (p *pace) next() time.Duration {
	n := p.applied.Load()
	many := n-p.before >= busyCommits
	p.before = n
	if many {
		return busySync
	}
	return 0
}
