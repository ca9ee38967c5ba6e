package dropin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/rest"
	"mailout/internal/smtp"
	"mailout/internal/submit/httpapi"
)

// decode reads JSON. A member that is not known is refused: it asks for
// something that would not be done.
func decode(content []byte, v any) error {
	if !utf8.Valid(content) {
		return &rest.Problem{Status: http.StatusBadRequest, Detail: "the request is not UTF-8"}
	}
	if weight(content) > 4*len(content)+freeWeight {
		return &rest.Problem{Status: http.StatusRequestEntityTooLarge, Detail: "the request has too many members for its size: make several of it"}
	}
	in := json.NewDecoder(bytes.NewReader(content))
	in.DisallowUnknownFields()
	err := in.Decode(v)
	if err == nil {
		if _, err := in.Token(); !errors.Is(err, io.EOF) {
			return &rest.Problem{Status: http.StatusBadRequest, Detail: "something stands behind the JSON"}
		}
		return nil
	}
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	var p *rest.Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &kind):
		return invalid(smtp.Harmless(kind.Field), "a %s cannot stand here", kind.Value)
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &rest.Problem{Status: http.StatusBadRequest, Detail: "the request is no JSON: " + smtp.Harmless(err.Error())}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = smtp.Harmless(strings.Trim(name, `"`))
		return invalid(name, "%s is not understood here, and would have no effect: leave it out (docs/drop-in.md)", name)
	}
	return &rest.Problem{Status: http.StatusBadRequest, Detail: smtp.Harmless(err.Error())}
}

// What reading JSON costs beside the octets themselves, which the sender's
// memory accounts for five times: a body of nothing but "{},{},{}" would become
// a hundred times as large. freeWeight is what any request may have: a thousand
// personalizations with a recipient and forty short substitutions each.
const (
	objectWeight = 400 // octets, of the largest type
	memberWeight = 64
	freeWeight   = 2 << 20
)

// weight estimates what content becomes in memory. It need not be JSON. The
// numbers of a Buffer are free: each is two octets.
func weight(content []byte) (n int) {
	for i := 0; i < len(content); i++ {
		switch content[i] {
		case '"':
			i = stringEnd(content, i)
		case '{':
			n += objectWeight
		case ',':
			n += memberWeight
		case '[':
			n += memberWeight
			if bytes.HasSuffix(content[:i], []byte(`"data":`)) {
				i = numbersEnd(content, i)
			}
		}
	}
	return n
}

// stringEnd is where the string that begins at i ends.
func stringEnd(content []byte, i int) int {
	for i++; i < len(content) && content[i] != '"'; i++ {
		if content[i] == '\\' {
			i++
		}
	}
	return i
}

// numbersEnd is the last octet of the numbers behind i.
func numbersEnd(content []byte, i int) int {
	for i+1 < len(content) && (content[i+1] == ',' || content[i+1] >= '0' && content[i+1] <= '9') {
		i++
	}
	return i
}

// given reports whether a member is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// list is one text or a list of them.
type list []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var all []string
		if err := json.Unmarshal(b, &all); err != nil {
			return &json.UnmarshalTypeError{Value: "list of other things than texts"}
		}
		*l = all
		return nil
	}
	var one *string
	if err := json.Unmarshal(b, &one); err != nil {
		return &json.UnmarshalTypeError{Value: "value that is neither text nor a list of texts"}
	}
	if one != nil && *one != "" {
		*l = list{*one}
	}
	return nil
}

// Schema implements huma.SchemaProvider.
func (l list) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, Items: text}}}
}

// file is the content of an attachment: base64, or what JSON.stringify makes of
// a Buffer of Node. What is wrong with it is told when its place is known.
type file struct {
	content []byte
	given   bool
	problem string
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *file) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	f.given = true
	if len(b) > 1 && b[0] == '"' && bytes.IndexByte(b[1:len(b)-1], '\\') < 0 {
		f.decode(b[1 : len(b)-1])
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		f.decode([]byte(text))
		return nil
	}
	var buffer struct {
		Type string
		Data []uint16
	}
	if json.Unmarshal(b, &buffer) != nil || buffer.Type != "Buffer" {
		f.problem = "the content must be base64"
		return nil
	}
	f.content = make([]byte, len(buffer.Data))
	for i, v := range buffer.Data {
		if v > 255 {
			f.problem = "the content has a number over 255"
		}
		f.content[i] = byte(v)
	}
	return nil
}

func (f *file) decode(text []byte) {
	text = bytes.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, text)
	f.content = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(f.content, text)
	if err != nil {
		f.problem = "the content must be base64"
	}
	f.content = f.content[:n]
}

// Schema implements huma.SchemaProvider.
func (f file) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, ContentEncoding: "base64"}
}

// addresses reads texts that each hold one address or several, with commas.
func addresses(field string, texts ...string) ([]httpapi.Address, error) {
	var out []httpapi.Address
	for _, text := range texts {
		for _, one := range split(text) {
			a, problem := httpapi.ParseAddress(one)
			if problem != "" {
				return nil, invalid(field, "%s", problem)
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// split cuts a list of addresses at its commas: not at those in quotes, in
// angle brackets or in comments.
func split(text string) []string {
	var out []string
	quoted, angle, depth, start := false, false, 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && (quoted || depth > 0):
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case c == '(' && !angle:
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle:
			out = appendPiece(out, text[start:i])
			start = i + 1
		}
	}
	return appendPiece(out, text[start:])
}

func appendPiece(out []string, piece string) []string {
	if strings.TrimSpace(piece) == "" {
		return out
	}
	return append(out, piece)
}

// author reads the one address of From.
func author(field, text string) (httpapi.Address, error) {
	all, err := addresses(field, text)
	if err != nil {
		return httpapi.Address{}, err
	}
	if len(all) != 1 {
		return httpapi.Address{}, invalid(field, "one address is needed, there are %d", len(all))
	}
	return all[0], nil
}
