package pebble

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
)

// What pebble tells of itself, on its own goroutines. A damaged file is met
// again by every reader, so what is told is bounded, and pebble's search for
// statistics, which tries such a file again at once and for ever, is slowed
// down.

// At most logBurst lines of pebble's are logged in logWindow.
const (
	logBurst  = 20
	logWindow = 10 * time.Second
)

// statisticsPause is the wait between two tries at a file's statistics. It is
// short: memtables that were flushed meanwhile stay in memory for as long.
const statisticsPause = time.Second

// pebbleLog passes on what pebble has to say.
type pebbleLog struct {
	s      *Store
	opened atomic.Bool
	now    func() time.Time
	mu     struct {
		sync.Mutex
		since  time.Time // when the window began
		told   int       // lines in it
		untold int       // lines dropped since the last one told
	}
}

// Infof implements pebble.Logger; its news are of no interest to operators.
func (l *pebbleLog) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l *pebbleLog) Errorf(format string, args ...any) {
	untold, ok := l.mayTell()
	if !ok {
		return
	}
	more := []any{mta.KeyPath, l.s.dir}
	if untold > 0 {
		more = append(more, mta.KeyCount, untold) // like this one, and not logged
	}
	l.s.log.Error("spool: "+fmt.Sprintf(format, args...), more...)
}

// mayTell reports whether one more line may be logged, and how many were not
// since the last.
func (l *pebbleLog) mayTell() (untold int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if passed := now.Sub(l.mu.since); passed >= logWindow || passed < 0 {
		l.mu.since, l.mu.told = now, 0
	}
	if l.mu.told >= logBurst {
		l.mu.untold++
		return 0, false
	}
	l.mu.told++
	untold, l.mu.untold = l.mu.untold, 0
	return untold, true
}

// Fatalf implements pebble.Logger: pebble cannot go on, and must not. While
// the store is opened a panic ends that (openDB catches it); later the store
// fails, and the goroutine, which is one of pebble's, never goes on.
func (l *pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if !l.opened.Load() {
		panic(err)
	}
	_ = l.s.fail(err)
	select {}
}

// corruption is told of every read that meets damage. The details are printed
// without their stack.
func (l *pebbleLog) corruption(i pdb.DataCorruptionInfo) {
	l.Errorf("damage in a file of the store: %s, keys %s: %v", i.Path, i.Bounds.String(), i.Details)
}

// background is told of failed flushes, compactions and statistics. Flushes and
// compactions hold pebble's mutex here and have pauses of their own; the
// statistics have none, so this is the place for one.
func (l *pebbleLog) background(err error) {
	l.Errorf("background work: %v", err)
	if seeksStatistics() {
		l.s.opts.pause(l.s.closing)
	}
}

// seeksStatistics reports whether the caller is pebble's search for the
// statistics of the files it found when it was opened.
func seeksStatistics() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, ".scanReadStateTableStats") {
			return true
		}
		if !more {
			return false
		}
	}
}

func pauseStatistics(closing <-chan struct{}) {
	t := time.NewTimer(statisticsPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-closing:
	}
}
