package mta

import (
	"time"
	"unicode"
	"unicode/utf8"
)

// The bounds of the facts that an application gives a message beside its
// content. They are small because each is kept with the message and comes back
// in every event of it.
const (
	MaxTags          = 16                  // tags of one message
	MaxTag           = 64                  // octets of one tag
	MaxMetadata      = 32                  // pairs of one message
	MaxMetadataKey   = 64                  // octets of one key
	MaxMetadataBytes = 4096                // octets of all keys and values together
	MaxNotBefore     = 30 * 24 * time.Hour // how far ahead of its arrival a message may wait
)

// Printable reports whether s is UTF-8 of which every character can be seen,
// spaces included: fit for a tag, and for a line of a log or a listing.
func Printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// Start is when a message's time begins to count: its arrival, or the time
// before which it was not to be sent.
func (m *Message) Start() time.Time {
	if m.NotBefore.After(m.Arrived) {
		return m.NotBefore
	}
	return m.Arrived
}
