package pebble

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A file that pebble cannot read at all must not keep it busy for ever: without
// a pause it tries again at once, on a whole core, with a line of log each time.
func TestDamagedFileIsNoHotLoop(t *testing.T) {
	t.Parallel()
	paused := make(chan struct{}, 100)
	o := Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet, FreshBytes: -1}
	o.pause = func(closing <-chan struct{}) {
		paused <- struct{}{}
		<-closing
	}
	s := mustOpen(t, o)
	for n := 1; n <= 3; n++ {
		if err := s.Put(t.Context(), testSub(t, s, n, 100, "a@one.example")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	damageIndexes(t, o.FS)
	s = mustOpen(t, o)
	<-paused
	if n := len(paused); n > 0 {
		t.Errorf("%d more tries while the first waits", n)
	}
	mustClose(t, s) // does not wait for the pause
}

// damageIndexes flips octets before the footer of every table file.
func damageIndexes(t *testing.T, mem vfs.FS) {
	t.Helper()
	names, err := mem.List("spool/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".sst") }) {
		f, err := mem.OpenReadWrite("spool/db/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		at := fi.Size() - 400
		b := make([]byte, 200)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 0xff
		}
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPebbleLogIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	l := &pebbleLog{now: func() time.Time { return now }}
	told, last := 0, 0
	try := func(n int) {
		for range n {
			if untold, ok := l.mayTell(); ok {
				told++
				last = untold
			}
		}
	}
	try(1000)
	if told != logBurst {
		t.Errorf("%d lines at once", told)
	}
	now = now.Add(logWindow)
	told = 0
	try(1)
	if told != 1 || last != 1000-logBurst {
		t.Errorf("%d lines in the next window, which tells of %d", told, last)
	}
	now = now.Add(-time.Hour) // the clock is set back
	told = 0
	try(100)
	if told != logBurst {
		t.Errorf("%d lines after the clock was set back", told)
	}
}
