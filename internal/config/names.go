package config

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// The lengths that RFC 1035 2.3.4 allows.
const (
	maxLabel = 63
	maxName  = 253
)

// checkHostname says why s cannot be the name that mailout introduces itself
// with, and what to write; empty when it can. Whether the name resolves is
// not asked here.
func checkHostname(s string) string {
	const sample = `such as "mailout.example.com"`
	if s == "" {
		return `is empty (write the fully qualified name that other servers are to see, ` + sample + `)`
	}
	if isAddress(s) {
		return shown(s) + ` is an address, not a name (write the name that has this address, ` + sample + `)`
	}
	if problem := checkName(s); problem != "" {
		return problem
	}
	lower := strings.ToLower(s)
	if lower == "localhost" || strings.HasSuffix(lower, ".localhost") {
		return shown(s) + ` means every machine to itself (write the name that other servers are to see, ` + sample + `)`
	}
	if strings.Contains(s, "_") {
		return shown(s) + ` has an underscore, which no host name may have (write for example "` + strings.ReplaceAll(s, "_", "-") + `")`
	}
	if !strings.Contains(s, ".") {
		return shown(s) + ` has no domain (write it in full, such as "` + s + `.example.com")`
	}
	return ""
}

// checkName says why s is not a DNS name of letters, digits, hyphens and
// underscores; empty when it is one.
func checkName(s string) string {
	if !isASCII(s) {
		if a, err := idna.Lookup.ToASCII(s); err == nil {
			return shown(s) + ` is not ASCII (write "` + a + `")`
		}
		return shown(s) + ` is not a host name`
	}
	if strings.HasSuffix(s, ".") && len(s) > 1 {
		return shown(s) + ` ends with a dot (write "` + strings.TrimRight(s, ".") + `")`
	}
	if len(s) > maxName {
		return shown(s) + ` is longer than the 253 octets of a DNS name`
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if problem := checkLabel(s, label); problem != "" {
			return problem
		}
	}
	if isDigits(labels[len(labels)-1]) {
		return shown(s) + ` is not a host name: it ends with a number`
	}
	return ""
}

func checkLabel(name, label string) string {
	switch {
	case label == "":
		return shown(name) + ` is not a host name: it has nothing between two dots or before the first`
	case len(label) > maxLabel:
		return shown(name) + ` has a part longer than the 63 octets of a DNS label`
	case label[0] == '-' || label[len(label)-1] == '-':
		return shown(name) + ` is not a host name: a part begins or ends with a hyphen`
	}
	for i := range len(label) {
		if c := label[i]; !isLetterDigit(c) && c != '-' && c != '_' {
			return shown(name) + ` is not a host name: it contains ` + shown(string(rune(c)))
		}
	}
	return ""
}

// checkPeer says why s is neither a host name nor an address to connect to;
// empty when it is one. A name without a domain is allowed: a hosts file or
// an inner DNS may know it.
func checkPeer(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	if s == "" {
		return `is empty (write a host name or an address)`
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		return shown(s) + ` has brackets (write "` + inner + `")`
	}
	if host, port, ok := strings.Cut(s, ":"); ok && isDigits(port) {
		return shown(s) + ` has a port in it (write host = "` + host + `" and port = ` + port + `)`
	}
	return checkName(s)
}

// canonicalPattern makes a [[route]] pattern lower-case A-labels; problem says
// why it cannot.
func canonicalPattern(s string) (pattern, problem string) {
	if s == "*" {
		return s, ""
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		return canonicalLiteral(s, strings.TrimSuffix(inner, "]"))
	}
	name, wild := strings.CutPrefix(s, "*.")
	if !wild && strings.HasPrefix(s, ".") {
		return "", shown(s) + ` is not a domain (write "*` + s + `" for the domains under it)`
	}
	if strings.Contains(name, "*") {
		return "", shown(s) + ` has a "*" that is not the whole first part (write "*.example.com" or "*")`
	}
	if _, domain, ok := strings.Cut(name, "@"); ok {
		return "", shown(s) + ` is an address (routes go by domain: write "` + domain + `")`
	}
	if !isASCII(name) {
		a, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", shown(s) + ` is not a domain`
		}
		name = a
	}
	if problem := checkName(name); problem != "" {
		return "", strings.Replace(problem, "host name", "domain", 1)
	}
	if !wild && !strings.Contains(name, ".") {
		return "", shown(s) + ` has only one part, and recipients in such domains are refused (write it in full, such as "` + s + `.example.com")`
	}
	name = strings.ToLower(name)
	if wild {
		name = "*." + name
	}
	return name, ""
}

// canonicalLiteral reads an address literal (RFC 5321 4.1.3).
func canonicalLiteral(s, inner string) (pattern, problem string) {
	six, tagged := strings.CutPrefix(inner, "IPv6:")
	a, err := netip.ParseAddr(six)
	if err != nil || !strings.HasSuffix(s, "]") || a.Zone() != "" || tagged && a.Is4() {
		return "", shown(s) + ` is not an address literal (write for example "[192.0.2.1]" or "[IPv6:2001:db8::1]")`
	}
	if a.Is4() {
		return "[" + a.String() + "]", ""
	}
	return "[IPv6:" + a.String() + "]", ""
}

// checkMailbox says why s is not a plain mailbox; empty when it is one. Quoted
// local parts are left out: an operator's mailbox needs none.
func checkMailbox(s string) string {
	const write = ` (write for example "postmaster@example.com")`
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 || !isAtomText(s[:at]) {
		return shown(s) + ` is not a mailbox` + write
	}
	domain := s[at+1:]
	if problem := checkName(domain); problem != "" {
		return `in ` + shown(s) + ` ` + problem
	}
	if !strings.Contains(domain, ".") {
		return shown(s) + ` has no full domain` + write
	}
	return ""
}

// isAtomText reports whether s is a dot-string of RFC 5321 4.1.2.
func isAtomText(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; !isLetterDigit(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	return true
}

func isAddress(s string) bool {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	_, err := netip.ParseAddr(s)
	if err != nil {
		_, err = netip.ParseAddr(strings.TrimPrefix(s, "IPv6:"))
	}
	return err == nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > 0x7f {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func isLetterDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
