package smtp

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789ABCDEF"

// AppendXtext appends s as xtext (RFC 3461 4): "+", "=" and everything that is
// not printable ASCII as "+XX".
func AppendXtext(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b = append(b, c)
		} else {
			b = append(b, '+', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// EncodeXtext is AppendXtext for a string.
func EncodeXtext(s string) string { return string(AppendXtext(nil, s)) }

// DecodeXtext undoes EncodeXtext. The result must be printable ASCII, spaces
// included (RFC 3461 4.2 and 4.4): it is written into reports. Errors are
// *SyntaxError with 5.5.4.
func DecodeXtext(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) || hexValue(s[i+1]) < 0 || hexValue(s[i+2]) < 0 {
				return "", badParameter("malformed xtext")
			}
			c = byte(hexValue(s[i+1])<<4 | hexValue(s[i+2]))
			i += 2
		} else if c <= ' ' || c == '=' {
			return "", badParameter("malformed xtext")
		}
		if c < ' ' || c >= 0x7f {
			return "", badParameter("xtext hides a character that is not printable ASCII")
		}
		b = append(b, c)
	}
	return string(b), nil
}

// hexValue takes both cases, though RFC 3461 4 writes upper case only.
func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// ParseORcpt reads the value of ORCPT, "type;address" (RFC 3461 4.2), and
// gives it decoded: xtext for every type but "utf-8", whose address may have
// the forms utf-8-addr-xtext and utf-8-addr-unitext of RFC 6533 3. At most 500
// octets. Errors are *SyntaxError with 5.5.4.
func ParseORcpt(s string) (string, error) {
	kind, address, ok := strings.Cut(s, ";")
	if !ok || kind == "" || address == "" || len(s) > MaxORcpt {
		return "", badParameter("ORCPT is type;address of at most 500 octets")
	}
	for i := range len(kind) {
		if !isAtext(kind[i]) {
			return "", badParameter("the address type of ORCPT is malformed")
		}
	}
	var err error
	if strings.EqualFold(kind, "utf-8") {
		address, err = decodeUTF8Address(address)
	} else {
		address, err = DecodeXtext(address)
	}
	if err != nil {
		return "", err
	}
	return kind + ";" + address, nil
}

// AppendORcpt appends a decoded ORCPT as its parameter's value. A "utf-8"
// address goes as utf-8-addr-unitext when utf8ok (the transaction has
// SMTPUTF8), else as utf-8-addr-xtext.
func AppendORcpt(b []byte, orcpt string, utf8ok bool) []byte {
	kind, address, _ := strings.Cut(orcpt, ";")
	b = append(append(b, kind...), ';')
	if !strings.EqualFold(kind, "utf-8") {
		return AppendXtext(b, address)
	}
	return AppendUTF8Address(b, address, utf8ok)
}

// AppendUTF8Address appends an address as utf-8-addr-unitext, or when raw is
// false as utf-8-addr-xtext (RFC 6533 3): "\x{HEX}" for what may not stand.
// DSN fields use the same forms.
func AppendUTF8Address(b []byte, address string, raw bool) []byte {
	for i, r := range address {
		switch {
		case r == utf8.RuneError && isHarmful(r, address[i:]):
			b = append(b, '?')
		case r > ' ' && r < 0x7f && r != '+' && r != '=' && r != '\\', raw && r > 0x9f:
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, `\x{`...)
			if r < 16 {
				b = append(b, '0')
			}
			for _, c := range strconv.AppendInt(nil, int64(r), 16) {
				if c >= 'a' {
					c -= 'a' - 'A'
				}
				b = append(b, c)
			}
			b = append(b, '}')
		}
	}
	return b
}

// decodeUTF8Address reads either form of RFC 6533 3; "+XX" of an encoder that
// applied xtext is read too.
func decodeUTF8Address(s string) (string, error) {
	bad := badParameter("malformed utf-8 address in ORCPT")
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\\':
			end := strings.IndexByte(s[i:], '}')
			if end < 5 || end > 9 || s[i+1] != 'x' || s[i+2] != '{' {
				return "", bad
			}
			v, err := strconv.ParseUint(s[i+3:i+end], 16, 32)
			if err != nil || !utf8.ValidRune(rune(v)) {
				return "", bad
			}
			b = utf8.AppendRune(b, rune(v))
			i += end + 1
		case c == '+':
			if i+2 >= len(s) || hexValue(s[i+1]) < 0 || hexValue(s[i+2]) < 0 {
				return "", bad
			}
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 3
		case c <= ' ' || c == '=':
			return "", bad
		default:
			b = append(b, c)
			i++
		}
	}
	out := string(b)
	for i, r := range out {
		if isHarmful(r, out[i:]) {
			return "", bad
		}
	}
	return out, nil
}
