// Package submit takes messages in: the doors (submit/smtpd, later
// submit/httpapi and submit/pickup) receive, and intake checks, completes and
// stores. A door gets an ID only after the message is on stable storage.
//
// It decides nothing about delivery. Intake starts no goroutine; each door
// owns those of its connections and ends them in Stop.
package submit

import (
	"context"
	"errors"
	"io"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// LineEnds says what a door does with a line end that is not CRLF.
type LineEnds uint8

// The treatments of bare CR and bare LF.
const (
	RefuseBare LineEnds = iota // refuse the message: 5.6.0
	RepairBare                 // make each bare LF, bare CR or LF a CRLF
)

// Request is what a door knows of a message before its content.
type Request struct {
	// ID, when it is not zero, is the ID that the message was given before it
	// came here, so that it is taken once however often it is handed over:
	// Begin refuses it with ErrTaken when a message of that ID is in the
	// journal. Zero: intake makes one.
	ID         mta.ID
	Origin     mta.Origin
	Envelope   mta.Envelope
	Recipients []mta.Recipient // addresses as smtp.ParseMailbox made them
	Stream     string          // empty: mta.DefaultStream
	LineEnds   LineEnds
	// Ours: the message is a report that mailout itself makes; its From is not
	// judged (Settings.Unaligned).
	Ours bool
	// User has signed in; the message is refused when the From field names an
	// address that the user may not send from. nil: any may stand there.
	User *account.User
	// Reserve is stored in the commit that stores the message; nil: nothing. It
	// may be filled in until Commit.
	Reserve *spool.Reservation
	// Declared size (SIZE=), 0 when unknown; refused early when too large.
	DeclaredSize int64
	// Tags, Metadata, NotBefore and Expires become the message's, within the
	// bounds of mta; the door must not change them afterwards. A NotBefore that
	// is past means at once; an Expires must be after it.
	Tags      []string
	Metadata  map[string]string
	NotBefore time.Time
	Expires   time.Time

	// Set by Begin: the recipients who get no mail, in a list and by address.
	stopped   []stopped
	isStopped map[string]struct{}
}

// Draft receives the content of one message: octets as the application gave
// them, dot-unstuffed, without the final dot. Errors of Write and Commit that
// blame the message are *Refusal. Exactly one of Commit and Abort ends it.
type Draft interface {
	io.Writer
	// Commit completes the header, stores the message durably and hands its
	// deliveries to the queue. When it returns an ID the message is on stable
	// storage.
	Commit(ctx context.Context) (mta.ID, error)
	// Abort forgets the message; harmless after Commit.
	Abort()
}

// Acceptor is intake as the doors see it.
type Acceptor interface {
	// Check looks at what is known before content is asked for: storage full,
	// memory short, declared size, the stream's name, and the facts beside the
	// content. nil or a *Refusal.
	Check(ctx context.Context, r *Request) error
	Begin(ctx context.Context, r *Request) (Draft, error)
}

// ErrTaken says that the message with the ID of the request was taken before:
// it is on stable storage, or its journal tells what became of it.
var ErrTaken = errors.New("the message was taken before")

// Refusal is why a message, or one recipient, is not taken: the reply that
// the SMTP door gives, and what other doors translate. 4xx codes say "try
// again".
type Refusal struct {
	Reply mta.Reply
	// Field names the part at fault for doors that can point at it: "sender",
	// "recipient", "content", "header.from",
	// "tags", "metadata", "send_at", "expire", …
	Field string
	Err   error // the cause when it is ours; never shown to the peer
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reply.String() }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }
