package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

var quiet = slog.New(slog.DiscardHandler)

func testTime(n int) time.Time {
	return time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)
}

// testSub makes a submission; n makes its ID.
func testSub(t testing.TB, s *Store, n int, size int, recipients ...string) *spool.Submission {
	t.Helper()
	d, err := s.Draft()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := fillSub(d, n, size, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func fillSub(d spool.Draft, n int, size int, recipients ...string) (*spool.Submission, error) {
	content := strings.Repeat(fmt.Sprintf("line of message %d\r\n", n), size/16+1)[:size]
	if _, err := io.WriteString(d, content); err != nil {
		return nil, err
	}
	now := testTime(n)
	m := &mta.Message{
		ID: mta.NewID(now, [10]byte{byte(n >> 8), byte(n), 7, 9: byte(n)}), Arrived: now, Size: int64(size), Stream: mta.DefaultStream,
		MessageID: fmt.Sprintf("<%d@x.example>", n), Envelope: mta.Envelope{Sender: "s@x.example"},
	}
	sub := &spool.Submission{Message: m, Content: d}
	for i, r := range recipients {
		domain := r[strings.IndexByte(r, '@')+1:]
		sub.Deliveries = append(sub.Deliveries, &mta.Delivery{
			Message: m, N: uint32(i), Due: now, Destination: mta.Destination{Domain: domain, Stream: mta.DefaultStream},
			Recipients: []mta.Recipient{{Address: r}},
		})
		sub.Records = append(sub.Records, &mta.Record{
			Time: now, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream, Sender: m.Envelope.Sender,
			Recipient: r, Destination: domain, Size: m.Size,
		})
	}
	m.Deliveries = len(sub.Deliveries)
	return sub, nil
}

func outcome(d *mta.Delivery, ev mta.Event, next *mta.Delivery) *spool.Settlement {
	return &spool.Settlement{Delivery: d.Key(), Next: next, Records: []*mta.Record{{
		Time: d.Due, Event: ev, ID: d.Message.ID, MessageID: d.Message.MessageID, Stream: mta.DefaultStream,
		Sender: d.Message.Envelope.Sender, Recipient: d.Recipients[0].Address, Destination: d.Destination.Domain, Size: d.Message.Size,
	}}}
}

func settleOne(s *Store, st *spool.Settlement) error {
	gone, err := s.Settle(tctx, st)
	if err == nil && len(gone) > 0 {
		err = spool.ErrNotFound
	}
	return err
}

// script is a life of the spool, one durable step after another.
func script(t testing.TB, s *Store) []func() error {
	var steps []func() error
	add := func(f func() error) { steps = append(steps, f) }
	put := func(n, size int, rcpts ...string) *spool.Submission {
		d, err := s.Draft()
		if err != nil {
			t.Fatal(err)
		}
		sub, err := fillSub(d, n, size, rcpts...)
		if err != nil {
			t.Fatal(err)
		}
		add(func() error { return s.Put(tctx, sub) })
		return sub
	}
	for i := range 4 {
		n := 10 * (i + 1)
		small := put(n, 500, "a@one.example")
		large := put(n+1, 70000+i*1000, "b@two.example")
		multi := put(n+2, 100, "c@one.example", "d@two.example", "e@three.example")
		next := *multi.Deliveries[1]
		next.State, next.Due, next.Attempts = mta.Deferred, testTime(500+n), 1
		add(func() error { return settleOne(s, outcome(multi.Deliveries[1], mta.EventDeferred, &next)) })
		add(func() error { return settleOne(s, outcome(small.Deliveries[0], mta.EventDelivered, nil)) })
		if i%2 == 1 {
			add(s.db.Flush)
		}
		d, err := s.Draft()
		if err != nil {
			t.Fatal(err)
		}
		report, err := fillSub(d, n+3, 66000, "s@x.example")
		if err != nil {
			t.Fatal(err)
		}
		failed := outcome(large.Deliveries[0], mta.EventFailed, nil)
		failed.Reports = []*spool.Submission{report}
		add(func() error { return settleOne(s, failed) })
		add(func() error { return settleOne(s, outcome(multi.Deliveries[0], mta.EventDelivered, nil)) })
		add(func() error { return s.Begin(tctx, next.Key(), testTime(600+n)) })
		if i%3 != 2 {
			add(func() error { return settleOne(s, outcome(multi.Deliveries[2], mta.EventDelivered, nil)) })
			add(func() error { return settleOne(s, outcome(&next, mta.EventDelivered, nil)) })
		}
		if i == 2 {
			add(func() error { return s.Prune(tctx, testTime(n-15)) })
		}
	}
	return steps
}

var tctx = context.Background()

// TestCrashAtEveryWrite cuts the power before every operation on the file
// system, keeping all, some or none of what was not synced, and finds after
// the start the state before or after the step that was cut: nothing
// acknowledged is lost, nothing is half done.
func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	states := scriptStates(t)
	for name, o := range map[string]Options{
		"shared file":          {},
		"written as they come": {SharedBytes: -1, FreshBytes: -1},
		"little room":          {SharedBytes: 20 * pageSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crashAtEveryWrite(t, o, states)
		})
	}
}

func crashAtEveryWrite(t *testing.T, o Options, states []string) {
	o.Dir, o.Reserve, o.Logger = "spool", -1, quiet
	mem := vfs.NewCrashableMem()
	var done atomic.Int64 // steps acknowledged
	type crash struct {
		fs       *vfs.MemFS
		from, to int64
	}
	var mu sync.Mutex
	var crashes []crash
	rng := rand.New(rand.NewPCG(1, 2))
	var live atomic.Bool
	hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || !live.Load() {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng}
		from := done.Load()
		c := mem.CrashClone(cfg)
		crashes = append(crashes, crash{c, from, done.Load()})
		return nil
	})
	o.FS = errorfs.Wrap(mem, hook)
	s := mustOpen(t, o)
	steps := script(t, s)
	live.Store(true)
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		done.Add(1)
	}
	live.Store(false)
	mustClose(t, s)
	if len(crashes) < len(steps) {
		t.Fatalf("only %d crashes in %d steps", len(crashes), len(steps))
	}
	for i, c := range crashes {
		o.FS = c.fs
		s := mustOpen(t, o)
		checkStore(t, s)
		got := dump(t, s)
		ok := false
		for k := c.from; k <= min(c.to+1, int64(len(steps))); k++ {
			ok = ok || got == states[k]
		}
		if !ok {
			t.Fatalf("crash %d in step %d:\n%s\nwant\n%s\nor\n%s", i, c.from, got, states[c.from], states[min(c.from+1, int64(len(steps)))])
		}
		if s.Streak() != 1 {
			t.Fatalf("streak %d", s.Streak())
		}
		<-s.sweep.done
		if left := bodyFiles(t, c.fs); len(left)+len(s.shared.mu.byID) != largeMessages(t, s) {
			t.Fatalf("body files %v for\n%s", left, got)
		}
		mustClose(t, s)
	}
	t.Logf("%d crashes in %d steps", len(crashes), len(steps))
}

// scriptStates gives the state before the first and after every step.
func scriptStates(t *testing.T) []string {
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1})
	defer mustClose(t, s)
	states := []string{dump(t, s)}
	for i, step := range script(t, s) {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		states = append(states, dump(t, s))
	}
	checkStore(t, s)
	return states
}

func largeMessages(t *testing.T, s *Store) int {
	ids := map[mta.ID]bool{}
	if err := s.List(t.Context(), spool.Filter{}, func(d *mta.Delivery) bool {
		if d.Message.Size > smallBody {
			ids[d.Message.ID] = true
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return len(ids)
}

func bodyFiles(t *testing.T, fs vfs.FS) (out []string) {
	t.Helper()
	dirs, err := fs.List("spool/bodies")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		names, err := fs.List("spool/bodies/" + d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, names...)
	}
	return out
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrashUnderLoad cuts the power at random moments while many callers put
// and settle, and holds the store to what each of them had been told.
func TestCrashUnderLoad(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, Options{Dir: "spool", FS: mem, Reserve: -1})
	l := &ledger{stored: map[mta.ID]bool{}, ending: map[mta.ID]bool{}, ended: map[mta.ID]bool{}}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				if err := l.one(t, s, 1+w*40+i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 6 {
		l.waitFor(n * 50)
		stored, _, ended := l.copy()
		clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 40, RNG: rng})
		_, ending, _ := l.copy()
		c := mustOpen(t, Options{Dir: "spool", FS: clone, Reserve: -1})
		checkStore(t, c)
		for id := range stored {
			if _, err := c.Get(t.Context(), id); err != nil && !ending[id] {
				t.Errorf("message %s was acknowledged and is lost: %v", id, err)
			}
		}
		for id := range ended {
			if _, err := c.Get(t.Context(), id); err == nil {
				t.Errorf("message %s was settled and is back", id)
			}
		}
		mustClose(t, c)
	}
	wg.Wait()
	checkStore(t, s)
	mustClose(t, s)
}

// ledger is what the callers were told.
type ledger struct {
	sync.Mutex
	stored, ending, ended map[mta.ID]bool
	waiting               int
	reached               chan struct{}
}

func (l *ledger) one(t *testing.T, s *Store, n int) error {
	sub := testSub(t, s, n, 100+n%3*40000, "a@one.example")
	if err := s.Put(tctx, sub); err != nil {
		return err
	}
	l.note(l.stored, sub.Message.ID)
	if n%4 == 0 {
		return nil
	}
	l.note(l.ending, sub.Message.ID)
	if err := settleOne(s, outcome(sub.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		return err
	}
	l.note(l.ended, sub.Message.ID)
	return nil
}

func (l *ledger) note(m map[mta.ID]bool, id mta.ID) {
	l.Lock()
	defer l.Unlock()
	m[id] = true
	if l.reached != nil && len(l.stored) >= l.waiting {
		close(l.reached)
		l.reached = nil
	}
}

// waitFor waits until n messages are stored.
func (l *ledger) waitFor(n int) {
	l.Lock()
	if len(l.stored) >= n {
		l.Unlock()
		return
	}
	ch := make(chan struct{})
	l.waiting, l.reached = n, ch
	l.Unlock()
	<-ch
}

func (l *ledger) copy() (stored, ending, ended map[mta.ID]bool) {
	l.Lock()
	defer l.Unlock()
	dup := func(m map[mta.ID]bool) map[mta.ID]bool {
		out := make(map[mta.ID]bool, len(m))
		for id := range m {
			out[id] = true
		}
		return out
	}
	return dup(l.stored), dup(l.ending), dup(l.ended)
}

// TestBodyFileGoesAfterTheCommit: at the moment when a file is removed, a
// power cut must not bring its message back. (The crashes above cannot show
// it: their file system undoes removals that were not synced.)
func TestBodyFileGoesAfterTheCommit(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex
	var clones []*vfs.MemFS
	hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemove && strings.Contains(op.Path, "bodies") {
			mu.Lock()
			defer mu.Unlock()
			clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{}))
		}
		return nil
	})
	s := mustOpen(t, Options{Dir: "spool", FS: errorfs.Wrap(mem, hook), Reserve: -1, SharedBytes: -1})
	sub := testSub(t, s, 1, 70000, "a@one.example")
	if err := s.Put(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if err := settleOne(s, outcome(sub.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	if len(clones) == 0 {
		t.Fatal("the file stays")
	}
	for _, clone := range clones { // the sweep after the start may remove it as well
		c := mustOpen(t, Options{Dir: "spool", FS: clone, Reserve: -1})
		if _, err := c.Get(t.Context(), sub.Message.ID); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("the file goes before the commit is on the disk: %v", err)
		}
		mustClose(t, c)
	}
}
