package lint

import (
	"bytes"
	"fmt"

	"mailout/internal/header"
)

// looks judges the lines themselves, in header and body.
func (l *linter) looks() {
	crlf := bytes.Contains(l.content, []byte("\r\n"))
	bare := bareLines{}
	for i, start := range l.starts {
		end := len(l.content)
		if i+1 < len(l.starts) {
			end = l.starts[i+1]
		}
		line := l.content[start:end]
		text, ended := bytes.CutSuffix(line, []byte{'\n'})
		text, withCR := bytes.CutSuffix(text, []byte{'\r'})
		if ended && !withCR && crlf {
			bare.lf(i + 1)
		}
		if bytes.IndexByte(text, '\r') >= 0 || withCR && !ended {
			bare.cr(i + 1)
		}
		if len(text) > header.MaxLine {
			l.add("line.long", i+1, "the line has %d octets; 998 are allowed", len(text))
		}
		if bytes.IndexByte(text, 0) >= 0 {
			l.add("line.nul", i+1, "the line holds a NUL")
		}
	}
	bare.tell(l)
}

// bareLines are the first bare line ends and how many there are: a file that
// was put together badly has thousands.
type bareLines struct{ firstLF, lfs, firstCR, crs int }

func (b *bareLines) lf(line int) {
	if b.lfs++; b.lfs == 1 {
		b.firstLF = line
	}
}

func (b *bareLines) cr(line int) {
	if b.crs++; b.crs == 1 {
		b.firstCR = line
	}
}

func (b *bareLines) tell(l *linter) {
	if b.lfs > 0 {
		l.add("line.bare", b.firstLF, "%s with LF alone, others with CRLF: bare LFs are refused, because they can hide a second message", lines(b.lfs, "ends", "end"))
	}
	if b.crs > 0 {
		l.add("line.bare", b.firstCR, "%s a CR that no LF follows", lines(b.crs, "holds", "hold"))
	}
}

// lines gives "1 line ends", "2 lines end".
func lines(n int, one, more string) string {
	if n == 1 {
		return "1 line " + one
	}
	return fmt.Sprintf("%d lines %s", n, more)
}
