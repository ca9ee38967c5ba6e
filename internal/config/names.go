package config

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"

	"mailout/internal/smtp"
)

// checkHostname says why s cannot be the name that mailout introduces itself
// with, and what to write; empty when it can. Whether the name resolves is
// not asked here.
func checkHostname(s string) string { return problemOf(s, smtp.HostnameProblem(s)) }

// checkName says why s is not a DNS name of letters, digits, hyphens and
// underscores; empty when it is one.
func checkName(s string) string { return problemOf(s, smtp.NameProblem(s)) }

// problemOf begins the sentence about a name with the name.
func problemOf(s, problem string) string {
	if problem == "" || s == "" {
		return problem
	}
	return shown(s) + " " + problem
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
