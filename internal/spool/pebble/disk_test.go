package pebble

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
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

// TestJournalOverBehindAnOldMessage: a message that has waited for long keeps its
// records at the journal's front, with nothing behind them for a long way. The
// bound holds all the same.
func TestJournalOverBehindAnOldMessage(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet, SharedBytes: -1})
	defer mustClose(t, s)
	const pruned, all = 3000, 4000
	for n := 1; n <= all; n++ {
		sub := testSub(t, s, n, 100, fmt.Sprintf("u%d@one.example", n))
		if err := s.Put(tctx, sub); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			continue // it waits
		}
		if err := settleOne(s, outcome(sub.Deliveries[0], mta.EventDelivered, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Prune(tctx, testTime(pruned)), s.db.Flush(), s.CompactJournal(tctx)); err != nil {
		t.Fatal(err)
	}
	size, err := s.journalSize()
	if err != nil {
		t.Fatal(err)
	}
	before, over, err := s.JournalOver(tctx, size*8/10)
	if err != nil || !over || before.Before(testTime(pruned)) || before.After(testTime(all-100)) {
		t.Errorf("%v, %t, %v", before, over, err)
	}
	if err := errors.Join(s.Prune(tctx, before), s.CompactJournal(tctx)); err != nil {
		t.Fatal(err)
	}
	if left, err := s.journalSize(); err != nil || left > size*8/10 || left < size/5 { // the measure is coarse
		t.Errorf("%d of %d octets are left, %v", left, size, err)
	}
}
