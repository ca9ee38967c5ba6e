package pebble

import (
	"bytes"
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

// The journal read from its end. A scan that steps over damage goes forward
// only, so the journal is read in stretches, each forward, the last first.

// stretch is how many sequence numbers are read in one piece.
const stretch = 1024

var _ spool.History = (*Store)(nil)

// Arrivals implements spool.History.
func (s *Store) Arrivals(ctx context.Context, q spool.ArrivalQuery, f func(spool.Position, []*mta.Record) bool) (spool.Position, bool, error) {
	if err := s.enter(ctx); err != nil {
		return q.Before, false, err
	}
	defer s.leave()
	snap := s.db.NewSnapshot()
	defer snap.Close()
	a := &arrivals{history: history{s: s, r: snap}, q: q, f: f, left: max(q.Look, 1)}
	low, high, err := a.bounds()
	if err != nil || low >= high {
		return spool.Position{Entry: low}, false, err
	}
	if q.Recipient != "" || q.MessageID != "" {
		err = a.indexed(ctx, low, high)
	} else {
		err = a.backward(ctx, low, high)
	}
	return a.next, a.more, err
}

// arrivals is one reading of the journal from its end.
type arrivals struct {
	history
	q    spool.ArrivalQuery
	f    func(spool.Position, []*mta.Record) bool
	left int // entries that may still be looked at
	next spool.Position
	more bool
}

// late is how much later than its time a record may be committed, behind others
// that have later times.
const late = 10 * time.Second

// bounds finds the numbers from low up to and without high that can hold what
// is wanted. A clock that was set back by more than late hides nothing but what
// came after a time that lay behind Until.
func (a *arrivals) bounds() (low, high uint64, err error) {
	c, err := a.s.newScan(a.r, []byte{tableJournal}, []byte{tableJournal + 1})
	if err != nil {
		return 0, 0, fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	ok := c.first()
	for ok && len(c.key()) != 1+seqLen {
		ok = c.next()
	}
	if !ok {
		return 0, 0, c.err()
	}
	low, high = readSeq(c.key()[1:]), a.s.nextEntry()
	if !a.q.Since.IsZero() {
		low = max(low, a.s.firstAt(c, a.q.Since))
	}
	if !a.q.Until.IsZero() {
		high = min(high, a.s.firstAt(c, a.q.Until.Add(late)))
	}
	if a.q.Before.Entry > 0 {
		high = min(high, a.q.Before.Entry)
	}
	return low, high, c.err()
}

// nextEntry is behind the number of every entry in the journal.
func (s *Store) nextEntry() uint64 {
	s.commit.Lock()
	defer s.commit.Unlock()
	return s.commit.txn.journal.next
}

// backward looks at every entry.
func (a *arrivals) backward(ctx context.Context, low, high uint64) error {
	for high > low {
		if err := ctx.Err(); err != nil {
			return err
		}
		if a.left <= 0 {
			a.next, a.more = spool.Position{Entry: high}, true
			return nil
		}
		from := low
		if high-low > stretch {
			from = high - stretch
		}
		n, goOn, err := a.piece(from, high)
		if err != nil || !goOn {
			return err
		}
		if a.left -= n; n == 0 { // a gap between two starts, or what was pruned
			a.left--
		}
		high = from
	}
	a.next = spool.Position{Entry: low}
	return nil
}

// piece tells the arrivals of one stretch, and how many entries it has.
func (a *arrivals) piece(from, high uint64) (n int, goOn bool, err error) {
	c, err := a.s.newScan(a.r, journalKey(nil, from), journalKey(nil, high))
	if err != nil {
		return 0, false, fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	type arrival struct {
		seq   uint64
		key   []byte
		entry entry
	}
	var found []arrival
	for ok := c.first(); ok; ok = c.next() {
		n++
		v, readable := c.value()
		if !readable || len(c.key()) != 1+seqLen || len(v) == 0 || v[0] == entryLater {
			continue
		}
		e, err := openEntry(bytes.Clone(v))
		if err != nil {
			a.s.setAsideRecord("a journal entry is damaged", c.key())
			continue
		}
		found = append(found, arrival{readSeq(c.key()[1:]), bytes.Clone(c.key()), e})
	}
	if err := c.err(); err != nil {
		return n, false, err
	}
	for _, x := range slices.Backward(found) {
		if !a.tell(x.key, x.seq, &x.entry) {
			return n, false, nil
		}
	}
	return n, true, nil
}

// tell hands an entry's records to f if they are of an arrival that is wanted,
// and reports whether to go on.
func (a *arrivals) tell(key []byte, seq uint64, e *entry) bool {
	var records []*mta.Record
	err := e.records(nil, func(r *mta.Record) bool {
		records = append(records, r)
		return true
	})
	if err != nil {
		a.s.setAsideRecord("a journal entry is damaged", key)
		return true
	}
	if !a.wanted(records) || a.f(spool.Position{Entry: seq}, records) {
		return true
	}
	a.next, a.more = spool.Position{Entry: seq + 1}, true
	return false
}

func (a *arrivals) wanted(records []*mta.Record) bool {
	if len(records) == 0 || records[0].Event != mta.EventAccepted {
		return false
	}
	first, q := records[0], &a.q
	at := recordMS(first.Time)
	return (q.Since.IsZero() || at >= recordMS(q.Since)) && (q.Until.IsZero() || at < recordMS(q.Until)) &&
		(q.MessageID == "" || first.MessageID == q.MessageID) &&
		(q.Recipient == "" || slices.ContainsFunc(records, func(r *mta.Record) bool { return strings.EqualFold(r.Recipient, q.Recipient) }))
}

// indexed looks at the entries that the index names for the recipient or the
// Message-ID.
func (a *arrivals) indexed(ctx context.Context, low, high uint64) error {
	word := a.q.Recipient
	if word == "" {
		word = a.q.MessageID
	}
	var seqs []uint64
	if err := a.byWord(ctx, word, func(seq uint64) error {
		if seq >= low && seq < high {
			seqs = append(seqs, seq)
		}
		return nil
	}); err != nil {
		return err
	}
	slices.Sort(seqs)
	for _, seq := range slices.Backward(seqs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if a.left--; a.left < 0 {
			a.next, a.more = spool.Position{Entry: seq + 1}, true
			return nil
		}
		key := journalKey(nil, seq)
		v, closer, err := a.r.Get(key)
		if errors.Is(err, pdb.ErrNotFound) {
			continue
		}
		if err != nil {
			a.s.damage("a journal entry cannot be read", key, err)
			continue
		}
		e, err := openEntry(bytes.Clone(v))
		_ = closer.Close()
		if err != nil {
			a.s.setAsideRecord("a journal entry is damaged", key)
			continue
		}
		if e.kind != entryLater && !a.tell(key, seq, &e) {
			return nil
		}
	}
	a.next = spool.Position{Entry: low}
	return nil
}

// isOwnMessageID reports a Message-ID field that was made here: it tells the ID,
// so it needs no place in the index.
func isOwnMessageID(id mta.ID, field string) bool {
	rest, ok := strings.CutPrefix(field, "<")
	text := id.String()
	return ok && len(rest) > len(text) && rest[:len(text)] == text && rest[len(text)] == '@'
}

// byWord calls f for the number of each entry that the index has under a word:
// a recipient, or a Message-ID with its brackets. Others with the same hash are
// among them. One seek for each bucket.
func (h *history) byWord(ctx context.Context, word string, f func(seq uint64) error) error {
	c, err := h.s.newScan(h.r, []byte{tableRecipients}, []byte{tableRecipients + 1})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	want := addressHash(word)
	for ok := c.first(); ok; {
		if err := ctx.Err(); err != nil {
			return err
		}
		hash, seq, good := parseRecipientKey(c.key())
		switch {
		case !good:
			h.s.setAsideRecord("a key of the recipient index is damaged", c.key())
			ok = c.next()
		case hash < want:
			ok = c.seek(recipientKey(nil, want, seq&^(1<<bucketBits-1)))
		case hash > want:
			ok = c.seek(recipientKey(nil, 0, seq&^(1<<bucketBits-1)+1<<bucketBits))
		default:
			if err := f(seq); err != nil {
				return err
			}
			ok = c.next()
		}
	}
	return c.err()
}

// JournalOver implements spool.History: the journal and its indices as table
// files, by pebble's estimate. What a prune removed counts until the files are
// rewritten, so Compact follows a prune for this reason.
func (s *Store) JournalOver(ctx context.Context, bound int64) (before time.Time, over bool, err error) {
	if err := s.enter(ctx); err != nil {
		return time.Time{}, false, err
	}
	defer s.leave()
	size, err := s.journalSize()
	if err != nil {
		return time.Time{}, false, err
	}
	if bound <= 0 || size <= bound {
		return time.Time{}, false, nil
	}
	low, last, ok := s.ends()
	if !ok {
		return time.Time{}, false, nil
	}
	at, err := s.tail(low, last, 0.9*float64(bound)/float64(size))
	if err != nil {
		return time.Time{}, false, err
	}
	return s.timeAt(at), true, nil
}

// tail gives the first number from which on the journal's entries take a share
// of what all take. Numbers tell nothing of that: behind the records of a message
// that has waited for long there is a gap.
func (s *Store) tail(low, last uint64, share float64) (at uint64, err error) {
	from := func(seq uint64) float64 {
		n, failed := s.db.EstimateDiskUsage(journalKey(nil, seq), []byte{tableJournal + 1})
		if failed != nil {
			err = failed
		}
		return float64(n)
	}
	whole := from(low)
	at = low + uint64(sort.Search(int(last-low), func(i int) bool { return from(low+uint64(i)) <= share*whole }))
	if err != nil {
		return 0, fmt.Errorf("measure the journal: %w", err)
	}
	return at, nil
}

// ends gives the numbers of the first and last entries; false when there are
// none, or the ends cannot be read.
func (s *Store) ends() (first, last uint64, ok bool) {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: journalKey(nil, 0), UpperBound: []byte{tableJournal + 1}})
	if err != nil {
		return 0, 0, false
	}
	defer it.Close()
	if !it.First() || len(it.Key()) != 1+seqLen {
		return 0, 0, false
	}
	first = readSeq(it.Key()[1:])
	if !it.Last() || len(it.Key()) != 1+seqLen {
		return 0, 0, false
	}
	return first, readSeq(it.Key()[1:]), true
}

// timeAt is the watermark of the first entry from a number on; zero when there
// is none.
func (s *Store) timeAt(seq uint64) time.Time {
	c, err := s.newScan(s.db, journalKey(nil, seq), []byte{tableJournal + 1})
	if err != nil {
		return time.Time{}
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if v, readable := c.value(); readable {
			if e, err := openEntry(v); err == nil {
				return time.UnixMilli(e.watermark)
			}
		}
	}
	return time.Time{}
}

// CompactJournal rewrites the files of the journal and its indices, so that
// what was pruned leaves the disk. It takes as long as reading and writing what
// is left.
func (s *Store) CompactJournal(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	for _, table := range []byte{tableJournal, tableByMessage, tableRecipients} {
		if err := s.db.Compact(ctx, []byte{table}, []byte{table + 1}, false); err != nil {
			return fmt.Errorf("compact the journal: %w", err)
		}
	}
	return nil
}
