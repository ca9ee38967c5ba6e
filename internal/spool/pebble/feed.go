package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// The journal as a stream. A batch is visible before it is synced, and a crash
// in between takes its numbers back: what comes next may get them again. So the
// feed ends at a mark that only moves when a sync has returned. The log is
// synced from its front, and numbers are given in the order of the log, so the
// sync of one batch vouches for every number below its own last.

// feedEntries is how many entries one reading of the feed takes at most: an
// iterator that lives long keeps memtables in memory.
const feedEntries = 4096

// followerGrace is how much longer than others records are kept that a
// follower has not got yet.
const followerGrace = 3 * 24 * time.Hour

var _ spool.Feed = (*Store)(nil)

// feed is where the durable part of the journal ends, and who waits for more.
type feed struct {
	durable atomic.Uint64 // entries below are on stable storage, or never will be
	waiting atomic.Int32
	lost    atomic.Uint64 // entries pruned that a follower had not got
	mu      struct {
		sync.Mutex
		more chan struct{} // closed when durable moves
	}
}

// start makes what was found at the opening of the store the feed's: it was
// replayed from stable storage, and pebble has written it to tables since.
func (f *feed) start(next uint64) {
	f.mu.more = make(chan struct{})
	f.durable.Store(next)
}

// synced notes that the entries below end are on stable storage.
func (f *feed) synced(end uint64) {
	for {
		old := f.durable.Load()
		if end <= old {
			return
		}
		if f.durable.CompareAndSwap(old, end) {
			break
		}
	}
	// Whoever begins to wait counts itself before it looks at durable, so one
	// of us two sees the other.
	if f.waiting.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.mu.more)
	f.mu.more = make(chan struct{})
}

func (f *feed) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.more
}

// Unfollowed is how many journal entries were pruned since the start that a
// follower had not got.
func (s *Store) Unfollowed() uint64 { return s.feed.lost.Load() }

// End implements spool.Feed.
func (s *Store) End() spool.Position { return spool.Position{Entry: s.feed.durable.Load()} }

// Await implements spool.Feed. It does not keep the store open.
func (s *Store) Await(ctx context.Context, after spool.Position) error {
	s.feed.waiting.Add(1)
	defer s.feed.waiting.Add(-1)
	for {
		more := s.feed.next()
		if err := s.usable(); err != nil {
			return err
		}
		if s.feed.durable.Load() > after.Entry {
			return ctx.Err()
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return spool.ErrClosed
		case <-s.failure.ch:
			return s.failure.get()
		}
	}
}

// Follow implements spool.Feed. It reads without a snapshot: entries below the
// mark do not change, and a snapshot would keep flushes from dropping the
// records of messages that were delivered meanwhile.
func (s *Store) Follow(ctx context.Context, after spool.Position, f func(spool.Position, *mta.Record) bool) (spool.Position, error) {
	if err := s.enter(ctx); err != nil {
		return after, err
	}
	defer s.leave()
	end := s.feed.durable.Load()
	if after.Entry > end {
		return after, spool.ErrPosition
	}
	if after.Entry == end {
		return after, nil
	}
	c, err := s.newScan(s.db, journalKey(nil, after.Entry), journalKey(nil, end))
	if err != nil {
		return after, fmt.Errorf("read the journal: %w", err)
	}
	defer c.close()
	h := &history{s: s, r: s.db, origins: make(map[uint64]*origin)}
	pos, n := after, 0
	for ok := c.first(); ok; ok = c.next() {
		if err := ctx.Err(); err != nil {
			return pos, err
		}
		if n++; n > feedEntries {
			return pos, nil
		}
		v, readable := c.value()
		if !readable {
			continue
		}
		if len(c.key()) != 1+seqLen {
			s.setAsideRecord("a journal key is damaged", c.key())
			continue
		}
		if seq := readSeq(c.key()[1:]); seq > pos.Entry {
			pos = spool.Position{Entry: seq}
		}
		var goOn bool
		if pos, goOn = h.follow(c.key(), v, pos, f); !goOn {
			return pos, nil
		}
	}
	if err := c.err(); err != nil {
		return pos, fmt.Errorf("read the journal: %w", err)
	}
	return spool.Position{Entry: end}, nil
}

// follow hands the records of the entry at pos to f, but for those before pos,
// and gives the position behind the last one taken.
func (h *history) follow(key, v []byte, pos spool.Position, f func(spool.Position, *mta.Record) bool) (_ spool.Position, goOn bool) {
	e, err := openEntry(v)
	if err != nil {
		h.s.setAsideRecord("a journal entry is damaged", key)
		return spool.Position{Entry: pos.Entry + 1}, true
	}
	var o *origin
	if e.kind == entryLater {
		o = h.origin(e.accepted, e.id)
	}
	n := 0
	goOn = true
	err = e.records(o, func(r *mta.Record) bool {
		n++
		if n <= int(pos.Record) {
			return true
		}
		at := spool.Position{Entry: pos.Entry, Record: uint32(n)}
		if n == e.count {
			at = spool.Position{Entry: pos.Entry + 1}
		}
		if goOn = f(at, r); goOn {
			pos = at
		}
		return goOn
	})
	if err != nil {
		h.s.setAsideRecord("a journal entry is damaged", key)
	}
	if goOn && pos.Record > 0 { // damaged in its middle, or pos was behind its last record
		pos = spool.Position{Entry: pos.Entry + 1}
	}
	return pos, goOn
}

// Followers implements spool.Feed.
func (s *Store) Followers(ctx context.Context) ([]spool.Follower, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.followers(s.db), nil
}

func (s *Store) followers(r pdb.Reader) (out []spool.Follower) {
	c, err := s.newScan(r, []byte{tableFollowers}, []byte{tableFollowers + 1})
	if err != nil {
		return nil
	}
	defer c.close()
	for ok := c.first(); ok; ok = c.next() {
		v, readable := c.value()
		if !readable {
			continue
		}
		f, err := decodeFollower(c.key(), v)
		if err != nil {
			s.setAsideRecord("the state of a follower of the journal is damaged", c.key())
			continue
		}
		out = append(out, f)
	}
	return out
}

func followerKey(name string) []byte { return append([]byte{tableFollowers}, name...) }

func appendFollower(b []byte, f *spool.Follower) []byte {
	from := len(b)
	b = binary.AppendUvarint(b, f.Floor.Entry)
	b = binary.AppendUvarint(b, uint64(f.Floor.Record))
	return seal(append(b, f.State...), from)
}

func decodeFollower(key, v []byte) (spool.Follower, error) {
	v, ok := unseal(v)
	if !ok || len(key) < 2 {
		return spool.Follower{}, errDamaged
	}
	r := reader{b: v}
	f := spool.Follower{Name: string(key[1:])}
	f.Floor.Entry = r.uvarint()
	record := r.uvarint()
	if r.bad || record > math.MaxUint32 {
		return spool.Follower{}, errDamaged
	}
	f.Floor.Record = uint32(record)
	f.State = append([]byte{}, r.b...)
	return f, nil
}

// SaveFollower implements spool.Feed.
func (s *Store) SaveFollower(ctx context.Context, f spool.Follower) error {
	if f.Name == "" || len(f.Name) > 255 {
		return errors.New("spool: a follower's name has 1 to 255 octets")
	}
	if len(f.State) > spool.MaxFollowerState {
		return fmt.Errorf("spool: the state of follower %s has %d octets, more than %d", f.Name, len(f.State), spool.MaxFollowerState)
	}
	return s.change(ctx, func(t *txn) {
		t.val = appendFollower(t.val[:0], &f)
		_ = t.b.Set(followerKey(f.Name), t.val, nil)
	})
}

// DropFollower implements spool.Feed.
func (s *Store) DropFollower(ctx context.Context, name string) error {
	return s.change(ctx, func(t *txn) { _ = t.b.Delete(followerKey(name), nil) })
}

// change commits what f adds to a batch.
func (s *Store) change(ctx context.Context, f func(t *txn)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	s.commit.Lock()
	t := &s.commit.txn
	t.begin(512)
	f(t)
	b, err := t.apply()
	s.commit.Unlock()
	if err != nil {
		return err
	}
	return s.finish(b)
}

// floor is the number of the first entry that some follower may still ask for.
func (s *Store) floor(r pdb.Reader) uint64 {
	low := uint64(math.MaxUint64)
	for _, f := range s.followers(r) {
		low = min(low, f.Floor.Entry)
	}
	return low
}

// keepForFollowers moves the cut of a prune back to the first entry that a
// follower waits for, unless that is older than everybody's patience.
func (p *pruner) keepForFollowers(c *scan, before time.Time) {
	p.floor = p.s.floor(p.r)
	if p.floor < p.cut {
		p.cut = max(p.floor, p.s.firstAt(c, before.Add(-followerGrace)))
	}
}

// tellLost says that a follower was too slow.
func (p *pruner) tellLost() {
	if p.lost == 0 {
		return
	}
	p.s.feed.lost.Add(p.lost)
	p.s.log.Error("journal entries were removed for their age that a receiver of events had not got", mta.KeyCount, p.lost)
}
