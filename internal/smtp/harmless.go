package smtp

import "unicode/utf8"

// isHarmful reports whether the rune r at the start of s may not be shown:
// C0 and C1 controls and DEL, line and paragraph separators, marks that turn
// the direction of text, and octets that are not UTF-8.
func isHarmful(r rune, s string) bool {
	switch {
	case r < ' ' || 0x7f <= r && r <= 0x9f:
		return true
	case r == 0x2028 || r == 0x2029 || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069:
		return true
	case r == utf8.RuneError:
		_, n := utf8.DecodeRuneInString(s)
		return n <= 1
	}
	return false
}

// AppendHarmless appends one line of foreign text to dst with everything that
// could end a line, start a header field or steer a terminal replaced by "?";
// tabs become spaces. Valid UTF-8 stays.
func AppendHarmless(dst, line []byte) []byte {
	for i := 0; i < len(line); {
		c := line[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '\t':
				c = ' '
			case c < ' ' || c == 0x7f:
				c = '?'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && n <= 1 || isHarmful(r, "\uFFFD") {
			dst = append(dst, '?')
		} else {
			dst = append(dst, line[i:i+n]...)
		}
		i += n
	}
	return dst
}

// Harmless is AppendHarmless for a string.
func Harmless(s string) string { return string(AppendHarmless(nil, []byte(s))) }
