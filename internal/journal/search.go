package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Bounds of one page of a search.
const (
	MaxPage       = 1000    // messages
	DefaultPage   = 50      // messages, where nothing is said
	maxLook       = 200_000 // entries of the journal looked at
	maxRead       = 2_000   // messages whose records are read to tell their state
	maxRecipients = 100     // recipients told of one message
)

// ErrCursor says that a cursor is none that a page gave.
var ErrCursor = errors.New("the cursor is none that a page of this search gave")

// Search selects messages. Zero fields select everything; all that are given
// must hold.
type Search struct {
	ID        mta.ID  // this message
	Recipient string  // an address, as people write it
	MessageID string  // the Message-ID field, with or without its brackets
	Sender    *string // the return path, as people write it; "" is the null one
	Stream    string
	Tag       string
	User      *string    // who signed in to hand it over
	State     *mta.State // at least one recipient is in it
	Since     time.Time  // arrived at or after
	Until     time.Time  // arrived before
	Limit     int        // messages of a page: 1 to MaxPage; 0 is DefaultPage
	Cursor    string     // of the page before; empty: from the youngest
}

// Page is one page of a search: the messages, the youngest first. With a Cursor
// there may be more, even when the page is not full: it ended because much was
// looked at and little fitted.
type Page struct {
	Messages []Message `json:"messages"`
	Cursor   string    `json:"cursor,omitempty"`
}

// Message is what the journal knows of a message.
type Message struct {
	ID         mta.ID      `json:"id"`
	MessageID  string      `json:"message_id,omitempty"`
	Accepted   string      `json:"accepted"` // when: RFC 3339 with milliseconds, UTC
	Stream     string      `json:"stream"`
	Sender     string      `json:"sender"`
	User       string      `json:"user,omitempty"`
	Size       int64       `json:"size"`
	Recipients []Recipient `json:"recipients"` // the first of them, and one that was asked for
	// Of is how many recipients there are.
	Of       int               `json:"recipients_total"`
	States   map[string]int    `json:"states"` // how many recipients are in each state
	Tags     []string          `json:"tags,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Recipient is where one recipient stands, and the record that says so.
type Recipient struct {
	Address  string `json:"address"`
	State    string `json:"state"`
	Time     string `json:"time"`
	Attempts int    `json:"attempts"`
	Reply    string `json:"reply,omitempty"`
	Reason   string `json:"reason,omitempty"`
	last     *mta.Record
	state    mta.State
	back     *mta.Record // says that the mail came back
}

// History is where a search reads.
type History interface {
	spool.History
	Records(ctx context.Context, filter spool.RecordFilter, f func(*mta.Record) bool) error
}

// Find gives one page of a search. Errors are ErrCursor, *LimitError, or the
// store's.
func Find(ctx context.Context, h History, s Search) (*Page, error) {
	f, query, err := newFinder(ctx, h, s)
	if err != nil {
		return nil, err
	}
	if done, err := f.own(query); done || err != nil {
		return f.page, err
	}
	next, more, err := h.Arrivals(ctx, query, f.take)
	if err = errors.Join(err, f.err); err != nil {
		return nil, err
	}
	if more {
		f.page.Cursor = next.String()
	}
	return f.page, nil
}

// LimitError says that a page of so many messages is not given.
type LimitError struct{ Limit int }

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("limit is %d, and must be 1 to %d", e.Limit, MaxPage)
}

type finder struct {
	ctx  context.Context
	h    History
	s    Search
	page *Page
	read int
	err  error
}

func newFinder(ctx context.Context, h History, s Search) (*finder, spool.ArrivalQuery, error) {
	query := spool.ArrivalQuery{Since: s.Since, Until: s.Until, Look: maxLook}
	if s.Limit == 0 {
		s.Limit = DefaultPage
	}
	if s.Limit < 1 || s.Limit > MaxPage {
		return nil, query, &LimitError{s.Limit}
	}
	if s.Cursor != "" {
		var err error
		if query.Before, err = spool.ParsePosition(s.Cursor); err != nil || query.Before.Entry == 0 {
			return nil, query, ErrCursor
		}
	}
	if s.Recipient != "" {
		s.Recipient = address(s.Recipient)
	}
	if s.Sender != nil {
		sender := address(*s.Sender)
		s.Sender = &sender
	}
	if s.MessageID != "" {
		s.MessageID = bracketed(s.MessageID)
	}
	query.Recipient, query.MessageID = s.Recipient, s.MessageID
	return &finder{ctx: ctx, h: h, s: s, page: &Page{Messages: []Message{}}}, query, nil
}

// bracketed is a Message-ID as the journal has it.
func bracketed(field string) string {
	field = strings.TrimSpace(field)
	if !strings.HasPrefix(field, "<") {
		field = "<" + field + ">"
	}
	return field
}

// ownID is the message ID that a Message-ID made here begins with.
func ownID(field string) (mta.ID, bool) {
	text, _, ok := strings.Cut(strings.TrimPrefix(field, "<"), "@")
	id, err := mta.ParseID(text)
	return id, ok && err == nil
}

// own answers the search for one message: by its ID, or by a Message-ID that
// was made here, which no index has. It reports whether that was it.
func (f *finder) own(q spool.ArrivalQuery) (bool, error) {
	id, named := f.s.ID, !f.s.ID.IsZero()
	if !named {
		if id, named = ownID(f.s.MessageID); !named {
			return false, nil
		}
	}
	var accepted []*mta.Record
	err := f.h.Records(f.ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		if r.Event == mta.EventAccepted && (f.s.MessageID == "" || r.MessageID == f.s.MessageID) {
			accepted = append(accepted, r)
		}
		return r.Event == mta.EventAccepted // they come first
	})
	if err != nil || len(accepted) == 0 {
		return !f.s.ID.IsZero(), err
	}
	at := accepted[0].Time
	if q.Before.Entry == 0 && !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until)) {
		f.take(spool.Position{}, accepted)
	}
	return true, f.err
}

// take adds a message to the page if it is wanted; false when the page is full
// or took too much work.
func (f *finder) take(_ spool.Position, arrival []*mta.Record) bool {
	if len(f.page.Messages) == f.s.Limit {
		return false
	}
	if !f.fits(arrival) {
		return true
	}
	if f.read++; f.read > maxRead {
		return false
	}
	m, states, err := f.describe(arrival)
	if err != nil {
		f.err = err
		return false
	}
	if f.s.State == nil || states[*f.s.State] > 0 {
		f.page.Messages = append(f.page.Messages, *m)
	}
	return true
}

// fits looks at what is known since the arrival.
func (f *finder) fits(arrival []*mta.Record) bool {
	r, s := arrival[0], &f.s
	return (s.Sender == nil || strings.EqualFold(r.Sender, *s.Sender)) &&
		(s.Stream == "" || r.Stream == s.Stream) &&
		(s.Tag == "" || slices.Contains(r.Tags, s.Tag)) &&
		(s.User == nil || r.User == *s.User) &&
		(s.MessageID == "" || r.MessageID == s.MessageID) &&
		(s.Recipient == "" || slices.ContainsFunc(arrival, func(r *mta.Record) bool { return strings.EqualFold(r.Recipient, s.Recipient) }))
}

func (f *finder) describe(arrival []*mta.Record) (*Message, map[mta.State]int, error) {
	all, err := recipientsOf(f.ctx, f.h, arrival[0].ID)
	if err != nil {
		return nil, nil, err
	}
	return newMessage(arrival[0], all, f.s.Recipient), countStates(all), nil
}

// newMessage describes a message by the record of its arrival and its
// recipients; wanted is among those shown.
func newMessage(r *mta.Record, all []Recipient, wanted string) *Message {
	m := &Message{
		ID: r.ID, MessageID: r.MessageID, Accepted: mta.FormatTime(r.Time), Stream: r.Stream, Sender: r.Sender,
		User: r.User, Size: r.Size, Of: len(all), States: map[string]int{}, Tags: r.Tags, Metadata: r.Metadata,
		Recipients: all,
	}
	for s, n := range countStates(all) {
		m.States[s.String()] = n
	}
	if len(all) > maxRecipients {
		m.Recipients = all[:maxRecipients:maxRecipients]
		at := slices.IndexFunc(all, func(r Recipient) bool { return strings.EqualFold(r.Address, wanted) })
		if wanted != "" && at >= maxRecipients {
			m.Recipients = append(m.Recipients, all[at])
		}
	}
	return m
}

func countStates(all []Recipient) map[mta.State]int {
	states := map[mta.State]int{}
	for i := range all {
		states[all[i].state]++
	}
	return states
}

// recipientsOf reads where the recipients of a message stand, in the order of
// their arrival.
func recipientsOf(ctx context.Context, h History, id mta.ID) ([]Recipient, error) {
	var all []Recipient
	place := map[string]int{}
	err := h.Records(ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		if r.Report == id && r.Event == mta.EventBounced { // told of another message's report
			return true
		}
		at, known := place[r.Recipient]
		if !known {
			at = len(all)
			place[r.Recipient] = at
			all = append(all, Recipient{Address: r.Recipient})
		}
		all[at].follow(r)
		return true
	})
	for i := range all {
		all[i].show()
	}
	return all, err
}

// follow takes one more record into account.
func (p *Recipient) follow(r *mta.Record) {
	p.Attempts = max(p.Attempts, r.Attempt)
	state := p.state
	switch r.Event {
	case mta.EventAccepted:
		state = mta.Queued
	case mta.EventDeferred:
		state = mta.Deferred
	case mta.EventHeld:
		state = mta.Held
	case mta.EventReleased:
		if state = mta.Queued; p.Attempts > 0 {
			state = mta.Deferred
		}
	case mta.EventDelivered:
		state = mta.Delivered
	case mta.EventRelayed:
		state = mta.Relayed
	case mta.EventFailed, mta.EventSuppressed:
		state = mta.Failed
	case mta.EventExpired:
		state = mta.Expired
	case mta.EventCancelled:
		state = mta.Cancelled
	default:
		if r.CameBack() {
			p.back = r
		}
		if p.last != nil && !p.returned() {
			return // it changes no state
		}
	}
	p.state, p.last = state, r
	if p.returned() {
		p.state, p.last = mta.Failed, p.back
	}
}

// returned reports whether mail that was handed over came back: then it has
// failed. A quick receiver's report may be recorded before the delivery is.
func (p *Recipient) returned() bool {
	return p.back != nil && (p.state == mta.Delivered || p.state == mta.Relayed)
}

func (p *Recipient) show() {
	p.State = p.state.String()
	if p.last != nil {
		p.Time, p.Reply, p.Reason = mta.FormatTime(p.last.Time), p.last.Reply, p.last.Reason
	}
}

// Last gives the record that says where the recipient stands.
func (p *Recipient) Last() *mta.Record { return p.last }

// Finished describes a message by the journal alone, with all its recipients;
// spool.ErrNotFound when it knows nothing of it.
func Finished(ctx context.Context, h History, id mta.ID) (*Message, error) {
	var first *mta.Record
	err := h.Records(ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		first = r
		return false
	})
	if err != nil {
		return nil, err
	}
	if first == nil || !first.Event.OfMessage() {
		return nil, spool.ErrNotFound
	}
	all, err := recipientsOf(ctx, h, id)
	if err != nil {
		return nil, err
	}
	m := newMessage(first, all, "")
	m.Recipients = all
	return m, nil
}
