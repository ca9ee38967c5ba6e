package pickup

import (
	"io/fs"
	"sync"
	"time"

	"mailout/internal/submit/filedoor"
)

// maxLooks bounds the files that are remembered, at about 150 octets each: one
// that finds no room is looked at when others have gone.
const maxLooks = 100_000

// looks remembers how files looked, to know which of them nobody writes to any
// more. Only the taker's goroutine uses it, but for arrived.
type looks struct {
	start  time.Time       // of the taker
	before map[string]look // of the last pass
	now    map[string]look // of this one
	next   time.Duration   // until a file may be quiet for long enough; 0: there is none

	mu struct {
		sync.Mutex
		arrived map[string]struct{} // renamed into the directory, and not changed since
	}
}

// look is how a file looked first in its present form.
type look struct {
	size, modified int64
	identity       [2]uint64
	since          time.Duration // by our clock, from start on
}

func newLooks(start time.Time) *looks {
	l := &looks{start: start, now: map[string]look{}}
	l.mu.arrived = map[string]struct{}{}
	return l
}

// begin starts a pass: what is not seen in it is forgotten after.
func (l *looks) begin() {
	l.before, l.now, l.next = l.now, make(map[string]look, len(l.now)), 0
}

// unchanged gives how long a file has been as it is now.
func (l *looks) unchanged(name string, info fs.FileInfo, now time.Time) time.Duration {
	as := look{info.Size(), info.ModTime().UnixNano(), filedoor.Identity(info), now.Sub(l.start)}
	if first, seen := l.before[name]; seen && first.size == as.size && first.modified == as.modified && first.identity == as.identity {
		as.since = first.since
	}
	if len(l.now) < maxLooks {
		l.now[name] = as
	}
	return now.Sub(l.start) - as.since
}

// settled reports whether a file has been as it is now for a time; if not, the
// next pass is to be when it may be.
func (l *looks) settled(name string, info fs.FileInfo, now time.Time, wanted time.Duration) bool {
	left := wanted - l.unchanged(name, info, now)
	if left > 0 && (l.next == 0 || left < l.next) {
		l.next = left
	}
	return left <= 0
}

// drop makes room: the files are gone.
func (l *looks) drop(names ...string) {
	for _, name := range names {
		delete(l.now, name)
	}
}

// renamed reports whether a file is complete because it was renamed to its name.
func (l *looks) renamed(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.mu.arrived[name]
	return ok
}

// arrive notes that a file was renamed to a name. Without room it waits for the
// quiet time like others.
func (l *looks) arrive(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.arrived) >= maxLooks {
		clear(l.mu.arrived)
	}
	l.mu.arrived[name] = struct{}{}
}

// forget forgets all that arrived: it was another directory.
func (l *looks) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.mu.arrived)
}

// change forgets that.
func (l *looks) change(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.arrived, name)
}
