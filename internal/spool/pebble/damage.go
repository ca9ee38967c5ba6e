package pebble

import (
	"bytes"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// damage counts and logs damage that was met.
func (s *Store) damage(what string, key []byte, err error) {
	s.stats.corrupt.Add(1)
	s.log.Error("spool: "+what, "key", fmt.Sprintf("%q", key), mta.KeyError, err)
}

// repair runs f on a batch of its own under the commit lock and makes it
// durable. Damage is mended on the way of a read, so its errors are logged
// and not returned: what could not be set aside is met again.
func (s *Store) repair(f func(t *txn)) {
	s.commit.Lock()
	t := &s.commit.txn
	t.begin(4096)
	f(t)
	if t.b.Empty() {
		t.giveUp()
		s.commit.Unlock()
		return
	}
	b, err := t.apply()
	s.commit.Unlock()
	if err == nil {
		err = s.finish(b)
	}
	if err != nil {
		s.log.Error("spool: damage could not be set aside", mta.KeyError, err)
	}
}

// setAside moves a record to the table of damaged ones.
func (t *txn) setAside(what string, key, value []byte) {
	t.s.damage(what+"; it was set aside", key, errDamaged)
	t.move(key, value)
}

func (t *txn) move(key, value []byte) {
	k := bytes.Clone(key)
	_ = t.b.Set(append([]byte{tableSetAside}, k...), value, nil)
	_ = t.b.Delete(k, nil)
}

// value reads a record for repair; nil when it is gone or cannot be read.
func (t *txn) value(key []byte) []byte {
	v, err := get(t.s.db, key)
	if err != nil {
		return nil
	}
	return v
}

// setAsideRecord sets a record aside that stands for itself, when it is still
// there.
func (s *Store) setAsideRecord(what string, key []byte) {
	key = bytes.Clone(key)
	s.repair(func(t *txn) {
		if v, closer, err := s.db.Get(key); err == nil {
			t.setAside(what, key, v)
			_ = closer.Close()
		}
	})
}

// setAsideDelivery sets a delivery record aside, and what that leaves without
// a purpose. Its place in the index is not known here; whoever meets that
// finds no record and drops it (dropOrphan), with its count.
func (t *txn) setAsideDelivery(k mta.DeliveryKey, v []byte) {
	t.setAside("a delivery record is damaged", deliveryKey(nil, k), v)
	t.changed[k] = nil
	n, err := t.remainingOf(k.Message)
	switch {
	case err != nil:
		return
	case n > 1:
		t.setRemaining(k.Message, n-1)
	default:
		t.setAsideMessage("a message is left without deliveries", k.Message)
	}
}

// setAsideMessage sets aside everything of a message: facts, deliveries and
// content, so that people may save it. A body file stays where it is.
func (t *txn) setAsideMessage(what string, id mta.ID) {
	key := idKey(nil, tableMessages, id)
	size := int64(-1)
	if v := t.value(key); v != nil {
		if f, err := decodeMessage(id, v); err == nil {
			size = f.msg.Size
		}
		t.setAside(what, key, v)
	} else {
		t.s.damage(what, key, errDamaged)
		t.b.Set(append([]byte{tableSetAside}, key...), nil, nil) // keeps its body file
	}
	t.setAsideDeliveries(id, &size)
	if v := t.value(idKey(nil, tableBodies, id)); v != nil {
		t.move(idKey(nil, tableBodies, id), v)
	}
	_ = t.b.Delete(idKey(nil, tableRemaining, id), nil)
	t.remaining[id] = 0
	t.countMessage(max(size, 0), -1)
	t.s.fresh.forget(id)
}

// setAsideDeliveries moves a message's deliveries and drops their index
// entries, and fills in the message's size if it was not known.
func (t *txn) setAsideDeliveries(id mta.ID, size *int64) {
	lower := idKey(nil, tableMessages, id)
	c, err := t.s.newScan(t.s.db, append(lower, 0), after(lower))
	if err != nil {
		return
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		v, readable := c.value()
		if !readable || len(c.key()) != deliveryKeyLen {
			continue
		}
		k := parseDeliveryKey(c.key())
		if known, touched := t.changed[k]; touched && known == nil {
			continue
		}
		t.changed[k] = nil
		if h, _, _, _, err := decodeHead(v); err == nil {
			t.dropIndex(&h, k)
			if *size < 0 {
				*size = int64(h.size)
			}
		}
		t.move(c.key(), v)
	}
}

// dropOrphan removes an index entry whose delivery record is not there.
func (s *Store) dropOrphan(key []byte) {
	key = bytes.Clone(key)
	s.repair(func(t *txn) {
		x, ok := parseIndex(key)
		v, closer, err := s.db.Get(key)
		if err != nil {
			return
		}
		defer closer.Close()
		if ok {
			if _, c, err := s.db.Get(deliveryKey(nil, x.key)); err == nil {
				_ = c.Close()
				return // it has a record after all
			} else if !errors.Is(err, pdb.ErrNotFound) {
				return
			}
		}
		t.setAside("an index entry is damaged or has no delivery", key, v)
		r := reader{b: v}
		state, size := mta.State(r.byte()), r.uvarint()
		if !ok {
			return
		}
		if !r.bad && state <= mta.Held {
			t.count(x.dest, state, size, -1)
		}
		t.recount(x.key.Message)
	})
}

// recount puts right how many deliveries a message has left, after one was
// found missing.
func (t *txn) recount(id mta.ID) {
	if t.value(idKey(nil, tableMessages, id)) == nil {
		return
	}
	n, err := t.countDeliveries(id)
	if err != nil {
		return
	}
	switch n--; {
	case n == 0:
		t.setAsideMessage("a message is left without deliveries", id)
	case t.value(idKey(nil, tableRemaining, id)) != nil:
		t.setRemaining(id, n)
	}
}

// mendCounters counts anew what cannot be read, under the commit lock, so that
// nothing changes meanwhile: commits wait for as long as that takes.
func (s *Store) mendCounters(dest *mta.Destination, key []byte) {
	s.repair(func(t *txn) {
		if _, err := readCounters(s.db, key); !errors.Is(err, spool.ErrCorrupt) {
			return
		}
		s.damage("counters are damaged; they are counted anew", key, errDamaged)
		var c counters
		for _, table := range []byte{tableDue, tableHeld} {
			lower := []byte{table}
			if dest != nil {
				lower = destPrefix(nil, table, *dest)
			}
			s.each(lower, func(_, v []byte) {
				r := reader{b: v}
				if state, size := mta.State(r.byte()), int64(r.uvarint()); !r.bad && state <= mta.Held {
					c.delivery(state, size, 1)
				}
			})
		}
		if dest == nil {
			c.messages, c.octets = 0, 0
			s.each([]byte{tableMessages}, func(k, v []byte) {
				if len(k) != messageKeyLen {
					return
				}
				if f, err := decodeMessage(mta.ID(k[1:]), v); err == nil {
					c.messages++
					c.octets += f.msg.Size
				}
			})
		}
		_ = t.b.Set(key, c.append(nil), nil)
	})
}

// each calls f for the records with a prefix that can be read.
func (s *Store) each(prefix []byte, f func(k, v []byte)) {
	c, err := s.newScan(s.db, prefix, after(prefix))
	if err != nil {
		return
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if v, readable := c.value(); readable {
			f(c.key(), v)
		}
	}
}
