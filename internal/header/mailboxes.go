package header

import (
	"errors"
	"strings"
)

// Errors of Mailboxes.
var (
	errOpenQuote   = errors.New(`a quoted string has no end (")`)
	errOpenComment = errors.New("a comment has no end")
	errNoComment   = errors.New("a comment ends that has not begun")
	errOpenLiteral = errors.New("an address literal has no end")
	errAngle       = errors.New("angle brackets do not pair")
	errNoComma     = errors.New("two addresses, or words, without a comma between them")
	errNothing     = errors.New("an address is empty")
	errNested      = errors.New("a group inside a group")
)

// Mailboxes gives the addresses in the value of a field such as To (RFC 5322
// 3.4), in order, each "local@domain" or what stands in its place: a bare local
// part is given as it is, a quoted one with its quotes. Folding, comments,
// display names, groups, empty elements and source routes (4.4) are understood
// and left out; a semicolon outside a group is taken for a comma, and a group
// may end with the value, as many programs write both.
//
// Addresses are cut out, not checked: the caller parses them by the grammar of
// the envelope. An error says that the value cannot be taken apart; guessing
// would send mail to somebody whom nobody named.
func Mailboxes(value string) ([]string, error) {
	var list mailboxList
	for i := 0; i < len(value); {
		n, err := list.next(value[i:])
		if err != nil {
			return nil, err
		}
		i += n
	}
	if err := list.end(); err != nil {
		return nil, err
	}
	return list.out, nil
}

// mailboxList is the state of Mailboxes between two tokens.
type mailboxList struct {
	out   []string
	group bool

	spec  []byte // of the element under way: what may be its address
	gap   bool   // white space or a comment came after spec
	words bool   // spec is more than one word
	at    bool   // spec has an @ that is not quoted
	angle int    // 0 before "<", 1 inside, 2 behind ">"
}

// next takes the token at the start of s and gives its length.
func (l *mailboxList) next(s string) (n int, err error) {
	switch s[0] {
	case ' ', '\t', '\r', '\n':
		l.gap = true
		return 1, nil
	case '(':
		l.gap = true
		return comment(s)
	case ')':
		return 0, errNoComment
	case '"':
		if n, err = enclosed(s, '"', errOpenQuote); err != nil {
			return 0, err
		}
		return n, l.text(s[:n])
	case '[':
		if n, err = enclosed(s, ']', errOpenLiteral); err != nil {
			return 0, err
		}
		return n, l.text(s[:n])
	case '<', '>':
		return 1, l.bracket(s[0])
	case ',', ';', ':':
		return 1, l.separator(s[0])
	}
	n = strings.IndexAny(s, " \t\r\n()\"[<>,;:")
	if n < 0 {
		n = len(s)
	}
	return n, l.text(s[:n])
}

// text is a piece of an address, or of a name before one. White space may stand
// around the dots and the @ of an address only (RFC 5322 4.4).
func (l *mailboxList) text(piece string) error {
	if l.angle == 2 {
		return errNoComma
	}
	if l.gap && len(l.spec) > 0 && !joins(l.spec[len(l.spec)-1]) && !joins(piece[0]) {
		l.words = true
	}
	l.gap = false
	l.at = l.at || piece[0] != '"' && strings.Contains(piece, "@")
	l.spec = append(l.spec, piece...)
	return nil
}

// clear forgets what was collected of the element.
func (l *mailboxList) clear() { l.spec, l.gap, l.words, l.at = l.spec[:0], false, false, false }

func joins(c byte) bool { return c == '.' || c == '@' }

func (l *mailboxList) bracket(c byte) error {
	if c == '<' && l.angle == 0 || c == '>' && l.angle == 1 {
		if c == '<' { // what came before was a name
			l.clear()
		}
		l.angle++
		return nil
	}
	return errAngle
}

func (l *mailboxList) separator(c byte) error {
	switch {
	case l.angle == 1 && c == ':': // the end of a source route
		l.clear()
		return nil
	case l.angle == 1 && c == ',': // inside a source route
		return l.text(",")
	case c != ':':
		err := l.end()
		l.group = l.group && c != ';'
		return err
	case l.group || l.angle == 2:
		return errNested
	case len(l.spec) == 0:
		return errNothing
	case l.at: // an address, and a slip of the pen
		return errNoComma
	}
	l.group = true
	l.clear()
	return nil
}

// end ends an element of the list.
func (l *mailboxList) end() error {
	switch {
	case l.angle == 1:
		return errAngle
	case l.words:
		return errNoComma
	case len(l.spec) == 0 && l.angle == 2:
		return errNothing
	case len(l.spec) > 0:
		l.out = append(l.out, string(l.spec))
	}
	l.clear()
	l.angle = 0
	return nil
}

// comment gives the length of the comment at the start of s; comments nest.
func comment(s string) (int, error) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
	}
	return 0, errOpenComment
}

// enclosed gives the length of what begins with a quote or bracket and ends
// with the octet given, "\" taking away the meaning of the next.
func enclosed(s string, end byte, open error) (int, error) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case end:
			return i + 1, nil
		}
	}
	return 0, open
}
