package header

import (
	"bytes"
	"errors"
	"io"
	"iter"
)

// Limits bound a header. Zero fields mean the defaults.
type Limits struct {
	Size   int // octets, line ends included; default MaxSize
	Fields int // default MaxFields
}

// The defaults and the bounds of RFC 5322.
const (
	MaxSize   = 1 << 20 // octets in a header
	MaxFields = 10_000  // fields in a header
	MaxName   = 256     // octets in a field name; a longer one is no field
	MaxLine   = 998     // octets in a line without its CRLF (RFC 5322 2.1.1)
)

// ErrTooLarge says that a header passes its limits.
var ErrTooLarge = errors.New("the header is too large")

// End says what ended a header.
type End uint8

// The ends of a header.
const (
	EndOpen      End = iota // it has not ended yet
	EndEmptyLine            // an empty line; the body follows it
	EndMalformed            // a line that is no field; the body starts with it
	EndContent              // the content ended inside the header
)

// span is where a field starts in the buffer, and how long its name is.
type span struct{ start, name, colon int }

// Header collects the header of one message, fed in pieces of any size. The
// zero value is ready and has the default limits. It holds the octets as they
// were given; both CRLF and LF are understood as the end of a line.
type Header struct {
	limits Limits
	buf    []byte // the fields; while open, also the beginning of a line
	spans  []span
	line   int // where the line begins that is not complete yet
	end    End
	rest   []byte
}

// Reset makes h ready for another message and keeps its memory.
func (h *Header) Reset(l Limits) {
	*h = Header{limits: l, buf: h.buf[:0], spans: h.spans[:0]}
}

func (h *Header) maxSize() int {
	if h.limits.Size > 0 {
		return h.limits.Size
	}
	return MaxSize
}

func (h *Header) maxFields() int {
	if h.limits.Fields > 0 {
		return h.limits.Fields
	}
	return MaxFields
}

// Feed takes the next octets of the content and returns how many of them it
// used: all of them while the header is open. Once End is no longer EndOpen
// the body is Rest followed by what was not used. It returns ErrTooLarge when
// the header passes its limits; the header is useless then.
func (h *Header) Feed(p []byte) (int, error) {
	if h.end != EndOpen {
		return 0, nil
	}
	used := 0
	if h.line < len(h.buf) { // finish the line that an earlier piece began
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		h.buf = append(h.buf, p[:n]...)
		used = n
		if err := h.partial(); err != nil || h.end != EndOpen {
			return used, err
		}
		if h.line < len(h.buf) {
			return used, nil
		}
	}
	return h.lines(p, used)
}

// partial looks at the line at the end of the buffer, complete or not.
func (h *Header) partial() error {
	line := h.buf[h.line:]
	kind, name, colon := h.classify(line)
	switch {
	case kind == lineEmpty:
		h.buf = h.buf[:h.line]
		h.end = EndEmptyLine
	case kind == lineOther:
		h.rest = bytes.Clone(line)
		h.buf = h.buf[:h.line]
		h.end = EndMalformed
	case kind == lineUndecided: // may be none of ours; a name is short
	case len(h.buf) > h.maxSize():
		return ErrTooLarge
	case line[len(line)-1] == '\n':
		if err := h.take(kind, h.line, name, colon); err != nil {
			return err
		}
		h.line = len(h.buf)
	}
	return nil
}

// lines takes the complete lines of p from used on in one copy, then the
// beginning of the line that is cut off.
func (h *Header) lines(p []byte, used int) (int, error) {
	first := used
	base := len(h.buf) - first // buffer offset of p[0]
	for used < len(p) {
		n := bytes.IndexByte(p[used:], '\n') + 1
		if n == 0 {
			break
		}
		kind, name, colon := h.classify(p[used : used+n])
		if kind == lineEmpty || kind == lineOther {
			h.end = EndMalformed
			next := used
			if kind == lineEmpty {
				h.end = EndEmptyLine
				next += n
			}
			return next, h.grow(p[first:used])
		}
		if err := h.take(kind, base+used, name, colon); err != nil {
			return used, err
		}
		used += n
	}
	if err := h.grow(p[first:used]); err != nil {
		return used, err
	}
	h.buf = append(h.buf, p[used:]...)
	h.line = base + used
	if h.line < len(h.buf) {
		return len(p), h.partial()
	}
	return len(p), nil
}

func (h *Header) take(kind lineKind, start, name, colon int) error {
	if kind != lineField {
		return nil
	}
	if len(h.spans) >= h.maxFields() {
		return ErrTooLarge
	}
	h.spans = append(h.spans, span{start, name, colon})
	return nil
}

func (h *Header) grow(p []byte) error {
	if len(h.buf)+len(p) > h.maxSize() {
		return ErrTooLarge
	}
	h.buf = append(h.buf, p...)
	return nil
}

// Finish says that the content has ended. A last line without a line end is
// kept as it is.
func (h *Header) Finish() error {
	if h.end != EndOpen {
		return nil
	}
	if h.line < len(h.buf) {
		kind, name, colon := h.classify(h.buf[h.line:])
		if kind == lineUndecided { // a name, and the content ended: no field
			h.rest = bytes.Clone(h.buf[h.line:])
			h.buf = h.buf[:h.line]
			h.end = EndMalformed
			return nil
		}
		if err := h.take(kind, h.line, name, colon); err != nil {
			return err
		}
		h.line = len(h.buf)
	}
	h.end = EndContent
	return nil
}

// End tells what ended the header, EndOpen before that.
func (h *Header) End() End { return h.end }

// Rest is the beginning of the body that Feed had to look at before it knew:
// usually empty, and only after EndMalformed. It stays valid until Reset.
func (h *Header) Rest() []byte { return h.rest }

// Size is the number of octets of the fields.
func (h *Header) Size() int { return len(h.buf) }

// Bytes is the fields as they were given, without the empty line. Read-only,
// valid until Reset.
func (h *Header) Bytes() []byte { return h.buf }

// Len is the number of fields.
func (h *Header) Len() int { return len(h.spans) }

// Field gives the field of that index, in the order of the content.
func (h *Header) Field(i int) Field {
	s := h.spans[i]
	end := len(h.buf)
	if i+1 < len(h.spans) {
		end = h.spans[i+1].start
	}
	return Field{raw: h.buf[s.start:end], name: s.name, colon: s.colon}
}

// All gives the fields in order.
func (h *Header) All() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for i := range h.spans {
			if !yield(h.Field(i)) {
				return
			}
		}
	}
}

// Get gives the first field of that name, in any case.
func (h *Header) Get(name string) (Field, bool) {
	for i := range h.spans {
		if f := h.Field(i); f.Is(name) {
			return f, true
		}
	}
	return Field{}, false
}

// Count is how many fields have that name, in any case.
func (h *Header) Count(name string) int {
	n := 0
	for i := range h.spans {
		if h.Field(i).Is(name) {
			n++
		}
	}
	return n
}

// Parse reads the header at the start of content that is all in memory. It
// returns the header and where the body begins. The content is copied as far
// as the header goes.
func Parse(content []byte, l Limits) (*Header, int, error) {
	h := &Header{limits: l}
	n, err := h.Feed(content)
	if err != nil {
		return nil, 0, err
	}
	if err := h.Finish(); err != nil {
		return nil, 0, err
	}
	return h, n - len(h.rest), nil
}

// readChunk is how much Read asks for at a time.
const readChunk = 8 << 10

// Read reads the header of size octets of content. It returns the header and
// the offset at which the body begins; a read error comes back as it is.
func Read(r io.ReaderAt, size int64, l Limits) (*Header, int64, error) {
	h := &Header{limits: l}
	buf := make([]byte, min(readChunk, max(size, 0)))
	var at int64
	for h.end == EndOpen && at < size {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 && err != nil {
			return nil, 0, err
		}
		used, err := h.Feed(buf[:n])
		if err != nil {
			return nil, 0, err
		}
		at += int64(used)
	}
	if err := h.Finish(); err != nil {
		return nil, 0, err
	}
	return h, at - int64(len(h.rest)), nil
}
