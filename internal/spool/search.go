package spool

import (
	"context"
	"time"

	"mailout/internal/mta"
)

// ArrivalQuery selects messages by what is known of them at their arrival.
// Zero fields select everything.
type ArrivalQuery struct {
	Recipient string // one of the message's, in either case
	MessageID string // the Message-ID field, with its angle brackets
	Since     time.Time
	Until     time.Time // before this
	Before    Position  // arrivals that stand before this; zero: from the end
	// Look bounds how many entries of the journal are looked at; at least 1.
	Look int
}

// History is the journal read from its end, a message at a time.
type History interface {
	// Arrivals calls f for the messages that the query selects, the youngest
	// first, with the records of their arrival (one a recipient), until f
	// returns false: then that message was not taken. at is where it stands. The
	// result is where to go on with Before, and whether there may be more: the
	// bound Look was met, or f ended it. A recipient or Message-ID is found by an
	// index, and nothing else is looked at.
	Arrivals(ctx context.Context, q ArrivalQuery, f func(at Position, records []*mta.Record) bool) (next Position, more bool, err error)
	// JournalOver reports whether the journal takes more octets on disk than a
	// bound, and then from when on its records fit into nine tenths of it. It is
	// an estimate.
	JournalOver(ctx context.Context, bound int64) (before time.Time, over bool, err error)
}
