package pebble

import (
	"context"
	"testing"
	"time"
)

func TestDisk(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: t.TempDir(), Reserve: -1, MinFree: 1, Logger: quiet})
	for n := range 3 {
		if err := s.Put(t.Context(), testSub(t, s, n+1, 100, "a@one.example")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	d, err := s.Disk(t.Context())
	if err != nil || d.Free == 0 || d.Size < d.Free || d.MinFree != 1 || d.Journal < 100 || d.Journal > 1<<20 {
		t.Errorf("%+v, %v", d, err)
	}
	var all uint64
	for _, n := range s.Syncs().Waited {
		all += n
	}
	if m := s.Metrics(); all != m.Commits || s.Syncs().Seconds <= 0 {
		t.Errorf("%d times of %d commits, %+v", all, m.Commits, s.Syncs())
	}
	mustClose(t, s)
	if _, err := s.Disk(context.Background()); err == nil {
		t.Error("a closed store was measured")
	}
}

func TestSyncTimes(t *testing.T) {
	t.Parallel()
	s := &Store{}
	for _, d := range []time.Duration{0, 500 * time.Microsecond, 501 * time.Microsecond, 5 * time.Second, time.Minute} {
		s.stats.syncs.observe(d)
	}
	got, last := s.Syncs(), len(SyncBounds)
	if got.Waited[0] != 2 || got.Waited[1] != 1 || got.Waited[last-1] != 1 || got.Waited[last] != 1 || got.Seconds != 65.001001 {
		t.Errorf("%+v", got)
	}
}
