package doctor

import (
	"fmt"
	"strings"

	"mailout/internal/dkim"
)

// quoted is a TXT record's value in zone-file form: strings of at most 255
// octets, in quotation marks.
func quoted(text string) string {
	parts := dkim.Split(text)
	for i, p := range parts {
		parts[i] = `"` + escaped(p) + `"`
	}
	return strings.Join(parts, " ")
}

// escaped writes octets as a zone file does (RFC 1035 5.1): what is not
// printable as \DDD, so that no text of others breaks out of its line, or
// speaks to a terminal.
func escaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\%03d", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// textRecord is a TXT record in zone-file form.
func textRecord(name, text string) string {
	return strings.TrimSuffix(name, ".") + ". IN TXT " + quoted(text)
}

// maxSeen bounds what a finding shows in octets: it may quote what strangers'
// servers say, and is logged, kept and shown in many places.
const maxSeen = 2000

// clipped cuts a text to maxSeen.
func clipped(s string) string {
	if len(s) <= maxSeen {
		return s
	}
	return strings.ToValidUTF8(s[:maxSeen], "") + " …"
}

// shortened keeps a long text readable in one line.
func shortened(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return s[:limit-40] + " … " + s[len(s)-30:]
}
