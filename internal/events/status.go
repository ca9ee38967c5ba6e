package events

import (
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/spool"
)

// Status is how one follower fares.
type Status struct {
	Kind string // "webhook", "file", "syslog"
	Name string // of a webhook; otherwise as Kind
	// Pending is how many journal entries are not done with: about, since some
	// may be of no interest to it.
	Pending uint64
	// Lag is the age of the oldest event that is not done with.
	Lag      time.Duration
	Sent     uint64 // events done with since the start
	Failures uint64 // tries that failed since the start
	GivenUp  uint64 // events given up since the start
	Failing  bool
	Disabled bool
}

// telling is what a follower's loop tells of itself.
type telling struct {
	kind, name              string
	sent, failures, givenUp atomic.Uint64
	kept                    uint64 // sent when the state was saved last; the loop's own
	mu                      struct {
		sync.Mutex
		floor             spool.Position
		oldest            time.Time
		failing, disabled bool
	}
}

func (t *telling) set(floor spool.Position, oldest time.Time, failing, disabled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.floor, t.mu.oldest, t.mu.failing, t.mu.disabled = floor, oldest, failing, disabled
}

// status makes the Status, end being the end of the journal.
func (t *telling) status(end spool.Position) Status {
	s := Status{Kind: t.kind, Name: t.name, Sent: t.sent.Load(), Failures: t.failures.Load(), GivenUp: t.givenUp.Load()}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Failing, s.Disabled = t.mu.failing, t.mu.disabled
	if t.mu.disabled {
		return s
	}
	if end.Entry > t.mu.floor.Entry {
		s.Pending = end.Entry - t.mu.floor.Entry
	}
	if !t.mu.oldest.IsZero() {
		s.Lag = max(time.Since(t.mu.oldest), 0)
	}
	return s
}
