package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/spool"
)

// A note is one key, set and removed whole: table and name, and the value with
// its checksum. Every change is a batch of its own, so a crash finds all of a
// call's changes or none (docs/spool.md).

var _ spool.Notes = (*Store)(nil)

func noteKey(b []byte, name string) []byte { return append(append(b, tableNotes), name...) }

// checkNoteName holds a note's name to the contract.
func checkNoteName(name string) error {
	switch owner := strings.IndexByte(name, '/'); {
	case owner < 1:
		return fmt.Errorf("spool: the name of a note begins with its owner's word and a slash, %.40q does not", name)
	case len(name) > spool.MaxNoteName:
		return fmt.Errorf("spool: the name of note %.40q has %d octets, more than %d", name, len(name), spool.MaxNoteName)
	}
	return nil
}

// Note implements spool.Notes.
func (s *Store) Note(ctx context.Context, name string) ([]byte, error) {
	if err := checkNoteName(name); err != nil {
		return nil, err
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	key := noteKey(nil, name)
	v, closer, err := s.db.Get(key)
	switch {
	case errors.Is(err, pdb.ErrNotFound):
		return nil, nil
	case pdb.IsCorruptionError(err):
		s.damage("a note cannot be read", key, err)
		return nil, fmt.Errorf("%w: note %.40q", spool.ErrCorrupt, name)
	case err != nil:
		return nil, fmt.Errorf("read note %.40q: %w", name, err)
	}
	out, ok := openNote(v)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("read note %.40q: %w", name, err)
	}
	if !ok {
		s.setAsideRecord("a note is damaged", key)
		return nil, fmt.Errorf("%w: note %.40q", spool.ErrCorrupt, name)
	}
	return out, nil
}

// openNote checks a stored value, and gives a copy of what was noted.
func openNote(v []byte) ([]byte, bool) {
	v, ok := unseal(v)
	if !ok {
		return nil, false
	}
	return append(make([]byte, 0, len(v)), v...), true
}

// Notes implements spool.Notes.
func (s *Store) Notes(ctx context.Context, prefix, after string, f func(name string, value []byte) bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	lower, upper := noteKey(nil, prefix), notesBehind(prefix)
	if from := noteKey(nil, after); after != "" && bytes.Compare(from, lower) >= 0 {
		lower = append(from, 0) // the least name behind it
	}
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	c, err := s.newScan(s.db, lower, upper)
	if err != nil {
		return fmt.Errorf("read the notes: %w", err)
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, readable := c.value()
		if !readable {
			continue
		}
		out, ok := openNote(v)
		if !ok {
			s.setAsideRecord("a note is damaged", c.key())
			continue
		}
		if !f(string(c.key()[1:]), out) {
			return nil
		}
	}
	return c.err()
}

// notesBehind is the first key behind all names with the prefix.
func notesBehind(prefix string) []byte {
	k := noteKey(nil, prefix)
	for k[len(k)-1] == 0xff {
		k = k[:len(k)-1]
	}
	k[len(k)-1]++
	return k
}

// SetNotes implements spool.Notes.
func (s *Store) SetNotes(ctx context.Context, changes map[string][]byte) error {
	if err := checkNotes(changes); err != nil {
		return err
	}
	if len(changes) == 0 {
		return ctx.Err()
	}
	return s.change(ctx, func(t *txn) {
		for name, v := range changes {
			t.key = noteKey(t.key[:0], name)
			if v == nil {
				_ = t.b.Delete(t.key, nil)
				continue
			}
			t.val = seal(append(t.val[:0], v...), 0)
			_ = t.b.Set(t.key, t.val, nil)
		}
	})
}

// checkNotes holds what is to be written to the bounds.
func checkNotes(changes map[string][]byte) error {
	if len(changes) > spool.MaxNoteChanges {
		return fmt.Errorf("spool: %d notes are changed at once, more than %d", len(changes), spool.MaxNoteChanges)
	}
	size := 0
	for name, v := range changes {
		if err := checkNoteName(name); err != nil {
			return err
		}
		if len(v) > spool.MaxNoteValue {
			return fmt.Errorf("spool: note %.40q has %d octets, more than %d", name, len(v), spool.MaxNoteValue)
		}
		size += len(name) + len(v)
	}
	if size > spool.MaxNotesSize {
		return fmt.Errorf("spool: the notes that are changed at once have %d octets, more than %d", size, spool.MaxNotesSize)
	}
	return nil
}
