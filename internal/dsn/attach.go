package dsn

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"

	"mailout/internal/header"
	"mailout/internal/mta"
)

// attachKind is what of the original a report carries.
type attachKind uint8

const (
	attachNone attachKind = iota // it cannot be read
	attachHeaders
	attachFull
)

// attachment is the third part of a report (RFC 6522 3): the original, or its
// header.
type attachment struct {
	kind     attachKind
	head     []byte // the part's own header
	fields   []byte // attachHeaders: the fields returned
	cut      bool   // some fields were left out
	original *header.Header
	content  io.ReaderAt // attachFull
	size     int64
	eightBit bool
}

// storedHeader bounds the header of stored content: what intake lets in and
// adds.
var storedHeader = header.Limits{Size: 2 * header.MaxSize, Fields: 2 * header.MaxFields}

// attach chooses the third part. Content whose header cannot be read counts as
// unreadable: the report is made without it.
func (r *Report) attach(content io.ReaderAt, size int64) (*attachment, error) {
	a := &attachment{}
	if content == nil {
		return a, nil
	}
	h, _, err := header.Read(content, size, storedHeader)
	if err != nil {
		return a, nil
	}
	a.original = h
	if r.wantsFull(size) {
		a.kind, a.content, a.size = attachFull, content, size
		if a.eightBit, err = scanEightBit(content, size); err != nil {
			return &attachment{original: h}, nil
		}
	} else {
		a.kind = attachHeaders
		a.fields, a.cut = firstFields(h)
		a.eightBit = header.EightBit(a.fields)
	}
	a.head = a.partHeader(h)
	return a, nil
}

// wantsFull tells whether the whole message goes back. A report without a
// failure carries the header only (RFC 3461 4.3).
func (r *Report) wantsFull(size int64) bool {
	failure := false
	for i := range r.Recipients {
		failure = failure || r.Recipients[i].Action == Failed
	}
	limit := r.FullLimit
	if limit <= 0 {
		limit = DefaultFull
	}
	switch {
	case !failure || r.HeadersOnly || r.Ret == mta.RetHeaders:
		return false
	case r.Ret == mta.RetFull:
		return size <= MaxFull
	}
	return size <= limit
}

// firstFields gives the fields that fit MaxHeaders, and whether some did not.
func firstFields(h *header.Header) (fields []byte, cut bool) {
	if h.Size() <= MaxHeaders {
		return h.Bytes(), false
	}
	var out []byte
	for f := range h.All() {
		if len(out)+len(f.Raw()) > MaxHeaders {
			return out, true
		}
		out = append(out, f.Raw()...)
	}
	return out, false
}

// partHeader names the part after what is in it: the types of RFC 6533 where
// the original's header is UTF-8.
func (a *attachment) partHeader(h *header.Header) []byte {
	global := header.EightBit(h.Bytes()) && utf8.Valid(h.Bytes())
	var kind string
	switch {
	case a.kind == attachFull && global:
		kind = "Undelivered message\r\nContent-Type: message/global"
	case a.kind == attachFull:
		kind = "Undelivered message\r\nContent-Type: message/rfc822"
	case global:
		kind = "Header of the message\r\nContent-Type: message/global-headers"
	default:
		kind = "Header of the message\r\nContent-Type: text/rfc822-headers"
	}
	if a.eightBit {
		kind += "\r\nContent-Transfer-Encoding: 8bit"
	}
	return []byte("Content-Description: " + kind + "\r\n")
}

// copyTo writes the part's content.
func (a *attachment) copyTo(w io.Writer) error {
	switch a.kind {
	case attachHeaders:
		_, err := w.Write(a.fields)
		return err
	case attachFull:
		n, err := io.Copy(w, io.NewSectionReader(a.content, 0, a.size))
		if err == nil && n != a.size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

const scanChunk = 32 << 10

func scanEightBit(r io.ReaderAt, size int64) (bool, error) {
	found := false
	err := scan(r, size, 0, func(b []byte) bool {
		found = header.EightBit(b)
		return !found
	})
	return found, err
}

// scan gives content to f in pieces that repeat the last overlap octets of the
// piece before, until f returns false.
func scan(r io.ReaderAt, size int64, overlap int, f func([]byte) bool) error {
	buf := make([]byte, overlap+scanChunk)
	kept := 0
	for at := int64(0); at < size; {
		n := int(min(scanChunk, size-at))
		m, err := r.ReadAt(buf[kept:kept+n], at)
		if m < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read the original: %w", err)
		}
		if !f(buf[:kept+n]) {
			return nil
		}
		at += int64(n)
		tail := min(overlap, kept+n)
		copy(buf, buf[kept+n-tail:kept+n])
		kept = tail
	}
	return nil
}

// boundary makes a boundary out of the report's ID that no part contains.
func (r *Report) boundary(a *attachment, parts ...part) (string, error) {
	for try := 0; ; try++ {
		b := "=_mailout_" + r.ID.String()
		if try > 0 {
			b += fmt.Sprintf("_%d", try)
		}
		used, err := a.contains([]byte(b))
		if err != nil {
			return "", err
		}
		for _, p := range parts {
			used = used || bytes.Contains(p.body, []byte(b))
		}
		// Each number that is taken needs its own text inside the content,
		// which is bounded, so that this ends.
		if !used {
			return b, nil
		}
	}
}

// contains reports whether the attached content has the text.
func (a *attachment) contains(text []byte) (bool, error) {
	if a.kind != attachFull {
		return bytes.Contains(a.fields, text), nil
	}
	found := false
	err := scan(a.content, a.size, len(text)-1, func(b []byte) bool {
		found = bytes.Contains(b, text)
		return !found
	})
	return found, err
}
