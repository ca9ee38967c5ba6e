package mta

import (
	"errors"
	"time"
)

// ID names one message for ever. It is 48 bits of Unix milliseconds followed
// by 80 random bits, so IDs sort by time of arrival. Its text is 26 characters
// of Crockford's base32 (the ULID form); byte order and text order agree.
type ID [16]byte

// IDLength is the length of an ID's text.
const IDLength = 26

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ErrID says that a text is not an ID.
var ErrID = errors.New("not a message ID (26 characters of 0-9 A-Z without I L O U)")

// NewID makes the ID of a message that arrived at t, from 80 random bits.
func NewID(t time.Time, entropy [10]byte) ID {
	ms := uint64(t.UnixMilli())
	var id ID
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], entropy[:])
	return id
}

// Time is the time of arrival that the ID carries, to the millisecond, in UTC.
func (id ID) Time() time.Time {
	var ms uint64
	for _, b := range id[:6] {
		ms = ms<<8 | uint64(b)
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// IsZero reports whether id is no message's ID.
func (id ID) IsZero() bool { return id == ID{} }

// String gives the 26 characters.
func (id ID) String() string {
	var out [IDLength]byte
	// 26 characters hold 130 bits: the first one carries only the top three.
	var acc uint32
	bits := 2
	n := 0
	for _, b := range id {
		acc = acc<<8 | uint32(b)
		bits += 8
		for bits >= 5 {
			bits -= 5
			out[n] = crockford[acc>>bits&31]
			n++
		}
	}
	return string(out[:])
}

// ParseID reads the text of an ID, in either case. It returns ErrID for
// anything else.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != IDLength {
		return id, ErrID
	}
	var acc uint32
	bits := -2
	n := 0
	for i := range len(s) {
		v := crockfordValue(s[i])
		if v < 0 || i == 0 && v > 7 {
			return ID{}, ErrID
		}
		acc = acc<<5 | uint32(v)
		bits += 5
		if bits >= 8 {
			bits -= 8
			id[n] = byte(acc >> bits)
			n++
		}
	}
	return id, nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	*id = v
	return err
}

func crockfordValue(c byte) int {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	for i := range len(crockford) {
		if crockford[i] == c {
			return i
		}
	}
	return -1
}
