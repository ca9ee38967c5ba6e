package header

import (
	"bytes"
	"strings"
)

// Field is one header field as it was given. It points into the header it
// came from.
type Field struct {
	raw         []byte
	name, colon int
}

// Raw is the whole field with its folding and its last line end.
func (f Field) Raw() []byte { return f.raw }

// Name is the field's name as written.
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Is reports whether the field has that name, in any case.
func (f Field) Is(name string) bool {
	return len(name) == f.name && equalFold(f.raw[:f.name], name)
}

// Value is what follows the colon, folding included, without the last line
// end.
func (f Field) Value() []byte { return trimLineEnd(f.raw[f.colon+1:]) }

// Text is the value unfolded (RFC 5322 2.2.3) and trimmed of white space at
// both ends.
func (f Field) Text() string {
	v := bytes.Trim(f.Value(), " \t\r\n")
	if bytes.IndexByte(v, '\n') < 0 {
		return string(v)
	}
	var b strings.Builder
	b.Grow(len(v))
	for line := range bytes.Lines(v) {
		b.Write(trimLineEnd(line))
	}
	return b.String()
}

// Blank reports whether the value is white space only.
func (f Field) Blank() bool { return len(bytes.Trim(f.Value(), " \t\r\n")) == 0 }

// EightBit reports whether the field has an octet above 127.
func (f Field) EightBit() bool { return EightBit(f.raw) }

// Known is a field that mailout itself reads, adds or takes out.
type Known uint8

// The fields that mailout knows.
const (
	Other Known = iota
	Date
	From
	Sender
	MessageID
	Bcc
	ResentBcc
	ReturnPath
	Received
	Subject
	MIMEVersion
	ContentType
	ContentTransferEncoding
	MailoutTag
	TLSRequired // RFC 8689 3
)

var knownNames = [...]string{"", "Date", "From", "Sender", "Message-ID", "Bcc", "Resent-Bcc", "Return-Path", "Received", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "X-Mailout-Tag", "TLS-Required"}

// String gives the name as we write it; empty for Other.
func (k Known) String() string { return knownNames[k] }

// Known tells which of the known fields this one is.
func (f Field) Known() Known {
	var a, b Known // the candidates of this length
	switch f.name {
	case 3:
		a = Bcc
	case 4:
		a, b = Date, From
	case 6:
		a = Sender
	case 7:
		a = Subject
	case 8:
		a = Received
	case 10:
		a, b = MessageID, ResentBcc
	case 11:
		a = ReturnPath
	case 12:
		a, b = MIMEVersion, ContentType
		if lower(f.raw[0]) == 't' {
			a, b = TLSRequired, Other
		}
	case 13:
		a = MailoutTag
	case 25:
		a = ContentTransferEncoding
	default:
		return Other
	}
	name := f.raw[:f.name]
	if equalFold(name, knownNames[a]) {
		return a
	}
	if b != Other && equalFold(name, knownNames[b]) {
		return b
	}
	return Other
}

// equalFold compares ASCII without regard to case; the lengths are equal.
func equalFold(a []byte, b string) bool {
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

// lineKind is what a line of a header is.
type lineKind uint8

const (
	lineUndecided lineKind = iota // cut off too early to know
	lineEmpty
	lineField
	lineContinued
	lineOther
)

// classify tells what a line is, and for a field the length of its name and
// where its colon is. The line may be cut off at its end.
func (h *Header) classify(line []byte) (kind lineKind, name, colon int) {
	switch c := line[0]; {
	case c == '\n' || c == '\r' && len(line) > 1 && line[1] == '\n':
		return lineEmpty, 0, 0
	case c == '\r' && len(line) == 1:
		return lineUndecided, 0, 0
	case c == ' ' || c == '\t':
		if len(h.spans) == 0 {
			return lineOther, 0, 0
		}
		return lineContinued, 0, 0
	}
	return fieldName(line)
}

// fieldName reads "name:" (RFC 5322 2.2), allowing white space before the
// colon as its obsolete syntax does (4.5).
func fieldName(line []byte) (kind lineKind, name, colon int) {
	for name < len(line) && 33 <= line[name] && line[name] <= 126 && line[name] != ':' {
		name++
		if name > MaxName {
			return lineOther, 0, 0
		}
	}
	colon = name
	for colon < len(line) && colon <= 2*MaxName && (line[colon] == ' ' || line[colon] == '\t') {
		colon++
	}
	switch {
	case colon == len(line):
		return lineUndecided, 0, 0
	case line[colon] == ':' && name > 0:
		return lineField, name, colon
	}
	return lineOther, 0, 0
}
