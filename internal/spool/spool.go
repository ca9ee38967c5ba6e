// Package spool is the contract of durable storage: the bytes of messages, the
// state of their deliveries, and the journal, all in one transactional store.
// The engines are its sub-packages (spool/pebble; later spool/postgres) and
// pass one conformance suite (spool/conformance).
//
// It knows nothing of order: what is due and what may start is the queue's
// business. It never interprets replies. docs/spool.md holds keys, commit
// protocol and the argument why a crash at any point is safe.
//
// This package starts no goroutine; an engine owns those of its store and ends
// them in Close.
package spool

import (
	"context"
	"errors"
	"io"
	"time"

	"mailout/internal/mta"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrLocked says that another process holds the store.
	ErrLocked = errors.New("another mailout holds the spool")
	// ErrFull says that free space is under the watermark: new mail is
	// refused with 452 4.3.1, deliveries go on.
	ErrFull = errors.New("the spool's disk is nearly full")
	// ErrNotFound says that the message or delivery is not in the spool (any more).
	ErrNotFound = errors.New("not in the spool")
	// ErrCorrupt says that a record or body could not be read; it has been set aside.
	ErrCorrupt = errors.New("corrupt record in the spool")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the spool is closed")
)

// Draft collects the content of one message before it is accepted. A draft
// that is neither put nor discarded leaks its file until the next start, which
// removes it. Not safe for concurrent use.
type Draft interface {
	// Write appends content. Large content may go to a file as it comes.
	// ErrFull and disk errors come from here or from Put.
	io.Writer
	// Size is the number of octets written.
	Size() int64
	// Discard frees the draft; harmless after Put or a second time.
	Discard()
}

// Submission is what Put makes durable: the message, its content, its
// deliveries and the records of its acceptance.
type Submission struct {
	Message    *mta.Message
	Content    Draft
	Deliveries []*mta.Delivery // every Message field points to Message
	Records    []*mta.Record   // one for each recipient, EventAccepted (or a final one)
	// Reserve is stored with them; nil: nothing.
	Reserve *Reservation
}

// Content is the stored bytes of a message. Close it once.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
	// Bytes is the whole content when it is in memory, else nil. Read-only.
	Bytes() []byte
}

// Settlement is the durable outcome of one attempt, or of a control command,
// for one delivery.
type Settlement struct {
	Delivery mta.DeliveryKey
	// Message is the delivery's, when the caller has it: then it need not be read.
	Message *mta.Message
	// Was, when it is set, is the delivery as it was read: one that has changed
	// since (destination, state, due time, attempts, open recipients or the
	// notice) is skipped and named like one that is gone.
	Was *mta.Delivery
	// Next replaces the delivery's record (recipients still open, state, due
	// time, attempts); nil removes the delivery: every recipient is final.
	// When its last delivery is removed the message and its content go too.
	Next    *mta.Delivery
	Records []*mta.Record
	// Reports are messages made by this outcome (bounces, delay notices): they
	// become durable in the same commit.
	Reports []*Submission
}

// Cursor is a place in a destination's due order. The zero Cursor is before
// the first.
type Cursor struct {
	Due time.Time
	Key mta.DeliveryKey
}

// Pending describes a destination with open deliveries.
type Pending struct {
	Destination mta.Destination
	Due         time.Time // of the earliest delivery that is not held; zero when all are held
}

// Filter selects deliveries in List. Zero fields select everything.
type Filter struct {
	ID          mta.ID
	Destination string // domain
	Stream      string
	Sender      string // exact, case-insensitive
	Recipient   string // exact, case-insensitive
	State       *mta.State
}

// Stats are exact counts of open deliveries, also right after a restart.
type Stats struct {
	Queued, Deferred, Held int64
	Messages               int64
	Bytes                  int64     // content of the messages
	Oldest                 time.Time // arrival of the oldest message in the spool; zero when empty, and for one destination
}

// RecordFilter selects journal records in Records.
type RecordFilter struct {
	ID        mta.ID    // one message's, and
	Recipient string    // one recipient's (case-insensitive)
	MessageID string    // those of messages with this Message-ID field, with its brackets
	Since     time.Time // records at or after; zero: from the start
}

// Store is the storage contract. Every method is safe for concurrent use
// unless it says otherwise; every method that writes returns only when the
// result is on stable storage, many callers sharing one sync. Errors are
// wrapped causes; those above can be told apart. Close is last.
type Store interface {
	// Draft starts a message's content.
	Draft() (Draft, error)
	// Put makes submissions durable, all or none. The drafts belong to the
	// store afterwards, also on error. Message.Size is the content's size, an
	// ID is used once, and a submission without deliveries (every recipient is
	// final at once) leaves only its records. After an error that is not
	// ErrFull, ErrClosed or the caller's mistake, the messages may be found
	// after a restart, as after a crash.
	Put(ctx context.Context, subs ...*Submission) error
	// Open gives a message's content: from memory when it is fresh.
	Open(ctx context.Context, id mta.ID) (Content, error)
	// Settle applies outcomes, all or none. A settlement of a delivery that is
	// gone, or is not as Was says, is skipped (its reports too) and named in the
	// returned keys.
	Settle(ctx context.Context, s ...*Settlement) (gone []mta.DeliveryKey, err error)
	// Begin records durably that an attempt starts: Attempts is raised and Due
	// set to next, so that a crash loop follows the retry schedule. Only used
	// while Streak reports one or more.
	Begin(ctx context.Context, key mta.DeliveryKey, next time.Time) error
	// Streak is how many times in a row before this start the store was not
	// closed in order.
	Streak() int

	// Destinations calls f for every destination with open deliveries, until f
	// returns false: one seek each, in no promised order.
	Destinations(ctx context.Context, f func(Pending) bool) error
	// Page gives up to n deliveries of dest that are not held, in due order
	// strictly after the cursor, due or not.
	Page(ctx context.Context, dest mta.Destination, after Cursor, n int) ([]*mta.Delivery, error)
	// Get gives the open deliveries of one message, or ErrNotFound.
	Get(ctx context.Context, id mta.ID) ([]*mta.Delivery, error)
	// List calls f for every delivery that the filter selects, ordered by
	// message ID, until f returns false. It reads a snapshot and holds one
	// delivery at a time.
	List(ctx context.Context, filter Filter, f func(*mta.Delivery) bool) error
	// Stats counts.
	Stats(ctx context.Context) (Stats, error)
	// CountByDestination gives the counts of one destination: Messages and
	// Bytes count each of its deliveries.
	CountByDestination(ctx context.Context, dest mta.Destination) (Stats, error)

	// Records calls f for journal records, oldest first, until f returns false.
	// Each has the tags and the metadata of its message, whatever the record that
	// was stored said.
	Records(ctx context.Context, filter RecordFilter, f func(*mta.Record) bool) error
	// Prune removes the journal records of messages that are no longer in the
	// spool and whose last record is from before t: a message's records leave
	// together.
	Prune(ctx context.Context, before time.Time) error

	// Close ends the store in order; a second process may open it then.
	Close() error
}
