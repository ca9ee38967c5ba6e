package pebble

import (
	"encoding/binary"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// journalState is where the journal stands.
type journalState struct {
	next      uint64 // number of the next entry
	reserved  uint64 // numbers below are safe to use; stored under !seq
	watermark int64  // latest time of any record
}

// reserveSeqs is how many numbers are reserved at a time. A start begins behind
// the reservation, so that no number is used twice whatever became of the
// entries that had it.
const reserveSeqs = 4096

// txn builds one batch. There is one, used by whoever holds the commit lock,
// so that its maps and buffers are made once.
type txn struct {
	s        *Store
	b        *pdb.Batch
	key, val []byte // scratch
	// Where the store's journal stands; a txn that is given up puts it back.
	journal journalState
	before  journalState
	total   counters
	dests   map[mta.Destination]counters
	// What this batch changed of things it may read again.
	remaining map[mta.ID]uint64
	changed   map[mta.DeliveryKey][]byte // the new record; nil when removed
	ahead     ahead                      // what was read for a large batch of settlements
	stored    []storedRecipient          // scratch
	places    []uint32                   // scratch
	known     facts                      // scratch: of a message that the caller has
	// For after the commit.
	removed []removed
	added   []mta.ID
}

// removed is a message that the batch removes.
type removed struct {
	id   mta.ID
	file bool
}

func (t *txn) init(s *Store) {
	t.s = s
	t.dests = make(map[mta.Destination]counters)
	t.remaining = make(map[mta.ID]uint64)
	t.changed = make(map[mta.DeliveryKey][]byte)
}

// begin makes an empty batch for about n octets.
func (t *txn) begin(n int) {
	t.b = t.s.db.NewBatchWithSize(n)
	t.before = t.journal
	t.total = counters{}
	clear(t.dests)
	clear(t.remaining)
	clear(t.changed)
	t.ahead.valid = false
	t.removed, t.added = t.removed[:0], t.added[:0]
}

// giveUp forgets the batch.
func (t *txn) giveUp() {
	_ = t.b.Close()
	t.b = nil
	t.journal = t.before
	t.s.recent.remove(t.added)
}

// applied is a batch that pebble has; the journal's numbers below end are in
// it or in those before it.
type applied struct {
	*pdb.Batch
	end uint64
}

// apply hands the batch to pebble: it is visible afterwards, and durable once
// finish returns nil. The commit lock is held.
func (t *txn) apply() (b applied, err error) {
	t.mergeCounters()
	b, t.b = applied{t.b, t.journal.next}, nil
	defer func() {
		if r := recover(); r != nil {
			err = t.s.fail(fmt.Errorf("%v", r))
		}
	}()
	t.s.stats.octets.Add(uint64(b.Len()))
	t.s.stats.applied.Add(1)
	if err := t.s.db.ApplyNoSyncWait(b.Batch, pdb.Sync); err != nil {
		return b, t.s.fail(err)
	}
	return b, nil
}

// finish waits until the batch is on stable storage. No lock is held.
func (s *Store) finish(b applied) error {
	began := time.Now()
	if err := b.SyncWait(); err != nil {
		return s.fail(err)
	}
	s.stats.syncs.observe(time.Since(began))
	s.feed.synced(b.end)
	s.stats.commits.Add(1)
	return b.Close()
}

func (t *txn) mergeCounters() {
	if t.total != (counters{}) {
		t.val = t.total.append(t.val[:0])
		t.key = append(t.key[:0], tableCounters)
		_ = t.b.Merge(t.key, t.val, nil)
	}
	for d, c := range t.dests {
		if c == (counters{}) {
			continue
		}
		t.val = c.append(t.val[:0])
		t.key = counterKey(t.key[:0], d)
		_ = t.b.Merge(t.key, t.val, nil)
	}
}

// count changes the counters by n deliveries of the state and destination.
func (t *txn) count(d mta.Destination, state mta.State, size uint64, n int64) {
	c := t.dests[d]
	c.delivery(state, int64(size), n)
	t.dests[d] = c
	t.total.state[state] += n
}

func (t *txn) countMessage(size int64, n int64) {
	t.total.messages += n
	t.total.octets += n * size
}

// setIndex adds a delivery to the due or held index, and counts it.
func (t *txn) setIndex(h *head, k mta.DeliveryKey) {
	x := h.index(k)
	t.key = x.append(t.key[:0])
	t.val = binary.AppendUvarint(append(t.val[:0], byte(h.state)), h.size)
	_ = t.b.Set(t.key, t.val, nil)
	t.count(h.dest, h.state, h.size, 1)
}

// dropIndex removes a delivery from the due or held index. The key was set
// once: a delivery that comes back to the same place was removed in between.
func (t *txn) dropIndex(h *head, k mta.DeliveryKey) {
	x := h.index(k)
	t.key = x.append(t.key[:0])
	_ = t.b.SingleDelete(t.key, nil)
	t.count(h.dest, h.state, h.size, -1)
}

// record writes entries for the records, one for each run of records of one
// message, and gives the number of the first; 0 when there are none. kind is
// for the records of id; those of other messages stand alone. place gives a
// record's place among the accepted ones plus one; nil means 0.
func (t *txn) record(recs []*mta.Record, id mta.ID, kind byte, from *facts, place func(*mta.Record) uint32) (first uint64) {
	for len(recs) > 0 {
		n := 1
		for n < len(recs) && recordID(recs[n], id) == recordID(recs[0], id) {
			n++
		}
		k := kind
		if recordID(recs[0], id) != id || kind == entryAccepted && first != 0 {
			k = entryPlain
		}
		seq := t.entry(recs[:n], recordID(recs[0], id), k, from, place)
		if first == 0 && k == kind {
			first = seq
		}
		recs = recs[n:]
	}
	return first
}

// recordID is the message of a record; a record without one is about id.
func recordID(r *mta.Record, id mta.ID) mta.ID {
	if r.ID.IsZero() {
		return id
	}
	return r.ID
}

// entry writes one journal entry and its index keys.
func (t *txn) entry(recs []*mta.Record, id mta.ID, kind byte, from *facts, place func(*mta.Record) uint32) uint64 {
	seq := t.takeSeq()
	t.s.tally.count(recs, id)
	t.journal.watermark = watermarkOf(t.journal.watermark, recs)
	var prev mta.Record
	var accepted uint64
	if kind == entryLater {
		accepted = from.accepted
		prev = mta.Record{MessageID: from.msg.MessageID, Stream: from.msg.Stream, Sender: from.msg.Envelope.Sender, Size: from.msg.Size}
	}
	v := appendEntryHead(t.val[:0], kind, id, t.journal.watermark, accepted, len(recs))
	p := &prev
	for _, r := range recs {
		var at uint32
		if kind == entryLater && place != nil {
			at = place(r)
		}
		f := differs(r, p)
		if kind == entryLater {
			f &^= hasTags | hasMetadata // the accepted entry tells them
		}
		v = appendFields(v, f, r, t.journal.watermark, at)
		p = r
	}
	t.val = seal(v, 0)
	t.key = journalKey(t.key[:0], seq)
	_ = t.b.Set(t.key, t.val, nil)
	t.key = byMessageKey(t.key[:0], id, seq)
	_ = t.b.Set(t.key, nil, nil)
	if kind != entryLater {
		for i, r := range recs {
			if i > 0 && r.Recipient == recs[i-1].Recipient {
				continue
			}
			t.key = recipientKey(t.key[:0], addressHash(r.Recipient), seq)
			_ = t.b.Set(t.key, nil, nil)
		}
		if word := recs[0].MessageID; word != "" && !isOwnMessageID(id, word) {
			t.key = recipientKey(t.key[:0], addressHash(word), seq)
			_ = t.b.Set(t.key, nil, nil)
		}
	}
	return seq
}

// takeSeq gives the next number.
func (t *txn) takeSeq() uint64 {
	j := &t.journal
	seq := j.next
	j.next++
	if seq >= j.reserved {
		j.reserved = seq + reserveSeqs
		t.val = binary.AppendVarint(binary.AppendUvarint(t.val[:0], j.reserved), j.watermark)
		_ = t.b.Set(keySeq, t.val, nil)
	}
	return seq
}

// startJournal finds where the journal stands: all that is read at start.
func (s *Store) startJournal() error {
	t := &s.commit.txn
	t.init(s)
	j := &t.journal
	v, err := get(s.db, keySeq)
	lost := pdb.IsCorruptionError(err)
	if lost {
		s.damage("the journal's number cannot be read; taken from the last entry", keySeq, err)
	} else if err != nil {
		return fmt.Errorf("read the journal's number: %w", err)
	}
	if v != nil {
		r := reader{b: v}
		j.next, j.watermark = r.uvarint(), r.varint()
		if r.bad || j.next > maxSeq {
			return fmt.Errorf("%w: the journal's number", spool.ErrCorrupt)
		}
	}
	j.next = max(j.next, 1)
	j.reserved = j.next
	return s.startWatermark(j, lost)
}

// startWatermark reads the watermark from the last entry, and the number when
// its own record is lost.
func (s *Store) startWatermark(j *journalState, lost bool) error {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: []byte{tableJournal}, UpperBound: []byte{tableJournal + 1}})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer it.Close()
	for ok := it.Last(); ok; ok = it.Prev() {
		if lost && len(it.Key()) == 1+seqLen {
			j.next = readSeq(it.Key()[1:]) + reserveSeqs
			j.reserved, lost = j.next, false
		}
		v, err := it.ValueAndErr()
		if err != nil {
			break
		}
		if e, err := openEntry(v); err == nil {
			j.watermark = max(j.watermark, e.watermark)
			return nil
		}
	}
	if err := it.Error(); pdb.IsCorruptionError(err) {
		// The youngest entries cannot be read; none is younger than now.
		j.watermark = max(j.watermark, recordMS(s.opts.Now()))
		if lost {
			s.numberFromIndex(j)
		}
	} else if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	return nil
}

// numberFromIndex is the last resort: the highest number in the index by
// message, which is read whole.
func (s *Store) numberFromIndex(j *journalState) {
	s.each([]byte{tableByMessage}, func(k, _ []byte) {
		if len(k) == 1+idLen+seqLen {
			j.next = max(j.next, readSeq(k[1+idLen:])+1)
		}
	})
	j.next += reserveSeqs
	j.reserved = j.next
}
