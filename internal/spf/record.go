package spf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Version is what every record begins with.
const Version = "v=spf1"

// MaxLookups and MaxVoids are how many look-ups, and how many of them without
// a result, receivers make for one record and all it includes (RFC 7208 4.6.4).
const (
	MaxLookups = 10
	MaxVoids   = 2
)

// Term is one mechanism or modifier of a record.
type Term struct {
	// Qualifier is '+', '-', '~' or '?'; 0 marks a modifier.
	Qualifier byte
	Name      string // in lower case: "ip4", "include", "redirect"
	// Spec is the domain of a mechanism without its prefix lengths, the address
	// of ip4 and ip6, or the value of a modifier, as it is written; empty when
	// there is none.
	Spec string
	Net  netip.Prefix // of ip4 and ip6

	text string // as it is written
}

// Record is one SPF record.
type Record struct{ Terms []Term }

// SyntaxError says which term receivers cannot read. They answer permerror for
// the whole record then (RFC 7208 4.6).
type SyntaxError struct {
	Term    string
	Problem string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%q %s", e.Term, e.Problem) }

// Is reports whether a TXT record is an SPF record (RFC 7208 4.5).
func Is(text string) bool {
	return len(text) >= len(Version) && strings.EqualFold(text[:len(Version)], Version) &&
		(len(text) == len(Version) || text[len(Version)] == ' ')
}

// Parse reads a record. The error is a *SyntaxError.
func Parse(text string) (*Record, error) {
	if !Is(text) {
		return nil, &SyntaxError{text, "does not begin with \"" + Version + " \""}
	}
	r := new(Record)
	once := map[string]bool{}
	for word := range strings.SplitSeq(text[len(Version):], " ") {
		if word == "" {
			continue
		}
		t, err := parseTerm(word)
		if err != nil {
			return nil, err
		}
		if t.Qualifier == 0 && (t.Name == "redirect" || t.Name == "exp") { // RFC 7208 6
			if once[t.Name] {
				return nil, &SyntaxError{word, "stands there twice"}
			}
			once[t.Name] = true
		}
		r.Terms = append(r.Terms, t)
	}
	return r, nil
}

func parseTerm(word string) (Term, error) {
	if name, value, ok := modifier(word); ok {
		return parseModifier(word, name, value)
	}
	t := Term{Qualifier: '+', text: word}
	rest := word
	if strings.IndexByte("+-~?", word[0]) >= 0 {
		t.Qualifier, rest = word[0], word[1:]
	}
	end := strings.IndexAny(rest, ":/")
	if end < 0 {
		end = len(rest)
	}
	t.Name = strings.ToLower(rest[:end])
	return t, parseMechanism(&t, rest[end:])
}

// modifier cuts "name=value" (RFC 7208 4.6.1: what has "=" before any ":" or "/").
func modifier(word string) (name, value string, ok bool) {
	i := strings.IndexAny(word, "=:/")
	if i <= 0 || word[i] != '=' {
		return "", "", false
	}
	for j, c := range []byte(word[:i]) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (j == 0 || !strings.ContainsRune("0123456789-_.", rune(c))) {
			return "", "", false
		}
	}
	return strings.ToLower(word[:i]), word[i+1:], true
}

func parseModifier(word, name, value string) (Term, error) {
	t := Term{Name: name, Spec: value, text: word}
	if name == "redirect" || name == "exp" {
		if problem := checkDomain(value); problem != "" {
			return t, &SyntaxError{word, problem}
		}
	} else if !macroString(value) {
		return t, &SyntaxError{word, "has a \"%\" that begins no macro"}
	}
	return t, nil
}

// parseMechanism reads what follows the name, from its ":" or "/".
func parseMechanism(t *Term, args string) error {
	problem := ""
	switch t.Name {
	case "all":
		if args != "" {
			problem = "takes nothing after \"all\""
		}
	case "ip4", "ip6":
		t.Spec = strings.TrimPrefix(args, ":")
		t.Net, problem = parseNet(t.Name, args)
	case "include", "exists":
		t.Spec = strings.TrimPrefix(args, ":")
		if problem = checkDomain(t.Spec); !strings.HasPrefix(args, ":") {
			problem = "names no domain (write " + t.Name + ":DOMAIN)"
		}
	case "a", "mx":
		problem = parseHost(t, args, true)
	case "ptr":
		problem = parseHost(t, args, false)
	default:
		problem = "is no mechanism" + meant(t.Name)
	}
	if problem != "" {
		return &SyntaxError{t.text, problem}
	}
	return nil
}

// meant guesses at frequent mistakes.
func meant(name string) string {
	switch name {
	case "ip", "ipv4", "ip-4":
		return " (write ip4:ADDRESS)"
	case "ipv6", "ip-6":
		return " (write ip6:ADDRESS)"
	case "inc", "includes":
		return " (write include:DOMAIN)"
	case Version:
		return ""
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return " (write ip4:" + name + ")"
	}
	return ""
}

func parseNet(name, args string) (netip.Prefix, string) {
	value, ok := strings.CutPrefix(args, ":")
	if !ok {
		return netip.Prefix{}, "names no address (write " + name + ":ADDRESS)"
	}
	host, length, ranged := strings.Cut(value, "/")
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, "does not hold an address"
	}
	if addr.Is4() != (name == "ip4") {
		other := map[string]string{"ip4": "ip6", "ip6": "ip4"}[name]
		return netip.Prefix{}, "holds an address of the other family (write " + other + ":" + value + ")"
	}
	bits := addr.BitLen()
	if ranged {
		if bits, ok = prefixLength(length, addr.BitLen()); !ok {
			return netip.Prefix{}, fmt.Sprintf("has a prefix length that is not 0 to %d", addr.BitLen())
		}
	}
	return netip.PrefixFrom(addr, bits), ""
}

// parseHost reads ":domain" and, where allowed, "/24", "//64" or "/24//64".
func parseHost(t *Term, args string, lengths bool) string {
	spec, tail := args, ""
	if i := strings.IndexByte(args, '/'); i >= 0 && lengths {
		spec, tail = args[:i], args[i:]
	}
	if spec != "" {
		t.Spec = spec[1:]
		if problem := checkDomain(t.Spec); problem != "" {
			return problem
		}
	}
	v4, v6, both := strings.Cut(tail, "//")
	if v4 != "" {
		if _, ok := prefixLength(v4[1:], 32); !ok {
			return "has a prefix length that is not 0 to 32"
		}
	}
	if both {
		if _, ok := prefixLength(v6, 128); !ok {
			return "has a prefix length that is not 0 to 128"
		}
	}
	return ""
}

// prefixLength reads a number without leading zeros (RFC 7208 12).
func prefixLength(s string, limit int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || int(n) > limit || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	return int(n), true
}

// checkDomain says what is wrong with a domain-spec (RFC 7208 7.1), or "".
func checkDomain(s string) string {
	switch {
	case s == "":
		return "names no domain"
	case !macroString(s):
		return "has a \"%\" that begins no macro"
	case strings.HasSuffix(s, "}"): // ends in a macro
		return ""
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "names an address where a domain belongs (write ip4: or ip6:)"
	}
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	top := labels[len(labels)-1]
	if len(labels) < 2 || top == "" || strings.Trim(top, "0123456789") == "" || strings.HasPrefix(top, "-") || strings.HasSuffix(top, "-") {
		return "names no domain that could exist"
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "has a character that domains do not have"
		}
	}
	return ""
}

// macroString reports whether every "%" begins "%{…}", "%%", "%_" or "%-".
func macroString(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i++; i == len(s) {
			return false
		}
		switch s[i] {
		case '%', '_', '-':
		case '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 || !macro(s[i+1:i+end]) {
				return false
			}
			i += end
		default:
			return false
		}
	}
	return true
}

// macro checks what stands between "%{" and "}": a letter, digits, "r",
// delimiters.
func macro(s string) bool {
	if s == "" || !strings.ContainsRune("slodiphcrtv", rune(s[0]|0x20)) {
		return false
	}
	rest := strings.TrimLeft(s[1:], "0123456789")
	if rest != "" && rest[0]|0x20 == 'r' {
		rest = rest[1:]
	}
	return strings.Trim(rest, ".-+,/_=") == ""
}

// Modifier reports whether the term is a modifier.
func (t Term) Modifier() bool { return t.Qualifier == 0 }

// Macro reports whether the term's domain depends on the message.
func (t Term) Macro() bool { return strings.Contains(t.Spec, "%") }

// Lookup reports whether receivers ask DNS for the term (RFC 7208 4.6.4).
func (t Term) Lookup() bool {
	switch t.Name {
	case "include", "a", "mx", "ptr", "exists":
		return !t.Modifier()
	case "redirect":
		return t.Modifier()
	}
	return false
}

// String is the term as it is written.
func (t Term) String() string { return t.text }

// String is the record in one piece.
func (r *Record) String() string {
	var b strings.Builder
	b.WriteString(Version)
	for _, t := range r.Terms {
		b.WriteString(" " + t.text)
	}
	return b.String()
}

// All is the qualifier of "all": what holds for everybody else; 0 when there
// is none.
func (r *Record) All() byte {
	for _, t := range r.Terms {
		if t.Name == "all" && !t.Modifier() {
			return t.Qualifier
		}
	}
	return 0
}

// Redirect is the domain whose record answers when nothing here matches; empty
// when there is none or "all" stands before it (RFC 7208 6.1).
func (r *Record) Redirect() string {
	if r.All() != 0 {
		return ""
	}
	for _, t := range r.Terms {
		if t.Modifier() && t.Name == "redirect" {
			return t.Spec
		}
	}
	return ""
}

// Macros reports whether any term depends on the message: mostly the sign of a
// service that keeps the record.
func (r *Record) Macros() bool {
	for _, t := range r.Terms {
		if t.Macro() {
			return true
		}
	}
	return false
}

// Doubts are terms that do not do what they seem to, one sentence each.
func (r *Record) Doubts() []string {
	var out []string
	ended := false
	for _, t := range r.Terms {
		switch {
		case t.Modifier() && t.Name == "redirect" && r.All() != 0:
			out = append(out, fmt.Sprintf("%q is never followed because \"all\" stands there too", t.text))
		case t.Modifier() && t.Name == "v":
			out = append(out, fmt.Sprintf("%q stands inside the record: two were written into one", t.text))
		case t.Modifier() && mechanism(t.Name):
			out = append(out, fmt.Sprintf("%q has no effect: write it with a colon", t.text))
		case t.Modifier():
		case ended:
			out = append(out, fmt.Sprintf("%q stands after \"all\" and is never looked at", t.text))
		case t.Name == "all":
			ended = true
		case t.Name == "ptr":
			out = append(out, fmt.Sprintf("%q is not to be used any more: some receivers ignore it", t.text))
		}
	}
	return out
}

func mechanism(name string) bool {
	switch name {
	case "all", "ip4", "ip6", "a", "mx", "ptr", "include", "exists":
		return true
	}
	return false
}
