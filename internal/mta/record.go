package mta

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Event is what a journal record tells.
type Event uint8

// The events of the journal.
const (
	EventAccepted Event = iota
	EventDeferred
	EventDelivered
	EventRelayed
	EventFailed
	EventExpired
	EventHeld
	EventReleased
	EventCancelled
	EventBounced
	EventSuppressed
	EventComplained
	// EventIdentity tells of no message: a check of the identity has another
	// finding than before, or the guard holds or releases a source's mail. The
	// record has an ID of its own, IdentityRecipient as recipient, and says what
	// happened in its reason.
	EventIdentity
	// EventRetried says that an operator made the next attempt due.
	EventRetried
	// EventFollower tells of no message either: a receiver of events was given
	// up, or events for it were. Like EventIdentity, with FollowerRecipient as
	// recipient.
	EventFollower
	// EventRerouted says that an operator gave the mail another route.
	EventRerouted
	// EventRouter tells of no message: a router cannot be used (its credentials
	// are refused, its name does not resolve, …), or can be again. Like
	// EventIdentity, with RouterRecipient as recipient and the router as host.
	EventRouter
	// EventStanding tells of no message: what we may do at a site has changed (a
	// router stands in for direct delivery, or no more; a source is not used
	// there for a while). Like EventIdentity, with StandingRecipient as recipient,
	// the site and, where one is meant, the source's EHLO name as helo.
	EventStanding
	// EventUnsubscribed says that a recipient followed the message's link to get
	// no more mail of its stream.
	EventUnsubscribed
	// EventTLSReport tells of no message: a receiver has taken a report of how TLS
	// went (RFC 8460), or it was given up. Like EventIdentity, with
	// TLSReportRecipient as recipient, the domain as destination and, when the
	// report is a message, its ID as report.
	EventTLSReport
)

// LastEvent is the highest of the events.
const LastEvent = EventTLSReport

// IdentityRecipient stands in the records of EventIdentity for a recipient, so
// that `mailout trace identity` finds them.
const IdentityRecipient = "identity"

// FollowerRecipient stands in the records of EventFollower for a recipient, so
// that `mailout trace events` finds them.
const FollowerRecipient = "events"

// RouterRecipient stands in the records of EventRouter for a recipient, so that
// `mailout trace router` finds them.
const RouterRecipient = "router"

// StandingRecipient stands in the records of EventStanding for a recipient, so
// that `mailout trace standing` finds them.
const StandingRecipient = "standing"

// TLSReportRecipient stands in the records of EventTLSReport for a recipient, so
// that `mailout trace tlsrpt` finds them.
const TLSReportRecipient = "tlsrpt"

var eventNames = [...]string{"accepted", "deferred", "delivered", "relayed", "failed", "expired", "held", "released", "cancelled", "bounced", "suppressed", "complained", "identity", "retried", "follower", "rerouted", "router", "standing", "unsubscribed", "tlsrpt"}

// OfMessage reports whether the event tells of a message.
func (e Event) OfMessage() bool {
	return e != EventIdentity && e != EventFollower && e != EventRouter && e != EventStanding && e != EventTLSReport
}

// String gives the event's word.
func (e Event) String() string { return eventNames[e] }

// MarshalText implements encoding.TextMarshaler.
func (e Event) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Event) UnmarshalText(b []byte) error {
	for i, n := range eventNames {
		if n == string(b) {
			*e = Event(i)
			return nil
		}
	}
	return &UnknownWordError{Kind: "event", Word: string(b)}
}

// UnknownWordError says that a word is none of a closed set.
type UnknownWordError struct{ Kind, Word string }

// Error implements error.
func (e *UnknownWordError) Error() string { return "unknown " + e.Kind + " " + e.Word }

// Record is one journal record: what happened to one recipient, written in
// the same commit as the change of state. Times are UTC with milliseconds;
// durations are milliseconds in fields that end in _ms.
type Record struct {
	Time        time.Time  `json:"time"`
	Event       Event      `json:"event"`
	ID          ID         `json:"id"`
	MessageID   string     `json:"message_id,omitempty"`
	Stream      string     `json:"stream,omitempty"`
	Sender      string     `json:"sender"`
	Recipient   string     `json:"recipient"`
	Destination string     `json:"destination,omitempty"`
	Site        string     `json:"site,omitempty"`
	Host        string     `json:"host,omitempty"`
	IP          netip.Addr `json:"ip,omitzero"`
	Source      netip.Addr `json:"source,omitzero"`
	Helo        string     `json:"helo,omitempty"`
	TLS         TLSFacts   `json:"tls,omitzero"`
	Attempt     int        `json:"attempt,omitempty"`
	Code        int        `json:"code,omitempty"`
	Enhanced    string     `json:"enhanced,omitempty"`
	Reply       string     `json:"reply,omitempty"`
	Class       string     `json:"class,omitempty"`
	Scope       string     `json:"scope,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	// BounceClass is what the reply means (Result.Bounce).
	BounceClass string `json:"bounce_class,omitempty"`
	// DKIM are the keys whose signatures the content bore, when it was sent.
	DKIM      KeyNames  `json:"dkim,omitempty"`
	Uncertain bool      `json:"uncertain,omitempty"`
	Size      int64     `json:"size,omitempty"`
	Next      time.Time `json:"next,omitzero"`
	Tries     []Try     `json:"tries,omitempty"`
	// Report is the ID of the message that the event made (bounced), or, on
	// that message's accepted record, the ID of the message it reports.
	Report ID `json:"report,omitzero"`
	// User has signed in to hand the message over; of accepted records.
	User string `json:"user,omitempty"`
	// Tags and Metadata are the message's, on each of its records. They are
	// shared by the records and must not be changed.
	Tags     []string          `json:"tags,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Durations
}

// TimeLayout is RFC 3339 with milliseconds; times are shown in UTC.
const TimeLayout = "2006-01-02T15:04:05.000Z07:00"

// FormatTime gives t as every listing, record and API shows it.
func FormatTime(t time.Time) string { return t.UTC().Format(TimeLayout) }

// MarshalJSON writes the times with exactly three decimals.
func (r Record) MarshalJSON() ([]byte, error) {
	type plain Record // without this method
	shadow := struct {
		Time string `json:"time"`
		plain
		Next string `json:"next,omitempty"`
	}{Time: FormatTime(r.Time), plain: plain(r)}
	if !r.Next.IsZero() {
		shadow.Next = FormatTime(r.Next)
	}
	return json.Marshal(shadow)
}
