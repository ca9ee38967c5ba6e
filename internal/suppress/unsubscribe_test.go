package suppress

import (
	"errors"
	"testing"
	"time"

	"mailout/internal/mta"
)

// TestUnsubscribe: who leaves a stream gets no more of it, whatever stood there
// and however often it is said, and goes on getting everything else.
func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Off: true, Streams: map[string][]Reason{"news": {Unsubscribed}}})
	w.Start(t.Context())
	w.Stop()
	w.must(w.Add(t.Context(), Entry{Address: "bob@example.com", Stream: "news"}, Entry{Address: "cid@example.com", Stream: "news", Reason: Unsubscribed, Expires: w.at.Add(time.Hour)}))
	if w.listed("bob@example.com", "news") {
		t.Fatal("the test is wrong: a manual entry counts in news")
	}
	leave := func(address string, want bool) {
		t.Helper()
		fresh, err := w.Unsubscribe(t.Context(), address, "news", mta.ID{7}, "by the link in a message")
		if err != nil || fresh != want {
			t.Errorf("%s: %v, %v", address, fresh, err)
		}
		if left, err := w.Left(t.Context(), address, "news"); !left || err != nil {
			t.Errorf("%s has not left: %v", address, err)
		}
	}
	for _, address := range []string{"Ann@example.com", "bob@example.com", "cid@example.com"} {
		if left, err := w.Left(t.Context(), address, "news"); left || err != nil {
			t.Error(address, left, err)
		}
		leave(address, true)
		leave(address, false)
		if !w.listed(address, "news") || w.listed(address, "default") {
			t.Errorf("%s: news %v, others %v", address, w.listed(address, "news"), w.listed(address, "default"))
		}
	}
	w.at = w.at.Add(2 * time.Hour)
	if !w.listed("cid@example.com", "news") {
		t.Error("it ends with the entry that stood there")
	}
	e := w.Find(t.Context(), "ann@example.com", "news")
	if e.Reason != Unsubscribed || e.Message != (mta.ID{7}) || e.Hits != 1 || !e.Expires.IsZero() || e.Words() != "the address is on the suppression list since 2026-01-10: its owner unsubscribed, for the stream news (by the link in a message)" {
		t.Errorf("%+v: %s", e, e.Words())
	}
	if c := w.Counts(); c.Learned[Unsubscribed] != 3 || c.Entries[Unsubscribed] != 3 || c.Entries[Manual] != 0 {
		t.Errorf("%+v", c)
	}
	if n, err := w.Remove(t.Context(), "ann@example.com", "", true); n != 1 || err != nil {
		t.Error(n, err)
	}
	leave("ann@example.com", true)

	w.notes.broken = errors.New("disk")
	if fresh, err := w.Unsubscribe(t.Context(), "dan@example.com", "news", mta.ID{}, ""); fresh || err == nil {
		t.Error("what was not stored is told as done")
	}
}
