package smtp

import (
	"strings"
	"unicode/utf8"
)

// Mailbox is an address in canonical form. The zero value is the null path
// "<>". A Domain that is empty beside a Local is the bare "postmaster" of RFC
// 5321 4.5.1, which only ParsePath makes.
type Mailbox struct {
	// Local is the local part as it goes over the wire: quoted only where the
	// grammar needs it, its letters' case kept.
	Local string
	// Domain is a name in lower-case A-labels, or an address literal.
	Domain string
}

// IsNull reports whether m is the null path.
func (m Mailbox) IsNull() bool { return m == Mailbox{} }

// IsLiteral reports whether the domain is an address literal.
func (m Mailbox) IsLiteral() bool { return strings.HasPrefix(m.Domain, "[") }

// NeedsUTF8 reports whether the mailbox can only travel with SMTPUTF8: its
// local part has octets above 127.
func (m Mailbox) NeedsUTF8() bool { return !isASCII(m.Local) }

// String gives local@domain without angle brackets, "" for the null path.
func (m Mailbox) String() string {
	if m.Domain == "" {
		return m.Local
	}
	return m.Local + "@" + m.Domain
}

// Unquoted gives the local part without its quoting.
func (m Mailbox) Unquoted() string {
	if !strings.HasPrefix(m.Local, `"`) {
		return m.Local
	}
	return unquote(m.Local[1 : len(m.Local)-1])
}

// SplitAddress cuts an address that ParseMailbox made at its last "@". An
// empty string gives the null path.
func SplitAddress(address string) Mailbox {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return Mailbox{Local: address}
	}
	return Mailbox{Local: address[:i], Domain: address[i+1:]}
}

// ParseMailbox reads Local-part "@" ( Domain / address-literal ) of RFC 5321
// 4.1.2 without angle brackets, with the additions of RFC 6531 3.3 when
// utf8ok. The result is canonical: see Mailbox. Bounds: MaxLocal, MaxDomain,
// and MaxPath less the two brackets for the whole. Errors are *SyntaxError:
// 5.1.3 for the local part, 5.1.2 for the domain, 5.6.7 for octets above 127
// without utf8ok.
func ParseMailbox(s string, utf8ok bool) (Mailbox, error) {
	local, rest, err := parseLocal(s, utf8ok)
	if err != nil {
		return Mailbox{}, err
	}
	if rest == "" || rest[0] != '@' {
		if rest == "" {
			return Mailbox{}, badMailbox("the address has no domain; write it in full: <user@example.com>")
		}
		return Mailbox{}, badMailbox("the local part has a character that must be quoted; write <\"local part\"@example.com>")
	}
	return withDomain(local, rest[1:], utf8ok)
}

func withDomain(local, domain string, utf8ok bool) (Mailbox, error) {
	if strings.HasPrefix(domain, "[") {
		a, err := ParseAddressLiteral(domain)
		if err != nil {
			return Mailbox{}, err
		}
		domain = AddressLiteral(a)
	} else {
		d, err := ParseDomain(domain, utf8ok)
		if err != nil {
			return Mailbox{}, err
		}
		domain = d
	}
	if len(local)+1+len(domain)+2 > MaxPath {
		return Mailbox{}, badMailbox("the address is longer than 254 octets")
	}
	return Mailbox{Local: local, Domain: domain}, nil
}

// parseLocal takes a canonical local part off the front of s.
func parseLocal(s string, utf8ok bool) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return parseQuoted(s, utf8ok)
	}
	n := 0
	for n < len(s) && (isAtext(s[n]) || s[n] == '.' || s[n] >= utf8.RuneSelf) {
		n++
	}
	local, rest = s[:n], s[n:]
	if err := checkLocal(local, utf8ok); err != nil {
		return "", "", err
	}
	switch {
	case local == "" && rest == "":
		return "", "", badMailbox("the address is empty; write <user@example.com>")
	case local == "":
		return "", "", badMailbox("the address has no local part, or one that must be quoted; write <user@example.com> or <\"local part\"@example.com>")
	case !isDotString(local):
		return "", "", badMailbox("the local part begins or ends with a dot, or has two in a row; take the dot away, or quote: <\"a..b\"@example.com>")
	}
	return local, rest, nil
}

// parseQuoted reads a Quoted-string (RFC 5321 4.1.2) and drops quotes and
// backslashes that are not needed.
func parseQuoted(s string, utf8ok bool) (local, rest string, err error) {
	end := -1
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == '"' {
			end = i
			break
		}
	}
	if end < 0 {
		return "", "", badMailbox("the local part's closing quote is missing; write <\"local part\"@example.com>")
	}
	plain := unquote(s[1:end])
	if err := checkLocal(plain, utf8ok); err != nil {
		return "", "", err
	}
	local = quoteLocal(plain)
	if len(local) > MaxLocal {
		return "", "", badMailbox("the local part is longer than 64 octets")
	}
	return local, s[end+1:], nil
}

// checkLocal holds length and character set of an unquoted local part.
func checkLocal(plain string, utf8ok bool) error {
	if len(plain) > MaxLocal {
		return badMailbox("the local part is longer than 64 octets")
	}
	for i := range len(plain) {
		if plain[i] < ' ' || plain[i] == 0x7f {
			return badMailbox("the local part has a control character")
		}
	}
	if isASCII(plain) {
		return nil
	}
	if !utf8ok {
		return needsUTF8("the local part has characters outside ASCII; they need SMTPUTF8")
	}
	for i, r := range plain {
		if isHarmful(r, plain[i:]) {
			return badMailbox("the local part has a control character or is not UTF-8")
		}
	}
	return nil
}

// QuoteLocal gives the canonical wire form of an unquoted local part, which
// must be free of control characters.
func quoteLocal(plain string) string {
	if isDotString(plain) {
		return plain
	}
	b := make([]byte, 0, len(plain)+4)
	b = append(b, '"')
	for i := range len(plain) {
		if plain[i] == '"' || plain[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, plain[i])
	}
	return string(append(b, '"'))
}

// unquote drops the backslashes of quoted-pairs.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// isDotString reports whether s is a Dot-string of RFC 5321 4.1.2, with the
// non-ASCII of RFC 6531.
func isDotString(s string) bool {
	dot := true // a dot here would begin the string or follow another
	for i := range len(s) {
		if s[i] == '.' {
			if dot {
				return false
			}
			dot = true
			continue
		}
		if !isAtext(s[i]) && s[i] < utf8.RuneSelf {
			return false
		}
		dot = false
	}
	return !dot
}

// CheckRecipient refuses mailboxes that are well-formed but that no recipient
// of ours may have, without a look-up: single-label domains (5.1.2), and local
// parts that another system could take for a route or an option (5.1.3):
// "user%host", "host!user", a leading "-". The bare postmaster is the caller's
// business. Errors are *SyntaxError.
func CheckRecipient(m Mailbox) error {
	plain := m.Unquoted()
	switch {
	case m.IsNull():
		return badMailbox("the null path <> is no recipient; write <user@example.com>")
	case strings.IndexByte(plain, '%') >= 0 || strings.IndexByte(plain, '!') >= 0:
		return badMailbox("routes in the local part (% and !) are not taken; write the address that is meant")
	case strings.HasPrefix(plain, "-"):
		return badMailbox("local parts that begin with a hyphen are not taken, since programs take them for options; use another address of the recipient")
	case !m.IsLiteral() && strings.IndexByte(m.Domain, '.') < 0:
		return badDomain("the domain has one label only; write it in full, with its top-level domain")
	}
	return nil
}

// isAtext reports whether c may stand in an atom (RFC 5322 3.2.3).
func isAtext(c byte) bool { return c < utf8.RuneSelf && atext[c] }

// atext is the ASCII set of atoms.
var atext = func() (t [utf8.RuneSelf]bool) {
	for c := range byte(utf8.RuneSelf) {
		t[c] = isAlnum(c) || c != 0 && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
	}
	return t
}()

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
