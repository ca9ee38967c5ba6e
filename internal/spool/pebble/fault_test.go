package pebble

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// faulty is a file system that fails on demand.
type faulty struct {
	vfs.FS
	mem  *vfs.MemFS
	fail atomic.Pointer[func(errorfs.Op) error]
	free atomic.Uint64
}

func newFaulty() *faulty {
	f := &faulty{mem: vfs.NewCrashableMem()}
	f.free.Store(1 << 40)
	f.FS = errorfs.Wrap(f.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fn := f.fail.Load(); fn != nil {
			return (*fn)(op)
		}
		return nil
	}))
	return f
}

func (f *faulty) set(fn func(errorfs.Op) error) { f.fail.Store(&fn) }

func (f *faulty) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load()}, nil
}

// clone is what is on the disk, as after a power cut.
func (f *faulty) clone() vfs.FS { return f.mem.CrashClone(vfs.CrashCloneCfg{}) }

func isLog(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

// TestTrap37_LogFails: when the log cannot be written or synced, callers get
// an error, the store refuses everything from then on, and what was
// acknowledged is there after the restart.
func TestTrap37_LogFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kinds []errorfs.OpKind
		err   error
		full  bool
	}{
		"EIO on write":    {[]errorfs.OpKind{errorfs.OpFileWrite}, syscall.EIO, false},
		"EIO on sync":     {[]errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}, syscall.EIO, false},
		"ENOSPC for good": {[]errorfs.OpKind{errorfs.OpFileWrite}, syscall.ENOSPC, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: -1, Logger: quiet})
			first := testSub(t, s, 1, 100, "a@one.example")
			if err := s.Put(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			second := testSub(t, s, 2, 100, "b@one.example")
			f.set(func(op errorfs.Op) error {
				for _, k := range c.kinds {
					if isLog(op) && op.Kind == k {
						return &vfsError{op.Path, c.err}
					}
				}
				return nil
			})
			err := s.Put(t.Context(), second)
			if !errors.Is(err, c.err) || errors.Is(err, spool.ErrFull) != c.full {
				t.Fatalf("Put on a broken log: %v", err)
			}
			select {
			case <-s.Failed():
			default:
				t.Fatal("Failed is not closed")
			}
			f.set(func(errorfs.Op) error { return nil })
			if _, err := s.Draft(); !errors.Is(err, c.err) {
				t.Fatalf("a failed store goes on: %v", err)
			}
			if _, err := s.Settle(t.Context(), outcome(first.Deliveries[0], mta.EventDelivered, nil)); !errors.Is(err, c.err) {
				t.Fatalf("a failed store settles: %v", err)
			}
			if err := s.Close(); !errors.Is(err, c.err) {
				t.Fatalf("Close: %v", err)
			}
			again := mustOpen(t, Options{Dir: "spool", FS: f.clone(), Reserve: -1})
			checkStore(t, again)
			if _, err := again.Get(t.Context(), first.Message.ID); err != nil {
				t.Fatalf("acknowledged and lost: %v", err)
			}
			if again.Streak() != 1 {
				t.Fatalf("streak %d", again.Streak())
			}
			mustClose(t, again)
		})
	}
}

// vfsError is an error as the system gives it.
type vfsError struct {
	path string
	err  error
}

func (e *vfsError) Error() string { return e.path + ": " + e.err.Error() }
func (e *vfsError) Unwrap() error { return e.err }

// TestTrap37_BodyFileFails: no error on the way of a large content leaves
// anything behind but the error, and the store goes on.
func TestTrap37_BodyFileFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind errorfs.OpKind
		err  error
	}{
		{errorfs.OpCreate, syscall.EIO}, {errorfs.OpCreate, syscall.ENOSPC}, {errorfs.OpFileWrite, syscall.EIO}, {errorfs.OpFileWrite, syscall.ENOSPC},
		{errorfs.OpFileSync, syscall.EIO}, {errorfs.OpMkdirAll, syscall.EIO}, {errorfs.OpRename, syscall.EIO}, {errorfs.OpOpenDir, syscall.EIO},
	} {
		t.Run(fmt.Sprintf("%d %v", c.kind, c.err), func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: -1, Logger: quiet, SharedBytes: -1})
			defer func() { mustClose(t, s) }()
			<-s.sweep.done
			victim := testSub(t, s, 3, 100, "c@one.example")
			if err := s.Put(t.Context(), victim); err != nil {
				t.Fatal(err)
			}
			broken := func(op errorfs.Op) error {
				if strings.Contains(op.Path, "bodies") && op.Kind == c.kind {
					return &vfsError{op.Path, c.err}
				}
				return nil
			}
			f.set(broken)
			try := func(n int, hand func(*spool.Submission) error) {
				t.Helper()
				d, err := s.Draft()
				if err != nil {
					t.Fatal(err)
				}
				sub, err := fillSub(d, n, 90000, "a@one.example")
				if err == nil {
					err = hand(sub)
				}
				d.Discard()
				if !errors.Is(err, c.err) || errors.Is(err, spool.ErrFull) != (c.err == syscall.ENOSPC) {
					t.Fatalf("error %v", err)
				}
			}
			try(1, func(sub *spool.Submission) error { return s.Put(t.Context(), sub) })
			s.space.isFull.Store(false) // new mail comes again after a full disk
			try(2, func(sub *spool.Submission) error {
				st := outcome(victim.Deliveries[0], mta.EventFailed, nil)
				st.Reports = []*spool.Submission{sub}
				_, err := s.Settle(t.Context(), st)
				return err
			})
			f.set(func(errorfs.Op) error { return nil })
			s.space.isFull.Store(false)
			if left := bodyFiles(t, f.mem); len(left) > 0 {
				t.Fatalf("files left: %v", left)
			}
			checkStore(t, s)
			if _, err := s.Get(t.Context(), victim.Message.ID); err != nil {
				t.Fatalf("a settlement that failed was applied: %v", err)
			}
			if err := s.Put(t.Context(), testSub(t, s, 1, 90000, "a@one.example")); err != nil {
				t.Fatalf("the store does not go on: %v", err)
			}
		})
	}
}

// TestShortWrite: a write that takes less than it was given, without an
// error, is continued.
func TestShortWrite(t *testing.T) {
	t.Parallel()
	for _, shared := range []int64{-1, 1 << 20} {
		s := mustOpen(t, Options{Dir: "spool", FS: &shortFS{vfs.NewMem()}, Reserve: -1, SharedBytes: shared})
		sub := testSub(t, s, 1, 200000, "a@one.example")
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		s.fresh.clear()
		c, err := s.Open(t.Context(), sub.Message.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, io.NewSectionReader(c, 0, c.Size())); n != 200000 || err != nil {
			t.Fatalf("%d octets, %v", n, err)
		}
		_ = c.Close()
		mustClose(t, s)
	}
}

// shortFS writes at most 1,000 octets of a body at a time.
type shortFS struct{ vfs.FS }

func (f *shortFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err == nil && strings.Contains(name, "bodies") {
		return shortFile{file}, nil
	}
	return file, err
}

type shortFile struct{ vfs.File }

func (f shortFile) Write(p []byte) (int, error) { return f.File.Write(p[:min(len(p), 1000)]) }

func (f shortFile) WriteAt(p []byte, off int64) (int, error) {
	return f.File.WriteAt(p[:min(len(p), 1000)], off)
}

func (f *shortFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	if err == nil && strings.HasSuffix(name, "contents") {
		return shortFile{file}, nil
	}
	return file, err
}

// TestTrap37_DiskNearlyFull: under the watermark new mail is refused, outcomes
// are taken; above it mail is taken again.
func TestTrap37_DiskNearlyFull(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	now := testTime(0)
	s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: -1, MinFree: 1000, Now: func() time.Time { return now }})
	defer mustClose(t, s)
	sub, late := testSub(t, s, 1, 100, "a@one.example"), testSub(t, s, 2, 100, "a@one.example")
	if err := s.Put(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	f.free.Store(999)
	now = now.Add(999 * time.Millisecond)
	d, err := s.Draft()
	if err != nil {
		t.Fatal("free space was asked for again within a second")
	}
	d.Discard()
	now = now.Add(time.Millisecond)
	if _, err := s.Draft(); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Draft: %v", err)
	}
	if err := s.Put(t.Context(), late); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Put: %v", err)
	}
	if err := settleOne(s, outcome(sub.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	f.free.Store(1000)
	now = now.Add(time.Second)
	if err := s.Put(t.Context(), testSub(t, s, 3, 100, "a@one.example")); err != nil {
		t.Fatal(err)
	}
	checkStore(t, s)
}

// TestTrap37_DiskFullWhileSettling: the reserve is given up so that an outcome
// is still written; new mail is refused until there is room for a new reserve.
func TestTrap37_DiskFullWhileSettling(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	now := testTime(0)
	s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: 1 << 20, MinFree: 1000, Now: func() time.Time { return now }})
	defer mustClose(t, s)
	sub := testSub(t, s, 1, 100, "a@one.example")
	if err := s.Put(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	reserved := func() bool {
		_, err := f.mem.Stat("spool/reserve")
		return err == nil
	}
	if !reserved() {
		t.Fatal("no reserve")
	}
	f.set(func(op errorfs.Op) error { // full until the reserve is gone
		if isLog(op) && op.Kind == errorfs.OpFileWrite && reserved() {
			return &vfsError{op.Path, syscall.ENOSPC}
		}
		return nil
	})
	if err := settleOne(s, outcome(sub.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatalf("Settle on a full disk: %v", err)
	}
	if reserved() {
		t.Fatal("the reserve is still there")
	}
	if _, err := s.Draft(); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Draft: %v", err)
	}
	f.free.Store(1 << 20) // not enough for reserve and watermark
	now = now.Add(time.Second)
	if _, err := s.Draft(); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Draft: %v", err)
	}
	f.free.Store(1 << 30)
	now = now.Add(time.Second)
	d, err := s.Draft()
	if err != nil || !reserved() {
		t.Fatalf("Draft with space again: %v, reserve %t", err, reserved())
	}
	d.Discard()
	checkStore(t, s)
}
