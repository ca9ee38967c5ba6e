package pebble

import (
	"maps"
	"sync"

	"mailout/internal/mta"
)

// Tally counts journal records since the start: what happened, in numbers.
type Tally struct {
	// Events by stream; streams beyond maxTallied are OtherStreams.
	Events map[TallyEvent]uint64
	// Outcomes of attempts that did not deliver.
	Outcomes map[TallyOutcome]uint64
	// TLS of deliveries by version; empty: clear text.
	TLS map[string]uint64
	// Delivered counts times from acceptance to delivery by the bounds of
	// DeliveryTimes, those beyond the last in one more; Seconds is their sum.
	Delivered [len(DeliveryTimes) + 1]uint64
	Seconds   float64
}

// TallyEvent is an event of a stream's mail.
type TallyEvent struct {
	Event  mta.Event
	Stream string
}

// TallyOutcome is what an attempt meant, in the journal's words.
type TallyOutcome struct{ Event, Class, Scope string }

// DeliveryTimes are the upper bounds, in seconds, by which Tally sorts times.
var DeliveryTimes = [...]float64{0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 14400, 86400}

// maxTallied bounds the streams, outcomes and TLS versions that are told apart.
const maxTallied = 100

// OtherStreams stands for the streams beyond the first hundred.
const OtherStreams = "(other)"

// tally is a Tally in the making. It is written under the commit lock, in the
// order of the journal; mu is for those who read it.
type tally struct {
	mu struct {
		sync.Mutex
		Tally
	}
}

// count takes one entry's records into account, all of one message.
func (t *tally) count(recs []*mta.Record, id mta.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.Events == nil {
		t.mu.Events, t.mu.Outcomes, t.mu.TLS = map[TallyEvent]uint64{}, map[TallyOutcome]uint64{}, map[string]uint64{}
	}
	for i := 0; i < len(recs); {
		same := 1 // records that count the same: a message has many recipients
		for i+same < len(recs) && recs[i+same].Event == recs[i].Event && recs[i+same].Stream == recs[i].Stream {
			same++
		}
		t.event(recs[i], uint64(same))
		for _, r := range recs[i : i+same] {
			t.outcome(r, id)
		}
		i += same
	}
}

func (t *tally) event(r *mta.Record, n uint64) {
	key := TallyEvent{r.Event, r.Stream}
	if _, known := t.mu.Events[key]; !known && len(t.mu.Events) >= maxTallied {
		key.Stream = OtherStreams
	}
	t.mu.Events[key] += n
}

func (t *tally) outcome(r *mta.Record, id mta.ID) {
	switch r.Event {
	case mta.EventDelivered, mta.EventRelayed:
		if _, known := t.mu.TLS[r.TLS.Version]; known || len(t.mu.TLS) < maxTallied {
			t.mu.TLS[r.TLS.Version]++
		}
		took := max(r.Time.Sub(id.Time()).Seconds(), 0)
		t.mu.Seconds += took
		at := 0
		for at < len(DeliveryTimes) && took > DeliveryTimes[at] {
			at++
		}
		t.mu.Delivered[at]++
	case mta.EventDeferred, mta.EventFailed, mta.EventExpired:
		key := TallyOutcome{r.Event.String(), r.Class, r.Scope}
		if _, known := t.mu.Outcomes[key]; known || len(t.mu.Outcomes) < maxTallied {
			t.mu.Outcomes[key]++
		}
	}
}

// Tally gives the counts since the start.
func (s *Store) Tally() Tally {
	t := &s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.mu.Tally
	out.Events, out.Outcomes, out.TLS = maps.Clone(out.Events), maps.Clone(out.Outcomes), maps.Clone(out.TLS)
	return out
}
