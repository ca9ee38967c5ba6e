package pebble

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Disk is what the spool's file system has and the journal takes, in octets.
type Disk struct {
	Free    uint64 // for this process
	Size    uint64
	MinFree uint64 // below this new mail is refused
	Journal int64  // the journal and its indices, by pebble's estimate
}

// Disk asks the system and the store; cheap enough for every scrape.
func (s *Store) Disk(ctx context.Context) (Disk, error) {
	if err := s.enter(ctx); err != nil {
		return Disk{}, err
	}
	defer s.leave()
	u, err := s.opts.FS.GetDiskUsage(s.dir)
	if err != nil {
		return Disk{}, fmt.Errorf("ask for the free space of %s: %w", s.dir, err)
	}
	d := Disk{Free: u.AvailBytes, Size: u.TotalBytes, MinFree: s.space.minFree}
	d.Journal, err = s.journalSize()
	return d, err
}

// journalSize estimates what the journal and its indices take as table files.
func (s *Store) journalSize() (int64, error) {
	size := uint64(0)
	for _, table := range []byte{tableJournal, tableByMessage, tableRecipients} {
		n, err := s.db.EstimateDiskUsage([]byte{table}, []byte{table + 1})
		if err != nil {
			return 0, fmt.Errorf("measure the journal: %w", err)
		}
		size += n
	}
	return int64(size), nil
}

// SyncBounds are the upper bounds, in seconds, by which Syncs sorts times.
var SyncBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5}

// Syncs counts how long commits waited for stable storage, by the bounds of
// SyncBounds, those beyond the last in one more; Seconds is their sum.
type Syncs struct {
	Waited  [len(SyncBounds) + 1]uint64
	Seconds float64
}

// syncTimes is Syncs in the making.
type syncTimes struct {
	waited [len(SyncBounds) + 1]atomic.Uint64
	nanos  atomic.Int64
}

func (t *syncTimes) observe(d time.Duration) {
	at, seconds := 0, d.Seconds()
	for at < len(SyncBounds) && seconds > SyncBounds[at] {
		at++
	}
	t.waited[at].Add(1)
	t.nanos.Add(int64(d))
}

// Syncs gives the times since the start.
func (s *Store) Syncs() (out Syncs) {
	for i := range s.stats.syncs.waited {
		out.Waited[i] = s.stats.syncs.waited[i].Load()
	}
	out.Seconds = time.Duration(s.stats.syncs.nanos.Load()).Seconds()
	return out
}
