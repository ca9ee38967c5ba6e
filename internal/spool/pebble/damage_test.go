package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// damaged is a store with three messages, the middle one to be damaged, and
// nothing of it in memory.
func damaged(t *testing.T) (*Store, []*spool.Submission) {
	t.Helper()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet, FreshBytes: -1})
	var subs []*spool.Submission
	for n := 1; n <= 3; n++ {
		sub := testSub(t, s, n, 100, "a@one.example", "b@two.example")
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	return s, subs
}

// readAll walks everything that a daemon reads, and counts what it gets.
func readAll(t *testing.T, s *Store) (pages, lists, records int) {
	t.Helper()
	err := s.Destinations(t.Context(), func(p spool.Pending) bool {
		got, err := s.Page(t.Context(), p.Destination, spool.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		pages += len(got)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.List(t.Context(), spool.Filter{}, func(*mta.Delivery) bool { lists++; return true }); err != nil {
		t.Fatal(err)
	}
	if err := s.Records(t.Context(), spool.RecordFilter{}, func(*mta.Record) bool { records++; return true }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stats(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CountByDestination(t.Context(), mta.Destination{Domain: "one.example", Stream: mta.DefaultStream}); err != nil {
		t.Fatal(err)
	}
	return pages, lists, records
}

// TestTrap37_DamagedRecordIsSetAside: whatever record is damaged, the others
// are read, the damaged one is kept aside, and the counts are right afterwards.
func TestTrap37_DamagedRecordIsSetAside(t *testing.T) {
	t.Parallel()
	flip := func(v []byte) []byte {
		v = bytes.Clone(v)
		v[len(v)/2] ^= 0x10
		return v
	}
	for name, c := range map[string]struct {
		key     func(sub *spool.Submission) []byte
		change  func([]byte) []byte // nil result: the record is missing
		deliver int                 // deliveries left
		records int
		counted int64
	}{
		"message":           {func(s *spool.Submission) []byte { return idKey(nil, tableMessages, s.Message.ID) }, flip, 4, 6, 1},
		"message missing":   {func(s *spool.Submission) []byte { return idKey(nil, tableMessages, s.Message.ID) }, nil, 4, 6, 1},
		"delivery":          {func(s *spool.Submission) []byte { return deliveryKey(nil, s.Deliveries[0].Key()) }, flip, 5, 6, 2},
		"delivery cut":      {func(s *spool.Submission) []byte { return deliveryKey(nil, s.Deliveries[1].Key()) }, func(v []byte) []byte { return v[:3] }, 5, 6, 2},
		"delivery missing":  {func(s *spool.Submission) []byte { return deliveryKey(nil, s.Deliveries[1].Key()) }, nil, 5, 6, 1},
		"journal":           {func(s *spool.Submission) []byte { return journalKey(nil, 2) }, flip, 6, 4, 1},
		"journal empty":     {func(s *spool.Submission) []byte { return journalKey(nil, 2) }, func([]byte) []byte { return []byte{} }, 6, 4, 1},
		"counters":          {func(s *spool.Submission) []byte { return []byte{tableCounters} }, func([]byte) []byte { return []byte{1} }, 6, 6, 1},
		"counters of one":   {func(s *spool.Submission) []byte { return counterKey(nil, s.Deliveries[0].Destination) }, func([]byte) []byte { return []byte{1} }, 6, 6, 1},
		"remaining missing": {func(s *spool.Submission) []byte { return idKey(nil, tableRemaining, s.Message.ID) }, nil, 6, 6, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, subs := damaged(t)
			defer func() { mustClose(t, s) }()
			key := c.key(subs[1])
			v, err := get(s.db, key)
			if err != nil || v == nil {
				t.Fatal(err)
			}
			if c.change == nil {
				err = s.db.Delete(key, pdb.Sync)
			} else {
				err = s.db.Set(key, c.change(v), pdb.Sync)
			}
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, s) // meets the damage
			readAll(t, s) // meets what the first repair left
			pages, lists, records := readAll(t, s)
			if pages != c.deliver || lists != c.deliver || records != c.records {
				t.Errorf("%d in pages, %d in the list, want %d; %d records, want %d", pages, lists, c.deliver, records, c.records)
			}
			if got := s.Corrupt(); got < c.counted || got > c.counted+1 {
				t.Errorf("%d damaged counted, want %d", got, c.counted)
			}
			checkCounts(t, s)
			for _, sub := range subs { // the others, and what is left, end as always
				for _, d := range sub.Deliveries {
					if _, err := s.Settle(t.Context(), outcome(d, mta.EventDelivered, nil)); err != nil {
						t.Fatal(err)
					}
				}
			}
			st, err := s.Stats(t.Context())
			if err != nil || st.Messages != 0 || st.Queued != 0 || st.Bytes != 0 {
				t.Errorf("after the end: %+v, %v", st, err)
			}
		})
	}
}

// checkCounts compares counters with a recount.
func checkCounts(t *testing.T, s *Store) {
	t.Helper()
	var want spool.Stats
	ids := map[mta.ID]bool{}
	if err := s.List(t.Context(), spool.Filter{}, func(d *mta.Delivery) bool {
		want.Queued++
		if !ids[d.Message.ID] {
			want.Messages++
			want.Bytes += d.Message.Size
		}
		ids[d.Message.ID] = true
		return true
	}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Stats(t.Context())
	want.Oldest = got.Oldest
	if err != nil || got != want {
		t.Errorf("counters %+v, recount %+v, %v", got, want, err)
	}
}

// TestDamageMetBySettle: a damaged delivery is gone for its settlement, and
// does not stop the others of the same call.
func TestDamageMetBySettle(t *testing.T) {
	t.Parallel()
	s, subs := damaged(t)
	defer mustClose(t, s)
	if err := s.db.Set(deliveryKey(nil, subs[1].Deliveries[0].Key()), []byte("rubbish"), pdb.Sync); err != nil {
		t.Fatal(err)
	}
	gone, err := s.Settle(t.Context(), outcome(subs[1].Deliveries[0], mta.EventDelivered, nil), outcome(subs[0].Deliveries[0], mta.EventDelivered, nil))
	if err != nil || len(gone) != 1 || gone[0] != subs[1].Deliveries[0].Key() {
		t.Fatalf("%v %v", gone, err)
	}
	readAll(t, s)
	checkCounts(t, s)
	if v, err := get(s.db, append([]byte{tableSetAside}, deliveryKey(nil, gone[0])...)); err != nil || string(v) != "rubbish" {
		t.Fatalf("set aside: %q %v", v, err)
	}
}

// TestDamagedContent: never a wrong octet to a peer.
func TestDamagedContent(t *testing.T) {
	t.Parallel()
	o := Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet, FreshBytes: -1, SharedBytes: -1}
	s := mustOpen(t, o)
	defer mustClose(t, s)
	var ids []mta.ID
	for n, size := range []int{100, 100, 70000, 70000, 70000} {
		sub := testSub(t, s, n+1, size, "a@one.example")
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, sub.Message.ID)
	}
	body := func(i int) []byte { return idKey(nil, tableBodies, ids[i]) }
	rewrite := func(i, size int) {
		f, err := o.FS.Create(s.bodies.path(ids[i]), vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if err := errors.Join(s.db.Delete(body(0), pdb.Sync), s.db.Set(body(1), make([]byte, 100), pdb.Sync), o.FS.Remove(s.bodies.path(ids[2]))); err != nil {
		t.Fatal(err)
	}
	rewrite(3, 70000)
	rewrite(4, 10)
	for i, id := range ids {
		if _, err := s.Open(t.Context(), id); !errors.Is(err, spool.ErrCorrupt) {
			t.Errorf("content %d: %v", i, err)
		}
	}
	if s.Corrupt() != int64(len(ids)) {
		t.Errorf("%d counted", s.Corrupt())
	}
}

// TestDamagedBlock: a block of a table file that cannot be read hides the
// records in it, and no others, and the store works on.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	var hidden, counted atomic.Int64
	t.Run("file", func(t *testing.T) {
		for nth := range 12 {
			t.Run(fmt.Sprint(nth), func(t *testing.T) {
				t.Parallel()
				damagedBlock(t, nth, &hidden, &counted)
			})
		}
	})
	if hidden.Load() == 0 || counted.Load() == 0 {
		t.Errorf("%d records hidden, %d counted: nothing was damaged", hidden.Load(), counted.Load())
	}
}

func damagedBlock(t *testing.T, nth int, hidden, counted *atomic.Int64) {
	o := Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet, FreshBytes: -1, blockSize: 512}
	s := mustOpen(t, o)
	const total = 500
	for n := 1; n <= total; n++ {
		if err := s.Put(t.Context(), testSub(t, s, n, 10, fmt.Sprintf("a@d%d.example", n%50))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	damageTable(t, o.FS, nth)
	s = mustOpen(t, o)
	defer mustClose(t, s)
	pages, lists, records := readAll(t, s)
	t.Logf("%d in pages, %d in the list, %d records of %d", pages, lists, records, total)
	if least := total * 9 / 10; lists < least || records < least || pages < least {
		t.Error("one block hides more than its records")
	}
	hidden.Add(int64(3*total - lists - records - pages))
	counted.Add(s.Corrupt())
	fresh := testSub(t, s, total+1, 10, "new@new.example")
	if err := s.Put(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if err := settleOne(s, outcome(fresh.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), fresh.Message.ID); !errors.Is(err, spool.ErrNotFound) {
		t.Fatalf("delivered, and still there: %v", err)
	}
}

// damageTable flips an octet of one table file, nth counted round, away from
// the end, where the index is.
func damageTable(t *testing.T, mem vfs.FS, nth int) {
	t.Helper()
	names, err := mem.List("spool/db")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".sst") })
	slices.Sort(names)
	path := "spool/db/" + names[nth%len(names)]
	fi, err := mem.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], fi.Size()*2/5); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], fi.Size()*2/5); err != nil {
		t.Fatal(err)
	}
}
