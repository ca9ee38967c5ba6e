package httpapi

import (
	"html"
	"strconv"
	"strings"
)

// A template is text with placeholders, {{name}}, taken apart once for all
// recipients. texts[i] stands before names[i]; the last text behind all.
type template struct {
	texts []string
	names []string
}

const (
	maxName         = 64   // octets of a placeholder's name
	maxPlaceholders = 1000 // placeholders of one part of a message
)

// parseTemplate takes text apart. The second result says what is wrong with a
// pair of braces that is no placeholder: a misspelt one must not reach a
// thousand readers. Braces that are meant as such come from a substitution,
// which is not looked through again.
func parseTemplate(text string) (t template, problem string) {
	for from := 0; ; {
		rest := text[from:]
		at := strings.Index(rest, "{{")
		if at < 0 {
			t.texts = append(t.texts, rest)
			return t, ""
		}
		inner, _, closed := strings.Cut(rest[at+2:min(len(rest), at+2+maxName+32)], "}}")
		name := strings.Trim(inner, " ")
		switch {
		case !closed || !isName(name):
			return t, "{{ at octet " + strconv.Itoa(from+at+1) + " begins no placeholder: write {{name}}, of letters, digits, and . _ -"
		case len(t.names) == maxPlaceholders:
			return t, "it has more than " + strconv.Itoa(maxPlaceholders) + " placeholders"
		}
		t.texts = append(t.texts, rest[:at])
		t.names = append(t.names, name)
		from += at + 2 + len(inner) + 2
	}
}

// isName reports whether s may name a placeholder.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// values are the substitutions of one recipient: its own, else those of all.
type values struct{ own, all map[string]string }

func (v values) get(name string) (string, bool) {
	if value, ok := v.own[name]; ok {
		return value, true
	}
	value, ok := v.all[name]
	return value, ok
}

// fill puts values into a template. problem says what is wrong: a placeholder
// without a value, or more octets than are left of the most of a message.
func (t *template) fill(v values, escape bool, left, most int64) (text, problem string) {
	if len(t.names) == 0 {
		return t.texts[0], ""
	}
	var b strings.Builder
	for i, name := range t.names {
		value, ok := v.get(name)
		if !ok {
			return "", "{{" + name + "}} has no value for this recipient"
		}
		if escape && int64(len(value)) <= left {
			value = html.EscapeString(value)
		}
		b.WriteString(t.texts[i])
		b.WriteString(value)
		if int64(b.Len()) > left {
			return "", "the message would be larger than " + strconv.FormatInt(most, 10) + " octets"
		}
	}
	b.WriteString(t.texts[len(t.names)])
	return b.String(), ""
}

// added is how many octets values put into a template, at most.
func (t *template) added(v values) (n int64) {
	for _, name := range t.names {
		value, _ := v.get(name)
		n += int64(len(value))
	}
	return n
}
