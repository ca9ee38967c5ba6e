package eightbit

import (
	"bytes"
	"io"

	"mailout/internal/header"
)

// keptLine is how much of a line is kept while its structure is looked at: more
// than a boundary or a header field's line needs. Bodies may have longer ones.
const keptLine = 64 << 10

// window is how much is read at a time.
const window = 64 << 10

// lines reads content line by line without ever holding more than a window.
type lines struct {
	r    io.ReaderAt
	size int64
	at   int64 // of the next line
	buf  []byte
	from int64 // offset of buf[0]
	long []byte
}

func newLines(r io.ReaderAt, size int64) *lines {
	return &lines{r: r, size: size, buf: make([]byte, 0, min(window, size))}
}

// line is one line. first is its beginning, its line end included when it is
// not cut; it is valid until the next call.
type line struct {
	first    []byte
	cut      bool  // longer than keptLine
	size     int64 // octets without the line end
	eightBit bool
	bare     bool // a CR inside, or an LF without CR
}

// next gives the next line, or io.EOF.
func (l *lines) next() (line, error) {
	var ln line
	l.long = l.long[:0]
	if l.at >= l.size {
		return ln, io.EOF
	}
	lastCR := false
	for l.at < l.size {
		b, err := l.ahead()
		if err != nil {
			return ln, err
		}
		n := bytes.IndexByte(b, '\n') + 1
		whole := n > 0
		if !whole {
			n = len(b)
		}
		b = b[:n]
		l.at += int64(n)
		if whole && len(l.long) == 0 && ln.size == 0 { // the usual case: no copy
			ln.first = b
		} else {
			ln.cut = ln.cut || len(l.long)+n > keptLine
			l.long = append(l.long, b[:min(n, keptLine-len(l.long))]...)
			ln.first = l.long
		}
		ln.see(b, whole, &lastCR)
		if whole {
			return ln, nil
		}
	}
	ln.bare = ln.bare || lastCR
	return ln, nil
}

// see notes what a piece of the line holds. A CR is bare unless the LF follows
// it, which may be in the next piece.
func (ln *line) see(b []byte, whole bool, lastCR *bool) {
	ln.eightBit = ln.eightBit || header.EightBit(b)
	text := b
	if whole {
		text = b[:len(b)-1]
	}
	ln.size += int64(len(text))
	if *lastCR && len(text) > 0 {
		ln.bare = true
	}
	if i := bytes.IndexByte(text, '\r'); i >= 0 && i < len(text)-1 {
		ln.bare = true
	}
	if len(text) > 0 {
		*lastCR = text[len(text)-1] == '\r'
	}
	if whole {
		if *lastCR {
			ln.size--
		} else {
			ln.bare = true
		}
	}
}

// ahead gives what is read but not used yet, reading on when that is nothing.
func (l *lines) ahead() ([]byte, error) {
	if off := l.at - l.from; off < int64(len(l.buf)) {
		return l.buf[off:], nil
	}
	l.from = l.at
	l.buf = l.buf[:min(int64(cap(l.buf)), l.size-l.at)]
	n, err := l.r.ReadAt(l.buf, l.at)
	if n < len(l.buf) {
		l.buf = l.buf[:0]
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return l.buf, nil
}
