package compose

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"mailout/internal/header"
)

// fields writes the header fields that are not the MIME structure's.
func (c *checked) fields() ([]byte, error) {
	var b header.Builder
	c.list(&b, "From", []mailbox{c.from})
	if c.sender.address != "" {
		c.list(&b, "Sender", []mailbox{c.sender})
	}
	c.list(&b, "Reply-To", c.replyTo)
	c.list(&b, "To", c.to)
	c.list(&b, "Cc", c.cc)
	if len(c.to)+len(c.cc) == 0 {
		b.Add("To", "undisclosed-recipients:;")
	}
	if c.subject != "" {
		b.Add("Subject", encodeText(c.subject))
	}
	for _, h := range c.headers {
		if structured(strings.ToLower(h.Name)) || isASCII(h.Value) && !strings.Contains(h.Value, "=?") {
			b.Add(h.Name, h.Value)
		} else {
			b.Add(h.Name, encodeText(h.Value))
		}
	}
	return b.Bytes()
}

func (c *checked) list(b *header.Builder, name string, boxes []mailbox) {
	if len(boxes) == 0 {
		return
	}
	all := make([]string, len(boxes))
	for i, box := range boxes {
		all[i] = box.address
		if box.name != "" {
			all[i] = encodePhrase(box.name) + " <" + box.address + ">"
		}
	}
	b.Add(name, strings.Join(all, ", "))
}

// encodeText makes text fit for an unstructured field. ASCII that a fold might
// change for some reader (white space in a row) or that has no place to fold
// is encoded like everything that is not ASCII.
func encodeText(text string) string {
	if isASCII(text) && folds(text) {
		return text
	}
	return encodedWords(text)
}

func encodePhrase(name string) string {
	if isASCII(name) && folds(name) {
		return header.EncodePhrase(name)
	}
	return encodedWords(name)
}

// folds tells whether ASCII survives folding at its spaces as it is.
func folds(text string) bool {
	return !strings.Contains(text, "  ") && !strings.ContainsRune(text, '\t') && !strings.Contains(text, "=?") && longestWord(text) <= 60
}

// wordOctets is how much text an encoded word holds: 42 octets become 56 of
// base64, with "=?utf-8?b?" and "?=" 68 of the 75 that RFC 2047 2 allows.
const wordOctets = 42

// encodedWords encodes a text whole, never cutting a character (RFC 2047 5).
func encodedWords(text string) string {
	var words []string
	for text != "" {
		n := min(wordOctets, len(text))
		for n < len(text) && n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(text[:n]))+"?=")
		text = text[n:]
	}
	return strings.Join(words, " ")
}
