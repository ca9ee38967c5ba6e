package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"mailout/internal/rest"
	"mailout/internal/smtp"
)

// A reader takes JSON apart where it lies (RFC 8259, and stricter: RFC 7493).
// The caller says what it expects, so nothing is read that has no meaning here:
// there is no nesting to bound, no tree to keep, and every error names the
// member at which it happened. Text is unescaped in place, which never makes it
// longer; so an attachment of 50 MB is in memory once, as it came.
//
// Refused, where many readers guess: a member twice, octets that are no UTF-8,
// half of a surrogate pair, anything behind the value.
type reader struct {
	b    []byte
	at   int
	path []step
}

// step is a part of the path to a value: a member's name, or a place in a list.
type step struct {
	name  string
	index int
}

// maxMembers bounds the members of one object.
const maxMembers = 1000

// field gives the path as problems have it: attachments[0].content.
func (r *reader) field() string {
	var b strings.Builder
	for _, s := range r.path {
		switch {
		case s.name == "":
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.name)
		}
	}
	return b.String()
}

// wrong is the problem of a value that can be read and cannot be used.
func (r *reader) wrong(format string, args ...any) error {
	return invalid(r.field(), format, args...)
}

func invalid(field, format string, args ...any) *rest.Problem {
	return &rest.Problem{Status: http.StatusUnprocessableEntity, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// broken is the problem of what is no JSON.
func (r *reader) broken(format string, args ...any) error {
	line := 1 + bytes.Count(r.b[:min(r.at, len(r.b))], []byte{'\n'})
	return &rest.Problem{
		Status: http.StatusBadRequest, Field: r.field(),
		Detail: fmt.Sprintf("not JSON at octet %d (line %d): ", r.at+1, line) + fmt.Sprintf(format, args...),
	}
}

// space moves to the next octet that is none, and gives it; 0 at the end.
func (r *reader) space() byte {
	for ; r.at < len(r.b); r.at++ {
		switch c := r.b[r.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// kind says in words what the next value is.
func (r *reader) kind() string {
	switch c := r.space(); {
	case c == '{':
		return "an object"
	case c == '[':
		return "a list"
	case c == '"':
		return "text"
	case bytes.HasPrefix(r.b[r.at:], []byte("true")), bytes.HasPrefix(r.b[r.at:], []byte("false")):
		return "true or false"
	case bytes.HasPrefix(r.b[r.at:], []byte("null")):
		return "null"
	case c == '-', '0' <= c && c <= '9':
		return "a number"
	}
	return ""
}

// want fails unless the next value is of the kind.
func (r *reader) want(kind string) error {
	switch have := r.kind(); {
	case have == kind:
		return nil
	case have != "":
		return r.wrong("%s is expected here, not %s", kind, have)
	case r.at >= len(r.b):
		return r.broken("it ends too early")
	}
	return r.broken("%s is expected", kind)
}

// object reads an object; f reads the value of each member. Members that are
// null are as good as absent.
func (r *reader) object(f func(name string) error) error {
	if err := r.want("an object"); err != nil {
		return err
	}
	r.at++
	seen := make(map[string]struct{})
	for first := true; ; first = false {
		if c := r.space(); c == '}' && first {
			r.at++
			return nil
		}
		if err := r.member(seen, f); err != nil {
			return err
		}
		if end, err := r.next('}'); end || err != nil {
			return err
		}
	}
}

// member reads a name and its value.
func (r *reader) member(seen map[string]struct{}, f func(string) error) error {
	if r.space() != '"' {
		return r.broken("the name of a member is expected")
	}
	name, err := r.text()
	if err != nil {
		return err
	}
	if r.space() != ':' {
		return r.broken("a colon is expected")
	}
	r.at++
	r.path = append(r.path, step{name: shown(name)})
	if _, twice := seen[name]; twice {
		return r.wrong("it is there twice")
	}
	if seen[name] = struct{}{}; len(seen) > maxMembers {
		return r.wrong("more than %d members", maxMembers)
	}
	if r.space() == 'n' {
		err = r.word("null")
	} else {
		err = f(name)
	}
	if err == nil {
		r.path = r.path[:len(r.path)-1]
	}
	return err
}

// maxShown bounds what a problem repeats of the request.
const maxShown = 64

// shown makes a name of the request fit for a problem.
func shown(name string) string {
	if name == "" {
		return `""`
	}
	if len(name) > maxShown {
		name = strings.ToValidUTF8(name[:maxShown], "") + "…"
	}
	return smtp.Harmless(name)
}

// list reads a list of at most most values.
func (r *reader) list(most int, f func(i int) error) error {
	if err := r.want("a list"); err != nil {
		return err
	}
	r.at++
	for i := 0; ; i++ {
		if c := r.space(); c == ']' && i == 0 {
			r.at++
			return nil
		}
		if i == most {
			return r.wrong("more than %d", most)
		}
		r.path = append(r.path, step{index: i})
		if err := f(i); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		if end, err := r.next(']'); end || err != nil {
			return err
		}
	}
}

// next reads a comma, or the end of what is read.
func (r *reader) next(end byte) (bool, error) {
	switch r.space() {
	case ',':
		r.at++
		return false, nil
	case end:
		r.at++
		return true, nil
	}
	return false, r.broken("a comma or %c is expected", end)
}

func (r *reader) word(word string) error {
	if !bytes.HasPrefix(r.b[r.at:], []byte(word)) {
		return r.broken("%s is expected", word)
	}
	r.at += len(word)
	return nil
}

func (r *reader) boolean() (bool, error) {
	if err := r.want("true or false"); err != nil {
		return false, err
	}
	if r.b[r.at] == 't' {
		return true, r.word("true")
	}
	return false, r.word("false")
}

// number reads a number, and gives it as it is written.
func (r *reader) number() (string, error) {
	if err := r.want("a number"); err != nil {
		return "", err
	}
	start := r.at
	for r.at < len(r.b) && bytes.IndexByte([]byte("+-.0123456789eE"), r.b[r.at]) >= 0 {
		r.at++
	}
	text := r.b[start:r.at]
	if !json.Valid(text) {
		return "", r.broken("not a number")
	}
	return string(text), nil
}

// text reads text.
func (r *reader) text() (string, error) {
	b, err := r.octets()
	return string(b), err
}

// octets reads text where it lies: the octets stay valid, and are the caller's.
func (r *reader) octets() ([]byte, error) {
	if err := r.want("text"); err != nil {
		return nil, err
	}
	r.at++
	start := r.at
	end := start // of what is unescaped
	// Where the next quote and the next backslash are: each is looked for from
	// where it was found last, so that every octet is looked at once by each.
	quote, back := -1, -1
	for {
		if quote < r.at {
			quote = r.find('"')
		}
		if back < r.at {
			back = r.find('\\')
		}
		n := min(quote, back) - r.at
		if quote == len(r.b) {
			r.at = quote
			return nil, r.broken("text does not end")
		}
		if err := r.noControl(n); err != nil {
			return nil, err
		}
		if end != r.at {
			copy(r.b[end:], r.b[r.at:r.at+n])
		}
		end, r.at = end+n, r.at+n
		if quote < back {
			r.at++
			return r.checked(r.b[start:end:end])
		}
		size, err := r.escape(end)
		if err != nil {
			return nil, err
		}
		end += size
	}
}

// find gives where c comes next; behind the end when it does not.
func (r *reader) find(c byte) int {
	if n := bytes.IndexByte(r.b[r.at:], c); n >= 0 {
		return r.at + n
	}
	return len(r.b)
}

// noControl refuses control characters among the next n octets.
func (r *reader) noControl(n int) error {
	for i, c := range r.b[r.at : r.at+n] {
		if c < ' ' {
			r.at += i
			return r.broken("a control character must be written as an escape")
		}
	}
	return nil
}

// checked refuses text with octets that JSON does not allow.
func (r *reader) checked(b []byte) ([]byte, error) {
	if !utf8.Valid(b) {
		return nil, &rest.Problem{Status: http.StatusBadRequest, Field: r.field(), Detail: "the text is not UTF-8"}
	}
	return b, nil
}

// plainEscapes are those of one letter.
var plainEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads an escape, and writes what it stands for.
func (r *reader) escape(to int) (int, error) {
	if r.at+1 >= len(r.b) {
		return 0, r.broken("text does not end")
	}
	c := r.b[r.at+1]
	if p := plainEscapes[c]; p != 0 {
		r.b[to] = p
		r.at += 2
		return 1, nil
	}
	if c != 'u' {
		return 0, r.broken("there is no such escape")
	}
	first, ok := r.hex(r.at + 2)
	if !ok {
		return 0, r.broken(`four hexadecimal digits are expected behind \u`)
	}
	r.at += 6
	if utf16.IsSurrogate(first) {
		second, ok := rune(0), false
		if bytes.HasPrefix(r.b[r.at:], []byte(`\u`)) {
			second, ok = r.hex(r.at + 2)
		}
		if first = utf16.DecodeRune(first, second); !ok || first == utf8.RuneError {
			return 0, r.broken("half of a surrogate pair")
		}
		r.at += 6
	}
	return utf8.EncodeRune(r.b[to:to+utf8.UTFMax:r.at], first), nil
}

func (r *reader) hex(at int) (rune, bool) {
	if at+4 > len(r.b) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(r.b[at:at+4]), 16, 32)
	return rune(v), err == nil
}

// end fails when something stands behind the value.
func (r *reader) end() error {
	if r.space() != 0 || r.at < len(r.b) {
		return r.broken("there is something behind the object")
	}
	return nil
}

// unknown is the problem of a member that there is not, with the one that was
// probably meant.
func (r *reader) unknown(name string, known []string) error {
	text := "there is no such member"
	if near := nearest(name, known); near != "" {
		text += "; is " + near + " meant?"
	}
	return r.wrong("%s", text)
}

// nearest gives the name that is most like the one given; "" when none is.
func nearest(name string, known []string) string {
	name = strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	if name == "" || len(name) > 40 {
		return ""
	}
	best, least := "", 3
	for _, k := range slices.Sorted(slices.Values(known)) {
		plain := strings.ReplaceAll(k, "_", "")
		d := distance(name, plain)
		if d > 0 && len(name) > 3 && len(plain) > 3 && (strings.Contains(name, plain) || strings.Contains(plain, name)) {
			d = min(d, 2)
		}
		if d < least && d < len(plain) {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters must be changed, added or left out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
