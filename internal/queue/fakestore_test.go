package queue

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// fakeStore is a spool.Store in memory, as strict as the contract: it hands
// out copies, orders by due time and key, and names what is gone. It outlives
// a queue, so that a test can restart one on it.
type fakeStore struct {
	mu struct {
		sync.Mutex
		open    map[mta.DeliveryKey]*mta.Delivery
		dests   map[mta.Destination][]*mta.Delivery // unheld, in due order
		records []*mta.Record
		begun   []mta.DeliveryKey
		settles int
		pages   int
		walks   int // calls of Destinations
		walking int // of these, under way
		twice   bool
		used    map[*spool.Submission]bool
	}
	streak   int
	fail     func(s *spool.Settlement) error // of a whole Settle call
	pageWait func()                          // between reading a page and returning it
	// walkStep is called before each destination that Destinations tells; it may
	// wait, and its error ends the call.
	walkStep func(n int) error
	noted    bool // keep the records
}

func newFakeStore() *fakeStore {
	s := &fakeStore{noted: true}
	s.mu.open = make(map[mta.DeliveryKey]*mta.Delivery)
	s.mu.dests = make(map[mta.Destination][]*mta.Delivery)
	s.mu.used = make(map[*spool.Submission]bool)
	return s
}

func order(a, b *mta.Delivery) int {
	if c := a.Due.Compare(b.Due); c != 0 {
		return c
	}
	if c := bytes.Compare(a.Message.ID[:], b.Message.ID[:]); c != 0 {
		return c
	}
	return int(a.N) - int(b.N)
}

func (s *fakeStore) insert(d *mta.Delivery) {
	c := *d
	s.mu.open[c.Key()] = &c
	if c.State == mta.Held {
		return
	}
	list := s.mu.dests[c.Destination]
	i, _ := slices.BinarySearchFunc(list, &c, order)
	s.mu.dests[c.Destination] = slices.Insert(list, i, &c)
}

func (s *fakeStore) remove(key mta.DeliveryKey) bool {
	old := s.mu.open[key]
	if old == nil {
		return false
	}
	delete(s.mu.open, key)
	if old.State == mta.Held {
		return true
	}
	list := s.mu.dests[old.Destination]
	i, ok := slices.BinarySearchFunc(list, old, order)
	if !ok {
		panic("the fake store lost its order")
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(s.mu.dests, old.Destination)
	} else {
		s.mu.dests[old.Destination] = list
	}
	return true
}

func (s *fakeStore) put(list ...*mta.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range list {
		s.insert(d)
	}
}

func (s *fakeStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.open)
}

func (s *fakeStore) get(key mta.DeliveryKey) *mta.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.open[key]
}

func (s *fakeStore) history() []*mta.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.records)
}

func (s *fakeStore) events(e mta.Event) (list []*mta.Record) {
	for _, r := range s.history() {
		if r.Event == e {
			list = append(list, r)
		}
	}
	return list
}

// Settle implements spool.Store.
func (s *fakeStore) Settle(_ context.Context, list ...*spool.Settlement) ([]mta.DeliveryKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.settles++
	for _, x := range list {
		for _, sub := range x.Reports {
			if s.mu.used[sub] {
				panic("a report was handed in again after a failed commit: its draft is used up")
			}
			s.mu.used[sub] = true
		}
	}
	if s.fail != nil {
		for _, x := range list {
			if err := s.fail(x); err != nil {
				return nil, err
			}
		}
	}
	var gone []mta.DeliveryKey
	for _, x := range list {
		old := s.mu.open[x.Delivery]
		if w := x.Was; w != nil && old != nil && (old.Destination != w.Destination || old.State != w.State || !old.Due.Equal(w.Due) || old.Attempts != w.Attempts ||
			len(old.Recipients) != len(w.Recipients) || old.DelaySent != w.DelaySent) {
			gone = append(gone, x.Delivery)
			continue
		}
		if !s.remove(x.Delivery) {
			gone = append(gone, x.Delivery)
			continue
		}
		if x.Next != nil {
			s.insert(x.Next)
		}
		if s.noted {
			s.mu.records = append(s.mu.records, x.Records...)
		}
		for _, sub := range x.Reports {
			for _, d := range sub.Deliveries {
				s.insert(d)
			}
			s.mu.records = append(s.mu.records, sub.Records...)
		}
	}
	return gone, nil
}

// Begin implements spool.Store.
func (s *fakeStore) Begin(_ context.Context, key mta.DeliveryKey, next time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.mu.open[key]
	if old == nil {
		return spool.ErrNotFound
	}
	c := *old
	s.remove(key)
	c.Attempts++
	c.Due = next
	s.insert(&c)
	s.mu.begun = append(s.mu.begun, key)
	return nil
}

// Streak implements spool.Store.
func (s *fakeStore) Streak() int { return s.streak }

// Destinations implements spool.Store.
func (s *fakeStore) Destinations(ctx context.Context, f func(spool.Pending) bool) error {
	s.mu.Lock()
	s.mu.walks++
	s.mu.walking++
	s.mu.twice = s.mu.twice || s.mu.walking > 1
	var list []spool.Pending
	for dest, ds := range s.mu.dests {
		list = append(list, spool.Pending{Destination: dest, Due: ds[0].Due})
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.walking--
	}()
	slices.SortFunc(list, func(a, b spool.Pending) int {
		return bytes.Compare([]byte(a.Destination.String()), []byte(b.Destination.String()))
	})
	for i, p := range list {
		if s.walkStep != nil {
			if err := s.walkStep(i); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f(p) {
			return nil
		}
	}
	return nil
}

// Page implements spool.Store.
func (s *fakeStore) Page(ctx context.Context, dest mta.Destination, after spool.Cursor, n int) ([]*mta.Delivery, error) {
	s.mu.Lock()
	s.mu.pages++
	list := s.mu.dests[dest]
	from := &mta.Delivery{Message: &mta.Message{ID: after.Key.Message}, N: after.Key.N, Due: after.Due}
	i, found := slices.BinarySearchFunc(list, from, order)
	if found {
		i++
	}
	var out []*mta.Delivery
	for ; i < len(list) && len(out) < n; i++ {
		c := *list[i]
		out = append(out, &c)
	}
	s.mu.Unlock()
	if s.pageWait != nil {
		s.pageWait()
	}
	return out, ctx.Err()
}

// Stats implements spool.Store.
func (s *fakeStore) Stats(context.Context) (spool.Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st spool.Stats
	for _, d := range s.mu.open {
		switch d.State {
		case mta.Queued:
			st.Queued++
		case mta.Deferred:
			st.Deferred++
		default:
			st.Held++
		}
		if st.Oldest.IsZero() || d.Message.Arrived.Before(st.Oldest) {
			st.Oldest = d.Message.Arrived
		}
	}
	return st, nil
}

var errUnused = errors.New("the queue does not need this")

func (s *fakeStore) Draft() (spool.Draft, error)                          { return nil, errUnused }
func (s *fakeStore) Put(context.Context, ...*spool.Submission) error      { return errUnused }
func (s *fakeStore) Open(context.Context, mta.ID) (spool.Content, error)  { return nil, errUnused }
func (s *fakeStore) Get(context.Context, mta.ID) ([]*mta.Delivery, error) { return nil, errUnused }
func (s *fakeStore) Prune(context.Context, time.Time) error               { return errUnused }
func (s *fakeStore) Close() error                                         { return nil }
func (s *fakeStore) List(context.Context, spool.Filter, func(*mta.Delivery) bool) error {
	return errUnused
}
func (s *fakeStore) CountByDestination(context.Context, mta.Destination) (spool.Stats, error) {
	return spool.Stats{}, errUnused
}
func (s *fakeStore) Records(context.Context, spool.RecordFilter, func(*mta.Record) bool) error {
	return errUnused
}

// failing makes settlements fail while broken says so.
func (s *fakeStore) failing(broken func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = func(*spool.Settlement) error {
		if broken() {
			return errBroken
		}
		return nil
	}
}
