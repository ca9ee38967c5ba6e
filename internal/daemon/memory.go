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

// nearPercent of the limit is where new mail is refused with 452.
const nearPercent = 90

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
	near := g.limit.Load() / 100 * nearPercent
	busy := memoryInUse() > near
	g.busy.Store(busy)
	return busy
}

// memoryInUse is what the process holds of the system's memory.
func memoryInUse() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
