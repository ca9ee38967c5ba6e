package dkim

import (
	"bytes"

	"mailout/internal/header"
)

// coverage says how often h= names a field.
type coverage uint8

const (
	// present: as often as it is there. Those who resend a message add their own.
	present coverage = iota
	// closed: once more than it is there, if it is there at all, so that nobody can
	// add another (RFC 6376 5.4, 8.15).
	closed
	// sealed: once more than it is there, and also when it is not there at all.
	sealed
)

// signable are the fields that signatures cover, in the order of h=: what a reader
// is shown or a program acts on (RFC 6376 5.4.1). Trace fields, Return-Path and
// Bcc are not among them, since they change on the way, nor DKIM-Signature: others
// sign for themselves.
//
// A field that servers on the way may add to a message without it is closed and
// not sealed (Sender of a mailing list, MIME-Version).
var signable = [...]struct {
	name string
	coverage
}{
	{"From", sealed}, {"Sender", closed}, {"Reply-To", sealed}, {"To", sealed}, {"Cc", sealed},
	{"Subject", sealed}, {"Date", sealed}, {"Message-ID", sealed}, {"In-Reply-To", closed}, {"References", closed},
	{"MIME-Version", closed}, {"Content-Type", sealed}, {"Content-Transfer-Encoding", closed},
	{"Content-ID", closed}, {"Content-Description", closed}, {"Content-Disposition", closed}, {"Content-Language", closed},
	{"Resent-Date", present}, {"Resent-From", present}, {"Resent-Sender", present}, {"Resent-To", present}, {"Resent-Cc", present}, {"Resent-Message-ID", present},
	{"List-Id", sealed}, {"List-Unsubscribe", sealed}, {"List-Unsubscribe-Post", sealed},
	{"List-Help", closed}, {"List-Subscribe", closed}, {"List-Post", closed}, {"List-Owner", closed}, {"List-Archive", closed},
	{"Feedback-ID", closed}, {"Auto-Submitted", closed}, {"Autocrypt", closed}, {"TLS-Required", closed},
	{"TLS-Report-Domain", closed}, {"TLS-Report-Submitter", closed}, // RFC 8460 5.3
}

// maxRepeated is how many fields of one name are signed, the lowest ones. Where a
// name is there more often the fields above are not covered: h= would become
// longer than receivers read.
const maxRepeated = 100

// lowerNames are the names as they are hashed, and byLength finds one: the numbers
// of those with that length.
var lowerNames, byLength = index()

func index() (lower [len(signable)]string, byLen [32][]uint8) {
	for i := range signable {
		name := signable[i].name
		lower[i] = string(bytes.ToLower([]byte(name)))
		byLen[len(name)] = append(byLen[len(name)], uint8(i))
	}
	return lower, byLen
}

// numberOf gives the number of a field among signable, or -1.
func numberOf(f header.Field, name []byte) int {
	if len(name) >= len(byLength) {
		return -1
	}
	for _, i := range byLength[len(name)] {
		if f.Is(signable[i].name) {
			return int(i)
		}
	}
	return -1
}

// covered is one field of the message that the signatures cover.
type covered struct {
	value []byte // what follows the colon
	above int    // the next field of its name further up, by index; -1: none
}

// selection is what of a header is signed.
type selection struct {
	fields []covered
	lowest [len(signable)]int // by number: the last field of that name; -1: none
	count  [len(signable)]int // how many there are
}

// choose finds the fields to be signed.
func (s *selection) choose(h *header.Header) {
	s.fields = s.fields[:0]
	for i := range s.lowest {
		s.lowest[i], s.count[i] = -1, 0
	}
	for i := range h.Len() {
		f := h.Field(i)
		raw := f.Raw()
		colon := bytes.IndexByte(raw, ':')
		n := numberOf(f, bytes.TrimRight(raw[:colon], " \t"))
		if n < 0 {
			continue
		}
		s.fields = append(s.fields, covered{raw[colon+1:], s.lowest[n]})
		s.lowest[n] = len(s.fields) - 1
		s.count[n]++
	}
}

// named gives how often h= names a field.
func (s *selection) named(n int) int {
	switch c := s.count[n]; {
	case c > maxRepeated:
		return maxRepeated
	case signable[n].coverage == sealed, signable[n].coverage == closed && c > 0:
		return c + 1
	default:
		return c
	}
}

// appendRelaxed appends the fields as they are hashed, those of one name from the
// bottom up (RFC 6376 5.4.2). What h= names more often than it is there adds
// nothing.
func (s *selection) appendRelaxed(dst []byte) []byte {
	for n := range signable {
		at := s.lowest[n]
		for range min(s.count[n], maxRepeated) {
			dst = append(appendRelaxed(dst, lowerNames[n], s.fields[at].value), '\r', '\n')
			at = s.fields[at].above
		}
	}
	return dst
}

// appendRelaxed appends one field in relaxed form (RFC 6376 3.4.2) without its
// line end: unfolded, white space one space, none at either end of the value.
func appendRelaxed(dst []byte, name string, value []byte) []byte {
	dst = append(append(dst, name...), ':')
	start := len(dst)
	space := false
	for _, c := range value {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			space = true
			continue
		}
		if space {
			space = false
			if len(dst) > start {
				dst = append(dst, ' ')
			}
		}
		dst = append(dst, c)
	}
	return dst
}
