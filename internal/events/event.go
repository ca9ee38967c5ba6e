package events

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Event is one journal record as receivers get it, in the shape of Standard
// Webhooks.
type Event struct {
	// ID is the event's for ever: the same when it is sent again.
	ID string `json:"id"`
	// Type is TypeOf the record.
	Type string `json:"type"`
	// Timestamp is when it happened: RFC 3339 with milliseconds, UTC.
	Timestamp string `json:"timestamp"`
	// Data is the record as `mailout trace --json` shows it.
	Data *mta.Record `json:"data"`
}

// New makes the event of the record in front of a position.
func New(at spool.Position, r *mta.Record) Event {
	return Event{ID: IDOf(at, r), Type: TypeOf(r.Event), Timestamp: mta.FormatTime(r.Time), Data: r}
}

// IDOf is the ID of the event of the record in front of a position. Another
// spool gives other IDs.
func IDOf(at spool.Position, r *mta.Record) string { return r.ID.String() + "-" + at.String() }

// TypeOf names what happened: "message.delivered", or "server.identity" for
// what tells of no message.
func TypeOf(e mta.Event) string {
	if e.OfMessage() {
		return "message." + e.String()
	}
	return "server." + e.String()
}

// appendEvent appends the JSON of an event.
func appendEvent(b []byte, at spool.Position, r *mta.Record) ([]byte, error) {
	text, err := json.Marshal(New(at, r))
	return append(b, text...), err
}

// Filter selects records; its zero value selects all.
type Filter struct {
	Events    []mta.Event // empty: every one
	Streams   []string    // empty: every one
	ID        mta.ID      // of one message
	Recipient string      // one address, case-insensitive
}

// Match reports whether a record is selected.
func (f *Filter) Match(r *mta.Record) bool {
	return (len(f.Events) == 0 || slices.Contains(f.Events, r.Event)) &&
		(len(f.Streams) == 0 || slices.Contains(f.Streams, r.Stream)) &&
		(f.ID.IsZero() || f.ID == r.ID) &&
		(f.Recipient == "" || strings.EqualFold(f.Recipient, r.Recipient))
}

// newest is the later of two times.
func newest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
