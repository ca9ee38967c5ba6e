package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Reservations lie in buckets of the time when they were made, so that all of a
// bucket are too old at one moment: they are removed by one range deletion,
// without being read. Whoever looks for a key looks in each bucket that may
// still hold one that counts. A key is written once: a request that comes again
// finds it, and makes another only when it is too old, in another bucket.

var _ spool.Reservations = (*Store)(nil)

// reserveBucket is the width of a bucket.
const reserveBucket = spool.ReservationLife / 4

const reservedKeyLen = 1 + 4 + 16 + 4

func bucketOf(t time.Time) uint32 {
	return uint32(max(t.Unix(), 0) / int64(reserveBucket/time.Second))
}

// reservedPrefix is table, bucket and key.
func reservedPrefix(b []byte, bucket uint32, key *[16]byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(b, tableReserved), bucket), key[:]...)
}

// reserve adds a reservation to the batch.
func (t *txn) reserve(r *spool.Reservation, id mta.ID) {
	t.key = reservedPrefix(t.key[:0], bucketOf(r.Made), &r.Key)
	t.key = binary.BigEndian.AppendUint32(t.key, r.Part)
	v := append(append(t.val[:0], r.Request[:]...), id[:]...)
	t.val = seal(binary.AppendVarint(v, r.Made.Unix()), 0)
	_ = t.b.Set(t.key, t.val, nil)
}

// Reserved implements spool.Reservations.
func (s *Store) Reserved(ctx context.Context, key [16]byte, now time.Time) ([]spool.Reservation, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	var out []spool.Reservation
	// The clock may have been set back since one was made.
	for bucket := bucketOf(now.Add(-spool.ReservationLife)); bucket <= bucketOf(now)+1; bucket++ {
		var err error
		if out, err = s.reservedIn(out, bucket, &key, now); err != nil {
			return nil, fmt.Errorf("read the requests that were taken: %w", err)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	// What is visible may not be synced yet, and the caller will tell.
	return out, s.change(ctx, func(t *txn) { _ = t.b.LogData(nil, nil) })
}

// reservedIn appends what one bucket holds of a key.
func (s *Store) reservedIn(out []spool.Reservation, bucket uint32, key *[16]byte, now time.Time) ([]spool.Reservation, error) {
	prefix := reservedPrefix(nil, bucket, key)
	c, err := s.newScan(s.db, prefix, after(prefix))
	if err != nil {
		return out, err
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		if len(c.key()) != reservedKeyLen {
			continue
		}
		v, readable := c.value()
		if !readable {
			continue
		}
		r, ok := decodeReserved(v)
		if !ok {
			s.setAsideRecord("the note of a request cannot be read", c.key())
			continue
		}
		if now.Sub(r.Made) < spool.ReservationLife {
			r.Key, r.Part = *key, binary.BigEndian.Uint32(c.key()[reservedKeyLen-4:])
			out = append(out, r)
		}
	}
	return out, c.err()
}

func decodeReserved(v []byte) (out spool.Reservation, ok bool) {
	if v, ok = unseal(v); !ok {
		return out, false
	}
	r := reader{b: v}
	copy(out.Request[:], r.bytes(uint64(len(out.Request))))
	copy(out.Message[:], r.bytes(uint64(idLen)))
	out.Made = time.Unix(r.varint(), 0).UTC()
	return out, !r.bad
}

// pruneReserved removes the buckets that are too old as a whole.
func (s *Store) pruneReserved(ctx context.Context) error {
	first := []byte{tableReserved}
	behind := binary.BigEndian.AppendUint32([]byte{tableReserved}, bucketOf(s.opts.Now().Add(-spool.ReservationLife)))
	c, err := s.newScan(s.db, first, behind)
	if err != nil {
		return fmt.Errorf("read the requests that were taken: %w", err)
	}
	some := c.first()
	err = c.err()
	c.close()
	if err != nil || !some {
		return err
	}
	return s.change(ctx, func(t *txn) { _ = t.b.DeleteRange(first, behind, nil) })
}
