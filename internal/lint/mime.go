package lint

import (
	"bytes"
	"encoding/base64"
	"mime"
	"path"
	"slices"
	"strings"

	"mailout/internal/header"
)

// The bounds of a MIME structure that is looked at.
const (
	maxNesting = 20
	maxParts   = 1000
)

// texts are what the parts were seen to hold for a reader.
type texts struct {
	plain, blankPlain, html, other int
	htmlLine, plainLine            int
}

// entity is the message, or a part of it.
type entity struct {
	fields   *header.Header
	line     int // where it begins
	from, to int // its body's octets
	kind     string
	params   map[string]string
	encoding string
	attached bool
	name     string // of a file
	typed    bool   // it has a Content-Type
}

// body judges the MIME structure and what it holds.
func (l *linter) body() {
	if l.fields.End() == header.EndMalformed {
		return // the rest of the header stands in the text
	}
	e := entity{fields: l.fields, line: 1, from: l.bodyAt, to: len(l.content)}
	_, version := l.first("MIME-Version")
	if f, line := l.first("Content-Type"); version == 0 && line > 0 {
		l.add("mime.version", line, "%s without \"MIME-Version: 1.0\"", f.Name())
	} else if f, line := l.first("Content-Transfer-Encoding"); version == 0 && line > 0 {
		l.add("mime.version", line, "%s without \"MIME-Version: 1.0\"", f.Name())
	}
	if l.entity(&e, 0) {
		l.forReaders()
	}
}

// entity judges one; false when its structure is beyond judging.
func (l *linter) entity(e *entity, depth int) bool {
	if l.parts++; l.parts > maxParts || depth > maxNesting {
		l.add("mime.nesting", e.line, "the structure has over %d parts, or over %d in one another", maxParts, maxNesting)
		return false
	}
	if !l.declared(e) {
		return false
	}
	if strings.HasPrefix(e.kind, "multipart/") {
		return l.multipart(e, depth)
	}
	l.leaf(e)
	return true
}

// declared reads the fields that say what an entity is.
func (l *linter) declared(e *entity) bool {
	e.kind, e.encoding = "text/plain", "7bit"
	ok := true
	if f, there := e.fields.Get("Content-Type"); there {
		e.typed = true
		kind, params, err := mime.ParseMediaType(f.Text())
		if err != nil || !strings.Contains(kind, "/") {
			l.add("mime.type", e.line, "Content-Type %q cannot be read", clip(f.Text()))
			ok = false
		}
		e.kind, e.params, e.name = kind, params, params["name"]
	}
	if f, there := e.fields.Get("Content-Transfer-Encoding"); there {
		word, _, _ := strings.Cut(f.Text(), " ") // a comment may follow
		e.encoding = strings.ToLower(strings.TrimRight(word, ";"))
	}
	if f, there := e.fields.Get("Content-Disposition"); there {
		kind, params, err := mime.ParseMediaType(f.Text())
		e.attached = err == nil && kind == "attachment"
		if params["filename"] != "" {
			e.name = params["filename"]
		}
	}
	multi := strings.HasPrefix(e.kind, "multipart/")
	switch e.encoding {
	case "7bit", "8bit", "binary":
	case "base64", "quoted-printable":
		if multi {
			l.add("mime.encoding", e.line, "a %s must not be encoded as %s", e.kind, e.encoding)
			ok = false
		}
	default:
		l.add("mime.encoding", e.line, "there is no transfer encoding %q", clip(e.encoding))
	}
	return ok
}

// multipart splits an entity and judges its parts.
func (l *linter) multipart(e *entity, depth int) bool {
	boundary := e.params["boundary"]
	if boundary == "" || len(boundary) > 70 {
		l.add("mime.boundary", e.line, "the %s has no boundary, or one over 70 characters", e.kind)
		return false
	}
	parts, closed := l.split(e, "--"+boundary)
	if len(parts) == 0 {
		l.add("mime.boundary", e.line, "the boundary %q of the %s never comes", clip(boundary), e.kind)
		return false
	}
	if !closed {
		l.add("mime.unterminated", e.line, "the %s has no closing boundary --%s--", e.kind, clip(boundary))
	}
	if !declares8bit(e.encoding) && header.EightBit(l.content[e.from:parts[0][0]]) {
		l.add("mime.8bit", l.line(e.from), "octets above 127 stand before the first part")
	}
	ok := true
	for _, p := range parts {
		h, at, err := header.Parse(l.content[p[0]:p[1]], header.Limits{})
		if err != nil {
			l.add("header.large", l.line(p[0]), "the header of a part is too large")
			return false
		}
		if h.End() == header.EndMalformed {
			l.add("header.malformed", l.line(p[0]+at), "%q is no header field of a part", clip(string(l.rawLine(p[0]+at))))
		}
		ok = l.entity(&entity{fields: h, line: l.line(p[0]), from: p[0] + at, to: p[1]}, depth+1) && ok
	}
	return ok
}

// split finds the parts between boundary lines. The line end before a boundary
// belongs to the boundary (RFC 2046 5.1.1).
func (l *linter) split(e *entity, boundary string) (parts [][2]int, closed bool) {
	open := -1
	at := e.from
	for at < e.to {
		next := e.to
		if n := bytes.IndexByte(l.content[at:e.to], '\n'); n >= 0 {
			next = at + n + 1
		}
		if closing, is := delimiter(l.content[at:next], boundary); is {
			if open >= 0 {
				parts = append(parts, [2]int{open, l.before(open, at)})
			}
			open = next
			if closing {
				return parts, true
			}
		}
		at = next
	}
	if open >= 0 {
		parts = append(parts, [2]int{min(open, e.to), e.to})
	}
	return parts, false
}

// delimiter tells whether a line is a boundary, and whether the closing one.
func delimiter(line []byte, boundary string) (closing, is bool) {
	if len(line) < len(boundary) || line[0] != '-' || string(line[:len(boundary)]) != boundary {
		return false, false
	}
	rest := string(bytes.TrimRight(line[len(boundary):], " \t\r\n"))
	return rest == "--", rest == "" || rest == "--"
}

// before is where the text before a line ends, without its line end.
func (l *linter) before(from, at int) int {
	if at > from && l.content[at-1] == '\n' {
		at--
	}
	if at > from && l.content[at-1] == '\r' {
		at--
	}
	return at
}

func declares8bit(encoding string) bool { return encoding == "8bit" || encoding == "binary" }

// clippedAt is the size of HTML that Gmail shows.
const clippedAt = 102 << 10

// leaf judges a part that is not made of parts.
func (l *linter) leaf(e *entity) {
	content := l.content[e.from:e.to]
	blank := len(bytes.TrimSpace(content)) == 0
	if i := bytes.IndexFunc(content, func(r rune) bool { return r > 127 }); i >= 0 {
		l.eightBit(e, e.from+i)
	}
	switch e.encoding {
	case "base64":
		decoded, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(content), nil)))
		if err != nil {
			l.add("mime.base64", l.line(e.from), "the base64 of this part cannot be decoded: %v", err)
		}
		blank = err == nil && len(bytes.TrimSpace(decoded)) == 0
	case "quoted-printable":
		l.quoted(e)
	}
	if ext := strings.ToLower(path.Ext(strings.TrimRight(e.name, ". "))); slices.Contains(executable, ext) {
		l.add("attachment.executable", e.line, "the attachment %q is of a type that can be run", clip(e.name))
	}
	l.note(e, blank)
}

// eightBit judges octets above 127, the first at an offset.
func (l *linter) eightBit(e *entity, at int) {
	switch {
	case !declares8bit(e.encoding):
		l.add("mime.8bit", l.line(at), "octets above 127 in a part that is %s: declare 8bit, or encode it", e.encoding)
	case strings.HasPrefix(e.kind, "text/") && (e.params["charset"] == "" || strings.EqualFold(e.params["charset"], "us-ascii")):
		l.add("mime.charset", e.line, "text with octets above 127 names no charset that has them")
	}
}

// quoted judges quoted-printable, one finding of it a part.
func (l *linter) quoted(e *entity) {
	at := e.from
	for line := range bytes.Lines(l.content[e.from:e.to]) {
		text := bytes.TrimRight(line, "\r\n")
		if len(text) > 76 {
			l.add("mime.quoted-printable", l.line(at), "the line has %d characters; quoted-printable allows 76", len(text))
			return
		}
		text = bytes.TrimRight(text, " \t")
		for i := 0; i < len(text); i++ {
			if text[i] == '=' && i < len(text)-1 && !isHex(text[i+1:]) {
				l.add("mime.quoted-printable", l.line(at), "%q is no escape", clip(string(text[i:min(i+3, len(text))])))
				return
			}
		}
		at += len(line)
	}
}

func isHex(b []byte) bool {
	const digits = "0123456789ABCDEFabcdef"
	return len(b) >= 2 && strings.IndexByte(digits, b[0]) >= 0 && strings.IndexByte(digits, b[1]) >= 0
}

// note remembers what a part is for a reader.
func (l *linter) note(e *entity, blank bool) {
	t := &l.texts
	switch {
	case e.attached:
		t.other++
	case e.kind == "text/plain" && blank:
		t.blankPlain++
		t.plainLine = e.line
	case e.kind == "text/plain":
		t.plain++
	case e.kind == "text/html":
		t.html++
		t.htmlLine = e.line
		if e.to-e.from > clippedAt {
			l.add("size.clipped", e.line, "the HTML has %d kB", (e.to-e.from)>>10)
		}
	default:
		t.other++
	}
}

// forReaders judges whether there is something to read.
func (l *linter) forReaders() {
	t := l.texts
	switch {
	case t.html > 0 && t.plain == 0 && t.blankPlain == 0:
		l.add("text.missing", t.htmlLine, "the HTML has no plain text beside it (multipart/alternative)")
	case t.html > 0 && t.plain == 0:
		l.add("text.empty", t.plainLine, "the plain text beside the HTML is empty")
	case t.html == 0 && t.plain == 0:
		l.add("text.empty", t.plainLine, "the message has no text")
	}
}

// executable are the endings that Gmail refuses, and others with it.
var executable = []string{
	".ade", ".adp", ".apk", ".appx", ".appxbundle", ".bat", ".cab", ".chm", ".cmd", ".com", ".cpl", ".diagcab", ".diagcfg",
	".diagpkg", ".dll", ".dmg", ".ex", ".ex_", ".exe", ".hta", ".img", ".ins", ".iso", ".isp", ".jar", ".jnlp", ".js", ".jse",
	".lib", ".lnk", ".mde", ".mjs", ".msc", ".msi", ".msix", ".msixbundle", ".msp", ".mst", ".nsh", ".pif", ".ps1", ".scr",
	".sct", ".shb", ".sys", ".vb", ".vbe", ".vbs", ".vhd", ".vxd", ".wsc", ".wsf", ".wsh", ".xll",
}
