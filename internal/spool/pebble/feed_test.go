package pebble

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// followAll reads the whole feed behind a position: what stands where.
func followAll(t *testing.T, s *Store, after spool.Position) map[spool.Position]string {
	t.Helper()
	out := map[spool.Position]string{}
	for {
		next, err := s.Follow(tctx, after, func(at spool.Position, r *mta.Record) bool {
			out[at] = fmt.Sprint(r.ID, " ", r.Event, " ", r.Recipient)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if next == after {
			return out
		}
		after = next
	}
}

// TestFeedAcrossCrashes cuts the power before every write and sync. What the
// feed had told by then stands in the same place after the start, and what
// comes later gets a later place: a position that was kept skips nothing.
func TestFeedAcrossCrashes(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	type crash struct {
		fs   *vfs.MemFS
		told map[spool.Position]string
		kept spool.Position
	}
	var mu sync.Mutex
	var crashes []crash
	var s *Store
	var live bool
	hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if !live {
			return nil
		}
		live = false // reading the feed may not come back here
		told := followAll(t, s, spool.Position{})
		crashes = append(crashes, crash{mem.CrashClone(vfs.CrashCloneCfg{}), told, s.End()})
		live = true
		return nil
	})
	s = mustOpen(t, Options{Dir: "spool", FS: errorfs.Wrap(mem, hook), Reserve: -1, Logger: quiet, SharedBytes: -1})
	steps := script(t, s)
	mu.Lock()
	live = true
	mu.Unlock()
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if i == 20 {
			break // before the script prunes
		}
	}
	mu.Lock()
	live = false
	mu.Unlock()
	mustClose(t, s)
	if len(crashes) < 20 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, c := range crashes {
		after := mustOpen(t, Options{Dir: "spool", FS: c.fs, Reserve: -1, Logger: quiet})
		found := followAll(t, after, spool.Position{})
		for at, what := range c.told {
			if found[at] != what {
				t.Fatalf("crash %d: at %s the feed told of %q; after the start there is %q", i, at, what, found[at])
			}
		}
		if err := after.Put(tctx, testSub(t, after, 900, 10, "new@one.example")); err != nil {
			t.Fatal(err)
		}
		rest := followAll(t, after, c.kept)
		if want := len(found) - len(c.told) + 1; len(rest) != want {
			t.Fatalf("crash %d: %d records behind the position that was kept, want %d", i, len(rest), want)
		}
		mustClose(t, after)
	}
}

// TestFeedSkipsDamage: a damaged entry is set aside, counted, and the feed
// goes on behind it.
func TestFeedSkipsDamage(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet})
	defer mustClose(t, s)
	for n := range 3 {
		if err := s.Put(t.Context(), testSub(t, s, n+1, 10, "a@one.example", "b@one.example")); err != nil {
			t.Fatal(err)
		}
	}
	all := followAll(t, s, spool.Position{})
	second := journalKey(nil, s.End().Entry-2)
	v, err := get(s.db, second)
	if err != nil || v == nil {
		t.Fatal(err)
	}
	v[len(v)-6] ^= 1
	if err := s.db.Set(second, v, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := followAll(t, s, spool.Position{}); len(got) != len(all)-2 {
			t.Fatalf("%d of %d records, want all but two", len(got), len(all))
		}
		if s.Corrupt() != 1 {
			t.Fatalf("counted %d damaged entries, want 1", s.Corrupt())
		}
	}
	if err := s.SaveFollower(t.Context(), spool.Follower{Name: "x", State: []byte("state")}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Set(followerKey("x"), []byte("nonsense"), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Followers(t.Context()); err != nil || len(got) != 0 || s.Corrupt() != 2 {
		t.Fatalf("a damaged follower: %v, %v, %d damaged", got, err, s.Corrupt())
	}
}

// TestFeedCostsNothingAlone: without somebody who waits a commit leaves the
// channel as it is.
func TestFeedCostsNothingAlone(t *testing.T) {
	var f feed
	f.start(1)
	was := f.next()
	if n := testing.AllocsPerRun(100, func() { f.synced(f.durable.Load() + 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if f.next() != was {
		t.Error("a new channel, and nobody waits")
	}
}
