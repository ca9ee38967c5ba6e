package header

import (
	"net/netip"
	"strings"
	"time"
)

// Trace is what a Received field tells (RFC 5321 4.4). What the peer gave is
// made harmless when the field is written.
type Trace struct {
	Helo string     // what the peer called itself; empty: unknown
	Peer netip.Addr // where it came from; invalid: this machine, without a network
	By   string     // our host name
	With string     // the protocol (RFC 3848): ESMTP, ESMTPS, HTTP, LOCAL, …
	UTF8 bool       // SMTPUTF8 was used: ESMTP becomes UTF8SMTP (RFC 6531 4.3)
	ID   string     // our ID of the message
	For  string     // the recipient, only when there is exactly one
	Time time.Time
}

// maxHelo is how much of a peer's name is written; a domain has 255 octets at
// most (RFC 5321 4.5.3.1.2).
const maxHelo = 255

// AppendReceived appends a Received field with its line ends.
func AppendReceived(dst []byte, t Trace) []byte {
	dst = append(dst, "Received: "...)
	if t.Peer.IsValid() {
		name := traceName(t.Helo)
		dst = append(append(dst, "from "...), name...)
		dst = append(dst, " (["...)
		if t.Peer.Is4() || t.Peer.Is4In6() {
			dst = t.Peer.Unmap().AppendTo(dst)
		} else {
			dst = t.Peer.WithZone("").AppendTo(append(dst, "IPv6:"...))
		}
		dst = append(dst, "])\r\n\t"...)
	}
	dst = append(append(dst, "by "...), t.By...)
	if with := traceProtocol(t.With, t.UTF8); with != "" {
		dst = append(append(dst, " with "...), with...)
	}
	dst = append(append(dst, " id "...), t.ID...)
	if t.For != "" && fitsFor(t.For) {
		dst = append(append(append(dst, "\r\n\tfor <"...), t.For...), '>')
	}
	dst = append(dst, ";\r\n\t"...)
	return append(AppendDate(dst, t.Time), '\r', '\n')
}

// AppendDate appends a date and time in the form of RFC 5322 3.3, in UTC.
func AppendDate(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, "Mon, 2 Jan 2006 15:04:05 -0700")
}

// traceName keeps the characters of domains and address literals. A name with
// others could end the field, open a comment or forge a trace.
func traceName(helo string) string {
	if helo == "" {
		return "unknown"
	}
	if len(helo) > maxHelo {
		helo = helo[:maxHelo]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(".-_:[]", r):
			return r
		}
		return '?'
	}, helo)
}

// traceProtocol keeps letters, digits and hyphens of the door's word.
func traceProtocol(with string, utf8 bool) string {
	if rest, ok := strings.CutPrefix(with, "ESMTP"); ok && utf8 {
		with = "UTF8SMTP" + rest
	}
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, with)
}

// fitsFor leaves out what would make the header SMTPUTF8, or break it.
func fitsFor(address string) bool {
	if len(address) > 320 {
		return false
	}
	for i := range len(address) {
		if c := address[i]; c < ' ' || c > '~' || c == '<' && address[0] != '"' || c == '>' && address[0] != '"' {
			return false
		}
	}
	return true
}
