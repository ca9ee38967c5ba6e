package mta

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// DefaultStream is the stream of mail that names none.
const DefaultStream = "default"

// Kind tells where a message comes from.
type Kind uint8

// The kinds of message.
const (
	KindMail   Kind = iota // handed over by an application
	KindBounce             // a report that we originate, to a return path
	KindNotice             // a report that went to the operator's postmaster
)

// Message is immutable content and the facts fixed at its arrival.
type Message struct {
	ID        ID
	Arrived   time.Time
	Size      int64  // octets of content as stored, header included
	MessageID string // the Message-ID field's value, with its angle brackets
	Stream    string // never empty
	Kind      Kind
	EightBit  bool // content has octets above 127: needs 8BITMIME (RFC 6152)
	UTF8      bool // a header field has octets above 127: needs SMTPUTF8 (RFC 6531)
	// AnyTLS says that the header has "TLS-Required: No" (RFC 8689 3): what the
	// recipient domains publish about TLS is not to stop the message.
	AnyTLS   bool
	Envelope Envelope
	Origin   Origin
	// Deliveries is how many deliveries the message was split into at arrival.
	Deliveries int
	// What the application said beside the content, within the bounds of
	// facts.go; nil and zero for nearly all mail.
	Tags     []string          // come back on every record, as given
	Metadata map[string]string // comes back on every record; never changed
	// NotBefore is when the first attempt may begin, to the millisecond; zero: at
	// once. Expiry and the delay notice count from it.
	NotBefore time.Time
	// Expires is when the message is given up, to the millisecond; zero: as its
	// stream says, which is also the latest.
	Expires time.Time
}

// Origin is who handed a message over, and how.
type Origin struct {
	Door     string     // smtp, send, http, sendmail, pickup or bounce
	Protocol string     // the Received field's "with" word: ESMTP, ESMTPS, HTTP, LOCAL (RFC 3848)
	Peer     netip.Addr // zero when it came over a Unix socket
	Helo     string     // what the peer called itself
	User     string     // the authenticated user, or the local account (see LocalUser)
}

// localUser begins the names of local accounts, which no [[user]] can have.
const localUser = "unix:"

// LocalUser is how a local account stands where users stand, so that none is
// taken for a user of the same name. Empty stays empty.
func LocalUser(account string) string {
	if account == "" || strings.HasPrefix(account, localUser) {
		return account
	}
	return localUser + account
}

// Ret says how much of a message a report carries (RFC 3461 4.3).
type Ret uint8

// The values of RET.
const (
	RetDefault Ret = iota
	RetFull
	RetHeaders
)

// Envelope is the return path and the parameters given with it. Recipients are
// kept with their deliveries.
type Envelope struct {
	Sender     string // return path without angle brackets; empty is the null return path
	Ret        Ret
	EnvID      string // decoded from xtext, at most 100 octets (RFC 3461 4.4)
	SMTPUTF8   bool   // the client asked for it (RFC 6531 3.4)
	RequireTLS bool   // RFC 8689
	Body8Bit   bool   // BODY=8BITMIME was declared
}

// Notify is the set of events a sender wants reports of (RFC 3461 4.1).
type Notify uint8

// The members of NOTIFY. NotifyDefault (no parameter) reports failure and
// delay, as RFC 3461 4.1 lets a server choose.
const (
	NotifyDefault Notify = 0
	NotifyNever   Notify = 1
	NotifySuccess Notify = 2
	NotifyFailure Notify = 4
	NotifyDelay   Notify = 8
)

// Wants reports whether event (one member) is to be reported.
func (n Notify) Wants(event Notify) bool {
	if n == NotifyDefault {
		return event == NotifyFailure || event == NotifyDelay
	}
	return n&event != 0
}

// ParseNotify reads the words of NOTIFY, in any case: never, or some of success,
// failure and delay. None is NotifyDefault. The error is one sentence.
func ParseNotify(words []string) (out Notify, err error) {
	for _, word := range words {
		switch strings.ToLower(strings.TrimSpace(word)) {
		case "never":
			out |= NotifyNever
		case "success":
			out |= NotifySuccess
		case "failure":
			out |= NotifyFailure
		case "delay":
			out |= NotifyDelay
		default:
			return 0, fmt.Errorf("%q is none of never, success, failure, delay", word)
		}
	}
	if out&NotifyNever != 0 && out != NotifyNever {
		return 0, errors.New("never stands alone")
	}
	return out, nil
}

// State is where a recipient stands.
type State uint8

// The states of a recipient. The first three are open, the others final.
const (
	Queued State = iota
	Deferred
	Held
	Delivered
	Relayed
	Failed
	Expired
	Cancelled
)

var stateNames = [...]string{"queued", "deferred", "held", "delivered", "relayed", "failed", "expired", "cancelled"}

// String gives the state's word.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Final reports whether the state is one that a recipient never leaves.
func (s State) Final() bool { return s >= Delivered }

// ParseState reads a state's word.
func ParseState(word string) (State, bool) {
	for i, n := range stateNames {
		if n == word {
			return State(i), true
		}
	}
	return 0, false
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Recipient is one RCPT TO.
type Recipient struct {
	Address string // canonical: domain in lower case, as A-label or address literal; local part as given
	ORcpt   string // ORCPT "type;address" as given, decoded from xtext (RFC 3461 4.2); empty when absent
	Notify  Notify
}

// Destination is the scheduling key: recipient domain and stream.
type Destination struct {
	Domain string // canonical: lower-case A-labels, or an address literal with its brackets
	Stream string
	// Via is the route that an operator gave instead of the configuration's:
	// "direct", "router", or a host as [[route]] takes it; empty: none. Mail with
	// another route is scheduled apart.
	Via string
}

// MaxVia bounds Via, in octets.
const MaxVia = 255

// Plain is the destination without an operator's route.
func (d Destination) Plain() Destination { return Destination{Domain: d.Domain, Stream: d.Stream} }

// String gives "domain" for the default stream, else "domain/stream".
func (d Destination) String() string {
	if d.Stream == DefaultStream {
		return d.Domain
	}
	return d.Domain + "/" + d.Stream
}

// DeliveryKey names a delivery: a message and the number of the delivery in it.
type DeliveryKey struct {
	Message ID
	N       uint32
}

// Delivery is one message and those of its recipients that share a
// destination and are still open; it is what the queue schedules. A delivery
// whose last recipient becomes final is gone from the spool; the journal keeps
// its history.
type Delivery struct {
	Message     *Message // shared by the message's deliveries; never changed
	N           uint32
	Destination Destination
	Recipients  []Recipient // the open ones
	State       State       // Queued (never attempted), Deferred or Held
	Due         time.Time   // the next attempt; millisecond precision
	Attempts    int         // attempts ended so far; one begun in a crash streak counts at once
	DelaySent   bool        // the delay notice was made
	ByRule      bool        // held by a rule of the configuration, not by an operator
	Released    bool        // from the hold of a rule: such rules are passed over
	Row         uint8       // attempts since the last wait that another route followed at once
	Detours     uint32      // all such attempts: they do not count in the retry schedule
	Last        Last        // of the latest attempt that failed
	HeldBy      string      // why it is held: the sentence shown to the operator
}

// Key gives the delivery's key.
func (d *Delivery) Key() DeliveryKey { return DeliveryKey{d.Message.ID, d.N} }

// Last is what a delivery remembers of the latest attempt: enough to explain
// the wait and to make the report after expiry (the last real reply).
type Last struct {
	Time   time.Time
	Site   string
	Host   string
	IP     netip.Addr
	Result Result
}
