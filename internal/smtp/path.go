package smtp

import "strings"

// ParsePath reads the path of MAIL FROM: or RCPT TO: (RFC 5321 4.1.2) off the
// front of s and gives what follows it, without leading spaces. It takes "<>"
// (the null path), "<postmaster>" in any case without a domain, source routes,
// which it checks and drops (RFC 5321 appendix C), and, as old devices send
// them, spaces before the path and a path without angle brackets. Errors are
// those of ParseMailbox.
func ParsePath(s string, utf8ok bool) (m Mailbox, rest string, err error) {
	in, rest, err := cutPath(s)
	if err != nil {
		return Mailbox{}, "", err
	}
	m, err = parseInnerPath(in, utf8ok)
	return m, rest, err
}

// cutPath separates the inside of a path from the parameters behind it.
func cutPath(s string) (in, rest string, err error) {
	s = strings.TrimLeft(s, " ")
	if !strings.HasPrefix(s, "<") {
		in, rest, _ = strings.Cut(s, " ")
		if in == "" || strings.ContainsAny(in, `"<>`) {
			return "", "", badMailbox("the path is missing its angle brackets; write <user@example.com>")
		}
		return in, strings.TrimLeft(rest, " "), nil
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			in, rest = s[1:i], s[i+1:]
			if rest != "" && rest[0] != ' ' {
				return "", "", badParameter("a space must follow the path")
			}
			return in, strings.TrimLeft(rest, " "), nil
		}
	}
	return "", "", badMailbox("the path's closing bracket is missing; write <user@example.com>, and close a quote before the @")
}

func parseInnerPath(in string, utf8ok bool) (Mailbox, error) {
	if in == "" {
		return Mailbox{}, nil
	}
	if strings.EqualFold(in, "postmaster") {
		return Mailbox{Local: in}, nil
	}
	if in[0] == '@' {
		route, mailbox, ok := strings.Cut(in, ":")
		if !ok || !validRoute(route, utf8ok) {
			return Mailbox{}, badMailbox("the address begins with @ and is no source route; write <user@example.com>")
		}
		in = mailbox
	}
	return ParseMailbox(in, utf8ok)
}

// validRoute checks A-d-l of RFC 5321 4.1.2: "@a.example,@b.example". A
// literal with a colon does not occur: its colon has cut the route already.
func validRoute(route string, utf8ok bool) bool {
	if len(route) > MaxPath {
		return false
	}
	for hop := range strings.SplitSeq(route, ",") {
		name, ok := strings.CutPrefix(hop, "@")
		if !ok {
			return false
		}
		if strings.HasPrefix(name, "[") {
			if _, err := ParseAddressLiteral(name); err != nil {
				return false
			}
		} else if _, err := ParseDomain(name, utf8ok); err != nil {
			return false
		}
	}
	return true
}
