package pebble

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// TestSharedPages gives and takes at random, and compares with a list of every
// page.
func TestSharedPages(t *testing.T) {
	t.Parallel()
	const pages = 200
	var a shared
	a.mu.byID = map[mta.ID]*extent{}
	a.file, a.limit, a.mu.free = &nullFile{}, pages, []run{{0, pages}}
	used := [pages]bool{}
	live := map[mta.ID]run{}
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 20000 {
		if rng.IntN(2) == 0 {
			id := mta.ID{byte(n >> 16), byte(n >> 8), byte(n)}
			size := int64(1 + rng.IntN(20*pageSize))
			e := a.place(id, size)
			if e == nil {
				if longest(used[:]) >= int(pagesFor(size)) {
					t.Fatalf("no room for %d pages in %v", pagesFor(size), a.mu.free)
				}
				continue
			}
			for p := e.page; p < e.end(); p++ {
				if used[p] {
					t.Fatalf("page %d was given twice", p)
				}
				used[p] = true
			}
			live[id] = e.run
			continue
		}
		for id, r := range live {
			if !a.free(id) || a.free(id) {
				t.Fatal("free")
			}
			for p := r.page; p < r.end(); p++ {
				used[p] = false
			}
			delete(live, id)
			break
		}
	}
	for id := range live {
		a.free(id)
	}
	if !slices.Equal(a.mu.free, []run{{0, pages}}) {
		t.Fatalf("left in pieces: %v", a.mu.free)
	}
}

type nullFile struct{ vfs.File }

func longest(used []bool) (most int) {
	n := 0
	for _, u := range used {
		if n++; u {
			n = 0
		}
		most = max(most, n)
	}
	return most
}

// TestSharedFileIsFull: a content that finds no room goes to a file of its own,
// and one that comes when there is room again does not; also after a restart
// with a smaller limit.
func TestSharedFileIsFull(t *testing.T) {
	t.Parallel()
	o := Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, SharedBytes: 40 * pageSize}
	s := mustOpen(t, o)
	var subs []*spool.Submission
	put := func(n int) {
		t.Helper()
		sub := testSub(t, s, n, 70000, "a@one.example") // 18 pages
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	expect := func(shared, files int) {
		t.Helper()
		checkStore(t, s)
		if got := len(bodyFiles(t, o.FS)); len(s.shared.mu.byID) != shared || got != files {
			t.Fatalf("%d in the shared file and %d in their own, want %d and %d", len(s.shared.mu.byID), got, shared, files)
		}
	}
	put(1)
	put(2)
	put(3)
	expect(2, 1)
	if err := settleOne(s, outcome(subs[0].Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatal(err)
	}
	put(4)
	expect(3-1, 1)
	mustClose(t, s)
	o.SharedBytes = 10 * pageSize
	s = mustOpen(t, o)
	defer func() { mustClose(t, s) }()
	put(5)
	expect(2, 2)
	for i := range subs[1:] {
		if err := settleOne(s, outcome(subs[i+1].Deliveries[0], mta.EventDelivered, nil)); err != nil {
			t.Fatal(err)
		}
	}
	expect(0, 0)
}

// TestReaderKeepsItsPages: pages are not given to another message while
// somebody reads them.
func TestReaderKeepsItsPages(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, SharedBytes: 20 * pageSize})
	defer mustClose(t, s)
	first := testSub(t, s, 1, 70000, "a@one.example")
	if err := s.Put(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	s.fresh.clear()
	c, err := s.Open(t.Context(), first.Message.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := settleOne(s, outcome(first.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), testSub(t, s, 2, 70000, "a@one.example")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 17)
	if _, err := c.ReadAt(p, 0); err != nil || string(p) != "line of message 1" {
		t.Fatalf("%q %v", p, err)
	}
	if len(s.shared.mu.free) != 1 || s.shared.mu.free[0].pages != 2 {
		t.Fatalf("free while it is read: %v", s.shared.mu.free)
	}
	_ = c.Close()
	_ = c.Close()
	if len(s.shared.mu.free) != 1 || s.shared.mu.free[0].pages != 20 {
		t.Fatalf("after it was read: %v", s.shared.mu.free)
	}
}

// TestPagesAreFreeAfterTheCommit: while the commit that removes a message is
// not on stable storage, nobody writes over its content.
func TestPagesAreFreeAfterTheCommit(t *testing.T) {
	t.Parallel()
	var hold atomic.Bool
	syncing, goOn := make(chan struct{}, 100), make(chan struct{})
	touched := make(chan string, 100)
	hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case !hold.Load():
		case isLog(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo):
			syncing <- struct{}{}
			<-goOn
		case op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpRename:
			touched <- op.Path
		}
		return nil
	})
	o := Options{Dir: "spool", FS: errorfs.Wrap(vfs.NewMem(), hook), Reserve: -1, SharedBytes: 20 * pageSize}
	s := mustOpen(t, o)
	defer mustClose(t, s)
	first, second := testSub(t, s, 1, 70000, "a@one.example"), testSub(t, s, 2, 70000, "a@one.example")
	if err := s.Put(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	hold.Store(true)
	done := make(chan error, 2)
	go func() { done <- settleOne(s, outcome(first.Deliveries[0], mta.EventDelivered, nil)) }()
	<-syncing
	go func() { done <- s.Put(tctx, second) }()
	if path := <-touched; strings.HasSuffix(path, "contents") {
		t.Error("pages were written before the commit that freed them was on stable storage")
	}
	hold.Store(false)
	close(goOn)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), testSub(t, s, 3, 70000, "a@one.example")); err != nil {
		t.Fatal(err)
	}
	if len(s.shared.mu.byID) != 1 {
		t.Fatal("pages stay taken behind the commit")
	}
	checkStore(t, s)
}

// TestTrap37_SharedFileFails: an error of the shared file is the sender's to
// hear and leaves nothing behind; after a sync that failed, contents go to
// files of their own, and what was stored before stays readable.
func TestTrap37_SharedFileFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind errorfs.OpKind
		err  error
		own  int // files of their own afterwards
	}{
		"EIO on write":    {errorfs.OpFileWriteAt, syscall.EIO, 0},
		"ENOSPC on write": {errorfs.OpFileWriteAt, syscall.ENOSPC, 0},
		"EIO on sync":     {errorfs.OpFileSyncData, syscall.EIO, 1},
		"ENOSPC on sync":  {errorfs.OpFileSyncData, syscall.ENOSPC, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: -1, Logger: quiet})
			defer func() { mustClose(t, s) }()
			victim := testSub(t, s, 3, 90000, "c@one.example")
			if err := s.Put(t.Context(), victim); err != nil {
				t.Fatal(err)
			}
			f.set(func(op errorfs.Op) error {
				if strings.HasSuffix(op.Path, "contents") && op.Kind == c.kind {
					return &vfsError{op.Path, c.err}
				}
				return nil
			})
			refused := func(err error) {
				t.Helper()
				if !errors.Is(err, c.err) || errors.Is(err, spool.ErrFull) != (c.err == syscall.ENOSPC) {
					t.Fatalf("error %v", err)
				}
				s.space.isFull.Store(false)
			}
			refused(s.Put(t.Context(), testSub(t, s, 1, 90000, "a@one.example")))
			f.set(func(errorfs.Op) error { return nil })
			if len(s.shared.mu.byID) != 1 {
				t.Fatalf("places left: %v", s.shared.mu.byID)
			}
			if err := s.Put(t.Context(), testSub(t, s, 1, 90000, "a@one.example")); err != nil {
				t.Fatalf("the store does not go on: %v", err)
			}
			if left := bodyFiles(t, f.mem); len(left) != c.own {
				t.Fatalf("files: %v", left)
			}
			checkStore(t, s)
			again := mustOpen(t, Options{Dir: "spool", FS: f.clone(), Reserve: -1})
			checkStore(t, again)
			mustClose(t, again)
		})
	}
}

// TestSyncIsShared: a sync that began before a write does not answer for it,
// and one answers for all that were written before it began.
func TestSyncIsShared(t *testing.T) {
	t.Parallel()
	f := &gateFile{began: make(chan struct{}, 9), goOn: make(chan struct{})}
	var a shared
	a.round.L = &a.round.Mutex
	a.file = f
	done := make(chan error, 10)
	go func() { done <- a.sync() }()
	<-f.began
	for range 8 {
		go func() { done <- a.sync() }()
	}
	f.goOn <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-f.began
	select {
	case <-done:
		t.Fatal("the sync before the write answered for it")
	default:
	}
	close(f.goOn)
	for range 8 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

type gateFile struct {
	vfs.File
	began, goOn chan struct{}
}

func (f *gateFile) SyncData() error {
	f.began <- struct{}{}
	<-f.goOn
	return nil
}

// TestDamagedPlace: a damaged entry of table f costs its message, and those
// whose place it claims; no wrong octet is read.
func TestDamagedPlace(t *testing.T) {
	t.Parallel()
	o := Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet}
	s := mustOpen(t, o)
	var ids []mta.ID
	for n := 1; n <= 4; n++ {
		sub := testSub(t, s, n, 70000, "a@one.example")
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, sub.Message.ID)
	}
	overlap := appendExtent(nil, s.shared.mu.byID[ids[3]])
	err := errors.Join(
		s.db.Set(idKey(nil, tableShared, ids[0]), []byte("rubbish"), pdb.Sync),
		s.db.Set(idKey(nil, tableShared, ids[2]), overlap, pdb.Sync), // the later one loses
	)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, o)
	defer mustClose(t, s)
	for i, id := range ids {
		c, err := s.Open(t.Context(), id)
		if good := i == 1; good != (err == nil) || !good && !errors.Is(err, spool.ErrCorrupt) {
			t.Errorf("message %d: %v", i, err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}
