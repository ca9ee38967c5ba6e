package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"mailout/internal/mta"
)

// The bounds of one reply that a client takes.
const (
	MaxReplyLines  = 512
	MaxReplyOctets = 64 << 10
	// MaxReplyLine is the length of a reply line that we write, CRLF included
	// (RFC 5321 4.5.3.1.5).
	MaxReplyLine = 512
)

// ProtocolError says that a server's octets are no reply, or one beyond the
// bounds. The session is not to be used any more.
type ProtocolError struct {
	Text string // what is wrong
	Line string // the line, made harmless and cut at 100 octets
}

// Error implements error.
func (e *ProtocolError) Error() string {
	if e.Line == "" {
		return e.Text
	}
	return e.Text + ": " + strconv.Quote(e.Line)
}

func protocolError(text string, line []byte) error {
	return &ProtocolError{text, string(AppendHarmless(nil, line[:min(len(line), 100)]))}
}

// ReadReply reads one reply of RFC 5321 4.2: at most MaxReplyLines lines and
// MaxReplyOctets octets. The code is 200 to 599 and the same on every line. A
// bare LF ends a line too, and a line may consist of its code alone.
//
// An enhanced code is taken off the text when its class is that of the basic
// code; one that contradicts is left in the text and otherwise ignored, so
// that the basic code's class decides. Text is harmless (AppendHarmless).
//
// Errors are *ProtocolError, or the reader's own: io.EOF when the connection
// ended before the first octet, io.ErrUnexpectedEOF inside a reply.
func ReadReply(br *bufio.Reader) (mta.Reply, error) {
	var small [512]byte
	text := small[:0]
	var r mta.Reply
	octets := 0
	for lines := 0; ; lines++ {
		if lines == MaxReplyLines {
			return mta.Reply{}, protocolError("the reply has more than 512 lines", nil)
		}
		line, n, err := readReplyLine(br, MaxReplyOctets-octets)
		if err != nil {
			if err == io.EOF && (octets > 0 || n > 0) {
				err = io.ErrUnexpectedEOF
			}
			return mta.Reply{}, err
		}
		octets += n
		code, more, rest, err := cutReplyLine(line)
		if err != nil {
			return mta.Reply{}, err
		}
		if lines == 0 {
			r.Code = code
		} else {
			if code != r.Code {
				return mta.Reply{}, protocolError("the code changes within one reply", line)
			}
			text = append(text, '\n')
		}
		if lines == 0 {
			r.Enhanced, rest = cutEnhanced(rest, code)
		} else if !r.Enhanced.IsZero() {
			if e, tail := cutEnhanced(rest, code); e == r.Enhanced {
				rest = tail // repeated on every line, as RFC 2034 3 asks
			}
		}
		text = AppendHarmless(text, rest)
		if !more {
			r.Text = string(text)
			return r, nil
		}
	}
}

// readReplyLine reads one line without its line end, at most limit octets. The
// line aliases the reader's buffer unless it is longer than that.
func readReplyLine(br *bufio.Reader, limit int) (line []byte, n int, err error) {
	line, err = br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(long) <= limit {
			line, err = br.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	n = len(line)
	if n > limit {
		return nil, n, protocolError("the reply is longer than 64 KB", line)
	}
	if err != nil {
		return nil, n, err
	}
	line = line[:n-1]
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	return line, n, nil
}

// cutReplyLine takes code and separator off a line (RFC 5321 4.2.1).
func cutReplyLine(line []byte) (code int, more bool, rest []byte, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false, nil, protocolError("not a reply", line)
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, false, nil, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, nil, protocolError("not a reply", line)
	}
	return code, line[3] == '-', line[4:], nil
}

// cutEnhanced takes an enhanced code off the front of a line's text when it is
// one of RFC 3463 2 and its class is the basic code's.
func cutEnhanced(text []byte, code int) (mta.Enhanced, []byte) {
	e, n := scanEnhanced(text)
	if n == 0 || int(e.Class) != code/100 {
		return mta.Enhanced{}, text
	}
	if n < len(text) {
		n++ // the space
	}
	return e, text[n:]
}

// scanEnhanced reads "class.subject.detail" at the front of text, followed by
// a space or the end, and gives its length; 0 when there is none.
func scanEnhanced(text []byte) (mta.Enhanced, int) {
	var part [3]uint16
	i := 0
	for p := range part {
		start := i
		for i < len(text) && isDigit(text[i]) && i-start < 3 {
			part[p] = part[p]*10 + uint16(text[i]-'0')
			i++
		}
		if i == start || i-start > 1 && text[start] == '0' {
			return mta.Enhanced{}, 0
		}
		if p < 2 {
			if i >= len(text) || text[i] != '.' {
				return mta.Enhanced{}, 0
			}
			i++
		}
	}
	class := part[0]
	if i < len(text) && text[i] != ' ' || class != 2 && class != 4 && class != 5 {
		return mta.Enhanced{}, 0
	}
	return mta.Enhanced{Class: class, Subject: part[1], Detail: part[2]}, i
}

// ParseEnhanced reads an enhanced code alone, "5.1.1" (RFC 3463 2).
func ParseEnhanced(s string) (mta.Enhanced, error) {
	e, n := scanEnhanced([]byte(s))
	if n == 0 || n != len(s) {
		return mta.Enhanced{}, fmt.Errorf("%q is no enhanced status code", Harmless(s))
	}
	return e, nil
}

// ParseReply reads one reply given as text: "550 5.1.1 no such user", with or
// without a final line end, several lines allowed. Errors are those of
// ReadReply.
func ParseReply(s string) (mta.Reply, error) {
	return ReadReply(bufio.NewReader(io.MultiReader(strings.NewReader(s), strings.NewReader("\n"))))
}

// AppendReply appends a reply in wire form: a line for each line of its text,
// the enhanced code on each (RFC 2034 4), no line over MaxReplyLine octets:
// longer ones are split. Control characters become "?"; so does what is not
// ASCII unless utf8ok (RFC 6531 3.7.4.2).
func AppendReply(b []byte, r mta.Reply, utf8ok bool) []byte {
	var prefix [24]byte
	p := strconv.AppendInt(prefix[:0], int64(r.Code), 10)
	p = append(p, ' ')
	if !r.Enhanced.IsZero() && r.Code/100 == int(r.Enhanced.Class) {
		p = append(append(p, r.Enhanced.String()...), ' ')
	}
	room := MaxReplyLine - len(p) - 2
	text := r.Text
	for {
		line, rest, more := strings.Cut(text, "\n")
		for len(line) > room {
			cut := cutPoint(line, room)
			b = appendReplyLine(b, p, line[:cut], true, utf8ok)
			line = strings.TrimLeft(line[cut:], " ")
		}
		b = appendReplyLine(b, p, line, more, utf8ok)
		if !more {
			return b
		}
		text = rest
	}
}

func appendReplyLine(b, prefix []byte, line string, more, utf8ok bool) []byte {
	start := len(b)
	b = append(b, prefix...)
	if more {
		b[start+3] = '-'
	}
	for i := 0; i < len(line); {
		r, n := rune(line[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(line[i:])
		}
		if isHarmful(r, line[i:]) || r >= utf8.RuneSelf && !utf8ok {
			b = append(b, '?')
		} else {
			b = append(b, line[i:i+n]...)
		}
		i += n
	}
	return append(b, "\r\n"...)
}

// cutPoint finds where to split a line of more than room octets: at the last
// space, else before a whole character.
func cutPoint(line string, room int) int {
	if i := strings.LastIndexByte(line[:room], ' '); i > 0 {
		return i
	}
	for i := room; i > room-utf8.UTFMax; i-- {
		if utf8.RuneStart(line[i]) {
			return i
		}
	}
	return room
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
