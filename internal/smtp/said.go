package smtp

import (
	"net/netip"
	"strings"

	"mailout/internal/mta"
)

// SaidAddress gives the address that a server says it sees us at, in its reply
// to EHLO or HELO: "250-mx.example.net at your service, [203.0.113.5]". Only
// the first line counts, after the server's own name (RFC 5321 4.1.1.1). What
// stands in brackets is preferred to bare text, the last to what is before:
// some servers repeat our argument, which may be a literal, first. The zero
// Addr means that it says none.
func SaidAddress(r mta.Reply) netip.Addr {
	line, _, _ := strings.Cut(r.Text, "\n")
	_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
	for rest := line; ; {
		i := strings.LastIndexByte(rest, '[')
		if i < 0 {
			return lastAddress(line)
		}
		inner, _, closed := strings.Cut(rest[i+1:], "]")
		if a := parseSaid(inner); closed && a.IsValid() {
			return a
		}
		rest = rest[:i]
	}
}

// lastAddress finds the last word that is an address.
func lastAddress(s string) netip.Addr {
	words := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t(),;<>\"'=", r) })
	for i := len(words) - 1; i >= 0; i-- {
		if a := parseSaid(strings.TrimRight(words[i], ".!")); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// parseSaid reads an address as servers write it: bare, tagged as in a
// literal, or with a port.
func parseSaid(s string) netip.Addr {
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		s = s[5:]
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		ap, perr := netip.ParseAddrPort(s)
		if perr != nil {
			return netip.Addr{}
		}
		a = ap.Addr()
	}
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
