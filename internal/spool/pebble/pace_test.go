package pebble

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestPace: the log waits only behind a sync that many commits have shared or
// come during.
func TestPace(t *testing.T) {
	t.Parallel()
	var commits atomic.Uint64
	p := pace{applied: &commits}
	for i, step := range []struct {
		n    uint64
		want time.Duration
	}{{0, 0}, {1, 0}, {busyCommits - 1, 0}, {busyCommits, busySync}, {100, busySync}, {1, 0}, {0, 0}} {
		commits.Add(step.n)
		if got := p.next(); got != step.want {
			t.Errorf("step %d: %v after %d commits", i, got, step.n)
		}
	}
}
