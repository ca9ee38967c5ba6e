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

// maxPage bounds what one Page gives.
const maxPage = 10000

// Destinations implements spool.Store.
func (s *Store) Destinations(ctx context.Context, f func(spool.Pending) bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	snap := s.db.NewSnapshot()
	defer snap.Close()
	due, err := s.newScan(snap, []byte{tableDue}, []byte{tableDue + 1})
	if err != nil {
		return fmt.Errorf("read the due index: %w", err)
	}
	defer due.close()
	goOn, err := s.destinations(ctx, due, tableDue, f)
	if err != nil || !goOn {
		return err
	}
	held, err := s.newScan(snap, []byte{tableHeld}, []byte{tableHeld + 1})
	if err != nil {
		return fmt.Errorf("read the held index: %w", err)
	}
	defer held.close()
	_, err = s.destinations(ctx, held, tableHeld, func(p spool.Pending) bool {
		// Those with other mail were told already.
		lower := destPrefix(nil, tableDue, p.Destination)
		if due.seek(lower) && strings.HasPrefix(string(due.key()), string(lower)) {
			return true
		}
		return f(p)
	})
	return err
}

// destinations calls f for the first entry of each destination of an index,
// and reports whether f wants more.
func (s *Store) destinations(ctx context.Context, c *scan, table byte, f func(spool.Pending) bool) (bool, error) {
	for ok := c.first(); ok; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		x, good := parseIndex(c.key())
		if !good {
			s.dropOrphan(c.key())
			ok = c.next()
			continue
		}
		if !f(spool.Pending{Destination: x.dest, Due: dueTime(x.due)}) {
			return false, nil
		}
		ok = c.seek(after(destPrefix(nil, table, x.dest)))
	}
	return true, c.err()
}

// Page implements spool.Store.
func (s *Store) Page(ctx context.Context, dest mta.Destination, from spool.Cursor, n int) ([]*mta.Delivery, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	lower := destPrefix(nil, tableDue, dest)
	upper := after(lower)
	if from != (spool.Cursor{}) {
		x := index{dest: dest, due: dueMS(from.Due), key: from.Key}
		lower = append(x.append(nil), 0)
	}
	snap := s.db.NewSnapshot()
	defer snap.Close()
	c, err := s.newScan(snap, lower, upper)
	if err != nil {
		return nil, fmt.Errorf("read the due index: %w", err)
	}
	defer c.close()
	n = min(n, maxPage)
	out := make([]*mta.Delivery, 0, min(n, 256))
	l := loader{s: s, r: snap}
	defer l.close()
	more := n > 0 && c.first()
	for more && len(out) < n {
		var places []index
		if places, more, err = s.pagePlaces(ctx, c, n-len(out)); err != nil {
			return nil, err
		}
		out = append(out, l.deliveries(places)...)
	}
	return out, c.err()
}

// pagePlaces gives up to n places of the due index from where the scan stands,
// and reports whether there are more.
func (s *Store) pagePlaces(ctx context.Context, c *scan, n int) (places []index, more bool, err error) {
	for more = true; more && len(places) < n; more = c.next() {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		if x, good := parseIndex(c.key()); good {
			places = append(places, x)
		} else {
			s.dropOrphan(c.key())
		}
	}
	return places, more, nil
}

// loader reads deliveries with their messages; those of one message share it.
type loader struct {
	s       *Store
	r       pdb.Reader
	it      *pdb.Iterator // over the messages; nil until it is needed
	key     []byte
	known   map[mta.ID]*mta.Message
	missing bool // the latest delivery has no record
}

func (l *loader) close() {
	if l.it != nil {
		_ = l.it.Close()
		l.it = nil
	}
}

// deliveries gives those of a page, in its order, without the ones that cannot
// be had. It reads them in the order in which they are stored, so that
// neighbours cost one block and not one each.
func (l *loader) deliveries(places []index) []*mta.Delivery {
	order := make([]int, len(places))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return bytes.Compare(places[a].key.Message[:], places[b].key.Message[:])
	})
	out := make([]*mta.Delivery, len(places))
	for _, i := range order {
		if out[i] = l.delivery(places[i].key); out[i] == nil && l.missing {
			l.s.dropOrphan(places[i].append(nil))
		}
	}
	return slices.DeleteFunc(out, func(d *mta.Delivery) bool { return d == nil })
}

// delivery reads one; nil when it cannot be had. Damage is set aside.
func (l *loader) delivery(k mta.DeliveryKey) *mta.Delivery {
	l.missing = false
	if d := l.near(k); d != nil {
		return d
	}
	key := deliveryKey(make([]byte, 0, deliveryKeyLen), k)
	v, closer, err := l.r.Get(key)
	if errors.Is(err, pdb.ErrNotFound) {
		l.missing = true
		return nil
	}
	if err != nil {
		l.s.damage("a delivery record cannot be read", key, err)
		return nil
	}
	defer closer.Close()
	m := l.message(k.Message)
	if m == nil {
		return nil
	}
	d, _, err := decodeDelivery(k, v, m)
	if err != nil {
		l.s.repairDelivery(k)
		return nil
	}
	return d
}

// near reads a delivery, and its message before it, with one iterator that
// stays: two look-ups opened every table file anew and often read the same
// block twice. Whatever it cannot give (nil) is looked up one by one, where
// damage is told from absence.
func (l *loader) near(k mta.DeliveryKey) *mta.Delivery {
	m := l.known[k.Message]
	if m == nil {
		if f := l.s.fresh.factsOf(k.Message); f != nil {
			m = f.msg
		}
	}
	if m == nil {
		l.key = idKey(l.key[:0], tableMessages, k.Message)
		f, err := decodeMessage(k.Message, l.at(l.key))
		if err != nil {
			return nil
		}
		m = f.msg
	}
	l.key = deliveryKey(l.key[:0], k)
	d, _, err := decodeDelivery(k, l.at(l.key), m)
	if err != nil {
		return nil
	}
	l.keep(m)
	return d
}

// at gives the value of a key, valid until the next call; nil when it is not
// there or cannot be read.
func (l *loader) at(key []byte) []byte {
	if l.it == nil {
		var err error
		if l.it, err = l.r.NewIter(&pdb.IterOptions{LowerBound: []byte{tableMessages}, UpperBound: []byte{tableMessages + 1}}); err != nil {
			l.it = nil
			return nil
		}
	}
	if l.it.SeekGE(key) && bytes.Equal(l.it.Key(), key) {
		if v, err := l.it.ValueAndErr(); err == nil {
			return v
		}
	}
	if l.it.Error() != nil {
		l.close() // one that met damage may meet it again in the next seek
	}
	return nil
}

// keep remembers a message for its other deliveries.
func (l *loader) keep(m *mta.Message) {
	if l.known == nil {
		l.known = make(map[mta.ID]*mta.Message)
	}
	l.known[m.ID] = m
}

func (l *loader) message(id mta.ID) *mta.Message {
	if m := l.known[id]; m != nil {
		return m
	}
	m := l.read(id)
	if m != nil {
		l.keep(m)
	}
	return m
}

func (l *loader) read(id mta.ID) *mta.Message {
	if f := l.s.fresh.factsOf(id); f != nil {
		return f.msg
	}
	key := idKey(make([]byte, 0, messageKeyLen), tableMessages, id)
	v, closer, err := l.r.Get(key)
	if err != nil {
		if !errors.Is(err, pdb.ErrNotFound) {
			l.s.damage("a message cannot be read", key, err)
			return nil
		}
		l.s.repairMessage("a delivery has no message", id)
		return nil
	}
	defer closer.Close()
	f, err := decodeMessage(id, v)
	if err != nil {
		l.s.repairMessage("a message's facts are damaged", id)
		return nil
	}
	return f.msg
}

// repairDelivery sets a delivery record aside if it is damaged now.
func (s *Store) repairDelivery(k mta.DeliveryKey) {
	s.repair(func(t *txn) {
		v := t.value(deliveryKey(nil, k))
		if v == nil {
			return
		}
		if _, _, err := decodeDelivery(k, v, nil); err != nil {
			t.setAsideDelivery(k, v)
		}
	})
}

// repairMessage sets a message aside if its facts are damaged or missing now,
// while it has deliveries.
func (s *Store) repairMessage(what string, id mta.ID) {
	s.repair(func(t *txn) {
		v := t.value(idKey(nil, tableMessages, id))
		if v != nil {
			if _, err := decodeMessage(id, v); err == nil {
				return
			}
		} else if n, err := t.countDeliveries(id); err != nil || n == 1 {
			return // nothing is left of it
		}
		t.setAsideMessage(what, id)
	})
}

// Get implements spool.Store.
func (s *Store) Get(ctx context.Context, id mta.ID) ([]*mta.Delivery, error) {
	var out []*mta.Delivery
	err := s.List(ctx, spool.Filter{ID: id}, func(d *mta.Delivery) bool {
		out = append(out, d)
		return true
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("message %s: %w", id, spool.ErrNotFound)
	}
	return out, nil
}

// Stats implements spool.Store.
func (s *Store) Stats(ctx context.Context) (spool.Stats, error) {
	if err := s.enter(ctx); err != nil {
		return spool.Stats{}, err
	}
	defer s.leave()
	c, err := s.counters(nil)
	if err != nil {
		return spool.Stats{}, err
	}
	st := c.stats()
	if st.Messages == 0 {
		return st, nil // and no walk over what was deleted
	}
	snap := s.db.NewSnapshot()
	defer snap.Close()
	it, err := s.newScan(snap, []byte{tableMessages}, []byte{tableMessages + 1})
	if err != nil {
		return st, fmt.Errorf("read the messages: %w", err)
	}
	defer it.close()
	for ok := it.first(); ok; ok = it.next() {
		if len(it.key()) != messageKeyLen {
			continue
		}
		v, readable := it.value()
		if !readable {
			continue
		}
		if m, err := decodeMessage(mta.ID(it.key()[1:]), v); err == nil {
			st.Oldest = m.msg.Arrived
			break
		}
	}
	return st, it.err()
}

// CountByDestination implements spool.Store.
func (s *Store) CountByDestination(ctx context.Context, dest mta.Destination) (spool.Stats, error) {
	if err := s.enter(ctx); err != nil {
		return spool.Stats{}, err
	}
	defer s.leave()
	c, err := s.counters(&dest)
	return c.stats(), err
}

// counters reads the counters of a destination, or of everything, and mends
// them when they are damaged.
func (s *Store) counters(dest *mta.Destination) (counters, error) {
	key := []byte{tableCounters}
	if dest != nil {
		key = counterKey(nil, *dest)
	}
	c, err := readCounters(s.db, key)
	if errors.Is(err, spool.ErrCorrupt) {
		s.mendCounters(dest, key)
		c, err = readCounters(s.db, key)
	}
	return c, err
}

func readCounters(r pdb.Reader, key []byte) (counters, error) {
	v, err := get(r, key)
	if pdb.IsCorruptionError(err) {
		return counters{}, fmt.Errorf("%w: counters: %w", spool.ErrCorrupt, err)
	}
	if err != nil {
		return counters{}, fmt.Errorf("read the counters: %w", err)
	}
	if v == nil {
		return counters{}, nil
	}
	c, err := decodeCounters(v)
	if err != nil {
		return c, fmt.Errorf("%w: counters: %w", spool.ErrCorrupt, err)
	}
	return c, nil
}
