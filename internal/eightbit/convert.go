package eightbit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"

	"mailout/internal/header"
)

// Facts are what content was seen to hold.
type Facts struct {
	EightBit  bool // an octet above 127, in header or body
	LongLines bool // a line over 998 octets (RFC 5321 4.5.3.1.6)
}

// Inspect looks through content. Memory is bounded, whatever the size.
func Inspect(r io.ReaderAt, size int64) (Facts, error) {
	var f Facts
	in := newLines(r, size)
	for {
		ln, err := in.next()
		if err == io.EOF {
			return f, nil
		}
		if err != nil {
			return f, fmt.Errorf("read content: %w", err)
		}
		f.EightBit = f.EightBit || ln.eightBit
		f.LongLines = f.LongLines || ln.size > header.MaxLine
		if f.EightBit && f.LongLines {
			return f, nil
		}
	}
}

// Needed reports whether Convert would change anything.
func Needed(r io.ReaderAt, size int64) (bool, error) {
	edits, err := plan(r, size)
	if err != nil {
		return false, fmt.Errorf("read content: %w", err)
	}
	return len(edits) > 0, nil
}

// Convert writes content to dst in a form for hosts without 8BITMIME. Parts
// that have octets above 127, bare line ends or lines over 998 octets become
// quoted-printable when they are text, else base64; their header and those
// around say so. Content that must not be altered, or whose structure is
// broken, is written as it is: see the package. Memory is bounded, whatever
// the size. Errors are those of reader and writer.
func Convert(dst io.Writer, r io.ReaderAt, size int64) error {
	edits, err := plan(r, size)
	if err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	at := int64(0)
	for i := range edits {
		e := &edits[i]
		if err := copyRange(dst, r, at, e.from); err != nil {
			return err
		}
		if err := e.apply(dst, r, size); err != nil {
			return err
		}
		at = e.to
	}
	return copyRange(dst, r, at, size)
}

// copyRange copies octets from one offset to another.
func copyRange(dst io.Writer, r io.ReaderAt, from, to int64) error {
	n, err := io.Copy(dst, io.NewSectionReader(r, from, to-from))
	if err == nil && n < to-from {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// apply writes what becomes of the edit's range.
func (e *edit) apply(dst io.Writer, r io.ReaderAt, size int64) error {
	switch e.kind {
	case editReplace:
		_, err := dst.Write(e.text)
		return err
	case editMask:
		return copyRange(mask{dst}, r, e.from, e.to)
	case editQuoted:
		q := quotedprintable.NewWriter(dst)
		if err := copyRange(q, r, e.from, e.to); err != nil {
			return err
		}
		return q.Close()
	}
	w := base64.NewEncoder(base64.StdEncoding, &wrapper{dst: dst})
	if err := copyRange(w, r, e.from, e.to); err != nil {
		return err
	}
	if err := w.Close(); err != nil || e.to < size {
		return err
	}
	_, err := io.WriteString(dst, "\r\n") // no boundary follows with its own line end
	return err
}

// mask replaces octets above 127.
type mask struct{ dst io.Writer }

func (m mask) Write(p []byte) (int, error) {
	out := bytes.Clone(p)
	for i, c := range out {
		if c > 127 {
			out[i] = '?'
		}
	}
	return m.dst.Write(out)
}

// wrapper breaks base64 into lines of 76 characters (RFC 2045 6.8).
type wrapper struct {
	dst io.Writer
	col int
}

func (w *wrapper) Write(p []byte) (int, error) {
	const width = 76
	for rest := p; len(rest) > 0; {
		if w.col == width {
			if _, err := io.WriteString(w.dst, "\r\n"); err != nil {
				return 0, err
			}
			w.col = 0
		}
		n := min(width-w.col, len(rest))
		if _, err := w.dst.Write(rest[:n]); err != nil {
			return 0, err
		}
		w.col += n
		rest = rest[n:]
	}
	return len(p), nil
}
