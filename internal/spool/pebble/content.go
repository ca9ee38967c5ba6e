package pebble

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// memoryContent is content in memory.
type memoryContent struct {
	body   *body
	closed atomic.Bool
}

// Size implements spool.Content.
func (c *memoryContent) Size() int64 { return int64(len(c.body.data)) }

// Bytes implements spool.Content.
func (c *memoryContent) Bytes() []byte { return c.body.data }

// ReadAt implements io.ReaderAt.
func (c *memoryContent) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(c.body.data)) {
		return 0, io.EOF
	}
	n := copy(p, c.body.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close implements io.Closer. The buffer may be used for another message
// afterwards.
func (c *memoryContent) Close() error {
	if !c.closed.Swap(true) {
		c.body.release()
	}
	return nil
}

// fileContent is content in a file.
type fileContent struct {
	vfs.File
	size int64
}

// Size implements spool.Content.
func (c *fileContent) Size() int64 { return c.size }

// Bytes implements spool.Content.
func (c *fileContent) Bytes() []byte { return nil }

// Open implements spool.Store.
func (s *Store) Open(ctx context.Context, id mta.ID) (spool.Content, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	f, b := s.fresh.get(id)
	if b != nil {
		return &memoryContent{body: b}, nil
	}
	// One snapshot, so that a message that ends meanwhile is not taken for a
	// damaged one.
	snap := s.db.NewSnapshot()
	defer snap.Close()
	if f == nil {
		key := idKey(nil, tableMessages, id)
		v, err := get(snap, key)
		if pdb.IsCorruptionError(err) {
			s.damage("a message cannot be read", key, err)
			return nil, fmt.Errorf("message %s: %w: %w", id, spool.ErrCorrupt, err)
		}
		if err != nil {
			return nil, fmt.Errorf("read message %s: %w", id, err)
		}
		if v == nil {
			return nil, fmt.Errorf("message %s: %w", id, spool.ErrNotFound)
		}
		if f, err = decodeMessage(id, v); err != nil {
			s.repairMessage("a message's facts are damaged", id)
			return nil, fmt.Errorf("message %s: %w", id, spool.ErrCorrupt)
		}
	}
	if f.bodyFile {
		return s.openLarge(f)
	}
	return s.openSmall(snap, f)
}

// openSmall reads content from its record.
func (s *Store) openSmall(r pdb.Reader, f *facts) (spool.Content, error) {
	id := f.msg.ID
	key := idKey(nil, tableBodies, id)
	v, closer, err := r.Get(key)
	if err != nil {
		if errors.Is(err, pdb.ErrNotFound) || pdb.IsCorruptionError(err) {
			s.damage("the content of a message cannot be read", key, err)
			return nil, fmt.Errorf("content of message %s: %w", id, spool.ErrCorrupt)
		}
		return nil, fmt.Errorf("read the content of message %s: %w", id, err)
	}
	defer closer.Close()
	if crc32.Checksum(v, castagnoli) != f.bodyCRC || int64(len(v)) != f.msg.Size {
		s.damage("the content of a message is damaged", key, errDamaged)
		return nil, fmt.Errorf("content of message %s: %w", id, spool.ErrCorrupt)
	}
	b := newBody(len(v))
	b.data = append(b.data, v...)
	return &memoryContent{body: b}, nil
}

// openLarge opens content that is in no record.
func (s *Store) openLarge(f *facts) (spool.Content, error) {
	c := s.shared.open(f.msg.ID)
	if c == nil {
		return s.openFile(f)
	}
	if err := checkContent(c, f); err != nil {
		_ = c.Close()
		s.damage("the content of a message is damaged", []byte(f.msg.ID.String()), err)
		return nil, fmt.Errorf("content of message %s: %w: %w", f.msg.ID, spool.ErrCorrupt, err)
	}
	return c, nil
}

// openFile opens content in a file, and reads it once to compare checksums:
// better no mail than a damaged one, and the pages are warm for the sending.
func (s *Store) openFile(f *facts) (spool.Content, error) {
	id := f.msg.ID
	path := s.bodies.path(id)
	file, err := s.fs.Open(path)
	if err != nil {
		if ok, kerr := s.known(id); kerr == nil && !ok {
			return nil, fmt.Errorf("message %s: %w", id, spool.ErrNotFound)
		}
		s.damage("the file of a message cannot be opened", []byte(path), err)
		return nil, fmt.Errorf("content of message %s: %w: %w", id, spool.ErrCorrupt, err)
	}
	if err := checkContent(file, f); err != nil {
		_ = file.Close()
		s.damage("the file of a message is damaged", []byte(path), err)
		return nil, fmt.Errorf("content of message %s: %w: %w", id, spool.ErrCorrupt, err)
	}
	return &fileContent{File: file, size: f.msg.Size}, nil
}

// known reports whether a message is in the spool now.
func (s *Store) known(id mta.ID) (bool, error) {
	v, err := get(s.db, idKey(nil, tableMessages, id))
	return v != nil, err
}

// checkContent reads a content and compares size and checksum.
func checkContent(file io.ReaderAt, f *facts) error {
	b := newBody(smallBody)
	defer b.release()
	buf := b.data[:cap(b.data)]
	crc := uint32(0)
	for off := int64(0); ; {
		n, err := file.ReadAt(buf, off)
		crc = crc32.Update(crc, castagnoli, buf[:n])
		off += int64(n)
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			if off != f.msg.Size || crc != f.bodyCRC {
				return errDamaged
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}
