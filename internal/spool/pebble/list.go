package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// List has two ways. The due and the held index name the deliveries of a
// destination, or all that are held, without a look at the others: their keys
// are collected and read in the order of the message table. When they are too
// many for that, and for every other filter, the message table is read through,
// and of what is not wanted as little as possible is decoded.

// Bounds of a list by the indexes: keys collected (20 octets each), and
// deliveries read with one iterator, whose messages are remembered.
const (
	listKeys  = 200_000
	listChunk = 512
)

var errManyKeys = errors.New("too many keys to collect")

// List implements spool.Store.
func (s *Store) List(ctx context.Context, filter spool.Filter, f func(*mta.Delivery) bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	snap := s.db.NewSnapshot()
	defer snap.Close()
	if prefixes := indexPrefixes(&filter); prefixes != nil {
		keys, err := s.indexKeys(ctx, snap, prefixes, filter.Stream)
		if err == nil {
			return s.listKeys(ctx, snap, &filter, keys, f)
		}
		if !errors.Is(err, errManyKeys) {
			return err
		}
	}
	return s.listAll(ctx, snap, filter, f)
}

// indexPrefixes are where the indexes have what a filter selects; nil when they
// do not help.
func indexPrefixes(f *spool.Filter) (out [][]byte) {
	if !f.ID.IsZero() || f.Destination == "" && (f.State == nil || *f.State != mta.Held) {
		return nil
	}
	for _, table := range []byte{tableDue, tableHeld} {
		if f.State != nil && (*f.State == mta.Held) != (table == tableHeld) {
			continue
		}
		prefix := []byte{table}
		if f.Destination != "" {
			prefix = append(append(prefix, strings.ToLower(f.Destination)...), 0)
		}
		out = append(out, prefix)
	}
	return out
}

// indexKeys collects the keys of deliveries under prefixes of the indexes, in
// order.
func (s *Store) indexKeys(ctx context.Context, r pdb.Reader, prefixes [][]byte, stream string) (keys []mta.DeliveryKey, err error) {
	for _, p := range prefixes {
		c, err := s.newScan(r, p, after(p))
		if err != nil {
			return nil, fmt.Errorf("read the index: %w", err)
		}
		for ok := c.first(); ok && err == nil; ok = c.next() {
			x, good := parseIndex(c.key())
			switch {
			case !good:
				s.dropOrphan(c.key())
			case stream != "" && stream != x.dest.Stream:
			case len(keys) == listKeys:
				err = errManyKeys
			default:
				keys = append(keys, x.key)
				err = ctx.Err()
			}
		}
		err = errors.Join(err, c.err())
		c.close()
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(keys, func(a, b mta.DeliveryKey) int {
		if c := bytes.Compare(a.Message[:], b.Message[:]); c != 0 {
			return c
		}
		return int(a.N) - int(b.N)
	})
	return keys, nil
}

// listKeys reads the deliveries of sorted keys.
func (s *Store) listKeys(ctx context.Context, r pdb.Reader, filter *spool.Filter, keys []mta.DeliveryKey, f func(*mta.Delivery) bool) error {
	for chunk := range slices.Chunk(keys, listChunk) {
		l := loader{s: s, r: r}
		for _, k := range chunk {
			d := l.delivery(k)
			if d == nil || !wanted(filter, d) || filter.Sender != "" && !strings.EqualFold(filter.Sender, d.Message.Envelope.Sender) {
				continue
			}
			if !f(d) {
				l.close()
				return nil
			}
		}
		l.close()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// listAll reads the message table, or one message.
func (s *Store) listAll(ctx context.Context, r pdb.Reader, filter spool.Filter, f func(*mta.Delivery) bool) error {
	lower, upper := []byte{tableMessages}, []byte{tableMessages + 1}
	if !filter.ID.IsZero() {
		lower = idKey(nil, tableMessages, filter.ID)
		upper = after(lower)
	}
	c, err := s.newScan(r, lower, upper)
	if err != nil {
		return fmt.Errorf("read the messages: %w", err)
	}
	defer c.close()
	w := walk{s: s, filter: filter}
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, readable := c.value()
		if !readable {
			continue
		}
		if d := w.step(c.key(), v); d != nil && !f(d) {
			return nil
		}
	}
	return c.err()
}

// walk is a scan of the message table: a message, then its deliveries.
type walk struct {
	s      *Store
	filter spool.Filter
	id     mta.ID       // of the latest message met
	msg    *mta.Message // the same, decoded; nil: not yet, or not wanted
	facts  []byte       // the same, not decoded; empty: it is, or is not wanted
}

// step takes one record, and gives a delivery that is wanted, or nil.
func (w *walk) step(key, v []byte) *mta.Delivery {
	switch len(key) {
	case messageKeyLen:
		w.id, w.msg = mta.ID(key[1:]), nil
		w.facts = append(w.facts[:0], v...)
		if _, whole := unseal(v); !whole || w.filter.Sender != "" {
			w.decode()
		}
	case deliveryKeyLen:
		k := parseDeliveryKey(key)
		if k.Message != w.id {
			w.id, w.msg, w.facts = k.Message, nil, w.facts[:0]
			w.s.repairMessage("a delivery has no message", k.Message)
		}
		if w.msg == nil && len(w.facts) == 0 || !w.mayBe(v) {
			return nil
		}
		d, _, err := decodeDelivery(k, v, nil)
		if err != nil {
			w.s.repairDelivery(k)
			return nil
		}
		if !wanted(&w.filter, d) {
			return nil
		}
		if w.msg == nil {
			w.decode()
		}
		if d.Message = w.msg; w.msg != nil {
			return d
		}
	default:
		w.s.setAsideRecord("a key is damaged", key)
	}
	return nil
}

// decode reads the facts of the message in hand, and forgets it when it is
// damaged or of another sender.
func (w *walk) decode() {
	m, err := decodeMessage(w.id, w.facts)
	if err != nil {
		w.s.repairMessage("a message's facts are damaged", w.id)
	} else if w.filter.Sender == "" || strings.EqualFold(w.filter.Sender, m.msg.Envelope.Sender) {
		w.msg = m.msg
	}
	w.facts = w.facts[:0]
}

// mayBe looks at the front of a delivery record; what is damaged may be wanted.
func (w *walk) mayBe(v []byte) bool {
	h, _, _, _, err := decodeHead(v)
	f := &w.filter
	return err != nil || (f.Destination == "" || strings.EqualFold(f.Destination, h.dest.Domain)) &&
		(f.Stream == "" || f.Stream == h.dest.Stream) && (f.State == nil || *f.State == h.state)
}

func wanted(f *spool.Filter, d *mta.Delivery) bool {
	if f.Destination != "" && !strings.EqualFold(f.Destination, d.Destination.Domain) ||
		f.Stream != "" && f.Stream != d.Destination.Stream ||
		f.State != nil && *f.State != d.State {
		return false
	}
	if f.Recipient == "" {
		return true
	}
	for i := range d.Recipients {
		if strings.EqualFold(f.Recipient, d.Recipients[i].Address) {
			return true
		}
	}
	return false
}
