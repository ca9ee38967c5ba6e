package lint

import (
	"io"
	"mime"
	"strings"
)

// lenient decodes words of any charset, as far as addresses need it.
var lenient = &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}

// bulk judges mail that calls itself mail to many (RFC 8058 3.1).
func (l *linter) bulk() {
	at := l.bulkLine()
	if at == 0 {
		return
	}
	unsubscribe, line := l.first("List-Unsubscribe")
	post, postLine := l.first("List-Unsubscribe-Post")
	switch {
	case line == 0:
		l.add("bulk.one-click", at, "this is bulk mail, and there is no List-Unsubscribe")
	case !strings.Contains(strings.ToLower(unsubscribe.Text()), "<https://"):
		l.add("bulk.one-click", line, "List-Unsubscribe holds no <https://…>")
	case postLine == 0:
		l.add("bulk.one-click", line, "there is no \"List-Unsubscribe-Post: List-Unsubscribe=One-Click\"")
	case !strings.EqualFold(post.Text(), "List-Unsubscribe=One-Click"):
		l.add("bulk.one-click", postLine, "List-Unsubscribe-Post is %q; it has to be List-Unsubscribe=One-Click", clip(post.Text()))
	default:
		l.covered()
	}
}

// bulkLine is the line of a field by which the message calls itself bulk mail;
// 0 when none does.
func (l *linter) bulkLine() int {
	for i := range l.fields.Len() {
		f := l.fields.Field(i)
		name := strings.ToLower(f.Name())
		value := strings.ToLower(f.Text())
		if strings.HasPrefix(name, "list-") || name == "precedence" && (value == "bulk" || value == "list" || value == "junk") {
			return l.lines[i]
		}
	}
	return 0
}

// covered judges whether a signature protects the one-click fields.
func (l *linter) covered() {
	at := 0
	for i := range l.fields.Len() {
		f := l.fields.Field(i)
		if !f.Is("DKIM-Signature") {
			continue
		}
		signed := ":" + strings.ToLower(tag(f.Text(), "h")) + ":"
		if strings.Contains(signed, ":list-unsubscribe:") && strings.Contains(signed, ":list-unsubscribe-post:") {
			return
		}
		at = l.lines[i]
	}
	if at > 0 {
		l.add("bulk.signed", at, "no DKIM signature covers List-Unsubscribe and List-Unsubscribe-Post (h=)")
	}
}
