package submit

import (
	"bytes"
	"fmt"

	"mailout/internal/header"
)

// Line ends are judged octet for octet as they arrive, before anything else
// looks at the content (the goal: what is stored has CRLF as its only line end,
// no NUL, and CRLF at its end, whatever was given). A piece that is clean, as
// nearly all are, passes with three vectorised scans and is not copied; only a
// piece that needs repair is written anew.
//
// With RepairBare a bare LF becomes CRLF and so does a bare CR, but the CRs
// directly before an LF are one line end together with it: "\r\r\n" is what
// text-mode copying makes of CRLF, and an empty line born there would end the
// header too early.

// lineCheck judges the pieces of one message.
type lineCheck struct {
	repair   bool
	heldCR   int   // CRs at the end of the last piece, not passed on yet
	lines    int64 // line ends seen
	eightBit bool  // an octet above 127 was seen
}

// next judges p and gives to emit what may be passed on, in one or more calls.
func (l *lineCheck) next(p []byte, emit func([]byte) error) error {
	if len(p) == 0 {
		return nil
	}
	if i := bytes.IndexByte(p, 0); i >= 0 {
		return badContent(fmt.Sprintf("a NUL on line %d", l.lines+1+int64(bytes.Count(p[:i], lf))))
	}
	if !l.eightBit {
		l.eightBit = header.EightBit(p)
	}
	if l.heldCR == 1 && p[0] == '\n' { // the usual CRLF, cut in two
		l.heldCR = 0
		l.lines++
		if err := emit(crlf); err != nil {
			return err
		}
		p = p[1:]
	}
	if l.heldCR == 0 {
		n, lines := cleanPrefix(p)
		l.lines += lines
		if n > 0 {
			if err := emit(p[:n]); err != nil {
				return err
			}
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if len(p) == 1 && p[0] == '\r' {
			l.heldCR = 1
			return nil
		}
	}
	return l.mend(p, emit)
}

var (
	cr   = []byte{'\r'}
	lf   = []byte{'\n'}
	crlf = []byte("\r\n")
)

// cleanPrefix gives the length of the longest clean beginning of p and its
// line ends. A CR at the very end is not part of it.
//
// A piece is nearly always clean to its end: then each LF follows a CR, and
// there are as many of one as of the other, which takes one look at each line
// and one count.
func cleanPrefix(p []byte) (n int, lines int64) {
	for n < len(p) {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 || i == 0 || p[n+i-1] != '\r' {
			break
		}
		n += i + 1
		lines++
	}
	if n > 0 && int64(bytes.Count(p[:n], cr)) == lines {
		rest, _ := cleanLines(p[n:]) // a part of one line
		return n + rest, lines
	}
	return cleanLines(p)
}

// cleanLines is cleanPrefix for a piece that begins with no clean line, or has
// a bare CR.
func cleanLines(p []byte) (n int, lines int64) {
	for n < len(p) {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			if cr := bytes.IndexByte(p[n:], '\r'); cr >= 0 {
				return n + cr, lines
			}
			return len(p), lines
		}
		if i == 0 || p[n+i-1] != '\r' {
			if cr := bytes.IndexByte(p[n:n+i], '\r'); cr >= 0 {
				return n + cr, lines
			}
			return n + i, lines
		}
		if cr := bytes.IndexByte(p[n:n+i], '\r'); cr < i-1 {
			return n + cr, lines
		}
		n += i + 1
		lines++
	}
	return n, lines
}

// mend passes on a piece that is not clean, or refuses it.
func (l *lineCheck) mend(p []byte, emit func([]byte) error) error {
	out := make([]byte, 0, len(p)+len(p)/16+16)
	for _, c := range p {
		switch {
		case c == '\n':
			if l.heldCR != 1 && !l.repair {
				return l.bare(l.heldCR)
			}
			l.heldCR = 0
			l.lines++
			out = append(out, '\r', '\n')
		case c == '\r':
			if l.heldCR == maxHeldCR || l.heldCR > 0 && !l.repair {
				var err error
				if out, err = l.flushCR(out); err != nil {
					return err
				}
			}
			l.heldCR++
		default:
			var err error
			if out, err = l.flushCR(out); err != nil {
				return err
			}
			out = append(out, c)
		}
		if len(out) >= mendChunk {
			if err := emit(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	return emit(out)
}

const (
	// mendChunk bounds what mend collects before it passes it on.
	mendChunk = 64 << 10
	// maxHeldCR is how many CRs before an LF count as one line end with it.
	maxHeldCR = 8
)

// flushCR writes the CRs that turned out to be bare.
func (l *lineCheck) flushCR(out []byte) ([]byte, error) {
	if l.heldCR > 0 && !l.repair {
		return out, l.bare(l.heldCR)
	}
	for ; l.heldCR > 0; l.heldCR-- {
		l.lines++
		out = append(out, '\r', '\n')
	}
	return out, nil
}

// finish passes on what was held back at the end of the content.
func (l *lineCheck) finish(emit func([]byte) error) error {
	if l.heldCR == 0 {
		return nil
	}
	if l.heldCR == 1 && !l.repair {
		return l.bare(1)
	}
	out, err := l.flushCR(nil)
	if err != nil {
		return err
	}
	return emit(out)
}

func (l *lineCheck) bare(crs int) error {
	what := "a bare LF"
	if crs > 0 {
		what = "a bare CR"
	}
	return badContent(fmt.Sprintf(`%s on line %d; lines must end in CRLF (bare_lf = "repair" on this listener mends them)`, what, l.lines+1))
}
