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

// smallBody is the largest content that is kept in a record, and the size of
// the larger buffers. Larger content goes to a file.
const smallBody = 64 << 10

// firstBuffer is the size of the buffer that a draft starts with: most mail
// fits, and more of it fits in the budget of fresh contents.
const firstBuffer = 8 << 10

var (
	firstBuffers = sync.Pool{New: func() any { return &body{data: make([]byte, 0, firstBuffer)} }}
	smallBodies  = sync.Pool{New: func() any { return &body{data: make([]byte, 0, smallBody)} }}
)

// body is content in memory with the number of its holders. The last one to
// release it gives the buffer back; a holder that never does only costs the
// reuse.
type body struct {
	refs atomic.Int32
	data []byte
}

// newBody gives an empty buffer for n octets or more, with one holder.
func newBody(n int) *body {
	pool := &firstBuffers
	switch {
	case n > smallBody:
		b := &body{data: make([]byte, 0, n)}
		b.refs.Store(1)
		return b
	case n > firstBuffer:
		pool = &smallBodies
	}
	b := pool.Get().(*body)
	b.data = b.data[:0]
	b.refs.Store(1)
	return b
}

func (b *body) release() {
	if b.refs.Add(-1) != 0 {
		return
	}
	switch cap(b.data) {
	case firstBuffer:
		firstBuffers.Put(b)
	case smallBody:
		smallBodies.Put(b)
	}
}

// draft implements spool.Draft. The content is in buf until it is larger than
// smallBody; from then on buf is the write buffer of file.
type draft struct {
	s     *Store
	buf   *body // nil after Discard, or when the store took it
	size  int64
	crc   uint32
	large bool     // the content is in a file
	file  vfs.File // nil while small, and once it is synced
	path  string   // of the file while it is ours to remove
	facts *facts   // of the message it became
	err   error    // the first failure; sticks
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
	if cap(d.buf.data) < smallBody && have+n > cap(d.buf.data) {
		grown := newBody(smallBody)
		grown.data = append(grown.data, d.buf.data...)
		d.buf.release()
		d.buf = grown
	}
	if have < cap(d.buf.data) {
		return nil
	}
	if !d.large {
		if err := d.create(); err != nil {
			return err
		}
	}
	return d.flush()
}

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
