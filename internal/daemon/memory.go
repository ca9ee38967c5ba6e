package daemon

import (
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// memoryGate tells intake when the process is near limits.memory. The runtime
// is told the same number, so that it collects harder before mail is refused.
type memoryGate struct {
	limit atomic.Int64
	asked atomic.Int64 // unix milliseconds of the last look
	busy  atomic.Bool
}

// lookEvery bounds how often the runtime is asked: a look costs microseconds,
// an accepted message little more.
const lookEvery = 100 * time.Millisecond

// livePercent of the limit, in memory that the last collection found in use,
// is where new mail is refused with 452. Garbage does not count: the runtime
// lets it grow up to the limit before it collects, and what is left above the
// live part keeps collections from following one another without a pause.
const livePercent = 70

func (g *memoryGate) setLimit(octets int64) {
	g.limit.Store(octets)
	debug.SetMemoryLimit(octets)
}

// Busy reports whether new mail should wait. It is safe for concurrent use.
func (g *memoryGate) Busy() bool {
	now := time.Now().UnixMilli()
	last := g.asked.Load()
	if now-last < lookEvery.Milliseconds() || !g.asked.CompareAndSwap(last, now) {
		return g.busy.Load()
	}
	live, held := memoryInUse()
	limit := g.limit.Load()
	busy := live > limit/100*livePercent || held > limit
	g.busy.Store(busy)
	return busy
}

// memoryInUse gives what the last collection found in use, and what the
// process holds of the system's memory.
func memoryInUse() (live, held int64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return value(0), value(1) - value(2)
}
