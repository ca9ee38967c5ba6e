package pebble

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// maxOrigins is how many accepted entries a reading of the journal keeps
// decoded.
const maxOrigins = 1024

// history is one reading of the journal.
type history struct {
	s       *Store
	r       pdb.Reader
	filter  spool.RecordFilter
	origins map[uint64]*origin
}

// Records implements spool.Store.
func (s *Store) Records(ctx context.Context, filter spool.RecordFilter, f func(*mta.Record) bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	snap := s.db.NewSnapshot()
	defer snap.Close()
	h := &history{s: s, r: snap, filter: filter, origins: make(map[uint64]*origin)}
	var seqs []uint64
	var err error
	switch {
	case !filter.ID.IsZero():
		seqs, err = h.ofMessage(nil, filter.ID)
	case filter.Recipient != "":
		seqs, err = h.ofWord(ctx, filter.Recipient)
	case filter.MessageID != "":
		seqs, err = h.ofWord(ctx, filter.MessageID)
	default:
		return h.all(ctx, f)
	}
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := journalKey(nil, seq)
		v, closer, err := h.r.Get(key)
		if errors.Is(err, pdb.ErrNotFound) {
			continue // set aside, or pruned between two table files
		}
		if err != nil {
			h.s.damage("a journal entry cannot be read", key, err)
			continue
		}
		goOn := h.entry(key, seq, v, f)
		_ = closer.Close()
		if !goOn {
			return nil
		}
	}
	return nil
}

// all reads the journal from the first entry that can hold a record at or
// after the filter's time.
func (h *history) all(ctx context.Context, f func(*mta.Record) bool) error {
	c, err := h.s.newScan(h.r, []byte{tableJournal}, []byte{tableJournal + 1})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	ok := c.first()
	if ok && !h.filter.Since.IsZero() {
		ok = c.seek(journalKey(nil, h.s.firstAt(c, h.filter.Since)))
	}
	for ; ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, readable := c.value()
		if !readable {
			continue
		}
		if len(c.key()) != 1+seqLen {
			h.s.setAsideRecord("a journal key is damaged", c.key())
			continue
		}
		if !h.entry(c.key(), readSeq(c.key()[1:]), v, f) {
			return nil
		}
	}
	return c.err()
}

// firstAt finds the number of the first entry whose watermark is t or later,
// by bisection; watermarks never fall.
func (s *Store) firstAt(c *scan, t time.Time) uint64 {
	want := recordMS(t)
	s.commit.Lock()
	end := s.commit.txn.journal.next
	s.commit.Unlock()
	n := sort.Search(int(end), func(i int) bool {
		for ok := c.seek(journalKey(nil, uint64(i))); ok; ok = c.next() {
			if v, readable := c.value(); readable {
				if e, err := openEntry(v); err == nil {
					return e.watermark >= want
				}
			}
		}
		return true
	})
	return uint64(n)
}

// entry hands the wanted records of one entry to f, and reports whether f
// wants more.
func (h *history) entry(key []byte, seq uint64, v []byte, f func(*mta.Record) bool) bool {
	e, err := openEntry(v)
	if err != nil {
		h.s.setAsideRecord("a journal entry is damaged", key)
		return true
	}
	var o *origin
	if e.kind == entryLater {
		o = h.origin(e.accepted, e.id)
	}
	goOn := true
	err = e.records(o, func(r *mta.Record) bool {
		if h.wants(r) {
			goOn = f(r)
		}
		return goOn
	})
	if err != nil {
		h.s.setAsideRecord("a journal entry is damaged", key)
	}
	return goOn
}

func (h *history) wants(r *mta.Record) bool {
	f := &h.filter
	return (f.ID.IsZero() || r.ID == f.ID) &&
		(f.Recipient == "" || strings.EqualFold(f.Recipient, r.Recipient)) &&
		(f.MessageID == "" || f.MessageID == r.MessageID) &&
		(f.Since.IsZero() || recordMS(r.Time) >= recordMS(f.Since))
}

// origin gives the accepted entry that later ones refer to; nil when it is
// lost, and then their shared fields stay empty.
func (h *history) origin(seq uint64, id mta.ID) *origin {
	if o, ok := h.origins[seq]; ok {
		return o
	}
	if len(h.origins) >= maxOrigins {
		clear(h.origins)
	}
	o := h.readOrigin(seq, id)
	h.origins[seq] = o
	return o
}

func (h *history) readOrigin(seq uint64, id mta.ID) *origin {
	v, closer, err := h.r.Get(journalKey(nil, seq))
	if err != nil {
		return nil
	}
	defer closer.Close()
	e, err := openEntry(v)
	if err != nil || e.id != id {
		return nil
	}
	o, err := originOf(&e)
	if err != nil {
		return nil
	}
	return o
}

// ofMessage appends the numbers of a message's entries, oldest first.
func (h *history) ofMessage(seqs []uint64, id mta.ID) ([]uint64, error) {
	lower := idKey(nil, tableByMessage, id)
	c, err := h.s.newScan(h.r, lower, after(lower))
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if len(c.key()) == 1+idLen+seqLen {
			seqs = append(seqs, readSeq(c.key()[1+idLen:]))
		}
	}
	return seqs, c.err()
}

// ofWord gives the numbers of all entries of the messages that the recipient
// had, or that have the Message-ID, oldest first.
func (h *history) ofWord(ctx context.Context, word string) ([]uint64, error) {
	seen := make(map[mta.ID]bool)
	var seqs []uint64
	err := h.byWord(ctx, word, func(seq uint64) (err error) {
		if id, found := h.holds(seq); found && !seen[id] {
			seen[id] = true
			seqs, err = h.ofMessage(seqs, id)
		}
		return err
	})
	slices.Sort(seqs)
	return slices.Compact(seqs), err
}

// holds reports whether an entry has a record of the filter's recipient or
// Message-ID, and of which message.
func (h *history) holds(seq uint64) (id mta.ID, found bool) {
	v, closer, err := h.r.Get(journalKey(nil, seq))
	if err != nil {
		return id, false
	}
	defer closer.Close()
	e, err := openEntry(v)
	if err != nil {
		return id, false
	}
	_ = e.records(nil, func(r *mta.Record) bool {
		found = h.filter.MessageID != "" && r.MessageID == h.filter.MessageID ||
			h.filter.Recipient != "" && strings.EqualFold(r.Recipient, h.filter.Recipient)
		return !found
	})
	return e.id, found
}
