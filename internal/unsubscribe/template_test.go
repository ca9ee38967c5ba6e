package unsubscribe

import (
	"strings"
	"testing"

	"mailout/internal/mta"
)

var letter = &mta.Message{
	ID: mta.NewID(noon, [10]byte{7}), Stream: "news", Tags: []string{"march sale", "x"}, Metadata: map[string]string{"customer": "ACME: Co\r\nBcc: x", "long": strings.Repeat("9", 100)},
	Envelope: mta.Envelope{Sender: "app@widget.example"}, Origin: mta.Origin{User: "unix:shop"},
}

// TestFeedback: templates are filled, and what could end a field or its fields is
// made fit.
func TestFeedback(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"widget": "widget",
		"{tag}:{metadata:customer}:{stream}:widgetcom": "march_sale:ACME__Co__Bcc__x:news:widgetcom",
		"{user}:{domain}:x-{stream}.1:widgetcom":       "unix_shop:widget.example:x-news.1:widgetcom",
		"{metadata:none}::{metadata:long}:12345":       "::" + strings.Repeat("9", 64) + ":12345",
		"{stream}{stream}:a:fifteen.letters":           "newsnews:a:fifteen.letters",
	} {
		f, err := ParseFeedback(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f.value(letter); got != want || f.String() != text || f.Empty() {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if f, err := ParseFeedback(""); err != nil || !f.Empty() {
		t.Error(f, err)
	}
	none, err := ParseFeedback("{tag}:{domain}:{metadata:x}:widget")
	if err != nil || none.value(&mta.Message{}) != ":::widget" {
		t.Error(none.value(&mta.Message{}), err)
	}
	for text, want := range map[string]string{
		"a:b:c:d:widget": "has 5 fields", "a:b": "has to end with the sender's ID", "a:{stream}": "has to end with", "a:sixteen.letters.": "has to end with",
		"a:": "has to end with", "a:wid get": "letters, digits", "{stream:widget": "a { without its }", "stream}:widget": "a } without its {",
		"{Stream}:widget": "has the word {Stream}", "{metadata:}:widget": "has the word", "{metadata}:widget": "has the word", "{url}:widget": "known are {stream}, {user}",
		"a\r\nBcc:widget": "letters, digits", "ä:widget": "letters, digits", strings.Repeat("a:", 300): "longer than 500",
	} {
		if _, err := ParseFeedback(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestPlaces: the field has the link once, and nothing that ends it.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "<U/T>", "<{url}>": "<U/T>", " <{url}> , <mailto:leave@widget.example?subject={token}>": "<U/T>,\r\n <mailto:leave@widget.example?subject=T>",
		"<mailto:leave-{stream}@widget.example>,<{url}>": "<mailto:leave-news@widget.example>,\r\n <U/T>",
	} {
		p, err := ParsePlaces(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.value("U/T", "T", "news"); got != want || p.String() != text {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"<mailto:a@b.example>": "has to have <{url}> once", "<{url}>,<{url}>": "has to have <{url}> once", "{url}": "stand in angle brackets",
		"<{url}?x>": "a place is", "<https://x.example/{token}>,<{url}>": "a place is", "<{url}>,": "stand in angle brackets", "<{url}>\r\nBcc: x": "printable ASCII",
		"<{url}>,<mailto:a b@x.example>": "stand in angle", "<{url}>,<mailto:{token}@x.example?subject={token}>": "at most 900 fit a line", "<{tag}>": "has the word {tag}",
		"<{url}>,<mailto:" + strings.Repeat("a", 500) + ">": "more than 500",
	} {
		if _, err := ParsePlaces(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzTemplates: whatever a template is, what comes of it is one field of lines
// that are short enough.
func FuzzTemplates(f *testing.F) {
	f.Add("{tag}:{metadata:customer}:{stream}:widgetcom")
	f.Add("<{url}>, <mailto:leave@widget.example?subject={token}>")
	f.Add("{metadata:a}b}:widget")
	f.Add("<{url}>,<mailto:}>")
	f.Fuzz(func(t *testing.T, s string) {
		if fb, err := ParseFeedback(s); err == nil && !fb.Empty() {
			v := fb.value(letter)
			if strings.Count(v, ":") >= maxFields || len(v) > maxFields*(maxFieldText+1) || !printable(v) || strings.Contains(v, " ") {
				t.Fatalf("%q: %q", s, v)
			}
		}
		if p, err := ParsePlaces(s); err == nil {
			token := strings.Repeat("T", maxToken)
			v := p.value("https://u.example/"+token, token, strings.Repeat("s", 64))
			for line := range strings.SplitSeq(v, "\r\n ") {
				if len("List-Unsubscribe: ")+len(line) > 998 || !printable(line) {
					t.Fatalf("%q: %q", s, v)
				}
			}
		}
	})
}
