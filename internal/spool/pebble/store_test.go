package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// lockDir makes the test binary play the second process.
const lockDir = "MAILOUT_TEST_LOCK_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockDir); dir != "" {
		_, err := Open(context.Background(), Options{Dir: dir, Reserve: -1})
		if errors.Is(err, spool.ErrLocked) {
			os.Stdout.WriteString(err.Error())
			os.Exit(75)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir, Reserve: -1})
	defer mustClose(t, s)
	if _, err := Open(t.Context(), Options{Dir: dir, Reserve: -1}); !errors.Is(err, spool.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("in one process: %v", err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockDir+"="+dir)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 75 || !bytes.Contains(out, []byte(dir)) {
		t.Fatalf("a second process: %v, %q", err, out)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: file}); err == nil || errors.Is(err, spool.ErrLocked) {
		t.Fatalf("a file as directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Dir: "spool", FS: vfs.NewMem()}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := Options{Dir: "spool", FS: fs, Reserve: -1}
	s := mustOpen(t, o)
	if err := s.db.Set(keyVersion, binary.AppendUvarint(nil, formatVersion+1), pdb.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	for range 2 { // the lock is free again after a refusal
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "format 2, written by a newer mailout") {
			t.Fatal(err)
		}
	}
}

func TestStreak(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	for want := range 3 {
		s := mustOpen(t, Options{Dir: "spool", FS: mem, Reserve: -1})
		if s.Streak() != want {
			t.Fatalf("streak %d, want %d", s.Streak(), want)
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		mustClose(t, s)
		mem = crashed
	}
	s := mustOpen(t, Options{Dir: "spool", FS: mem, Reserve: -1})
	mustClose(t, s)
	s = mustOpen(t, Options{Dir: "spool", FS: mem, Reserve: -1})
	defer mustClose(t, s)
	if s.Streak() != 0 {
		t.Fatalf("streak %d after an orderly close", s.Streak())
	}
}

// TestCloseEndsGoroutines cannot run beside others.
func TestCloseEndsGoroutines(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1})
	if err := s.Put(t.Context(), testSub(t, s, 1, 100, "a@one.example")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	goleak.VerifyNone(t, ignore)
}

// TestFreshBudget: what is over the budget is read from the store.
func TestFreshBudget(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, FreshBytes: int64(3 * (bufferSizes[0] + freshOverhead))})
	defer mustClose(t, s)
	var ids []mta.ID
	for n := 1; n <= 10; n++ {
		sub := testSub(t, s, n, 4000, "a@one.example")
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, sub.Message.ID)
		if s.fresh.mu.used > s.fresh.budget || len(s.fresh.mu.byID) != min(n, 3) {
			t.Fatalf("%d octets of %d, %d messages", s.fresh.mu.used, s.fresh.budget, len(s.fresh.mu.byID))
		}
	}
	for _, id := range ids {
		c, err := s.Open(t.Context(), id)
		if err != nil || len(c.Bytes()) != 4000 {
			t.Fatalf("%v", err)
		}
		_ = c.Close()
		_ = c.Close() // a second close gives nothing back twice
	}
	for _, id := range ids {
		s.fresh.forget(id)
	}
	if s.fresh.mu.used != 0 || s.fresh.mu.first != nil || s.fresh.mu.last != nil {
		t.Fatalf("%d octets are left", s.fresh.mu.used)
	}
}

// TestOrphansAreSwept: files that no message names go, others stay.
func TestOrphansAreSwept(t *testing.T) {
	t.Parallel()
	o := Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, SharedBytes: -1, FreshBytes: -1}
	s := mustOpen(t, o)
	sub := testSub(t, s, 1, 70000, "a@one.example")
	if err := s.Put(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	d, err := s.Draft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(make([]byte, 70000)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	orphan := mta.ID{5, 15: sub.Message.ID[15]}
	for _, path := range []string{s.bodies.path(orphan), s.bodies.sub(orphan[15]) + "/README"} {
		f, err := o.FS.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if len(bodyFiles(t, o.FS)) != 4 {
		t.Fatal(bodyFiles(t, o.FS))
	}
	s = mustOpen(t, o)
	<-s.sweep.done
	mustClose(t, s)
	if got := bodyFiles(t, o.FS); len(got) != 2 { // the message's, and the stranger
		t.Fatal(got)
	}
}

// TestManyBuckets: the recipient index over several buckets, and pruning
// whole ones.
func TestManyBuckets(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1})
	defer mustClose(t, s)
	for n := 1; n <= 40; n++ {
		s.commit.txn.journal.next = uint64(n) << 14 // four messages a bucket
		sub := testSub(t, s, n, 10, "a@one.example", "B@two.example")
		if err := s.Put(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		if n%10 == 0 {
			continue
		}
		for _, d := range sub.Deliveries {
			if err := settleOne(s, outcome(d, mta.EventDelivered, nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func(address string) (n int) {
		if err := s.Records(t.Context(), spool.RecordFilter{Recipient: address}, func(*mta.Record) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b, c := count("a@one.example"), count("b@TWO.example"), count("c@one.example"); a != 76 || b != 76 || c != 0 {
		t.Fatal(a, b, c)
	}
	if err := s.Prune(t.Context(), testTime(35)); err != nil {
		t.Fatal(err)
	}
	if a := count("a@one.example"); a != 3+2*5+1 {
		t.Fatal(a)
	}
	checkStore(t, s)
	// Keys of the index that are left: for each message two recipients and the
	// Message-ID.
	it, err := s.newScan(s.db, []byte{tableRecipients}, []byte{tableRecipients + 1})
	if err != nil {
		t.Fatal(err)
	}
	defer it.close()
	n := 0
	for ok := it.first(); ok; ok = it.next() {
		n++
	}
	if n != 3*9 {
		t.Fatalf("%d keys in the recipient index", n)
	}
}

// TestMetrics: cheap numbers, right ones.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1})
	sub := testSub(t, s, 1, 4096, "a@one.example")
	if err := s.Put(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if err := settleOne(s, outcome(sub.Deliveries[0], mta.EventDelivered, nil)); err != nil {
		t.Fatal(err)
	}
	m := s.Metrics()
	if m.Commits != 2 || m.Messages != 1 || m.Settlements != 1 || m.Corrupt != 0 {
		t.Fatalf("%+v", m)
	}
	// The promise of the disk: 1.3 times the size of a 4 KB message, of which
	// the log may take 1.22.
	if limit := uint64(4096 * 122 / 100); m.BatchBytes > limit {
		t.Fatalf("%d octets for a message of 4096, limit %d", m.BatchBytes, limit)
	}
	mustClose(t, s)
	if s.Metrics().Commits != 2 {
		t.Fatal("metrics of a closed store")
	}
}
