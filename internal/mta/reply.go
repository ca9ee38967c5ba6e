package mta

import "strconv"

// Enhanced is an enhanced mail system status code (RFC 3463). The zero value
// means that there is none.
type Enhanced struct{ Class, Subject, Detail uint16 }

// IsZero reports whether there is no code.
func (e Enhanced) IsZero() bool { return e == Enhanced{} }

// String gives the dotted form, or an empty string when there is none.
func (e Enhanced) String() string {
	if e.IsZero() {
		return ""
	}
	return strconv.Itoa(int(e.Class)) + "." + strconv.Itoa(int(e.Subject)) + "." + strconv.Itoa(int(e.Detail))
}

// Reply is a server's answer to a command: RFC 5321 4.2 code, enhanced code
// and text. Lines of a multi-line reply are joined with "\n" in Text, the
// codes taken off; control characters have been made harmless. Code 0 means
// that there was no reply.
type Reply struct {
	Code     int
	Enhanced Enhanced
	Text     string
}

// String gives one line: code, enhanced code and the text with its lines
// joined by spaces.
func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	s := strconv.Itoa(r.Code)
	if !r.Enhanced.IsZero() {
		s += " " + r.Enhanced.String()
	}
	if r.Text == "" {
		return s
	}
	b := make([]byte, 0, len(s)+1+len(r.Text))
	b = append(append(b, s...), ' ')
	for i := range len(r.Text) {
		if c := r.Text[i]; c == '\n' {
			b = append(b, ' ')
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
