package spool

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"

	"mailout/internal/mta"
)

// ErrPosition says that a position is of no place in this journal.
var ErrPosition = errors.New("not a position in the journal of this spool")

// MaxFollowerState is how large a follower's state may be, in octets.
const MaxFollowerState = 64 << 10

// Position is a place between two records of the journal: before the records
// of entry Entry, but for the first Record ones of it. The zero Position is
// before everything. Positions are ordered as the commits are.
type Position struct {
	Entry  uint64
	Record uint32
}

// NoFloor is behind everything that a journal will ever hold.
var NoFloor = Position{Entry: math.MaxUint64}

// Compare is below 0, 0 or above 0 as p is before q, the same or behind it.
func (p Position) Compare(q Position) int {
	switch {
	case p.Entry < q.Entry:
		return -1
	case p.Entry > q.Entry:
		return 1
	}
	return int(int64(p.Record) - int64(q.Record))
}

// String gives the text of p: ENTRY, or ENTRY-RECORD inside an entry.
func (p Position) String() string {
	s := strconv.FormatUint(p.Entry, 10)
	if p.Record != 0 {
		s += "-" + strconv.FormatUint(uint64(p.Record), 10)
	}
	return s
}

// ParsePosition reads what String gives, and nothing else; else ErrPosition.
func ParsePosition(s string) (Position, error) {
	entry, record, inside := strings.Cut(s, "-")
	var p Position
	var err error
	if p.Entry, err = strconv.ParseUint(entry, 10, 64); err != nil {
		return Position{}, ErrPosition
	}
	if inside {
		n, err := strconv.ParseUint(record, 10, 32)
		if err != nil {
			return Position{}, ErrPosition
		}
		p.Record = uint32(n)
	}
	if p.String() != s {
		return Position{}, ErrPosition
	}
	return p, nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Position) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosition(string(b))
	return err
}

// Follower is the durable state of somebody who reads the journal as it grows.
type Follower struct {
	// Name is one follower's for ever: 1 to 255 octets.
	Name string
	// Floor is before every record that the follower may still ask for: Prune
	// leaves those, for three days longer than others. NoFloor needs none.
	Floor Position
	// State is the follower's own; at most MaxFollowerState octets.
	State []byte
}

// Feed is the journal as a stream, for those who tell others of it. It gives
// only what is on stable storage: what a crash could still take back is not
// there yet, so a position that was given never comes to name something else.
//
// Every method is safe for concurrent use. Those who do not follow pay nothing.
type Feed interface {
	// Follow calls f for the records behind a position, in the order of their
	// commits; at is the position behind the record. f may keep the record. When
	// f returns false the record was not taken and the reading ends before it.
	// The result is where to go on: behind the last record that was taken and
	// behind what was skipped (a damaged entry is set aside and counted as in
	// every reading, numbers may be unused). Nothing to be had gives back the
	// position itself; one call reads a bounded number of entries, so another
	// position does not mean that there is no more. A position beyond the end
	// is ErrPosition.
	Follow(ctx context.Context, after Position, f func(at Position, r *mta.Record) bool) (Position, error)
	// End is the position behind everything that Follow gives now.
	End() Position
	// Await returns nil once Follow can go on from a position. It costs nothing
	// while it waits.
	Await(ctx context.Context, after Position) error
	// Followers gives all that are known, by name. One whose state was damaged
	// is set aside and is not among them.
	Followers(ctx context.Context) ([]Follower, error)
	// SaveFollower adds a follower or replaces its state, durably.
	SaveFollower(ctx context.Context, f Follower) error
	// DropFollower forgets a follower; harmless for one that is not known.
	DropFollower(ctx context.Context, name string) error
}
