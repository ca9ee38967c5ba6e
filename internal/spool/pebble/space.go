package pebble

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/spool"
)

// spaceInterval is how long an answer about free space is good for.
const spaceInterval = time.Second

// space watches the free space of the spool's file system, and keeps a
// reserve for the day when it is gone all the same.
type space struct {
	fs      vfs.FS // below the wrapper that reports a full disk
	dir     string
	path    string // of the reserve
	minFree uint64
	reserve uint64
	now     func() time.Time

	isFull atomic.Bool
	asked  atomic.Int64 // when free space was last asked for, in nanoseconds
	mu     struct {
		sync.Mutex
		spent bool // the reserve is used up
	}
}

// full reports whether new mail is to be refused. It asks the system at most
// once in spaceInterval; an unknown answer counts as enough.
func (s *space) full() bool {
	now := s.now().UnixNano()
	last := s.asked.Load()
	if now-last >= int64(spaceInterval) || now < last {
		if s.asked.CompareAndSwap(last, now) {
			s.check()
		}
	}
	return s.isFull.Load()
}

// check asks, and refills a spent reserve once there is room for it.
func (s *space) check() {
	u, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	need := s.minFree
	if s.mu.spent {
		need += s.reserve
	}
	if u.AvailBytes < need {
		s.isFull.Store(true)
		return
	}
	if s.mu.spent {
		if s.fill() != nil {
			return
		}
		s.mu.spent = false
	}
	s.isFull.Store(false)
}

// diskFull is called while a write waits that found no space: it gives the
// reserve up. The write is repeated afterwards.
func (s *space) diskFull() {
	s.isFull.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.spent {
		return
	}
	s.mu.spent = true
	_ = s.fs.Remove(s.path)
}

// start makes the reserve when it is not there, or marks it as spent.
func (s *space) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fi, err := s.fs.Stat(s.path); err == nil && fi.Size() >= int64(s.reserve) {
		return
	}
	u, err := s.fs.GetDiskUsage(s.dir)
	if err == nil && u.AvailBytes < s.minFree+s.reserve || s.fill() != nil {
		s.mu.spent = true
	}
}

// fill writes the reserve, block by block, so that every file system allocates
// it. The mutex is held.
func (s *space) fill() error {
	if s.reserve == 0 {
		return nil
	}
	f, err := s.fs.Create(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	// Not zeros, which a file system may store as a hole.
	block := make([]byte, smallBody)
	for i := range block {
		block[i] = byte(i*7 + i>>8)
	}
	for n := uint64(0); n < s.reserve && err == nil; n += uint64(len(block)) {
		_, err = f.Write(block)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = s.fs.Remove(s.path)
	}
	return err
}

// diskError wraps an error of a file operation; a full disk is ErrFull.
func diskError(what string, err error) error {
	if err == nil || errors.Is(err, spool.ErrFull) {
		return err
	}
	if vfs.IsNoSpaceError(err) {
		return fmt.Errorf("%s: %w: %w", what, spool.ErrFull, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Full reports whether new mail is refused because the disk is nearly full.
func (s *Store) Full() bool { return s.space.full() }
