package config

// This file changes a TOML text in place.
//
// Goal: only what was asked for changes; every other octet stays, comments
// and formatting above all.
// Method: the loader knows where every key and table stands. A value is
// replaced where it is; a new key goes behind the last one of its table, a new
// table behind the last of its kind, else to the end. After each change the
// text is read again, so places are never stale; after the last one the whole
// is checked, and nothing is written unless it is right.
// Rejected: to decode, change and encode again, which loses comments, order
// and spelling.
// Limits: what a removed key's line says after "#" goes with it, and so does
// the header of a table that has no key left and no comment. Comments
// inside a replaced list move to the lines above it. An element of a list of
// inline tables cannot be added or removed.

import (
	"bytes"
	"strings"
)

// Change is one thing for Edit to do: give Key a value, or remove it.
type Change struct {
	// Key is a name as Get takes it. "router" stands for router.host and
	// router.port: its value is HOST, HOST:PORT or "none". With Unset it may
	// be any table.
	Key string
	// Value is TOML, or a bare text: what the key's type makes of it. A list
	// may be given with commas.
	Value string
	Unset bool
}

// Apply makes the changes in the text of a file. The result is not checked as
// a whole; name stands in errors.
func Apply(name string, data []byte, changes ...Change) ([]byte, error) {
	for _, c := range expand(data, changes) {
		l := parse(name, data)
		if l.doc.broken != nil {
			return nil, l.errs
		}
		r, err := lookUp(c.Key)
		if err != nil {
			return nil, err
		}
		e := editor{l}
		if c.Unset {
			data, err = e.remove(r)
		} else {
			data, err = e.put(r, c)
		}
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}

// expand turns changes of "router" into those of its keys.
func expand(data []byte, changes []Change) []Change {
	var out []Change
	for _, c := range changes {
		if c.Key != "router" || c.Unset {
			out = append(out, c)
			continue
		}
		if c.Value == "none" {
			if parse("", data).sections["router"] != nil {
				out = append(out, withoutHosts(data)...)
				out = append(out, Change{Key: "router.host", Value: "none"})
			}
			continue
		}
		host, port := splitPort(c.Value)
		out = append(out, withoutHosts(data)...)
		out = append(out, Change{Key: "router.host", Value: host})
		if port != "" {
			out = append(out, Change{Key: "router.port", Value: port})
		}
	}
	return out
}

// withoutHosts takes away the hosts that a single one, or none, replaces.
func withoutHosts(data []byte) []Change {
	if p := parse("", data); p.cfg.given["router.hosts"] {
		return []Change{{Key: "router.hosts", Unset: true}}
	}
	return nil
}

// splitPort takes ":PORT" off a name, an IPv4 address or a bracketed IPv6
// address.
func splitPort(s string) (host, port string) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, rest, _ := strings.Cut(inner, "]")
		return host, strings.TrimPrefix(rest, ":")
	}
	if strings.Count(s, ":") != 1 {
		return s, ""
	}
	host, port, _ = strings.Cut(s, ":")
	return host, port
}

// editor changes one read document.
type editor struct{ *loader }

// put gives a key its value.
func (e editor) put(r ref, c Change) ([]byte, error) {
	if r.key == nil {
		return nil, keyError(c.Key, "is a table (name one of its keys, such as %s)", r.table.full(max(r.index, 0))+"."+r.table.keys[0].name)
	}
	text, err := valueText(r, c)
	if err != nil {
		return nil, err
	}
	full := r.full()
	if p, ok := e.places[full]; ok {
		return e.replaceValue(p, text), nil
	}
	if s := e.sections[r.table.full(max(r.index, 0))]; s != nil {
		return e.addKey(s, r.key.name, text), nil
	}
	if !r.table.array {
		return e.appendTable(r, text), nil
	}
	return e.addElement(r, c.Key, text)
}

// valueText is the TOML of a value, checked by itself so that an error speaks
// of what was typed and not of a place in a file that will not be written.
func valueText(r ref, c Change) (string, error) {
	text := r.key.bare(c.Value)
	v := literal(text)
	if v == nil {
		if bare := quote(c.Value); text != bare {
			v = literal(bare) // to say what is wrong with it
		}
		if v == nil || len(r.key.set(scratch(r), max(r.index, 0), v)) == 0 {
			return "", keyError(c.Key, "%s is not a TOML value", shown(c.Value))
		}
	}
	bad := r.key.set(scratch(r), max(r.index, 0), v)
	if len(bad) > 0 {
		errs := make(Errors, len(bad))
		for i, b := range bad {
			errs[i] = &Error{Key: c.Key, Message: b.text}
		}
		return "", errs
	}
	return text, nil
}

// scratch is a configuration with room for the element that r names.
func scratch(r ref) *Config {
	c := &Config{}
	if r.table.array {
		for range min(r.index, maxElements) + 1 {
			r.table.grow(c)
		}
	}
	return c
}

// maxElements bounds the number of an element on the command line.
const maxElements = 100000

// replaceValue puts text where a value stands.
func (e editor) replaceValue(p place, text string) []byte {
	data := e.doc.data
	at, end := p.value.at, p.value.end
	out := make([]byte, 0, len(data)+len(text))
	if kept := comments(data[at:end]); kept != nil {
		line := lineStart(data, e.doc.statements[p.statement].start)
		out = append(out, data[:line]...)
		for _, c := range kept {
			out = append(out, c+e.doc.newline()...)
		}
		out = append(out, data[line:at]...)
	} else {
		out = append(out, data[:at]...)
	}
	return append(append(out, text...), data[end:]...)
}

// comments gives the comments inside a value, without their line ends.
func comments(raw []byte) []string {
	var out []string
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"' || c == '\'':
			i += stringLength(raw[i:])
		case c == '#':
			end := i + bytes.IndexByte(raw[i:], '\n')
			if end < i {
				end = len(raw)
			}
			out = append(out, strings.TrimSuffix(string(raw[i:end]), "\r"))
			i = end
		default:
			i++
		}
	}
	return out
}

// stringLength is how many octets the TOML string at the start of raw takes.
func stringLength(raw []byte) int {
	mark := raw[:1]
	if len(raw) >= 3 && raw[1] == raw[0] && raw[2] == raw[0] {
		mark = raw[:3]
	}
	for i := len(mark); i < len(raw); i++ {
		switch {
		case raw[i] == '\\' && raw[0] == '"':
			i++
		case bytes.HasPrefix(raw[i:], mark):
			end := i + len(mark)
			for len(mark) == 3 && end < len(raw) && raw[end] == raw[0] {
				end++ // up to two quotes may stand right before the closing three
			}
			return end
		}
	}
	return len(raw)
}

// addKey puts a new key behind the others of a table.
func (e editor) addKey(s *section, name, text string) []byte {
	entry := name + " = " + text
	switch {
	case s.inline != nil:
		return e.addField(s.inline, entry)
	case s.table.name == "":
		return e.addTop(entry)
	}
	last := e.doc.statements[s.statements[len(s.statements)-1]]
	if !s.headed {
		entry = s.table.name + "." + entry
	}
	indent := ""
	if last.kind == assignment {
		indent = indentation(e.doc.data, last.start)
	}
	return e.insertLine(e.doc.lineEnd(last.end), indent+entry)
}

// addField puts a key behind the last one of an inline table.
func (e editor) addField(v *value, entry string) []byte {
	data := e.doc.data
	at := v.at + 1
	if n := len(v.fields); n > 0 {
		at = v.fields[n-1].end
		entry = ", " + entry
	} else {
		entry = " " + entry
		if at < len(data) && data[at] == '}' {
			entry += " "
		}
	}
	return splice(data, at, at, entry)
}

// addTop puts a key at the top of the file, behind the others there. Without
// others it stands before the first table and the comment right above that.
func (e editor) addTop(entry string) []byte {
	last, first := -1, -1
	for n, s := range e.doc.statements {
		if s.kind != assignment {
			first = n
			break
		}
		last = n
	}
	if last >= 0 {
		return e.insertLine(e.doc.lineEnd(e.doc.statements[last].end), entry)
	}
	data, nl := e.doc.data, e.doc.newline()
	if first < 0 {
		return e.insertLine(len(data), entry)
	}
	at := lineStart(data, e.doc.statements[first].start)
	for at > 0 {
		above := lineStart(data, at-1)
		if !bytes.HasPrefix(bytes.TrimLeft(data[above:at], " \t"), []byte("#")) {
			break
		}
		at = above
	}
	return splice(data, at, at, entry+nl+nl)
}

// appendTable puts a new table with one key at the end of the file.
func (e editor) appendTable(r ref, text string) []byte {
	return e.insertBlock(len(e.doc.data), r, text)
}

// addElement puts a new [[table]] with one key behind the last one of its
// name.
func (e editor) addElement(r ref, name, text string) ([]byte, error) {
	n := r.table.count(e.cfg)
	if r.index > n {
		return nil, keyError(name, "there are %d %s (the next one is %s)", n, r.table.label(), r.table.full(n))
	}
	if n == 0 {
		return e.insertBlock(len(e.doc.data), r, text), nil
	}
	before := e.sections[r.table.full(n-1)]
	if before.listed {
		return nil, keyError(name, "%s is written as a list of inline tables (add to it with an editor)", r.table.name)
	}
	last := e.doc.statements[before.statements[len(before.statements)-1]]
	return e.insertBlock(e.doc.lineEnd(last.end), r, text), nil
}

// insertBlock puts a header and one key at the start of a line, with an empty
// line on either side.
func (e editor) insertBlock(at int, r ref, text string) []byte {
	data, nl := e.doc.data, e.doc.newline()
	block := r.table.label() + nl + r.key.name + " = " + text + nl
	if at > 0 && data[at-1] != '\n' {
		block = nl + block
	}
	if !endsBlank(data[:at]) {
		block = nl + block
	}
	if at < len(data) && len(bytes.TrimSpace(data[at:e.doc.lineEnd(at)])) > 0 {
		block += nl
	}
	return splice(data, at, at, block)
}

// endsBlank reports whether nothing, or an empty line, stands before.
func endsBlank(before []byte) bool {
	text := bytes.TrimRight(before, " \t\r\n")
	return len(text) == 0 || bytes.Count(before[len(text):], []byte("\n")) > 1
}

// insertLine puts a line of its own at the start of a line.
func (e editor) insertLine(at int, line string) []byte {
	data, nl := e.doc.data, e.doc.newline()
	if at > 0 && data[at-1] != '\n' {
		line = nl + line
	}
	return splice(data, at, at, line+nl)
}

// remove takes a key, or a whole table, out of the file. What is not there is
// no error.
func (e editor) remove(r ref) ([]byte, error) {
	if r.key != nil {
		p, ok := e.places[r.full()]
		switch {
		case !ok:
			return e.doc.data, nil
		case e.leavesNothing(r, p):
			return e.removeBlock(e.sections[r.table.name].statements), nil
		case p.inline != nil:
			return e.removeField(p), nil
		}
		return e.removeStatements([]int{p.statement}), nil
	}
	var gone []int
	for i := range r.table.elements(e.cfg) {
		s := e.sections[r.table.full(i)]
		if s == nil || r.index >= 0 && i != r.index {
			continue
		}
		if s.listed && r.index >= 0 {
			return nil, keyError(r.full(), "%s is written as a list of inline tables (remove it with an editor)", r.table.name)
		}
		gone = append(gone, s.statements...)
	}
	return e.removeStatements(gone), nil
}

// leavesNothing reports whether a key is the last one of its table, and no
// comment speaks of the table: then the table goes with the key.
func (e editor) leavesNothing(r ref, p place) bool {
	s := e.sections[r.table.name]
	if r.table.array || r.table.name == "" || s == nil {
		return false
	}
	first, last := e.doc.statements[s.statements[0]], e.doc.statements[p.statement]
	switch {
	case s.inline != nil:
		return len(s.inline.fields) == 1 && !e.remarks(first.start, first.end)
	case !s.headed || len(s.statements) > 2:
		return false
	}
	return !e.remarks(first.start, last.end)
}

// remarks reports whether a comment stands on the lines from one offset to
// another, right above or right below them. What is said behind the last one
// goes with it.
func (e editor) remarks(from, to int) bool {
	data := e.doc.data
	comment := func(line []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) }
	start, end := lineStart(data, from), e.doc.lineEnd(to)
	above := start > 0 && comment(data[lineStart(data, start-1):start])
	below := end < len(data) && comment(data[end:e.doc.lineEnd(end)])
	return above || below || comments(data[start:to]) != nil
}

// removeBlock takes the lines of a table's statements out, which stand
// together, and an empty line above them that then separates nothing.
func (e editor) removeBlock(numbers []int) []byte {
	data := e.doc.data
	start := lineStart(data, e.doc.statements[numbers[0]].start)
	end := e.doc.lineEnd(e.doc.statements[numbers[len(numbers)-1]].end)
	blank := func(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }
	if above := lineStart(data, max(start-1, 0)); start > 0 && blank(data[above:start]) && blank(data[end:e.doc.lineEnd(end)]) {
		start = above
	}
	return splice(data, start, end, "")
}

// removeField takes a key out of an inline table, with one comma.
func (e editor) removeField(p place) []byte {
	fields := p.inline.fields
	for i, f := range fields {
		start := f.path[0].at
		switch {
		case start != p.keyAt:
		case i+1 < len(fields):
			return splice(e.doc.data, start, fields[i+1].path[0].at, "")
		case i > 0:
			return splice(e.doc.data, fields[i-1].end, f.end, "")
		default:
			return splice(e.doc.data, start, f.end, "")
		}
	}
	return e.doc.data
}

// removeStatements takes the lines of statements out. Comments inside a list
// stay, on lines of their own.
func (e editor) removeStatements(numbers []int) []byte {
	data := e.doc.data
	out := make([]byte, 0, len(data))
	next := 0
	for i, n := range numbers {
		s := e.doc.statements[n]
		if i > 0 && n == numbers[i-1] {
			continue
		}
		out = append(out, data[next:lineStart(data, s.start)]...)
		if s.value != nil {
			for _, c := range comments(data[s.value.at:s.value.end]) {
				out = append(out, c+e.doc.newline()...)
			}
		}
		next = e.doc.lineEnd(s.end)
	}
	return append(out, data[next:]...)
}

// splice replaces data[from:to].
func splice(data []byte, from, to int, text string) []byte {
	out := make([]byte, 0, len(data)-(to-from)+len(text))
	return append(append(append(out, data[:from]...), text...), data[to:]...)
}

// lineStart is the offset of the first octet of at's line.
func lineStart(data []byte, at int) int { return bytes.LastIndexByte(data[:at], '\n') + 1 }

// indentation is the blank space before an offset on its line.
func indentation(data []byte, at int) string {
	blank := string(data[lineStart(data, at):at])
	if strings.Trim(blank, " \t") != "" {
		return ""
	}
	return blank
}
