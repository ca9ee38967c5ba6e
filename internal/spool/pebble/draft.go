package pebble

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/spool"
)

// smallBody is the largest content that is kept in a record.
const smallBody = 64 << 10

// largeBody is the largest content that is kept in the shared file. Larger
// content goes to a file of its own.
const largeBody = 1 << 20

// bufferSizes are the sizes of the buffers of contents. A draft starts with
// the first: most mail fits, and more of it fits in the budget of fresh
// contents. Those over smallBody are under a budget of their own.
var bufferSizes = [...]int{8 << 10, smallBody, 128 << 10, 256 << 10, 512 << 10, largeBody}

// buffers are the pools, one for each of bufferSizes.
var buffers [len(bufferSizes)]sync.Pool

// sizeClass is the place of the smallest buffer for n octets, or
// len(bufferSizes).
func sizeClass(n int) int {
	for i, size := range bufferSizes {
		if n <= size {
			return i
		}
	}
	return len(bufferSizes)
}

// body is content in memory with the number of its holders. The last one to
// release it gives the buffer back; a holder that never does only costs the
// reuse.
type body struct {
	refs atomic.Int32
	data []byte
}

// newBody gives an empty buffer for n octets or more, with one holder.
func newBody(n int) *body {
	var b *body
	if i := sizeClass(n); i < len(bufferSizes) {
		if b, _ = buffers[i].Get().(*body); b == nil {
			b = &body{data: make([]byte, 0, bufferSizes[i])}
		}
	} else {
		b = &body{data: make([]byte, 0, n)}
	}
	b.data = b.data[:0]
	b.refs.Store(1)
	return b
}

func (b *body) release() {
	if b.refs.Add(-1) != 0 {
		return
	}
	if i := sizeClass(cap(b.data)); i < len(bufferSizes) && bufferSizes[i] == cap(b.data) {
		buffers[i].Put(b)
	}
}

// draft implements spool.Draft. The content is in buf until it is larger than
// largeBody, or larger than smallBody with the budget used up; from then on buf
// is the write buffer of file.
type draft struct {
	s     *Store
	buf   *body // nil after Discard, or when the store took it
	size  int64
	crc   uint32
	large bool     // the content is in a file
	file  vfs.File // nil while small, and once it is synced
	path  string   // of the file while it is ours to remove
	facts *facts   // of the message it became
	big   int64    // what buf takes of the budget of large buffers
	// extent is its place in the shared file, once it has one.
	extent *extent
	err    error // the first failure; sticks
}

// Draft implements spool.Store.
func (s *Store) Draft() (spool.Draft, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if s.space.full() {
		return nil, spool.ErrFull
	}
	return &draft{s: s, buf: newBody(0)}, nil
}

// Size implements spool.Draft.
func (d *draft) Size() int64 { return d.size }

// Write implements io.Writer.
func (d *draft) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.buf == nil {
		return 0, fmt.Errorf("write to a draft that was put or discarded: %w", spool.ErrClosed)
	}
	d.crc = crc32.Update(d.crc, castagnoli, p)
	n := len(p)
	for len(p) > 0 {
		if err := d.room(len(p)); err != nil {
			d.err = diskError("write a message", err)
			return n - len(p), d.err
		}
		k := min(len(p), cap(d.buf.data)-len(d.buf.data))
		d.buf.data = append(d.buf.data, p[:k]...)
		d.size += int64(k)
		p = p[k:]
	}
	return n, nil
}

// room makes the buffer accept at least one more octet of n.
func (d *draft) room(n int) error {
	have := len(d.buf.data)
	if !d.large && have+n > cap(d.buf.data) {
		d.grow(have + n)
	}
	if have < cap(d.buf.data) {
		return nil
	}
	if !d.large {
		if err := d.create(); err != nil {
			return err
		}
	}
	if err := d.flush(); err != nil || cap(d.buf.data) <= smallBody {
		return err
	}
	d.buf.release()
	d.unbudget()
	d.buf = newBody(smallBody)
	return nil
}

// grow goes over to a larger buffer, for n octets if it may be so large.
func (d *draft) grow(n int) {
	i := min(sizeClass(n), len(bufferSizes)-1)
	for bufferSizes[i] > smallBody && !d.budget(int64(bufferSizes[i])) {
		i--
	}
	if bufferSizes[i] <= cap(d.buf.data) {
		return
	}
	grown := newBody(bufferSizes[i])
	grown.data = append(grown.data, d.buf.data...)
	d.buf.release()
	d.buf = grown
}

// budget asks for a buffer of n octets instead of the present one.
func (d *draft) budget(n int64) bool {
	if d.s.big.Add(n-d.big) > d.s.opts.FreshBytes/2 {
		d.s.big.Add(d.big - n)
		return false
	}
	d.big = n
	return true
}

// unbudget gives the budget back.
func (d *draft) unbudget() {
	if d.big != 0 {
		d.s.big.Add(-d.big)
		d.big = 0
	}
}

// inRecord reports whether the content is to be kept in a record.
func (d *draft) inRecord() bool { return !d.large && d.size <= smallBody }

func (d *draft) create() (err error) {
	s := d.s
	d.path = s.fs.PathJoin(s.tmpDir, strconv.FormatUint(s.drafts.Add(1), 10))
	d.file, err = s.fs.Create(d.path, vfs.WriteCategoryUnspecified)
	d.large = err == nil
	return err
}

// flush writes the buffer to the file.
func (d *draft) flush() error {
	b := d.buf.data
	d.buf.data = b[:0]
	for len(b) > 0 {
		n, err := d.file.Write(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// sync brings a file to stable storage and closes it; the name is not durable
// yet. Nothing for small content.
func (d *draft) sync() error {
	if d.err != nil || !d.large {
		return d.err
	}
	err := d.flush()
	if err == nil {
		err = d.file.Sync()
	}
	if cerr := d.file.Close(); err == nil {
		err = cerr
	}
	d.file = nil
	if err != nil {
		d.err = diskError("write a message", err)
	}
	return d.err
}

// Discard implements spool.Draft.
func (d *draft) Discard() {
	if d.buf == nil {
		return
	}
	d.buf.release()
	d.unbudget()
	d.buf = nil
	if d.file != nil {
		_ = d.file.Close()
		d.file = nil
	}
	if d.path != "" {
		_ = d.s.fs.Remove(d.path) // the sweep at the next start gets what stays
		d.path = ""
	}
}
