package httpapi

import (
	"encoding/base64"
	"errors"
)

var strictBase64 = base64.RawStdEncoding.Strict()

// decodeInPlace decodes base64 (RFC 4648 4) over itself and gives the octets.
// White space is left out, and padding may be. Nothing is allocated: a file is
// in memory once.
func decodeInPlace(b []byte) ([]byte, error) {
	n, pad := 0, 0
	for _, c := range b {
		switch {
		case c == ' ', c == '\t', c == '\r', c == '\n':
			continue
		case c == '=':
			pad++
			continue
		case pad > 0:
			return nil, errors.New("there is something behind its padding")
		}
		b[n] = c
		n++
	}
	if pad > 2 || pad > 0 && (n+pad)%4 != 0 || n%4 == 1 {
		return nil, errors.New("its length is impossible; is it cut off?")
	}
	var part [3072]byte
	to := 0
	for from := 0; from < n; from += 4096 {
		// What is written is shorter than what was read, so it never comes
		// before what is still to be read.
		size, err := strictBase64.Decode(part[:], b[from:min(from+4096, n)])
		if err != nil {
			return nil, errors.New("it has a character that is not of the standard alphabet (A-Z a-z 0-9 + /)")
		}
		to += copy(b[to:], part[:size])
	}
	return b[:to:to], nil
}
