// Package journal is the read side of the journal: what happened to a message
// or to an address, record by record (Trace) or joined into attempts
// (Attempts).
//
// It writes nothing: records are written by the spool in the commit of the
// change that they tell of. It is called by admin. It starts no goroutine.
package journal

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Trace calls f for the records of a message (query is its ID) or of a
// recipient (any other text: an address, in either case), written at or after
// since, oldest first, until f returns false.
func Trace(ctx context.Context, store spool.Store, query string, since time.Time, f func(*mta.Record) bool) error {
	filter := spool.RecordFilter{Since: since}
	if id, err := mta.ParseID(query); err == nil {
		filter.ID = id
	} else {
		filter.Recipient = strings.ToLower(query)
	}
	return store.Records(ctx, filter, f)
}

// Outcome is what an attempt meant for one recipient.
type Outcome struct {
	Recipient string    `json:"recipient"`
	Event     mta.Event `json:"event"`
	Code      int       `json:"code,omitempty"`
	Enhanced  string    `json:"enhanced,omitempty"`
	Reply     string    `json:"reply,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Uncertain bool      `json:"uncertain,omitempty"`
	Next      string    `json:"next,omitempty"`
}

// Attempt is one attempt of one destination, for `queue show`. Times are RFC
// 3339 with milliseconds, UTC.
type Attempt struct {
	Number      int          `json:"attempt"`
	Time        string       `json:"time"`
	Destination string       `json:"destination,omitempty"`
	Site        string       `json:"site,omitempty"`
	Host        string       `json:"host,omitempty"`
	IP          netip.Addr   `json:"ip,omitzero"`
	Source      netip.Addr   `json:"source,omitzero"`
	Helo        string       `json:"helo,omitempty"`
	TLS         mta.TLSFacts `json:"tls,omitzero"`
	Tries       []mta.Try    `json:"tries,omitempty"`
	Results     []Outcome    `json:"results"`
}

// Attempts joins the records of a message into its attempts, oldest first.
// Records that tell of no attempt (accepted, held, bounced, …) are left out.
func Attempts(ctx context.Context, store spool.Store, id mta.ID) ([]Attempt, error) {
	out := []Attempt{}
	err := store.Records(ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		if !ofAttempt(r) {
			return true
		}
		at := mta.FormatTime(r.Time)
		n := len(out)
		if n == 0 || out[n-1].Number != r.Attempt || out[n-1].Time != at || out[n-1].Destination != r.Destination {
			out = append(out, newAttempt(r, at))
			n++
		}
		out[n-1].Results = append(out[n-1].Results, newOutcome(r))
		return true
	})
	return out, err
}

// ofAttempt reports whether a record is an attempt's.
func ofAttempt(r *mta.Record) bool {
	switch r.Event {
	case mta.EventDeferred, mta.EventDelivered, mta.EventRelayed, mta.EventFailed, mta.EventExpired:
		return r.Attempt > 0
	}
	return false
}

func newAttempt(r *mta.Record, at string) Attempt {
	return Attempt{
		Number: r.Attempt, Time: at, Destination: r.Destination, Site: r.Site, Host: r.Host, IP: r.IP,
		Source: r.Source, Helo: r.Helo, TLS: r.TLS, Tries: r.Tries,
	}
}

func newOutcome(r *mta.Record) Outcome {
	o := Outcome{
		Recipient: r.Recipient, Event: r.Event, Code: r.Code, Enhanced: r.Enhanced,
		Reply: r.Reply, Reason: r.Reason, Uncertain: r.Uncertain,
	}
	if !r.Next.IsZero() {
		o.Next = mta.FormatTime(r.Next)
	}
	return o
}
