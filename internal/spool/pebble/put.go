package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// errTwice says that a message of this ID is in the spool already.
var errTwice = errors.New("a message of this ID is in the spool already")

// Put implements spool.Store.
func (s *Store) Put(ctx context.Context, subs ...*spool.Submission) error {
	err := s.enter(ctx)
	if err != nil {
		discardAll(subs)
		return err
	}
	defer s.leave()
	if s.space.full() {
		discardAll(subs)
		return spool.ErrFull
	}
	if err := s.prepare(subs); err != nil {
		s.abandon(subs)
		return err
	}
	s.commit.Lock()
	t := &s.commit.txn
	t.begin(sizeHint(subs))
	if err := t.puts(subs); err != nil {
		t.giveUp()
		s.commit.Unlock()
		s.abandon(subs)
		return err
	}
	b, err := t.apply()
	s.commit.Unlock()
	if err == nil {
		err = s.finish(b)
	}
	if err != nil {
		// The files stay: the batch may have reached the disk after all.
		discardAll(subs)
		return err
	}
	s.kept(subs)
	return nil
}

// sizeHint is about how large the batch will be.
func sizeHint(subs []*spool.Submission) int {
	n := 512
	for _, sub := range subs {
		n += 1024
		if d, ok := sub.Content.(*draft); ok && d.inRecord() {
			n += int(d.size)
		}
	}
	return n
}

func discardAll(subs []*spool.Submission) {
	for _, sub := range subs {
		if sub != nil && sub.Content != nil {
			sub.Content.Discard()
		}
	}
}

// prepare checks submissions and makes large contents durable under their
// names. Nothing is committed yet.
func (s *Store) prepare(subs []*spool.Submission) error {
	shared := false
	for i, sub := range subs {
		d, err := s.check(sub)
		for _, other := range subs[:i] {
			if err == nil && other.Message.ID == sub.Message.ID {
				err = fmt.Errorf("spool: %w: %s", errTwice, sub.Message.ID)
			}
		}
		if err != nil {
			return err
		}
		if d == nil || d.inRecord() {
			continue
		}
		if err := s.place(d, sub.Message.ID); err != nil {
			return err
		}
		shared = shared || d.extent != nil
	}
	if !shared {
		return nil
	}
	return diskError("store a message", s.shared.sync())
}

// place writes a content that is too large for a record: into the shared file,
// which is not synced yet, or into a file of its own.
func (s *Store) place(d *draft, id mta.ID) error {
	if !d.large {
		if d.extent = s.shared.place(id, d.size); d.extent != nil {
			return diskError("store a message", s.shared.write(d.extent, d.buf.data))
		}
		if err := d.create(); err != nil {
			return diskError("store a message", err)
		}
	}
	if err := d.sync(); err != nil {
		return err
	}
	if err := s.bodies.install(d.path, id); err != nil {
		return diskError("store a message", err)
	}
	d.path = "" // the name is the message's now
	return nil
}

// check refuses what could not be stored or found again. The draft is nil
// for a submission without deliveries: its content is not needed.
func (s *Store) check(sub *spool.Submission) (*draft, error) {
	if sub == nil || sub.Message == nil || sub.Message.ID.IsZero() {
		return nil, errors.New("spool: a submission without a message or ID")
	}
	if err := checkDeliveries(sub.Deliveries); err != nil {
		return nil, err
	}
	d, ok := sub.Content.(*draft)
	if !ok || d.s != s || d.buf == nil {
		if len(sub.Deliveries) == 0 && sub.Content == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("spool: message %s: its content is no open draft of this store", sub.Message.ID)
	}
	if d.err != nil {
		return nil, d.err
	}
	if len(sub.Deliveries) == 0 {
		d.Discard()
		return nil, nil
	}
	if sub.Message.Size != d.size {
		return nil, fmt.Errorf("spool: message %s: size %d, but its content has %d octets", sub.Message.ID, sub.Message.Size, d.size)
	}
	return d, nil
}

func checkDeliveries(ds []*mta.Delivery) error {
	var seen map[uint32]bool
	if len(ds) > 1 {
		seen = make(map[uint32]bool, len(ds))
	}
	for _, d := range ds {
		if err := checkDelivery(d); err != nil {
			return err
		}
		if seen[d.N] {
			return fmt.Errorf("spool: two deliveries with number %d", d.N)
		}
		if seen != nil {
			seen[d.N] = true
		}
	}
	return nil
}

func checkDelivery(d *mta.Delivery) error {
	switch {
	case len(d.Recipients) == 0:
		return errors.New("spool: a delivery without recipients")
	case d.State > mta.Held:
		return fmt.Errorf("spool: a delivery in state %s", d.State)
	case d.Destination.Stream == "":
		return errors.New("spool: a destination without a stream")
	case len(d.Destination.Domain) > 255 || len(d.Destination.Stream) > 255 || len(d.Destination.Via) > mta.MaxVia:
		return errors.New("spool: a destination of more than 255 octets")
	case marked(d.Destination.Domain) || marked(d.Destination.Stream) || d.Destination.Via != "" && marked(d.Destination.Via):
		return errors.New("spool: a destination with a control octet")
	}
	return nil
}

// marked reports whether a part of a destination has an octet that ends or
// divides it in a key.
func marked(s string) bool {
	return strings.IndexByte(s, 0) >= 0 || strings.IndexByte(s, viaMark[0]) >= 0
}

// abandon undoes prepare.
func (s *Store) abandon(subs []*spool.Submission) {
	for _, sub := range subs {
		if sub == nil || sub.Content == nil {
			continue
		}
		d, ok := sub.Content.(*draft)
		switch {
		case !ok || d.s != s || d.buf == nil:
		case d.extent != nil:
			s.shared.free(sub.Message.ID)
		case d.large && d.path == "":
			s.bodies.remove(sub.Message.ID)
			s.bodies.done(sub.Message.ID)
		}
		sub.Content.Discard()
	}
}

// kept takes the contents over after the commit.
func (s *Store) kept(subs []*spool.Submission) {
	for _, sub := range subs {
		d, ok := sub.Content.(*draft)
		if !ok || d.buf == nil {
			continue
		}
		s.stats.messages.Add(1)
		if d.large {
			s.bodies.done(sub.Message.ID)
			d.Discard()
			continue
		}
		if s.fresh.budget > 0 && d.facts != nil {
			s.fresh.put(d.facts, d.buf)
			d.unbudget()
			d.buf = nil
			continue
		}
		d.Discard()
	}
}

// puts adds submissions to the batch. The commit lock is held.
func (t *txn) puts(subs []*spool.Submission) error {
	for _, sub := range subs {
		if err := t.put(sub); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) put(sub *spool.Submission) error {
	m := sub.Message
	if t.used(m.ID) {
		return fmt.Errorf("spool: %w: %s", errTwice, m.ID)
	}
	if sub.Reserve != nil {
		t.reserve(sub.Reserve, m.ID)
	}
	f := &facts{msg: m}
	accepted := t.record(sub.Records, m.ID, entryAccepted, nil, nil)
	if accepted != 0 && refillable(sub) {
		f.accepted = accepted
	}
	if len(sub.Deliveries) == 0 {
		return nil
	}
	t.s.recent.add(m.ID)
	t.added = append(t.added, m.ID)
	d := sub.Content.(*draft)
	d.facts = f
	f.bodyCRC, f.bodyFile = d.crc, !d.inRecord()
	t.val = appendMessage(t.val[:0], f, len(sub.Deliveries))
	t.key = idKey(t.key[:0], tableMessages, m.ID)
	_ = t.b.Set(t.key, t.val, nil)
	if d.extent != nil {
		t.setExtent(m.ID, d.extent)
	}
	if !f.bodyFile {
		t.key = idKey(t.key[:0], tableBodies, m.ID)
		_ = t.b.Set(t.key, d.buf.data, nil)
	}
	if n := len(sub.Deliveries); n > 1 {
		t.setRemaining(m.ID, uint64(n))
	}
	t.countMessage(m.Size, 1)
	t.putDeliveries(sub, f)
	return nil
}

// used reports whether a message of this ID is in the spool. IDs grow with
// time, so nearly always the recent ones answer alone.
func (t *txn) used(id mta.ID) bool {
	if known, used := t.s.recent.has(id); known {
		return used
	}
	t.key = idKey(t.key[:0], tableMessages, id)
	_, closer, err := t.s.db.Get(t.key)
	if err != nil {
		return false
	}
	_ = closer.Close()
	return true
}

func (t *txn) putDeliveries(sub *spool.Submission, f *facts) {
	at := 0
	for _, d := range sub.Deliveries {
		t.places = t.places[:0]
		for i := range d.Recipients {
			place := uint32(0)
			if f.accepted != 0 {
				if place = placeOf(sub.Records, d.Recipients[i].Address, at); place != 0 {
					at = int(place)
				}
			}
			t.places = append(t.places, place)
		}
		h := headOf(d, f.msg.Size, f.accepted)
		h.multi, h.bodyFile = len(sub.Deliveries) > 1, f.bodyFile
		key := mta.DeliveryKey{Message: f.msg.ID, N: d.N}
		t.val = appendDelivery(t.val[:0], &h, d, t.places)
		t.key = deliveryKey(t.key[:0], key)
		_ = t.b.Set(t.key, t.val, nil)
		t.setIndex(&h, key)
	}
}

// refillable reports whether later records may take what they share with the
// accepted records from the accepted entry: the records are one entry, and it
// says what the message says.
func refillable(sub *spool.Submission) bool {
	m := sub.Message
	for _, r := range sub.Records {
		if recordID(r, m.ID) != m.ID {
			return false
		}
	}
	r := sub.Records[0]
	return r.MessageID == m.MessageID && r.Stream == m.Stream && r.Sender == m.Envelope.Sender && r.Size == m.Size
}

// placeOf finds the record of a recipient, and gives its place plus one, or 0.
// Records mostly stand in the order of the recipients, so it looks from there.
func placeOf(recs []*mta.Record, address string, from int) uint32 {
	for i := range recs {
		at := from + i
		if at >= len(recs) {
			at -= len(recs)
		}
		if recs[at].Recipient == address {
			return uint32(at) + 1
		}
	}
	return 0
}

func (t *txn) setRemaining(id mta.ID, n uint64) {
	t.remaining[id] = n
	t.val = binary.AppendUvarint(t.val[:0], n)
	t.key = idKey(t.key[:0], tableRemaining, id)
	_ = t.b.Set(t.key, t.val, nil)
}
