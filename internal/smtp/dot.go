package smtp

import (
	"bytes"
	"io"
)

// Both directions look for "\n." with bytes.Index, which runs at memory speed,
// and look at single octets only there. Content is never copied: pieces of the
// caller's slices go to the writer.

var (
	lfDot   = []byte("\n.")
	oneDot  = []byte(".")
	dotCR   = []byte(".\r")
	dotCRLF = []byte(".\r\n")
	crlfEnd = []byte("\r\n.\r\n")
	lfEnd   = []byte("\n.\r\n")
)

// DotWriter writes the content of DATA (RFC 5321 4.5.2): a dot that begins a
// line is doubled, and Close ends the data. Content is to be CRLF-clean; a dot
// after a bare LF is doubled too, so that no receiver finds an end of data
// that is none.
type DotWriter struct {
	w    io.Writer
	last byte // the last octet written; '\n' at the start
	open bool // the last line wants a CRLF: what was written ends in none
}

// NewDotWriter starts the content of one message. It writes to w many small
// pieces where dots are doubled: w should be buffered.
func NewDotWriter(w io.Writer) *DotWriter { return &DotWriter{w: w, last: '\n'} }

// Reset makes d ready for another message to w.
func (d *DotWriter) Reset(w io.Writer) { *d = DotWriter{w: w, last: '\n'} }

// Write writes a piece of content. n counts octets of p.
func (d *DotWriter) Write(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	before := d.last
	if before == '\n' && p[0] == '.' {
		if _, err := d.w.Write(oneDot); err != nil {
			return 0, err
		}
	}
	for {
		i := bytes.Index(p[n:], lfDot)
		if i < 0 {
			break
		}
		end := n + i + 2 // after the dot, which the next piece writes again
		if _, err := d.w.Write(p[n:end]); err != nil {
			return n, err
		}
		n = end - 1
	}
	if _, err := d.w.Write(p[n:]); err != nil {
		return n, err
	}
	if len(p) > 1 {
		before = p[len(p)-2]
	}
	d.last = p[len(p)-1]
	d.open = d.last != '\n' || before != '\r'
	return len(p), nil
}

// Close completes a last line without CRLF and writes the end of data. It does
// not close the writer.
func (d *DotWriter) Close() error {
	end := crlfEnd
	switch {
	case !d.open:
		end = dotCRLF
	case d.last == '\r':
		end = lfEnd
	}
	_, err := d.w.Write(end)
	return err
}

// dotState is what a DotScanner remembers between two pieces.
type dotState uint8

const (
	dotStart   dotState = iota // after CRLF, or before the first octet
	dotText                    // inside a line
	dotAfterCR                 // the last octet was CR
	dotAfterLF                 // the last octet was a bare LF
	dotHeld                    // CRLF "." seen; the dot is held back
	dotHeldCR                  // CRLF "." CR seen; both are held back
	dotHeldLF                  // bare LF "." seen, in repair mode; the dot is held back
)

// DotScanner takes the content of DATA apart (RFC 5321 4.5.2): it undoes the
// doubling of dots and finds the end. Only CRLF "." CRLF ends the data, or "."
// CRLF right at its start; every other mixture of CR, LF and dots (message
// smuggling) passes through unchanged, for intake to refuse or to repair.
//
// A dot that begins a line is dropped when another character follows it on
// the line. Lines begin after CRLF; with Repair also after a bare LF, since a
// client that ends its lines so doubles its dots there too.
//
// The zero value is ready. A piece of any size may be given; the work is
// linear.
type DotScanner struct {
	Repair bool // the listener repairs bare line ends
	state  dotState
}

// Reset makes s ready for the next message; Repair stays.
func (s *DotScanner) Reset() { s.state = dotStart }

// Scan reads the next piece of input and writes the content in it to w. used
// is how much of p belongs to the data, its end included: all of it unless
// done. After an error of w the scan can go on (with io.Discard) at p[used:]:
// used always counts what was read, written or not.
func (s *DotScanner) Scan(p []byte, w io.Writer) (used int, done bool, err error) {
	i := 0
	for i < len(p) {
		if s.state >= dotHeld {
			n, end, err := s.held(p[i], w)
			i += n
			if end || err != nil {
				return i, end, err
			}
			continue
		}
		if s.state == dotStart && p[i] == '.' {
			s.state = dotHeld
			i++
			continue
		}
		if s.state == dotAfterLF && s.Repair && p[i] == '.' {
			s.state = dotHeldLF
			i++
			continue
		}
		n := s.plain(p[i:])
		i += n
		if _, err := w.Write(p[i-n : i]); err != nil {
			return i, false, err
		}
	}
	return i, false, nil
}

// held decides about held-back octets by the next one, c, and gives 1 when it
// has taken c.
func (s *DotScanner) held(c byte, w io.Writer) (n int, end bool, err error) {
	switch state := s.state; {
	case state == dotHeldCR && c == '\n':
		s.state = dotStart
		return 1, true, nil
	case state == dotHeldCR: // CRLF "." CR and no LF: a bare CR, the dot stays
		s.state = dotAfterCR
		_, err = w.Write(dotCR)
	case state == dotHeld && c == '\r':
		s.state = dotHeldCR
		return 1, false, nil
	case c == '\r' || c == '\n': // nothing follows the dot on its line: it stays
		s.state = dotText
		_, err = w.Write(oneDot)
	default: // the dot that was added, or stands before another character, goes
		s.state = dotText
	}
	return 0, false, err
}

// plain gives how many octets of p, which is not empty and does not begin with
// a dot to decide about, are content up to the next dot behind an LF, and sets
// the state after them.
func (s *DotScanner) plain(p []byte) int {
	prev := byte(0)
	if s.state == dotAfterCR {
		prev = '\r'
	}
	n := len(p)
	if lf := bytes.Index(p, lfDot); lf >= 0 {
		n = lf + 1
	}
	s.state = stateAfter(p[:n], prev)
	return n
}

// stateAfter is the state behind the piece p that followed the octet prev.
func stateAfter(p []byte, prev byte) dotState {
	if len(p) > 1 {
		prev = p[len(p)-2]
	}
	switch p[len(p)-1] {
	case '\r':
		return dotAfterCR
	case '\n':
		if prev == '\r' {
			return dotStart
		}
		return dotAfterLF
	}
	return dotText
}
