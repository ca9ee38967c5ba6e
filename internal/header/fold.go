package header

import "bytes"

// foldAt is the length that a line we fold ourselves should not pass
// (RFC 5322 2.1.1).
const foldAt = 78

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// AppendMended appends a field as it was given, its line ends made CRLF, and
// with every line over MaxLine octets folded at white space that stands there
// already, so that unfolding gives the same value. A stretch without white
// space cannot be folded without changing it: such a line stays as long as it
// is.
func AppendMended(dst []byte, f Field) []byte {
	for line := range bytes.Lines(f.raw) {
		dst = appendFolded(dst, trimLineEnd(line), MaxLine)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// appendFolded appends one line with line ends put in before white space, so
// that no line passes limit where that can be helped. It never makes a line of
// white space alone.
func appendFolded(dst, line []byte, limit int) []byte {
	for len(line) > limit {
		at := foldPoint(line, limit)
		if at == 0 {
			break
		}
		dst = append(dst, line[:at]...)
		dst = append(dst, '\r', '\n')
		line = line[at:]
	}
	return append(dst, line...)
}

// foldPoint gives the index of the white space before which to fold: the last
// one within limit, else the first one after it; 0 when there is none. There
// is text on both sides of it.
func foldPoint(line []byte, limit int) int {
	text := 0 // where the first text of the line begins
	for text < len(line) && isBlank(line[text]) {
		text++
	}
	end := len(bytes.TrimRight(line, " \t"))
	for i := min(limit, end-1); i > text; i-- {
		if isBlank(line[i]) && !isBlank(line[i+1]) {
			return i
		}
	}
	for i := max(limit, text) + 1; i < end-1; i++ {
		if isBlank(line[i]) && !isBlank(line[i+1]) {
			return i
		}
	}
	return 0
}
