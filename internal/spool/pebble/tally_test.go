package pebble

import (
	"fmt"
	"testing"
	"time"

	"mailout/internal/mta"
)

func TestTally(t *testing.T) {
	t.Parallel()
	var c tally
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	id := mta.NewID(at, [10]byte{1})
	rec := func(e mta.Event, stream string, after time.Duration) *mta.Record {
		return &mta.Record{Event: e, Stream: stream, Time: at.Add(after), Class: "temporary", Scope: "site"}
	}
	c.count([]*mta.Record{rec(mta.EventAccepted, "a", 0), rec(mta.EventAccepted, "a", 0)}, id)
	tls := rec(mta.EventDelivered, "a", 2*time.Second)
	tls.TLS.Version = "TLS1.3"
	c.count([]*mta.Record{tls, rec(mta.EventDelivered, "a", 48*time.Hour), rec(mta.EventDeferred, "b", 0)}, id)
	c.count([]*mta.Record{rec(mta.EventRelayed, "a", -time.Second)}, id) // a clock set back
	s := &Store{}
	s.tally.mu.Tally = c.mu.Tally
	got := s.Tally()
	if fmt.Sprint(got.Events) != "map[{accepted a}:2 {deferred b}:1 {delivered a}:2 {relayed a}:1]" {
		t.Error(got.Events)
	}
	if fmt.Sprint(got.Outcomes) != "map[{deferred temporary site}:1]" || fmt.Sprint(got.TLS) != "map[:2 TLS1.3:1]" {
		t.Error(got.Outcomes, got.TLS)
	}
	if got.Delivered[0] != 1 || got.Delivered[3] != 1 || got.Delivered[len(DeliveryTimes)] != 1 || got.Seconds != 2+48*3600 {
		t.Error(got.Delivered, got.Seconds)
	}
	for i := range 3 * maxTallied {
		c.count([]*mta.Record{rec(mta.EventAccepted, fmt.Sprint("s", i), 0)}, id)
	}
	if n := len(c.mu.Events); n > maxTallied+10 || c.mu.Events[TallyEvent{mta.EventAccepted, OtherStreams}] == 0 {
		t.Errorf("%d streams are told apart", n)
	}
}
