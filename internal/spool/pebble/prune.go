package pebble

import (
	"bytes"
	"context"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
)

// The records of a message leave together, when the youngest is old enough
// and the message is gone, so that later entries never refer to an accepted
// entry that is not there. Method: find the first entry (cut) that is not old;
// walk the index by message and mark the entries to keep; remove every older
// entry that is not marked, from the journal and both indexes. The marks
// decide alone, so a crash between two batches only leaves work for the next
// time. Runs of neighbours are removed with one range deletion.

// pruneRun is from how many neighbours on a range deletion is cheaper than
// deleting one by one.
const pruneRun = 16

// pruneBatch is the size of a batch, in octets, at which it is committed.
const pruneBatch = 1 << 20

type pruner struct {
	s     *Store
	r     pdb.Reader
	b     *pdb.Batch
	low   uint64 // of the first entry
	cut   uint64
	floor uint64   // entries from here on some follower may ask for
	lost  uint64   // of these, removed all the same
	keep  []uint64 // a bit for each entry from low to cut
	// The neighbours to be removed that were met last: all keys of the run
	// while there are few.
	few         [][]byte
	first, last []byte
	n           int
}

// Prune implements spool.Store.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.pruneCounters(ctx); err != nil {
		return err
	}
	if err := s.pruneReserved(ctx); err != nil {
		return err
	}
	snap := s.db.NewSnapshot()
	defer snap.Close()
	p := &pruner{s: s, r: snap, b: s.db.NewBatch()}
	defer func() { _ = p.b.Close() }()
	ok, err := p.bounds(before)
	if err != nil || !ok {
		return err
	}
	if err := p.byMessage(ctx); err != nil {
		return err
	}
	if err := p.journal(ctx); err != nil {
		return err
	}
	if err := p.byRecipient(ctx); err != nil {
		return err
	}
	defer p.tellLost()
	if p.b.Empty() {
		return nil
	}
	return p.flush()
}

// bounds finds the range of entries that are old enough; false when there are
// none.
func (p *pruner) bounds(before time.Time) (bool, error) {
	c, err := p.s.newScan(p.r, []byte{tableJournal}, []byte{tableJournal + 1})
	if err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	ok := c.first()
	for ok && len(c.key()) != 1+seqLen {
		ok = c.next()
	}
	if !ok {
		return false, c.err()
	}
	p.low = readSeq(c.key()[1:])
	p.cut = p.s.firstAt(c, before)
	p.keepForFollowers(c, before)
	if p.cut <= p.low {
		return false, c.err()
	}
	p.keep = make([]uint64, (p.cut-p.low+63)/64)
	return true, c.err()
}

// old reports whether an entry is in the range.
func (p *pruner) old(seq uint64) bool { return p.low <= seq && seq < p.cut }

func (p *pruner) mark(seq uint64) {
	if p.old(seq) {
		p.keep[(seq-p.low)/64] |= 1 << ((seq - p.low) % 64)
	}
}

// dead reports whether an entry is to go.
func (p *pruner) dead(seq uint64) bool {
	return p.old(seq) && p.keep[(seq-p.low)/64]&(1<<((seq-p.low)%64)) == 0
}

// byMessage walks the index by message: it removes the keys of messages whose
// entries all go, and marks the entries of the others.
func (p *pruner) byMessage(ctx context.Context) error {
	c, err := p.s.newScan(p.r, []byte{tableByMessage}, []byte{tableByMessage + 1})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	var group [][]byte
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := c.key()
		if len(k) != 1+idLen+seqLen {
			continue
		}
		if len(group) > 0 && !bytes.Equal(group[0][:1+idLen], k[:1+idLen]) {
			if err := p.group(group); err != nil {
				return err
			}
			group = group[:0]
		}
		group = append(group, bytes.Clone(k))
	}
	if len(group) > 0 {
		if err := p.group(group); err != nil {
			return err
		}
	}
	if err := c.err(); err != nil {
		return err
	}
	return p.endRun()
}

// group decides about one message's entries. Keys are in order.
func (p *pruner) group(keys [][]byte) error {
	youngest := readSeq(keys[len(keys)-1][1+idLen:])
	goes := youngest < p.cut
	if goes {
		v, err := get(p.r, idKey(nil, tableMessages, mta.ID(keys[0][1:])))
		if err != nil {
			return err
		}
		goes = v == nil
	}
	if !goes {
		for _, k := range keys {
			p.mark(readSeq(k[1+idLen:]))
		}
		return p.endRun()
	}
	for _, k := range keys {
		p.remove(k)
	}
	return nil
}

func (p *pruner) journal(ctx context.Context) error {
	c, err := p.s.newScan(p.r, journalKey(nil, p.low), journalKey(nil, p.cut))
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(c.key()) == 1+seqLen && p.dead(readSeq(c.key()[1:])) {
			if readSeq(c.key()[1:]) >= p.floor {
				p.lost++
			}
			p.remove(bytes.Clone(c.key()))
		} else if err := p.endRun(); err != nil {
			return err
		}
	}
	if err := c.err(); err != nil {
		return err
	}
	return p.endRun()
}

func (p *pruner) byRecipient(ctx context.Context) error {
	c, err := p.s.newScan(p.r, []byte{tableRecipients}, recipientKey(nil, 1<<32-1, p.cut))
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		// What is older than the first entry was left by a crash.
		if _, seq, good := parseRecipientKey(c.key()); good && (seq < p.low || p.dead(seq)) {
			p.remove(bytes.Clone(c.key()))
		} else if err := p.endRun(); err != nil {
			return err
		}
	}
	if err := c.err(); err != nil {
		return err
	}
	return p.endRun()
}

// remove adds a key to the run.
func (p *pruner) remove(k []byte) {
	if p.n == 0 {
		p.first = k
	}
	if p.n < pruneRun {
		p.few = append(p.few, k)
	}
	p.last = k
	p.n++
}

// endRun writes the run's deletions.
func (p *pruner) endRun() error {
	if p.n >= pruneRun {
		_ = p.b.DeleteRange(p.first, append(p.last, 0), nil)
	} else {
		for _, k := range p.few {
			_ = p.b.Delete(k, nil)
		}
	}
	p.few, p.n = p.few[:0], 0
	if p.b.Len() >= pruneBatch {
		return p.flush()
	}
	return nil
}

// flush commits what was collected.
func (p *pruner) flush() error {
	b := p.b
	p.b = p.s.db.NewBatch()
	if err := p.s.db.ApplyNoSyncWait(b, pdb.Sync); err != nil {
		return p.s.fail(err)
	}
	return p.s.finish(applied{Batch: b})
}

// pruneCounters removes the counters of destinations that have no mail.
func (s *Store) pruneCounters(ctx context.Context) error {
	c, err := s.newScan(s.db, []byte{tableCounters, 0}, []byte{tableCounters + 1})
	if err != nil {
		return fmt.Errorf("read the counters: %w", err)
	}
	defer c.close()
	var empty [][]byte
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if v, readable := c.value(); readable && isNothing(v) {
			empty = append(empty, bytes.Clone(c.key()))
		}
		if len(empty) == 1000 {
			s.dropCounters(empty)
			empty = empty[:0]
		}
	}
	s.dropCounters(empty)
	return c.err()
}

func isNothing(v []byte) bool {
	c, err := decodeCounters(v)
	return err == nil && c == counters{}
}

// dropCounters removes those that are nothing still, now that no commit can
// change them.
func (s *Store) dropCounters(keys [][]byte) {
	s.repair(func(t *txn) {
		for _, k := range keys {
			if v := t.value(k); v != nil && isNothing(v) {
				_ = t.b.Delete(k, nil)
			}
		}
	})
}
