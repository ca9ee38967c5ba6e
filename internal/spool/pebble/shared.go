package pebble

// The shared file holds contents of middle size, smallBody to largeBody, in
// runs of pages.
//
// Goal: a content that is too large for the log costs one write and its part
// of one sync, as a small one does; no file to make, name, sync and remove for
// each message, and no write of the file system's own records about it.
//
// Method: pages are given first fit from the front, so the same blocks of the
// disk are written again and again, and a sync has nothing to say about the
// file itself. One fdatasync serves everybody who wrote before it began. What
// lies where stands in table f, written and removed in the batches that put
// and remove the message, and in memory: a few ten thousand entries at most.
// Pages are free again once the commit that removed their message is on stable
// storage and the last reader has closed.
//
// Rejected: contents in the log (copied four times, and written again with
// every flush that comes before the delivery); segments that are appended to
// (one deferred message keeps a whole segment); a file each with shared syncs
// (making, renaming and removing a file cost more than writing it).
//
// Limits: Options.SharedBytes. When no run is long enough the content goes to a
// file of its own.

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
)

const (
	// pageSize is the unit of the shared file, in octets.
	pageSize = 4 << 10
	// keptShared is the size up to which an empty shared file is kept at start.
	keptShared = 64 << 20
	// maxSharedPages keeps offsets far from any limit.
	maxSharedPages = 1 << 28
)

// run is a run of pages.
type run struct{ page, pages uint32 }

func (r run) end() uint32 { return r.page + r.pages }

// extent is where one content lies.
type extent struct {
	run
	size int64
	refs int // the message, and readers; guarded by shared.mu
}

// shared is the shared file and what lies in it. The zero limit is none.
type shared struct {
	file  vfs.File
	limit uint32 // pages

	mu struct {
		sync.Mutex
		byID map[mta.ID]*extent
		free []run // by page, none touching the next
	}
	round struct {
		sync.Mutex
		sync.Cond
		running        bool
		begun, settled uint64 // syncs
		broken         error  // the first sync that failed; sticks
	}
}

func pagesFor(size int64) uint32 { return uint32((size + pageSize - 1) / pageSize) }

// start opens the shared file, and learns from table f what lies in it.
func (a *shared) start(s *Store, path string, limit int64) error {
	a.mu.byID = make(map[mta.ID]*extent)
	a.round.L = &a.round.Mutex
	a.limit = uint32(min(max(limit, 0)/pageSize, maxSharedPages))
	if a.limit > 0 {
		a.mu.free = []run{{0, a.limit}}
	}
	a.load(s)
	if len(a.mu.byID) == 0 {
		if fi, err := s.fs.Stat(path); err == nil && (a.limit == 0 || fi.Size() > keptShared) {
			_ = s.fs.Remove(path)
		}
		if a.limit == 0 {
			return nil
		}
	}
	var err error
	if a.file, err = s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err != nil {
		return err
	}
	return syncDir(s.fs, s.dir)
}

// load reads table f. An entry that cannot be, is set aside: its message is
// found damaged when it is opened.
func (a *shared) load(s *Store) {
	var damaged [][]byte
	s.each([]byte{tableShared}, func(k, v []byte) {
		e, ok := decodeExtent(v)
		if !ok || len(k) != messageKeyLen || !a.take(e.run) {
			damaged = append(damaged, slices.Clone(k))
			return
		}
		a.mu.byID[mta.ID(k[1:])] = e
	})
	for _, k := range damaged {
		s.setAsideRecord("the place of a content is damaged", k)
	}
}

// take takes a run that is known to be in use out of the free ones.
func (a *shared) take(r run) bool {
	if r.end() > a.limit { // the limit was larger once
		a.give(run{a.limit, r.end() - a.limit})
		a.limit = r.end()
	}
	for i, f := range a.mu.free {
		if f.page <= r.page && r.end() <= f.end() {
			var rest []run
			if f.page < r.page {
				rest = append(rest, run{f.page, r.page - f.page})
			}
			if r.end() < f.end() {
				rest = append(rest, run{r.end(), f.end() - r.end()})
			}
			a.mu.free = slices.Replace(a.mu.free, i, i+1, rest...)
			return true
		}
	}
	return false
}

// give makes a run free.
func (a *shared) give(r run) {
	i, _ := slices.BinarySearchFunc(a.mu.free, r.page, func(f run, page uint32) int {
		return int(f.page) - int(page)
	})
	if i > 0 && a.mu.free[i-1].end() == r.page {
		i--
		r = run{a.mu.free[i].page, a.mu.free[i].pages + r.pages}
		a.mu.free = slices.Delete(a.mu.free, i, i+1)
	}
	if i < len(a.mu.free) && a.mu.free[i].page == r.end() {
		r.pages += a.mu.free[i].pages
		a.mu.free[i] = r
		return
	}
	a.mu.free = slices.Insert(a.mu.free, i, r)
}

// place finds room for a content; nil when there is none.
func (a *shared) place(id mta.ID, size int64) *extent {
	if a.file == nil || a.failed() != nil {
		return nil
	}
	need := pagesFor(size)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.byID[id] != nil {
		return nil // a second message of this ID, which Put is about to refuse
	}
	for i := range a.mu.free {
		f := &a.mu.free[i]
		if f.pages < need {
			continue
		}
		e := &extent{run: run{f.page, need}, size: size, refs: 1}
		f.page, f.pages = f.page+need, f.pages-need
		if f.pages == 0 {
			a.mu.free = slices.Delete(a.mu.free, i, i+1)
		}
		a.mu.byID[id] = e
		return e
	}
	return nil
}

// write fills an extent; nothing is durable yet.
func (a *shared) write(e *extent, p []byte) error {
	for off := int64(e.page) * pageSize; len(p) > 0; {
		n, err := a.file.WriteAt(p, off)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// sync returns once everything that was written before the call is on stable
// storage. After a sync that failed the kernel may have dropped what others
// wrote meanwhile, and the next sync would not tell: so every sync fails from
// then on, and contents go to files of their own until the next start. What
// was synced before is not touched by that.
func (a *shared) sync() error {
	r := &a.round
	r.Lock()
	defer r.Unlock()
	for need := r.begun + 1; r.settled < need && r.broken == nil; {
		if r.running {
			r.Wait()
			continue
		}
		r.running = true
		r.begun++
		n := r.begun
		r.Unlock()
		err := a.file.SyncData()
		r.Lock()
		r.running, r.settled = false, n
		if err != nil && r.broken == nil {
			r.broken = fmt.Errorf("sync the shared file of contents: %w", err)
		}
		r.Broadcast()
	}
	return r.broken
}

func (a *shared) failed() error {
	a.round.Lock()
	defer a.round.Unlock()
	return a.round.broken
}

// has reports whether a message's content lies here.
func (a *shared) has(id mta.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.byID[id] != nil
}

// free lets a content go that no commit names, or none any more. It reports
// false for one that does not lie here.
func (a *shared) free(id mta.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.mu.byID[id]
	if e == nil {
		return false
	}
	delete(a.mu.byID, id)
	a.drop(e)
	return true
}

// drop ends one hold; the mutex is held.
func (a *shared) drop(e *extent) {
	if e.refs--; e.refs == 0 {
		a.give(e.run)
	}
}

// open gives a content to be read, nil when it does not lie here.
func (a *shared) open(id mta.ID) *sharedContent {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.mu.byID[id]
	if e == nil {
		return nil
	}
	e.refs++
	return &sharedContent{a: a, e: e}
}

func (a *shared) close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// sharedContent is content in the shared file.
type sharedContent struct {
	a    *shared
	e    *extent
	once sync.Once
}

// Size implements spool.Content.
func (c *sharedContent) Size() int64 { return c.e.size }

// Bytes implements spool.Content.
func (c *sharedContent) Bytes() []byte { return nil }

// ReadAt implements io.ReaderAt.
func (c *sharedContent) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= c.e.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > c.e.size-off
	if short {
		p = p[:c.e.size-off]
	}
	n, err := c.a.file.ReadAt(p, int64(c.e.page)*pageSize+off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (c *sharedContent) Close() error {
	c.once.Do(func() {
		c.a.mu.Lock()
		defer c.a.mu.Unlock()
		c.a.drop(c.e)
	})
	return nil
}

// setExtent adds the place of a content to the batch.
func (t *txn) setExtent(id mta.ID, e *extent) {
	t.val = appendExtent(t.val[:0], e)
	t.key = idKey(t.key[:0], tableShared, id)
	_ = t.b.Set(t.key, t.val, nil)
}

// dropExtent removes it, if there is one.
func (t *txn) dropExtent(id mta.ID) {
	if t.s.shared.has(id) {
		t.key = idKey(t.key[:0], tableShared, id)
		_ = t.b.SingleDelete(t.key, (*pdb.WriteOptions)(nil))
	}
}

func appendExtent(b []byte, e *extent) []byte {
	from := len(b)
	b = binary.AppendUvarint(b, uint64(e.page))
	return seal(binary.AppendUvarint(b, uint64(e.size)), from)
}

func decodeExtent(v []byte) (*extent, bool) {
	v, ok := unseal(v)
	if !ok {
		return nil, false
	}
	r := reader{b: v}
	page, size := r.uvarint(), r.uvarint()
	if r.bad || len(r.b) != 0 || page >= maxSharedPages || size == 0 || size > largeBody {
		return nil, false
	}
	return &extent{run: run{uint32(page), pagesFor(int64(size))}, size: int64(size), refs: 1}, true
}
