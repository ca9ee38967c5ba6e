package lint

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"mailout/internal/header"
)

// MaxPerRule bounds how many findings of one rule are given; the last says how
// many there are more.
const MaxPerRule = 10

// Finding is one thing that receivers will dislike.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Line     int      `json:"line"` // from 1; 0 is the message as a whole
	Text     string   `json:"text"`
	Source   string   `json:"source"`
}

// Options are what is known beside the message.
type Options struct {
	From string    // return path; empty or "<>": none
	Now  time.Time // to compare Date with; zero: Date is not compared
}

// Check finds what receivers will dislike in a message, by line. Content whose
// lines all end with LF alone is a text file as systems keep it, and is sent
// with CRLF: that is no finding.
func Check(content []byte, o Options) []Finding {
	l := &linter{content: content, opts: o, counts: map[string]int{}}
	l.index()
	l.looks()
	l.head()
	l.size()
	l.body()
	l.more()
	sort.SliceStable(l.found, func(i, j int) bool { return l.found[i].Line < l.found[j].Line })
	return l.found
}

// Worst is the exit status that findings deserve: 0 none, 1 warnings, 2 errors.
func Worst(found []Finding) int {
	worst := 0
	for _, f := range found {
		if f.Severity == Error {
			return 2
		}
		worst = 1
	}
	return worst
}

// linter looks at one message.
type linter struct {
	content []byte
	opts    Options
	starts  []int // offsets of lines
	fields  *header.Header
	bodyAt  int   // offset
	lines   []int // of the header's fields
	found   []Finding
	counts  map[string]int
	parts   int
	texts   texts
}

// add notes a finding; text may have a format's verbs.
func (l *linter) add(id string, line int, text string, args ...any) {
	if l.counts[id]++; l.counts[id] > MaxPerRule {
		return
	}
	r := ruleOf(id)
	l.found = append(l.found, Finding{ID: id, Severity: r.Severity, Line: line, Text: fmt.Sprintf(text, args...), Source: r.Source})
}

// more says how many findings of a rule were left out.
func (l *linter) more() {
	for i := len(l.found) - 1; i >= 0; i-- {
		f := &l.found[i]
		if n := l.counts[f.ID]; n > MaxPerRule {
			f.Text += fmt.Sprintf(" (and %d more like it)", n-MaxPerRule)
			l.counts[f.ID] = 0
		}
	}
}

// index notes where lines begin.
func (l *linter) index() {
	for at := 0; at < len(l.content); {
		l.starts = append(l.starts, at)
		n := bytes.IndexByte(l.content[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
	}
}

// line is the number of the line that an offset is in.
func (l *linter) line(at int) int {
	return sort.Search(len(l.starts), func(i int) bool { return l.starts[i] > at })
}

// maxHeader is what the largest receivers take.
const maxHeader = 500_000

// head reads the header and judges its fields.
func (l *linter) head() {
	h, at, err := header.Parse(l.content, header.Limits{Size: 64 << 20, Fields: 1_000_000})
	if errors.Is(err, header.ErrTooLarge) {
		l.add("header.large", 0, "the header is over 64 MB")
		h, at = &header.Header{}, len(l.content)
	}
	l.fields, l.bodyAt = h, at
	if h.Size() > maxHeader {
		l.add("header.large", 0, "the header has %d octets", h.Size())
	}
	if h.End() == header.EndMalformed {
		l.add("header.malformed", l.line(at), "%q is no header field and no empty line: the header ends here", clip(string(l.rawLine(at))))
	}
	number := 1
	for f := range h.All() {
		l.lines = append(l.lines, number)
		number += bytes.Count(f.Raw(), []byte{'\n'})
	}
	for i := range h.Len() {
		l.field(h.Field(i), l.lines[i])
	}
	l.doubled()
	l.required()
	l.addresses()
	l.bulk()
}

// rawLine is the line at an offset without its end.
func (l *linter) rawLine(at int) []byte {
	line := l.content[min(at, len(l.content)):]
	if n := bytes.IndexByte(line, '\n'); n >= 0 {
		line = line[:n]
	}
	return bytes.TrimRight(line, "\r\n")
}

// clip shortens what is shown of the message.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// first is the first field of a name and its line; 0 when there is none.
func (l *linter) first(name string) (header.Field, int) {
	for i := range l.fields.Len() {
		if f := l.fields.Field(i); f.Is(name) {
			return f, l.lines[i]
		}
	}
	return header.Field{}, 0
}

// most is what common receivers take, in octets.
const mostOctets = 25 << 20

func (l *linter) size() {
	if len(l.content) > mostOctets {
		l.add("size.large", 0, "the message has %.1f MB; many receivers take 20 to 25 MB", float64(len(l.content))/(1<<20))
	}
}
