package smtp

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// The limits of names and addresses in octets.
const (
	MaxLabel  = 63  // RFC 1035 2.3.4
	MaxDomain = 253 // text of a name whose wire form has the 255 octets of RFC 1035 2.3.4
	MaxLocal  = 64  // RFC 5321 4.5.3.1.1
	MaxPath   = 256 // with its angle brackets, RFC 5321 4.5.3.1.3
)

// lookupProfile makes A-labels of U-labels and refuses A-labels that are none
// (IDNA 2008 with the mappings of UTS 46). Names such as "r3---sn-x" have
// hyphens where IDNA forbids them and exist all the same.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.StrictDomainName(true),
	idna.CheckHyphens(false),
)

// ParseDomain gives the canonical form of a domain name: lower case, U-labels
// as A-labels, one trailing dot dropped. Labels are letters, digits and inner
// hyphens, at most 63 octets, the name at most 253. Octets above 127 are
// refused with 5.6.7 unless utf8ok. Address literals are not names.
// Errors are *SyntaxError with 5.1.2.
func ParseDomain(s string, utf8ok bool) (string, error) {
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", badDomain("the domain is empty")
	}
	ascii, ace := true, false
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
		if s[i] == '-' && isACE(s, i) {
			ace = true
		}
	}
	if !ascii && !utf8ok {
		return "", needsUTF8("the domain has characters outside ASCII; they need SMTPUTF8")
	}
	if !ascii || ace {
		if len(s) > 4*MaxDomain { // no A-label form short enough can come of it
			return "", badDomain("the domain is longer than 253 octets")
		}
		if !utf8.ValidString(s) {
			return "", badDomain("the domain is not UTF-8")
		}
		a, err := lookupProfile.ToASCII(s)
		if err != nil {
			return "", badDomain("the domain is no valid internationalised name")
		}
		s = strings.TrimSuffix(a, ".")
	}
	if err := checkLDH(s); err != nil {
		return "", err
	}
	return lower(s), nil
}

// isACE reports whether the hyphen at i is the first of a label's "xn--".
func isACE(s string, i int) bool {
	return i >= 2 && (i == 2 || s[i-3] == '.') && i+1 < len(s) && s[i+1] == '-' &&
		s[i-2]|0x20 == 'x' && s[i-1]|0x20 == 'n'
}

// checkLDH holds labels of letters, digits and inner hyphens (RFC 5321 2.3.5).
func checkLDH(s string) error {
	if len(s) > MaxDomain {
		return badDomain("the domain is longer than 253 octets")
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if !isAlnum(s[i]) && s[i] != '-' {
				return badDomain("the domain has a character that is no letter, digit or hyphen")
			}
			continue
		}
		switch {
		case i == start:
			return badDomain("the domain has an empty label")
		case i-start > MaxLabel:
			return badDomain("the domain has a label longer than 63 octets")
		case s[start] == '-' || s[i-1] == '-':
			return badDomain("the domain has a label that begins or ends with a hyphen")
		}
		start = i + 1
	}
	return nil
}

// ParseAddressLiteral reads "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321
// 4.1.3). Zones, IPv4-mapped IPv6 in hexadecimal and general literals are
// refused; errors are *SyntaxError with 5.1.2.
func ParseAddressLiteral(s string) (netip.Addr, error) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return netip.Addr{}, badDomain("an address literal stands in square brackets")
	}
	in := s[1 : len(s)-1]
	six := len(in) > 5 && strings.EqualFold(in[:5], "ipv6:")
	if six {
		in = in[5:]
	}
	a, err := netip.ParseAddr(in)
	if err != nil || a.Zone() != "" || a.Is4() == six {
		return netip.Addr{}, badDomain("the address literal is neither [192.0.2.1] nor [IPv6:2001:db8::1] in form")
	}
	return a, nil
}

// AddressLiteral gives the literal of an address for EHLO and mail addresses:
// "[192.0.2.1]" or "[IPv6:2001:db8::1]". An IPv4-mapped address is written as
// IPv4 and a zone is dropped.
func AddressLiteral(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return "[" + a.String() + "]"
	}
	return "[IPv6:" + a.String() + "]"
}

// ValidHelo reports whether s may be our EHLO argument (RFC 5321 4.1.4): a
// fully qualified ASCII name without underscore or trailing dot, whose last
// label is not numeric, or an address literal in canonical form.
func ValidHelo(s string) bool {
	if strings.HasPrefix(s, "[") {
		a, err := ParseAddressLiteral(s)
		return err == nil && AddressLiteral(a) == s
	}
	if checkLDH(s) != nil || !strings.Contains(s, ".") {
		return false
	}
	for _, c := range []byte(s[strings.LastIndexByte(s, '.')+1:]) {
		if c < '0' || c > '9' {
			return true
		}
	}
	return false // a bare IPv4 address, or what looks like one
}

// lower gives s in lower case, without an allocation when it is already.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
