package account

import (
	"errors"
	"fmt"
	"strings"

	"mailout/internal/smtp"
)

// Senders are the addresses that a user may send from, as patterns: an address
// ("erp@example.com"), every address of a domain ("*@example.com"), of the
// domains under one ("*@*.example.com"), or every address ("*"). Case does not
// matter. None permit nothing.
type Senders []string

// ParseSender reads one pattern and gives its canonical form: lower case,
// domains as A-labels.
func ParseSender(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	at := strings.LastIndexByte(s, '@')
	switch {
	case at < 0:
		return "", fmt.Errorf(`has no @ (write "*@%s" for every address of the domain)`, strings.TrimPrefix(s, "*."))
	case at == 0:
		return "", fmt.Errorf(`has nothing before the @ (write "*%s" for every address of the domain)`, s)
	case s == "*@*":
		return "", errors.New(`is every address (write "*")`)
	}
	local, domain := s[:at], s[at+1:]
	under := strings.HasPrefix(domain, "*.")
	if strings.Contains(strings.TrimPrefix(domain, "*."), "*") || local != "*" && strings.Contains(local, "*") {
		return "", errors.New(`has a "*" that is neither the whole local part nor the first part of the domain (write "*@example.com", "*@*.example.com" or "*")`)
	}
	probe := local
	if local == "*" {
		probe = "any"
	}
	m, err := smtp.ParseMailbox(probe+"@"+strings.TrimPrefix(domain, "*."), true)
	if err != nil || m.Domain == "" {
		return "", errors.New(`is not an address or a pattern of addresses (write for example "*@example.com")`)
	}
	if local != "*" {
		local = m.Local
	}
	if under {
		m.Domain = "*." + m.Domain
	}
	return strings.ToLower(local + "@" + m.Domain), nil
}

// Allow reports whether mail may come from an address, in the canonical form of
// smtp.Mailbox.
func (s Senders) Allow(address string) bool {
	for _, pattern := range s {
		if pattern == "*" || fits(pattern, address) {
			return true
		}
	}
	return false
}

// Any reports whether every address is allowed.
func (s Senders) Any() bool {
	for _, pattern := range s {
		if pattern == "*" {
			return true
		}
	}
	return false
}

func fits(pattern, address string) bool {
	at, p := strings.LastIndexByte(address, '@'), strings.LastIndexByte(pattern, '@')
	if at <= 0 || p <= 0 {
		return false
	}
	if pattern[:p] != "*" && !strings.EqualFold(pattern[:p], address[:at]) {
		return false
	}
	have, want := address[at+1:], pattern[p+1:]
	if parent, under := strings.CutPrefix(want, "*"); under { // ".example.com"
		return len(have) > len(parent) && strings.EqualFold(have[len(have)-len(parent):], parent)
	}
	return strings.EqualFold(have, want)
}

// maxTold bounds the list of patterns in a reply.
const maxTold = 200

// String lists the patterns, cut where they are many.
func (s Senders) String() string {
	var b strings.Builder
	for i, pattern := range s {
		if i > 0 {
			b.WriteString(", ")
		}
		if b.Len()+len(pattern) > maxTold {
			b.WriteString("…")
			break
		}
		b.WriteString(pattern)
	}
	return b.String()
}
