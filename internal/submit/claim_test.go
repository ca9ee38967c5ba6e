package submit

import (
	"context"
	"errors"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Records gives those of what was put.
func (s *memStore) Records(_ context.Context, filter spool.RecordFilter, f func(*mta.Record) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recordsErr != nil {
		return s.recordsErr
	}
	for _, sub := range s.put {
		for _, r := range sub.Records {
			if sub.Message.ID == filter.ID && !f(r) {
				return nil
			}
		}
	}
	return nil
}

func withID() *Request {
	r := request()
	r.ID = mta.NewID(noon.Add(-time.Hour), [10]byte{1, 2, 3})
	return r
}

func TestAGivenIDIsTakenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	if _, _, err := w.submit(t, withID(), "Subject: x\n\ntext\n", 0); err == nil {
		t.Fatal("bare LF is refused here: the claim must end with it")
	}
	r := withID()
	r.LineEnds = RepairBare
	sub, content, err := w.submit(t, r, "Subject: x\n\ntext\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if sub.Message.ID != r.ID || !sub.Message.Arrived.Equal(noon.Truncate(time.Millisecond)) {
		t.Errorf("ID %s, arrived %s", sub.Message.ID, sub.Message.Arrived)
	}
	if want := "<" + r.ID.String() + "@out.example.com>"; sub.Message.MessageID != want {
		t.Errorf("%s in %q", sub.Message.MessageID, content)
	}
	for range 2 {
		if _, err := w.Begin(t.Context(), r); !errors.Is(err, ErrTaken) {
			t.Errorf("again: %v", err)
		}
	}
}

func TestAGivenIDIsHeldWhileItsDraftLives(t *testing.T) {
	t.Parallel()
	w := newWorld()
	first, err := w.Begin(t.Context(), withID())
	if err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if _, err := w.Begin(t.Context(), withID()); !errors.As(err, &refusal) || refusal.Reply.Code != 451 {
		t.Errorf("beside it: %v", err)
	}
	first.Abort()
	second, err := w.Begin(t.Context(), withID())
	if err != nil {
		t.Fatalf("behind it: %v", err)
	}
	first.Abort() // harmless, also for the second's claim
	if _, err := w.Begin(t.Context(), withID()); !errors.As(err, &refusal) {
		t.Errorf("beside the second: %v", err)
	}
	second.Abort()
}

func TestAGivenIDIsFreeAfterAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld()
	broken := errors.New("broken")
	for _, fail := range []*error{&w.store.recordsErr, &w.store.draftErr, &w.store.putErr} {
		*fail = broken
		d, err := w.Begin(t.Context(), withID())
		if err == nil {
			_, err = d.Commit(t.Context())
		}
		if !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		*fail = nil
	}
	if _, _, err := w.submit(t, withID(), "", 0); err != nil {
		t.Error(err)
	}
}
