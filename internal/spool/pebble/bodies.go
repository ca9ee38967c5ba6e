package pebble

import (
	"context"
	"encoding/hex"
	"sync"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
)

// bodies are the files of large contents.
type bodies struct {
	fs     vfs.FS
	dir    string
	tmpDir string
	mu     struct {
		sync.Mutex
		made    [256]bool       // sub-directories known to be durable
		pending map[mta.ID]bool // in place, and their commit not done yet
	}
}

func newBodies(fs vfs.FS, dir string) *bodies {
	b := &bodies{fs: fs, dir: dir, tmpDir: fs.PathJoin(dir, "tmp")}
	b.mu.pending = make(map[mta.ID]bool)
	return b
}

// start makes the directories and removes the drafts that the last run left.
func (b *bodies) start() error {
	if err := b.fs.MkdirAll(b.tmpDir, 0o700); err != nil {
		return err
	}
	names, err := b.fs.List(b.tmpDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := b.fs.Remove(b.fs.PathJoin(b.tmpDir, n)); err != nil {
			return err
		}
	}
	return syncDir(b.fs, b.dir)
}

// sub is the sub-directory of a message's file: by the last octet of the ID,
// which is random.
func (b *bodies) sub(n byte) string {
	return b.fs.PathJoin(b.dir, hex.EncodeToString([]byte{n}))
}

func (b *bodies) path(id mta.ID) string {
	return b.fs.PathJoin(b.sub(id[len(id)-1]), id.String())
}

// install gives a synced file its name, durably. The sweep leaves it alone
// until done is called for it.
func (b *bodies) install(tmp string, id mta.ID) error {
	n := id[len(id)-1]
	b.mu.Lock()
	b.mu.pending[id] = true
	made := b.mu.made[n]
	b.mu.Unlock()
	if !made {
		if err := b.makeSub(n); err != nil {
			b.done(id)
			return err
		}
	}
	err := b.fs.Rename(tmp, b.path(id))
	if err == nil {
		if err = syncDir(b.fs, b.sub(n)); err != nil {
			b.remove(id)
		}
	}
	if err != nil {
		b.done(id)
	}
	return err
}

func (b *bodies) makeSub(n byte) error {
	if err := b.fs.MkdirAll(b.sub(n), 0o700); err != nil {
		return err
	}
	if err := syncDir(b.fs, b.dir); err != nil {
		return err
	}
	b.mu.Lock()
	b.mu.made[n] = true
	b.mu.Unlock()
	return nil
}

// done says that a file's commit is over.
func (b *bodies) done(id mta.ID) {
	b.mu.Lock()
	delete(b.mu.pending, id)
	b.mu.Unlock()
}

func (b *bodies) isPending(id mta.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.pending[id]
}

// remove removes the file of a message that is gone. An error only leaves it
// to the sweep.
func (b *bodies) remove(id mta.ID) { _ = b.fs.Remove(b.path(id)) }

// startSweep removes, in the background, the files that no message names: of
// puts that a crash cut short, and of messages whose end it cut short.
func (s *Store) startSweep() {
	ctx, cancel := context.WithCancel(context.Background())
	s.sweep.cancel, s.sweep.done = cancel, make(chan struct{})
	go func() {
		defer close(s.sweep.done)
		for n := range 256 {
			if ctx.Err() != nil {
				return
			}
			s.sweepDir(ctx, byte(n))
		}
	}()
}

func (s *Store) sweepDir(ctx context.Context, n byte) {
	names, err := s.fs.List(s.bodies.sub(n))
	if err != nil {
		return // most often: it does not exist
	}
	for _, name := range names {
		id, err := mta.ParseID(name)
		if err != nil || ctx.Err() != nil {
			continue
		}
		s.sweepFile(ctx, id)
	}
}

// sweepFile removes one file if it is an orphan. The order of the questions
// matters: a file that was listed and is not pending belongs to a commit that
// is over, so the store knows its message, or nobody does. That a message is
// gone is visible before it is durable: the removal waits for the log, or a
// crash could bring a message back whose file is no more.
func (s *Store) sweepFile(ctx context.Context, id mta.ID) {
	if s.bodies.isPending(id) || s.enter(ctx) != nil {
		return
	}
	defer s.leave()
	var k [2 + idLen]byte
	for _, key := range [][]byte{idKey(k[:0:0], tableMessages, id), idKey(append(k[:0:0], tableSetAside), tableMessages, id)} {
		v, err := get(s.db, key)
		if err != nil || v != nil {
			return
		}
	}
	if s.db.LogData(nil, pdb.Sync) != nil {
		return
	}
	s.bodies.remove(id)
}
