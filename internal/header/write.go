package header

import (
	"encoding/base64"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"
)

// UnsafeError says that a value may not stand in a header field: it holds a
// control character that some reader may take for the end of the line.
type UnsafeError struct {
	Field string // the field's name
	Why   string // "a line feed", "a control character", …
}

// Error implements error.
func (e *UnsafeError) Error() string {
	return fmt.Sprintf("the value of %s holds %s", e.Field, e.Why)
}

// Check refuses a value with CR, LF, NUL, U+0085 or another control character
// (a tab is allowed), or that is not UTF-8: whatever might end a line and give
// birth to a field that nobody wrote. The error is an *UnsafeError.
func Check(field, value string) error {
	for i := 0; i < len(value); {
		r, n := utf8.DecodeRuneInString(value[i:])
		if why := unsafe(r, n); why != "" {
			return &UnsafeError{field, why}
		}
		i += n
	}
	return nil
}

func unsafe(r rune, n int) string {
	switch {
	case r == '\r':
		return "a carriage return"
	case r == '\n':
		return "a line feed"
	case r == 0:
		return "a NUL"
	case r == 0x85:
		return "a next-line character (U+0085)"
	case r == 0x2028 || r == 0x2029:
		return "a line or paragraph separator"
	case r < ' ' && r != '\t', r >= 0x7f && r <= 0x9f:
		return "a control character"
	case r == utf8.RuneError && n == 1:
		return "octets that are not UTF-8"
	}
	return ""
}

// Harmless makes a text that a peer gave fit for a header field, a report or a
// log: control characters and all that is not printable ASCII become "?", and
// at most limit octets are kept.
func Harmless(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	clean := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c == '\t' {
			b[i] = ' '
		} else if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// A Builder writes header fields. Its first error stays, and Bytes returns it;
// nothing is written by a call that fails. The zero value is ready.
type Builder struct {
	buf []byte
	err error
}

// fits is a field that Add may write: a name of printable ASCII and a value
// without control characters.
func (b *Builder) fits(name, value string) bool {
	if b.err != nil {
		return false
	}
	if kind, n, _ := fieldName([]byte(name + ":")); kind != lineField || n != len(name) {
		b.err = &UnsafeError{fmt.Sprintf("%q", name), "no valid field name"}
		return false
	}
	b.err = Check(name, value)
	return b.err == nil
}

// Add writes a field whose value is used as it is, folded at white space where
// it is long. Octets above 127 are left: they make the message SMTPUTF8.
func (b *Builder) Add(name, value string) {
	if !b.fits(name, value) {
		return
	}
	line := make([]byte, 0, len(name)+2+len(value))
	line = append(append(append(line, name...), ": "...), value...)
	b.buf = appendFolded(b.buf, line, foldAt)
	b.buf = append(b.buf, '\r', '\n')
}

// AddText writes an unstructured field; words that are not ASCII become
// encoded words (RFC 2047).
func (b *Builder) AddText(name, text string) {
	if b.fits(name, text) {
		b.Add(name, EncodeText(text))
	}
}

// AddMailbox writes a field with one mailbox: `Name <address>`, or the bare
// address without a name. The address is used as it is.
func (b *Builder) AddMailbox(name, display, address string) {
	if !b.fits(name, display) || !b.fits(name, address) {
		return
	}
	if display == "" {
		b.Add(name, address)
		return
	}
	b.Add(name, EncodePhrase(display)+" <"+address+">")
}

// Bytes is what was written, or the first error.
func (b *Builder) Bytes() ([]byte, error) { return b.buf, b.err }

// EncodeText makes text fit for an unstructured field: ASCII as it is, else
// encoded words (RFC 2047 5).
func EncodeText(text string) string {
	// A text that looks like an encoded word is encoded too, or it would be
	// decoded to something else.
	if isASCII(text) && !strings.Contains(text, "=?") {
		return text
	}
	if isASCII(text) {
		return forceEncode(text)
	}
	return mime.QEncoding.Encode("utf-8", text)
}

// EncodePhrase makes a display name fit to stand before <address>: as it is,
// quoted, or as encoded words.
func EncodePhrase(name string) string {
	switch {
	case !isASCII(name):
		return mime.BEncoding.Encode("utf-8", name)
	case strings.Contains(name, "=?"):
		return forceEncode(name)
	case isAtoms(name):
		return name
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// forceEncode encodes ASCII, which package mime leaves alone. An encoded word
// is at most 75 octets (RFC 2047 2): 42 octets of text become 56 of base64.
func forceEncode(text string) string {
	var words []string
	for len(text) > 0 {
		n := min(42, len(text))
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(text[:n]))+"?=")
		text = text[n:]
	}
	return strings.Join(words, " ")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > 127 {
			return false
		}
	}
	return true
}

// isAtoms reports whether s is atoms with single spaces between them
// (RFC 5322 3.2.3).
func isAtoms(s string) bool {
	if s == "" || s[0] == ' ' || s[len(s)-1] == ' ' || strings.Contains(s, "  ") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == ' ':
		case strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0:
		default:
			return false
		}
	}
	return true
}
