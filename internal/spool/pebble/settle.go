package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Settle implements spool.Store.
func (s *Store) Settle(ctx context.Context, sets ...*spool.Settlement) (gone []mta.DeliveryKey, err error) {
	if err := s.enter(ctx); err != nil {
		for _, st := range sets {
			discardAll(st.Reports)
		}
		return nil, err
	}
	defer s.leave()
	for i, st := range sets {
		err := checkSettlement(st)
		if err == nil {
			err = s.prepare(st.Reports)
		}
		if err != nil {
			s.abandonSets(sets, i)
			return nil, err
		}
	}
	b, forget, gone, err := s.settleLocked(sets)
	if err != nil {
		return nil, err
	}
	if err := s.finish(b); err != nil {
		for _, st := range sets {
			discardAll(st.Reports)
		}
		return nil, err
	}
	s.settled(sets, forget, gone)
	return gone, nil
}

// settleLocked builds and applies the batch.
func (s *Store) settleLocked(sets []*spool.Settlement) (b applied, forget []removed, gone []mta.DeliveryKey, err error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	t := &s.commit.txn
	t.begin(512 * (1 + len(sets)))
	t.ahead.read(t, sets)
	for _, st := range sets {
		err := t.settle(st)
		if errors.Is(err, spool.ErrNotFound) {
			gone = append(gone, st.Delivery)
			s.abandon(st.Reports)
			continue
		}
		if err != nil {
			t.giveUp()
			s.abandonSets(sets, len(sets)-1)
			return b, nil, nil, err
		}
	}
	if t.b.Empty() {
		// "Gone" is told only once the commit that removed it is durable.
		_ = t.b.LogData(nil, nil)
	}
	forget = append(forget, t.removed...)
	if b, err = t.apply(); err != nil {
		for _, st := range sets {
			discardAll(st.Reports)
		}
		return b, nil, nil, err
	}
	return b, forget, gone, nil
}

func checkSettlement(st *spool.Settlement) error {
	if st.Next == nil {
		return nil
	}
	if st.Next.N != st.Delivery.N || st.Next.Message != nil && st.Next.Message.ID != st.Delivery.Message {
		return errors.New("spool: a settlement whose next state is of another delivery")
	}
	return checkDelivery(st.Next)
}

// abandonSets undoes the preparation of reports; those of sets[last] and
// before were prepared, at least in part.
func (s *Store) abandonSets(sets []*spool.Settlement, last int) {
	for i, st := range sets {
		if i <= last {
			s.abandon(st.Reports)
		} else {
			discardAll(st.Reports)
		}
	}
}

// settled does what follows a commit.
func (s *Store) settled(sets []*spool.Settlement, forget []removed, gone []mta.DeliveryKey) {
	s.stats.settlements.Add(uint64(len(sets) - len(gone)))
	for _, st := range sets {
		s.kept(st.Reports) // drafts of those that are gone were discarded
	}
	for _, r := range forget {
		s.fresh.forget(r.id)
		if r.file && !s.shared.free(r.id) {
			s.bodies.remove(r.id)
		}
	}
}

// old reads a delivery's record as the batch left it. The closer is never nil
// without an error.
func (t *txn) old(k mta.DeliveryKey) (v []byte, closer io.Closer, err error) {
	if v, ok := t.changed[k]; ok {
		if v == nil {
			return nil, nil, spool.ErrNotFound
		}
		return v, io.NopCloser(nil), nil
	}
	if v, ok := t.ahead.record(k); ok {
		return v, io.NopCloser(nil), nil
	}
	t.key = deliveryKey(t.key[:0], k)
	v, closer, err = t.s.db.Get(t.key)
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil, spool.ErrNotFound
	}
	if pdb.IsCorruptionError(err) {
		// A block that cannot be read must not stop everybody's settlements.
		t.s.damage("a delivery record cannot be read", t.key, err)
		return nil, nil, fmt.Errorf("%w: %w", spool.ErrNotFound, spool.ErrCorrupt)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read a delivery of %s: %w", k.Message, err)
	}
	return v, closer, nil
}

// settle adds one outcome to the batch. The commit lock is held.
func (t *txn) settle(st *spool.Settlement) error {
	k := st.Delivery
	v, closer, err := t.old(k)
	if err != nil {
		return err
	}
	defer closer.Close()
	h, noticed, _, r, err := decodeHead(v)
	if err != nil {
		t.setAsideDelivery(k, v)
		return fmt.Errorf("%w: %w", spool.ErrNotFound, spool.ErrCorrupt)
	}
	t.stored = decodeRecipients(&r, t.stored[:0])
	if w := st.Was; w != nil && !(h.dest == w.Destination && h.state == w.State && h.due == dueMS(w.Due) && h.attempts == uint64(w.Attempts) &&
		len(t.stored) == len(w.Recipients) && noticed == w.DelaySent) {
		return fmt.Errorf("%w: the delivery has changed", spool.ErrNotFound)
	}
	if err := t.settleRecords(st, &h); err != nil {
		return err
	}
	if st.Next == nil {
		err = t.removeDelivery(k, &h)
	} else {
		t.rewrite(k, &h, st.Next)
	}
	if err != nil {
		return err
	}
	return t.puts(st.Reports)
}

func (t *txn) settleRecords(st *spool.Settlement, h *head) error {
	if len(st.Records) == 0 {
		return nil
	}
	kind, from := byte(entryPlain), (*facts)(nil)
	recs := st.Records
	if from = t.factsFor(st, h); from != nil {
		if h.accepted != 0 {
			kind = entryLater
		} else {
			recs = withFacts(recs, from.msg)
		}
	}
	at := 0
	t.record(recs, st.Delivery.Message, kind, from, func(rec *mta.Record) uint32 {
		i := t.storedAt(rec.Recipient, h.dest.Domain, at)
		if i < 0 {
			return 0
		}
		at = i + 1
		return t.stored[i].place
	})
	return nil
}

// storedAt finds an address among the recipients of the record in hand, and
// looks from a place on, because callers ask in order; -1 when it is not there.
func (t *txn) storedAt(address, domain string, from int) int {
	for i := range t.stored {
		at := (from + i) % len(t.stored)
		if t.stored[at].is(address, domain) {
			return at
		}
	}
	return -1
}

// factsFor gives what the records of a settlement need of its message.
func (t *txn) factsFor(st *spool.Settlement, h *head) *facts {
	if m := st.Message; m != nil && m.ID == st.Delivery.Message {
		t.known = facts{msg: m, accepted: h.accepted}
		return &t.known
	}
	return t.factsOf(st.Delivery.Message)
}

// factsOf gives a message's facts from memory or the store, or nil.
func (t *txn) factsOf(id mta.ID) *facts {
	if f := t.s.fresh.factsOf(id); f != nil {
		return f
	}
	t.key = idKey(t.key[:0], tableMessages, id)
	v, closer, err := t.s.db.Get(t.key)
	if err != nil {
		return nil
	}
	defer closer.Close()
	f, err := decodeMessage(id, v)
	if err != nil {
		return nil
	}
	return f
}

// rewrite replaces a delivery's record.
func (t *txn) rewrite(k mta.DeliveryKey, old *head, next *mta.Delivery) {
	h := headOf(next, int64(old.size), old.accepted)
	h.rewritten, h.multi, h.bodyFile = true, old.multi, old.bodyFile
	t.places = t.places[:0]
	at := 0
	for i := range next.Recipients {
		place := uint32(0)
		if j := t.storedAt(next.Recipients[i].Address, old.dest.Domain, at); j >= 0 {
			place, at = t.stored[j].place, j+1
		}
		t.places = append(t.places, place)
	}
	t.store(k, old, &h, next)
}

// store writes a rewritten record, and moves the delivery in the index.
func (t *txn) store(k mta.DeliveryKey, old, h *head, next *mta.Delivery) {
	v := appendDelivery(nil, h, next, t.places)
	t.changed[k] = v
	t.key = deliveryKey(t.key[:0], k)
	_ = t.b.Set(t.key, v, nil)
	if old.index(k) == h.index(k) && old.state == h.state {
		return
	}
	t.dropIndex(old, k)
	t.setIndex(h, k)
}

// removeDelivery removes a delivery, and with the last one its message.
func (t *txn) removeDelivery(k mta.DeliveryKey, h *head) error {
	t.changed[k] = nil
	t.key = deliveryKey(t.key[:0], k)
	if h.rewritten {
		_ = t.b.Delete(t.key, nil)
	} else {
		_ = t.b.SingleDelete(t.key, nil)
	}
	t.dropIndex(h, k)
	return t.release(k.Message, h)
}

// release takes one delivery off a message.
func (t *txn) release(id mta.ID, h *head) error {
	if h.multi {
		n, err := t.remainingOf(id)
		if err != nil {
			return err
		}
		if n > 1 {
			t.setRemaining(id, n-1)
			return nil
		}
		t.key = idKey(t.key[:0], tableRemaining, id)
		_ = t.b.Delete(t.key, nil)
		t.remaining[id] = 0
	}
	t.removeMessage(id, int64(h.size), h.bodyFile)
	return nil
}

func (t *txn) remainingOf(id mta.ID) (uint64, error) {
	if n, ok := t.remaining[id]; ok {
		return n, nil
	}
	t.key = idKey(t.key[:0], tableRemaining, id)
	v, closer, err := t.s.db.Get(t.key)
	if err == nil {
		n, k := binary.Uvarint(v)
		_ = closer.Close()
		if k > 0 && n > 0 {
			return n, nil
		}
	} else if !errors.Is(err, pdb.ErrNotFound) {
		return 0, fmt.Errorf("read message %s: %w", id, err)
	}
	// Lost or damaged: count what is there. This delivery is still among them.
	return t.countDeliveries(id)
}

// countDeliveries counts a message's delivery records as the batch leaves them,
// and the one that is being removed.
func (t *txn) countDeliveries(id mta.ID) (uint64, error) {
	lower := idKey(nil, tableMessages, id)
	it, err := t.s.db.NewIter(&pdb.IterOptions{LowerBound: append(lower, 0), UpperBound: after(lower)})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	n := uint64(1)
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) != deliveryKeyLen {
			continue
		}
		if v, touched := t.changed[parseDeliveryKey(it.Key())]; !touched || v != nil {
			n++
		}
	}
	return n, it.Error()
}

func (t *txn) removeMessage(id mta.ID, size int64, file bool) {
	t.key = idKey(t.key[:0], tableMessages, id)
	_ = t.b.SingleDelete(t.key, nil)
	if file {
		t.dropExtent(id)
	} else {
		t.key = idKey(t.key[:0], tableBodies, id)
		_ = t.b.SingleDelete(t.key, nil)
	}
	t.countMessage(size, -1)
	t.removed = append(t.removed, removed{id: id, file: file})
}

// Begin implements spool.Store.
func (s *Store) Begin(ctx context.Context, k mta.DeliveryKey, next time.Time) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	b, err := s.beginLocked(k, next)
	if err != nil {
		return err
	}
	return s.finish(b)
}

func (s *Store) beginLocked(k mta.DeliveryKey, next time.Time) (applied, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	t := &s.commit.txn
	t.begin(512)
	if err := t.beginAttempt(k, next); err != nil {
		t.giveUp()
		return applied{}, err
	}
	return t.apply()
}

func (t *txn) beginAttempt(k mta.DeliveryKey, next time.Time) error {
	v, closer, err := t.old(k)
	if err != nil {
		return err
	}
	defer closer.Close()
	d, old, err := decodeDelivery(k, v, nil)
	if err != nil {
		return fmt.Errorf("%w: a delivery of %s", spool.ErrCorrupt, k.Message)
	}
	_, _, _, r, _ := decodeHead(v)
	t.stored = decodeRecipients(&r, t.stored[:0])
	t.places = t.places[:0]
	for i := range t.stored {
		t.places = append(t.places, t.stored[i].place)
	}
	h := old
	h.rewritten = true
	h.attempts++
	h.due = dueMS(next)
	t.store(k, &old, &h, d)
	return nil
}
