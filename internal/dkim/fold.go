package dkim

import "encoding/base64"

// lineLength is the length at which lines are folded (RFC 5322 2.1.1). Only a name
// of DNS can make one longer.
const lineLength = 78

// folder appends words to a header field. It allocates nothing but the field.
type folder struct {
	b   []byte
	col int // octets in the line
}

// word adds a word that begins with a space, or folds before it.
func (f *folder) word(s string) {
	if f.col+len(s) > lineLength {
		f.fold(s[1:])
		return
	}
	f.add(s)
}

// room folds, unless n octets fit into the line.
func (f *folder) room(n int) {
	if f.col+n > lineLength {
		f.fold("")
	}
}

func (f *folder) fold(s string) {
	f.b = append(append(f.b, "\r\n\t"...), s...)
	f.col = 1 + len(s)
}

func (f *folder) add(s string) {
	f.b = append(f.b, s...)
	f.col += len(s)
}

func appendBase64(dst, src []byte) []byte { return base64.StdEncoding.AppendEncode(dst, src) }

// appendFolded appends a signature after "b=" on a line of its own.
func appendFolded(dst, signature []byte) []byte {
	const first, more = 72 / 4 * 3, 76 / 4 * 3 // octets a line
	n := min(first, len(signature))
	dst = appendBase64(dst, signature[:n])
	for signature = signature[n:]; len(signature) > 0; signature = signature[n:] {
		n = min(more, len(signature))
		dst = appendBase64(append(dst, "\r\n\t"...), signature[:n])
	}
	return dst
}
