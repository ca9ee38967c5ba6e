package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFile bounds a configuration file, in octets.
const maxFile = 1 << 20

// document is a TOML file as written: its statements in order, with the
// places of everything, so that errors can point and edits can leave the rest
// as it is.
type document struct {
	data       []byte
	statements []statement
	// broken is where and why reading stopped; nil when all was read.
	broken *complaint
}

// complaint is something wrong at an offset of the file.
type complaint struct {
	at   int
	text string
}

// statementKind tells headers from assignments.
type statementKind uint8

const (
	assignment  statementKind = iota // key = value
	header                           // [table]
	arrayHeader                      // [[table]]
)

// statement is one top-level expression.
type statement struct {
	kind  statementKind
	path  []part
	value *value // of an assignment
	start int    // offset of the first octet
	end   int    // offset after the last octet, without a comment behind it
}

// part is one step of a dotted key.
type part struct {
	name string
	at   int
}

// value is a TOML value.
type value struct {
	kind   unstable.Kind
	at     int    // offset of the first octet
	end    int    // offset after the last; unknown (at) for containers inside an array
	text   string // a string's content; the octets as written of another scalar
	items  []*value
	fields []field // of an inline table
}

// field is one assignment inside an inline table.
type field struct {
	path  []part
	value *value
	end   int // offset after the value
}

// parseDocument reads as far as the syntax is right.
func parseDocument(data []byte) *document {
	d := &document{data: data}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		d.broken = &complaint{0, "the file starts with a byte order mark (save it as UTF-8 without one)"}
		return d
	}
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		d.statements = append(d.statements, d.statement(&p, p.Expression()))
	}
	if err := p.Error(); err != nil {
		d.broken = d.syntaxError(&p, err)
	}
	return d
}

func (d *document) syntaxError(p *unstable.Parser, err error) *complaint {
	var parse *unstable.ParserError
	if !errors.As(err, &parse) {
		return &complaint{len(d.data), err.Error()}
	}
	at := len(d.data)
	if len(parse.Highlight) > 0 {
		at = int(p.Range(parse.Highlight).Offset)
	}
	return &complaint{at, quotesHint(parse.Message)}
}

func (d *document) statement(p *unstable.Parser, n *unstable.Node) statement {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		path, end := keyParts(n.Key())
		s := statement{kind: header, path: path}
		s.start = bytes.LastIndexByte(d.data[:path[0].at], '[')
		s.end = end + bytes.IndexByte(d.data[end:], ']') + 1
		if n.Kind == unstable.ArrayTable {
			s.kind = arrayHeader
			s.start--
			s.end++
		}
		return s
	}
	f := d.field(n)
	return statement{kind: assignment, path: f.path, value: f.value, start: int(n.Raw.Offset), end: f.end}
}

// field reads a key-value node, which knows its whole extent.
func (d *document) field(n *unstable.Node) field {
	path, keyEnd := keyParts(n.Key())
	at := keyEnd + bytes.IndexByte(d.data[keyEnd:], '=') + 1
	for at < len(d.data) && (d.data[at] == ' ' || d.data[at] == '\t') {
		at++
	}
	end := int(n.Raw.Offset + n.Raw.Length)
	return field{path: path, value: d.value(n.Value(), at, end), end: end}
}

// value reads a value node that starts at the offset; end is at when unknown.
func (d *document) value(n *unstable.Node, at, end int) *value {
	v := &value{kind: n.Kind, at: at, end: end}
	switch n.Kind {
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			child := it.Node()
			start := at // a nested array does not know where it starts
			stop := at
			if child.Kind != unstable.Array {
				start = int(child.Raw.Offset)
				stop = start + int(child.Raw.Length)
			}
			v.items = append(v.items, d.value(child, start, stop))
		}
	case unstable.InlineTable:
		for it := n.Children(); it.Next(); {
			v.fields = append(v.fields, d.field(it.Node()))
		}
	default:
		v.text = string(n.Data)
	}
	return v
}

// keyParts reads a dotted key and gives the offset after it.
func keyParts(it unstable.Iterator) (parts []part, end int) {
	for it.Next() {
		n := it.Node()
		parts = append(parts, part{string(n.Data), int(n.Raw.Offset)})
		end = int(n.Raw.Offset + n.Raw.Length)
	}
	return parts, end
}

// position turns an offset into a line and a column, both from 1.
func (d *document) position(at int) (line, column int) {
	before := d.data[:min(at, len(d.data))]
	return bytes.Count(before, []byte{'\n'}) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// lineEnd gives the offset after the line end that follows at, or the end of
// the file.
func (d *document) lineEnd(at int) int {
	if i := bytes.IndexByte(d.data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(d.data)
}

// newline is the line end that the file uses.
func (d *document) newline() string {
	if i := bytes.IndexByte(d.data, '\n'); i > 0 && d.data[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// dotted joins the parts of a key for people; what is not a bare key is quoted.
func dotted(parts []part) string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
		if !isBareKey(p.name) {
			names[i] = shown(p.name)
		}
	}
	return strings.Join(names, ".")
}

func isBareKey(s string) bool {
	for i := range len(s) {
		if !isLetterDigit(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// quote writes a TOML basic string. What cannot be seen is escaped; octets
// that are not UTF-8 stay, for the reader to refuse.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && n == 1 || unicode.IsPrint(r):
			b.WriteString(s[i : i+n])
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
		i += n
	}
	b.WriteByte('"')
	return b.String()
}

// shown quotes a text for an error message, cut to a readable length, on one
// line.
func shown(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return quote(strings.ToValidUTF8(s, "\ufffd"))
}

// shown gives the value as an error message shows it.
func (v *value) shown() string {
	switch v.kind {
	case unstable.String:
		return shown(v.text)
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	return v.text
}
