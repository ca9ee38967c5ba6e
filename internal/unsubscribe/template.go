package unsubscribe

import (
	"fmt"
	"strings"

	"mailout/internal/mta"
)

// template is a text with words in braces: {url}, {stream}, {metadata:KEY}.
type template []piece

// piece is a text, or the word that stands for one.
type piece struct {
	text string
	word string // empty: the text
	key  string // behind the colon of the word
}

// parseTemplate reads a template with these words; one that ends with a colon
// takes a key.
func parseTemplate(s string, words ...string) (t template, err error) {
	for s != "" {
		text, rest, found := strings.Cut(s, "{")
		if strings.Contains(text, "}") {
			return nil, fmt.Errorf("has a } without its {")
		}
		if text != "" {
			t = append(t, piece{text: text})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("has a { without its }")
		}
		p, known := wordOf(name, words)
		if !known {
			return nil, fmt.Errorf("has the word {%.40s}; known are {%s}", name, strings.Join(words, "}, {"))
		}
		t, s = append(t, p), after
	}
	return t, nil
}

func wordOf(name string, words []string) (piece, bool) {
	for _, w := range words {
		if base, keyed := strings.CutSuffix(w, ":KEY"); keyed {
			if key, ok := strings.CutPrefix(name, base+":"); ok && key != "" && len(key) <= mta.MaxMetadataKey {
				return piece{word: base, key: key}, true
			}
		} else if name == w {
			return piece{word: w}, true
		}
	}
	return piece{}, false
}

// count is how often a word stands in the template.
func (t template) count(word string) (n int) {
	for _, p := range t {
		if p.word == word {
			n++
		}
	}
	return n
}

// fill gives the text with what each word stands for.
func (t template) fill(of func(word, key string) string) string {
	var b strings.Builder
	for _, p := range t {
		if p.word == "" {
			b.WriteString(p.text)
		} else {
			b.WriteString(of(p.word, p.key))
		}
	}
	return b.String()
}

// printable reports whether a text is printable ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// The bounds of Feedback-ID (Gmail's rules for its feedback loop).
const (
	maxFields    = 4
	minSender    = 5
	maxSender    = 15
	maxFieldText = 64  // octets of one field as it goes out
	maxTemplate  = 500 // octets of a template
	maxPlace     = 900 // octets of one place in List-Unsubscribe, for a line of 998
)

// Feedback is a template of a Feedback-ID field. The zero value is none.
type Feedback struct {
	text   string
	fields []template
}

// String gives the template as it was written.
func (f Feedback) String() string { return f.text }

// Empty reports whether there is none.
func (f Feedback) Empty() bool { return len(f.fields) == 0 }

// ParseFeedback reads a template: at most four fields with colons between them,
// of which the last is the sender's ID, in plain text. Its words are {stream},
// {user}, {domain}, {tag} and {metadata:KEY}. An empty text is none.
func ParseFeedback(s string) (Feedback, error) {
	if s == "" {
		return Feedback{}, nil
	}
	if len(s) > maxTemplate {
		return Feedback{}, fmt.Errorf("is longer than %d octets", maxTemplate)
	}
	f := Feedback{text: s}
	for _, field := range splitFields(s) {
		t, err := parseTemplate(field, "stream", "user", "domain", "tag", "metadata:KEY")
		if err != nil {
			return Feedback{}, err
		}
		for _, p := range t {
			if clean(p.text, maxFieldText) != p.text {
				return Feedback{}, fmt.Errorf("has %q; a field has at most %d letters, digits, and . _ -", p.text, maxFieldText)
			}
		}
		f.fields = append(f.fields, t)
	}
	if len(f.fields) > maxFields {
		return Feedback{}, fmt.Errorf("has %d fields; at most %d are read", len(f.fields), maxFields)
	}
	last := f.fields[len(f.fields)-1]
	if len(last) != 1 || last[0].word != "" || len(last[0].text) < minSender || len(last[0].text) > maxSender {
		return Feedback{}, fmt.Errorf("has to end with the sender's ID, which is always the same: %d to %d letters, digits, and . _ -, without words in braces", minSender, maxSender)
	}
	return f, nil
}

// splitFields splits at the colons outside braces.
func splitFields(s string) (fields []string) {
	start, inside := 0, false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '{':
			inside = true
		case c == '}':
			inside = false
		case c == ':' && !inside:
			fields, start = append(fields, s[start:i]), i+1
		}
	}
	return append(fields, s[start:])
}

// value is the value of the field for a message. What a word stands for is made
// fit: anything but letters, digits and . _ - becomes _.
func (f Feedback) value(m *mta.Message) string {
	out := make([]string, len(f.fields))
	for i, t := range f.fields {
		out[i] = clean(t.fill(func(word, key string) string { return fact(m, word, key) }), maxFieldText)
	}
	return strings.Join(out, ":")
}

// fact is what a word stands for; empty when the message has none.
func fact(m *mta.Message, word, key string) string {
	switch word {
	case "stream":
		return m.Stream
	case "user":
		return m.Origin.User
	case "domain":
		return m.Envelope.Sender[strings.LastIndexByte(m.Envelope.Sender, '@')+1:]
	case "tag":
		if len(m.Tags) > 0 {
			return m.Tags[0]
		}
	case "metadata":
		return m.Metadata[key]
	}
	return ""
}

// clean makes a text fit for a field.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), most)]
}

// Places is a template of a List-Unsubscribe field. The zero value is the default:
// the link alone.
type Places struct {
	text   string
	places []template // between the commas, each in angle brackets
}

// String gives the template as it was written.
func (l Places) String() string { return l.text }

// ParsePlaces reads a template: places in angle brackets with commas between them,
// one of which is <{url}>. Its words are {url}, {token} and {stream}. An empty text
// is the default.
func ParsePlaces(s string) (Places, error) {
	if s == "" {
		return Places{}, nil
	}
	if len(s) > maxTemplate || !printable(s) {
		return Places{}, fmt.Errorf("has more than %d octets, or something else than printable ASCII", maxTemplate)
	}
	l, link := Places{text: s}, 0
	for place := range strings.SplitSeq(s, ",") {
		place = strings.TrimSpace(place)
		inner, open := strings.CutPrefix(place, "<")
		inner, closed := strings.CutSuffix(inner, ">")
		if !open || !closed || strings.ContainsAny(inner, "<> \t\"\\") {
			return Places{}, fmt.Errorf("has %q; places stand in angle brackets, with commas between them", place)
		}
		t, err := parseTemplate(place, "url", "token", "stream")
		if err != nil {
			return Places{}, err
		}
		if inner == "{url}" {
			link++
		} else if t.count("url") > 0 || !strings.HasPrefix(inner, "mailto:") { // RFC 8058 3.1: one HTTPS URI
			return Places{}, fmt.Errorf("has %q; a place is <{url}> or <mailto:…>", place)
		}
		if n := len(inner) + t.count("token")*maxToken + t.count("stream")*maxStream; n > maxPlace {
			return Places{}, fmt.Errorf("has %.80q, which can become %d octets long; at most %d fit a line", place, n, maxPlace)
		}
		l.places = append(l.places, t)
	}
	if link != 1 {
		return Places{}, fmt.Errorf("has to have <{url}> once, the link that one-click unsubscription leads to")
	}
	return l, nil
}

// value is the value of the field, a line for each place.
func (l Places) value(url, token, stream string) string {
	if len(l.places) == 0 {
		return "<" + url + ">"
	}
	out := make([]string, len(l.places))
	for i, t := range l.places {
		out[i] = t.fill(func(word, _ string) string {
			switch word {
			case "url":
				return url
			case "token":
				return token
			}
			return stream
		})
	}
	return strings.Join(out, ",\r\n ")
}
