package dkim

// Relaxed canonicalisation of a body (RFC 6376 3.4.4), octet for octet.
//
// Goal: at the speed of the hash, in bounded memory, whatever the pieces that the
// body comes in. Nearly all of a body is canonical as it stands: what must change
// is white space that is a tab, comes in runs or ends a line, and empty lines at
// the end. So a piece is cut down to its last octet that is neither white space
// nor line end; before that octet every line end stays, and eight octets at a time
// are looked at for white space that has to change. What lies between goes to the
// hash uncopied. The tail of white space and line ends is taken octet by octet,
// since what follows decides: state is kept, and never the octets.
//
// Only CRLF ends a line. A bare CR or LF, which no stored message has, counts as
// text, as it does to the verifiers.

import (
	"bytes"
	"encoding/binary"
	"hash"
	"math/bits"
)

// gather is how many octets of small pieces are collected for one write to the
// hash, and small is what counts as one.
const (
	gather = 1024
	small  = 256
)

// relaxer canonicalises a body into a hash. Reset makes it ready.
type relaxer struct {
	hash  hash.Hash
	lines int64 // line ends that were seen and not written: more text must follow
	space bool  // white space in the line under way, not written yet
	cr    bool  // the last octet was a CR
	some  bool  // a text octet was written
	n     int
	buf   [gather]byte
}

// reset makes r ready for another body.
func (r *relaxer) reset(h hash.Hash) {
	h.Reset()
	r.hash, r.lines, r.space, r.cr, r.some, r.n = h, 0, false, false, false, 0
}

// write takes the next octets of the body.
func (r *relaxer) write(p []byte) {
	for len(p) > 0 {
		n := r.blank(p)
		if p = p[n:]; len(p) == 0 {
			return
		}
		core := textEnd(p)
		r.pending()
		r.text(p[:core])
		r.some = true
		p = p[core:]
	}
}

// sum ends the body and appends its hash.
func (r *relaxer) sum(dst []byte) []byte {
	if r.cr { // a bare CR at the very end
		r.cr = false
		r.pending()
		r.put(loneCR)
		r.some = true
	}
	if r.some { // an empty body stays empty; any other ends in one CRLF
		r.put(lineEnd)
	}
	r.flush()
	return r.hash.Sum(dst)
}

// blank takes white space and line ends at the start of p, and gives how many
// octets that were: all up to the next text.
func (r *relaxer) blank(p []byte) int {
	for i, c := range p {
		if r.cr {
			r.cr = false
			if c == '\n' {
				r.lines++
				r.space = false // white space before a line end goes
				continue
			}
			r.pending()
			r.put(loneCR)
			r.some = true
		}
		switch c {
		case ' ', '\t':
			r.space = true
		case '\r':
			r.cr = true
		default:
			return i
		}
	}
	return len(p)
}

// pending writes what was held back: text follows it.
func (r *relaxer) pending() {
	for ; r.lines > 0; r.lines-- {
		r.put(lineEnd)
	}
	if r.space {
		r.space = false
		r.put(oneSpace)
	}
}

var (
	lineEnd  = []byte("\r\n")
	oneSpace = []byte(" ")
	loneCR   = []byte("\r")
)

// textEnd is the length of p without its tail of white space and line ends; p
// begins with text. A bare LF at its beginning is text as well.
func textEnd(p []byte) int {
	n := len(p)
	for n > 1 && (p[n-1] == '\n' || p[n-1] == '\r' || p[n-1] == ' ' || p[n-1] == '\t') {
		n--
	}
	return n
}

// text writes octets that begin and end with text.
func (r *relaxer) text(p []byte) {
	next := odd
	if bytes.IndexByte(p, '\t') < 0 {
		next = oddSpace
	}
	for {
		i := next(p)
		if i < 0 {
			r.put(p)
			return
		}
		r.put(p[:i])
		p = p[i:]
		n := 1
		for p[n] == ' ' || p[n] == '\t' { // ends: the last octet is text
			n++
		}
		if p = p[n:]; !bytes.HasPrefix(p, lineEnd) {
			r.put(oneSpace)
		}
	}
}

const (
	everyOctet = 0x0101010101010101
	lowBits    = 0x7f * everyOctet
	spaces     = ' ' * everyOctet
	tabs       = '\t' * everyOctet
	returns    = '\r' * everyOctet
)

// zeros has the high bit of each octet that is zero in x.
func zeros(x uint64) uint64 { return ^((x&lowBits + lowBits) | x | lowBits) }

// odd gives the first white space in p that is a tab, or that white space or a CR
// follows; -1: there is none. The last octet of p is text.
func odd(p []byte) int {
	i := 0
	for ; i+9 <= len(p); i += 8 {
		w, next := binary.LittleEndian.Uint64(p[i:]), binary.LittleEndian.Uint64(p[i+1:])
		m := zeros(w ^ tabs)
		if s := zeros(w ^ spaces); s != 0 {
			m |= s & (zeros(next^spaces) | zeros(next^tabs) | zeros(next^returns))
		}
		if m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i+1 < len(p); i++ {
		if p[i] == '\t' || p[i] == ' ' && (p[i+1] == ' ' || p[i+1] == '\t' || p[i+1] == '\r') {
			return i
		}
	}
	return -1
}

// oddSpace is odd for text without tabs, in half the time: each octet is looked at
// once, and the last of the eight is carried on.
func oddSpace(p []byte) int {
	i := 0
	for carry := uint64(0); i+8 <= len(p); i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		s := zeros(w ^ spaces)
		if m := (s<<8 | carry) & (s | zeros(w^returns)); m != 0 {
			return i + bits.TrailingZeros64(m)/8 - 1 // the space before
		}
		carry = s >> 56
	}
	for i = max(i-1, 0); i+1 < len(p); i++ {
		if p[i] == ' ' && (p[i+1] == ' ' || p[i+1] == '\r') {
			return i
		}
	}
	return -1
}

// put writes canonical octets.
func (r *relaxer) put(p []byte) {
	if len(p) > small {
		r.flush()
		r.hash.Write(p)
		return
	}
	if len(p) > len(r.buf)-r.n {
		r.flush()
	}
	r.n += copy(r.buf[r.n:], p)
}

func (r *relaxer) flush() {
	if r.n > 0 {
		r.hash.Write(r.buf[:r.n])
		r.n = 0
	}
}
