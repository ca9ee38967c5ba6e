package pebble

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// TestListWaysAgree: the indexes and the reading through give the same, in the
// same order.
func TestListWaysAgree(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTest(t)
	for i := range 3 * listChunk / 2 {
		put(t, s, i, []string{"one.example", "one.exam", "two.example"}[i%3], []string{mta.DefaultStream, "codes"}[i%2], mta.State(i%7%3))
	}
	snap := s.db.NewSnapshot()
	defer snap.Close()
	for _, state := range []int{-1, 0, 1, 2} {
		for _, f := range []spool.Filter{
			{Destination: "one.example"}, {Destination: "two.example", Stream: "codes"}, {Destination: "none.example"},
			{Destination: "one.exam", Stream: mta.DefaultStream}, {}, {Stream: "codes"},
		} {
			if state >= 0 {
				st := mta.State(state)
				f.State = &st
			}
			var short, long []mta.DeliveryKey
			if err := s.List(ctx, f, func(d *mta.Delivery) bool { short = append(short, d.Key()); return true }); err != nil {
				t.Fatal(err)
			}
			if err := s.listAll(ctx, snap, f, func(d *mta.Delivery) bool { long = append(long, d.Key()); return true }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(short, long) {
				t.Errorf("%+v: %d by the index, %d by all", f, len(short), len(long))
			}
		}
	}
}

func TestListEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	for i := range 3 {
		put(t, s, i, "one.example", mta.DefaultStream, mta.Queued)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	err := s.List(ctx, spool.Filter{Destination: "one.example"}, func(*mta.Delivery) bool { n++; cancel(); return true })
	if !errors.Is(err, context.Canceled) || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	if err := s.List(context.Background(), spool.Filter{Destination: "one.example"}, func(*mta.Delivery) bool { n = -1; return false }); err != nil || n != -1 {
		t.Errorf("%d, %v", n, err)
	}
}

func openTest(t *testing.T) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s *Store, i int, domain, stream string, state mta.State) {
	t.Helper()
	draft, err := s.Draft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := draft.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	m := &mta.Message{ID: mta.NewID(testTime(0), [10]byte{byte(i >> 8), byte(i)}), Arrived: testTime(0), Size: 1, Stream: stream, Deliveries: 1,
		Envelope: mta.Envelope{Sender: "app@out.example"}}
	to := fmt.Sprintf("u%d@%s", i, domain)
	d := &mta.Delivery{Message: m, Destination: mta.Destination{Domain: domain, Stream: stream}, State: state,
		Recipients: []mta.Recipient{{Address: to}}, Due: testTime(0).AddDate(0, 0, -i)}
	r := &mta.Record{Time: testTime(0), Event: mta.EventAccepted, ID: m.ID, Stream: stream, Sender: m.Envelope.Sender, Recipient: to, Destination: domain, Size: 1}
	if err := s.Put(context.Background(), &spool.Submission{Message: m, Content: draft, Deliveries: []*mta.Delivery{d}, Records: []*mta.Record{r}}); err != nil {
		t.Fatal(err)
	}
}
