// Package journal is the read side of the journal: what happened to a message
// or to an address, record by record (Trace, Select) or joined into attempts
// (Attempts), and which messages there were (Find).
//
// It writes nothing: records are written by the spool in the commit of the
// change that they tell of. It is called by admin. It starts no goroutine.
package journal

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// ErrQuery says that a trace was asked for nothing.
var ErrQuery = errors.New("trace: give a message ID, a recipient's address, a Message-ID, or another condition")

// Trace calls f for the records of a message (query is its ID, in either case,
// or its Message-ID) or of a recipient (any other text), written at or after
// since, oldest first, until f returns false. An address matches in either
// case, with or without angle brackets, and with its domain as people write it
// or as A-labels; a Message-ID exactly, and only when there is no recipient of
// that name. An empty query is ErrQuery.
func Trace(ctx context.Context, store spool.Store, query string, since time.Time, f func(*mta.Record) bool) error {
	return Select(ctx, store, Selection{Query: query, Since: since}, f)
}

// Selection selects journal records. Zero fields select everything; all that
// are given must hold.
type Selection struct {
	Query     string // as Trace reads it; empty: every message
	Since     time.Time
	Until     time.Time // before this
	Sender    *string   // the return path, as people write it; "" is the null one
	Recipient string
	Stream    string
	Tag       string
	Events    []mta.Event // any of these
}

// Select calls f for the records selected, oldest first, until f returns
// false. Without a query or a recipient it reads the journal through. A
// selection of everything is ErrQuery.
func Select(ctx context.Context, store spool.Store, s Selection, f func(*mta.Record) bool) error {
	m, err := NewMatch(s)
	if err != nil {
		return err
	}
	for _, filter := range m.filters {
		found := false
		err := store.Records(ctx, filter, func(r *mta.Record) bool {
			if !m.Record(r) {
				return true
			}
			found = true
			return f(r)
		})
		if err != nil || found {
			return err
		}
	}
	return nil
}

// Match is a selection that is asked about single records.
type Match struct {
	s       Selection
	filters []spool.RecordFilter // in the order in which they are tried
}

// NewMatch makes one, for records that come one by one. A query that could be
// an address and a Message-ID is either here.
func NewMatch(s Selection) (*Match, error) {
	m := &Match{s: s}
	if s.Sender != nil {
		sender := address(*s.Sender)
		m.s.Sender = &sender
	}
	m.s.Recipient = address(s.Recipient)
	text := strings.TrimSpace(s.Query)
	if id, err := mta.ParseID(text); err == nil && !id.IsZero() {
		m.filters = []spool.RecordFilter{{ID: id}}
	} else if to := address(text); to != "" {
		m.filters = []spool.RecordFilter{{Recipient: to}}
		if strings.Contains(text, "@") {
			if id, ok := ownID(text); ok {
				m.filters = append(m.filters, spool.RecordFilter{ID: id, MessageID: bracketed(text)})
			}
			m.filters = append(m.filters, spool.RecordFilter{MessageID: bracketed(text)})
		}
	} else if m.s.Recipient != "" {
		m.filters = []spool.RecordFilter{{Recipient: m.s.Recipient}}
	} else if m.empty() {
		return nil, ErrQuery
	} else {
		m.filters = []spool.RecordFilter{{}}
	}
	for i := range m.filters {
		m.filters[i].Since = s.Since
	}
	return m, nil
}

// empty reports whether nothing but times is asked for.
func (m *Match) empty() bool {
	return m.s.Sender == nil && m.s.Stream == "" && m.s.Tag == "" && len(m.s.Events) == 0 && m.s.Since.IsZero() && m.s.Until.IsZero()
}

// ID is the message that is asked for, when it is one.
func (m *Match) ID() (mta.ID, bool) { id := m.filters[0].ID; return id, !id.IsZero() }

// Record reports whether a record is selected, the query aside.
func (m *Match) Record(r *mta.Record) bool {
	s := &m.s
	return (s.Until.IsZero() || r.Time.Before(s.Until)) && (s.Since.IsZero() || !r.Time.Before(s.Since)) &&
		(s.Sender == nil || strings.EqualFold(r.Sender, *s.Sender)) &&
		(s.Recipient == "" || strings.EqualFold(r.Recipient, s.Recipient)) &&
		(s.Stream == "" || r.Stream == s.Stream) &&
		(s.Tag == "" || slices.Contains(r.Tags, s.Tag)) &&
		(len(s.Events) == 0 || slices.Contains(s.Events, r.Event))
}

// Wants reports whether a record is selected, by query and all else.
func (m *Match) Wants(r *mta.Record) bool {
	return m.Record(r) && slices.ContainsFunc(m.filters, func(f spool.RecordFilter) bool {
		return (f.ID.IsZero() || f.ID == r.ID) && (f.Recipient == "" || strings.EqualFold(f.Recipient, r.Recipient)) &&
			(f.MessageID == "" || f.MessageID == r.MessageID)
	})
}

// address gives the text of an address as records hold it. What is no address
// by the grammar is looked for as it stands: records may hold it all the same.
func address(query string) string {
	text := strings.TrimSpace(query)
	if rest, ok := strings.CutPrefix(text, "<"); ok {
		text = strings.TrimSuffix(rest, ">")
	}
	if m, err := smtp.ParseMailbox(text, true); err == nil {
		return m.String()
	}
	return text
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
// Records that tell of no attempt (accepted, held, bounced, …) are left out. An
// expiry without an attempt of its own is an outcome of the attempt before it.
func Attempts(ctx context.Context, store spool.Store, id mta.ID) ([]Attempt, error) {
	out := []Attempt{}
	err := store.Records(ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		if !ofAttempt(r) {
			return true
		}
		n := attemptOf(out, r)
		if n < 0 {
			n = len(out)
			out = append(out, newAttempt(r, mta.FormatTime(r.Time)))
		}
		if len(out[n].Tries) == 0 {
			out[n].Tries = r.Tries
		}
		out[n].Results = append(out[n].Results, newOutcome(r))
		return true
	})
	return out, err
}

// attemptOf finds the attempt, among those known, that a record belongs to, or
// -1. Attempts of several destinations may end between one another.
func attemptOf(known []Attempt, r *mta.Record) int {
	at := mta.FormatTime(r.Time)
	for n := len(known) - 1; n >= 0; n-- {
		a := &known[n]
		if a.Number != r.Attempt || a.Destination != r.Destination {
			continue
		}
		if a.Time == at && a.Host == r.Host && a.IP == r.IP {
			return n
		}
		if r.Event == mta.EventExpired && !attempted(r) {
			return n
		}
	}
	return -1
}

// attempted reports whether a record tells of an attempt's hosts.
func attempted(r *mta.Record) bool { return r.IP.IsValid() || len(r.Tries) > 0 }

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
