package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// formatVersion is the format of the keys and values of this package. A store
// of a newer format is refused; an older one is converted at Open, once there
// is one.
const formatVersion = 1

// Store is the embedded engine of spool.Store.
type Store struct {
	opts   Options
	log    *slog.Logger
	fs     vfs.FS // reports a full disk to space
	dir    string
	tmpDir string
	db     *pdb.DB
	lock   *pdb.Lock
	streak int
	space  *space
	fresh  *fresh
	bodies *bodies
	shared shared
	gaps   gaps
	recent recent // guarded by commit
	feed   feed
	drafts atomic.Uint64
	// big is how many octets of buffers over smallBody drafts hold.
	big atomic.Int64

	// life keeps the store open while operations run. An operation may start
	// another one (a callback of List may call Get), so Close does not hold the
	// mutex while it waits.
	life struct {
		sync.RWMutex
		closed  bool
		running sync.WaitGroup
	}

	commit struct {
		sync.Mutex
		txn txn // reused by every commit
	}

	sweep struct {
		cancel context.CancelFunc
		done   chan struct{}
	}

	closing chan struct{} // closed when Close begins to end pebble
	failure failure
	stats   struct {
		applied, commits, messages, settlements, octets atomic.Uint64
		corrupt                                         atomic.Int64
		syncs                                           syncTimes
	}
	tally tally
}

var _ spool.Store = (*Store)(nil)

// Metrics are numbers since the start.
type Metrics struct {
	Commits     uint64 // batches written and synced
	Messages    uint64 // messages put, reports included
	Settlements uint64 // outcomes applied
	BatchBytes  uint64 // octets of the batches
	LogBytes    uint64 // octets written to the log, framing included
	TableBytes  uint64 // octets written to table files by flushes and compactions
	Corrupt     int64  // records set aside, and contents found damaged
}

// Metrics gives the numbers; cheap enough for every scrape.
func (s *Store) Metrics() Metrics {
	m := Metrics{
		Commits: s.stats.commits.Load(), Messages: s.stats.messages.Load(), Settlements: s.stats.settlements.Load(),
		BatchBytes: s.stats.octets.Load(), Corrupt: s.stats.corrupt.Load(),
	}
	if s.enter(context.Background()) != nil {
		return m
	}
	defer s.leave()
	p := s.db.Metrics()
	m.LogBytes = p.WAL.BytesWritten
	for i := range p.Levels {
		m.TableBytes += p.Levels[i].TableBytesFlushed + p.Levels[i].TableBytesCompacted
	}
	return m
}

// Corrupt is how many records were set aside, and contents found damaged,
// since the start.
func (s *Store) Corrupt() int64 { return s.stats.corrupt.Load() }

// Failed is closed when the log could not be written: the store refuses
// everything from then on, and the process is to end and start again.
func (s *Store) Failed() <-chan struct{} { return s.failure.ch }

// failure is the end of a store whose log cannot be written.
type failure struct {
	once sync.Once
	err  atomic.Pointer[error]
	ch   chan struct{}
}

func (f *failure) get() error {
	if p := f.err.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends the store for good, and gives the error that callers get.
func (s *Store) fail(cause error) error {
	s.failure.once.Do(func() {
		err := diskError("the spool's log cannot be written, restart needed", cause)
		s.failure.err.Store(&err)
		close(s.failure.ch)
		s.log.Error("the spool failed; nothing accepted is lost, but a restart is needed", mta.KeyError, cause, mta.KeyPath, s.dir)
	})
	return s.failure.get()
}

// usable is nil while the store takes work.
func (s *Store) usable() error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return spool.ErrClosed
	}
	return s.failure.get()
}

// enter begins an operation; leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return spool.ErrClosed
	}
	if err := s.failure.get(); err != nil {
		return err
	}
	s.life.running.Add(1)
	return nil
}

func (s *Store) leave() { s.life.running.Done() }

// Open opens the store in o.Dir, or makes it. It returns spool.ErrLocked when
// another process holds it. ctx ends the work of opening, not the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Store{opts: o, log: o.Logger, dir: o.Dir}
	s.failure.ch = make(chan struct{})
	s.closing = make(chan struct{})
	s.fresh = newFresh(o.FreshBytes)
	s.space = &space{
		fs: o.FS, dir: o.Dir, path: o.FS.PathJoin(o.Dir, "reserve"),
		minFree: uint64(o.MinFree), reserve: uint64(o.Reserve), now: o.Now,
	}
	s.fs = vfs.OnDiskFull(orderedFS{o.FS}, s.space.diskFull)
	s.bodies = newBodies(s.fs, s.fs.PathJoin(o.Dir, "bodies"))
	s.tmpDir = s.bodies.tmpDir
	if err := s.open(); err != nil {
		close(s.closing)
		if s.db != nil {
			_ = s.db.Close()
		}
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, err
	}
	s.startSweep()
	return s, nil
}

func (s *Store) open() error {
	dbDir := s.fs.PathJoin(s.dir, "db")
	if err := makeDir(s.fs, dbDir); err != nil {
		return diskError("make the spool's directory", err)
	}
	// A run that was cut short may have made it and not synced its name. The
	// directory above may not be ours to open; then it was not made by us.
	_ = syncDir(s.fs, s.fs.PathDir(s.dir))
	if err := s.takeLock(dbDir); err != nil {
		return err
	}
	if err := s.bodies.start(); err != nil {
		return diskError("prepare the spool's directory "+s.dir, err)
	}
	if err := syncDir(s.fs, s.dir); err != nil {
		return diskError("sync the spool's directory "+s.dir, err)
	}
	s.space.start()
	if err := s.openDB(dbDir); err != nil {
		return err
	}
	if err := s.checkVersion(); err != nil {
		return err
	}
	if err := s.markRunning(); err != nil {
		return err
	}
	if err := s.recent.start(s.db); err != nil {
		return err
	}
	if err := s.startJournal(); err != nil {
		return err
	}
	s.feed.start(s.commit.txn.journal.next)
	if err := s.shared.start(s, s.fs.PathJoin(s.dir, "contents"), s.opts.SharedBytes); err != nil {
		return diskError("open the shared file of contents", err)
	}
	return nil
}

// takeLock keeps a second process out.
func (s *Store) takeLock(dbDir string) error {
	lock, err := pdb.LockDirectory(dbDir, s.fs)
	if err == nil {
		s.lock = lock
		return nil
	}
	// Failing to make the file is a path error; anything else is the lock.
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return diskError("lock the spool", err)
	}
	return fmt.Errorf("%w: %s (%w)", spool.ErrLocked, s.dir, err)
}

func (s *Store) openDB(dbDir string) (err error) {
	log := &pebbleLog{s: s, now: time.Now}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("open the spool in %s: %v", s.dir, r)
		}
		log.opened.Store(true)
	}()
	o := &pdb.Options{
		FS:                          s.fs,
		Lock:                        s.lock,
		Logger:                      log,
		Merger:                      counterMerger,
		CacheSize:                   s.opts.CacheBytes,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 3,
		WALMinSyncInterval:          (&pace{applied: &s.stats.applied}).next,
		L0CompactionThreshold:       8, // what is flushed is little, mostly journal: rewrite it seldom
		L0StopWritesThreshold:       32,
		FormatMajorVersion:          pdb.FormatWALSyncChunks,
		EventListener: &pdb.EventListener{
			BackgroundError: log.background,
			DataCorruption:  log.corruption,
		},
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = s.opts.blockSize
	}
	o.Experimental.SpanPolicyFunc = fileForEachTable
	s.db, err = pdb.Open(dbDir, o)
	if err != nil {
		return diskError("open the spool in "+s.dir, err)
	}
	return nil
}

// fileForEachTable makes every flush and compaction begin a new file at the
// next table. Most tables grow at their end; so their new files overlap no old
// ones and are moved down, where files that hold a bit of every table would
// overlap, and rewrite, everything.
func fileForEachTable(start []byte) (pdb.SpanPolicy, []byte, error) {
	if len(start) == 0 {
		return pdb.SpanPolicy{}, nil, nil
	}
	return pdb.SpanPolicy{}, []byte{start[0] + 1}, nil
}

// get reads a whole value; nil when there is none.
func get(r pdb.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, closer.Close()
}

// number reads a value that is one number; 0 when there is none.
func (s *Store) number(key []byte) (uint64, error) {
	v, err := get(s.db, key)
	if err != nil || v == nil {
		return 0, err
	}
	n, k := binary.Uvarint(v)
	if k <= 0 {
		return 0, fmt.Errorf("%w: key %q", spool.ErrCorrupt, key)
	}
	return n, nil
}

func (s *Store) checkVersion() error {
	v, err := s.number(keyVersion)
	if pdb.IsCorruptionError(err) {
		// Refusing would stop all mail for one damaged block. Every record
		// checks itself, so a store of another format would be noticed.
		s.damage("the format cannot be read; taken for the one that this mailout writes", keyVersion, err)
		v, err = 0, nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("read the format of the spool in %s: %w", s.dir, err)
	case v == 0:
		return s.set(keyVersion, formatVersion)
	case v > formatVersion:
		return fmt.Errorf("the spool in %s has format %d, written by a newer mailout; this one knows formats up to %d: use the newer version, or let it deliver everything first", s.dir, v, formatVersion)
	}
	return nil
}

func (s *Store) set(key []byte, n uint64) error {
	err := s.db.Set(key, binary.AppendUvarint(nil, n), pdb.Sync)
	return diskError("write the spool in "+s.dir, err)
}

// markRunning counts this start, until Close takes the count back.
func (s *Store) markRunning() error {
	n, err := s.number(keyRun)
	if err != nil {
		// A damaged count must not keep mail from going: take it for one crash.
		n = 1
	}
	s.streak = int(min(n, 1<<20))
	return s.set(keyRun, n+1)
}

// Streak implements spool.Store.
func (s *Store) Streak() int { return s.streak }

// Close implements spool.Store. It waits for operations that run; drafts that
// are still open are lost.
func (s *Store) Close() error {
	s.life.Lock()
	was := s.life.closed
	s.life.closed = true
	s.life.Unlock()
	if was {
		return spool.ErrClosed
	}
	s.sweep.cancel()
	<-s.sweep.done
	s.life.running.Wait()
	s.fresh.clear()
	if err := s.failure.get(); err != nil {
		// Pebble must not go on writing after its log failed; its goroutines
		// and the lock go with the process.
		return err
	}
	err := s.set(keyRun, 0)
	close(s.closing)
	if cerr := s.shared.close(); err == nil {
		err = cerr
	}
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	if cerr := s.lock.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close the spool in %s: %w", s.dir, err)
	}
	return nil
}

// makeDir makes a directory and those above it, so that they are there after a
// crash.
func makeDir(f vfs.FS, dir string) error {
	if _, err := f.Stat(dir); err == nil {
		return nil
	}
	parent := f.PathDir(dir)
	if parent != dir && parent != "." {
		if err := makeDir(f, parent); err != nil {
			return err
		}
	}
	if err := f.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(f, parent)
}

// syncDir makes the names in a directory durable.
func syncDir(f vfs.FS, dir string) error {
	d, err := f.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
