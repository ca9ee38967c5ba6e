package spool

import "context"

// The bounds of a note, and of what one SetNotes changes: its number of notes
// and the octets of their names and values.
const (
	MaxNoteName    = 1024
	MaxNoteValue   = 64 << 10
	MaxNoteChanges = 10_000
	MaxNotesSize   = 8 << 20
)

// Notes are small facts that parts of mailout keep beside the mail: who is
// suppressed, how we stand with a site, what a source has sent today. A name
// begins with its owner's word and a slash ("suppress/…"), and is any octets
// behind it. The engines implement it.
type Notes interface {
	// Note gives a note's value; nil when there is none. One that is damaged is
	// ErrCorrupt once, and gone then.
	Note(ctx context.Context, name string) ([]byte, error)
	// Notes calls f for the notes whose names begin with prefix and come after
	// the name after ("" for all), in the order of their octets, until f returns
	// false. It reads a snapshot, without the notes that are damaged. f may keep
	// the value.
	Notes(ctx context.Context, prefix, after string, f func(name string, value []byte) bool) error
	// SetNotes makes all changes durable, or none; a nil value removes a note.
	// Readers may see them before it returns.
	SetNotes(ctx context.Context, changes map[string][]byte) error
}
