package tlsrpt

import (
	"net/url"
	"strings"

	"mailout/internal/smtp"
)

// The bounds of a record (RFC 8460 3).
const (
	MaxRecord  = 8 << 10 // octets; a longer one counts as none
	MaxTargets = 8       // places to report to; the rest is passed over
	maxURI     = 1000    // octets of one; a longer one is passed over
)

// Label is in front of a domain where its record stands.
const Label = "_smtp._tls."

// Target is one place to report to: either Mail or URL is set.
type Target struct {
	Mail string // a mailbox as smtp.ParseMailbox makes it, ASCII
	URL  string // https
}

// String gives the place as a URI, for people and for notes.
func (t Target) String() string {
	if t.Mail != "" {
		return "mailto:" + t.Mail
	}
	return t.URL
}

// ParseRecords reads the TXT records of a name: those of other versions and
// makes are passed over, and with any number but one left, or without a place
// that reports can go to, nobody asks (RFC 8460 3).
func ParseRecords(texts []string) []Target {
	var only string
	found := 0
	for _, text := range texts {
		if fields, is := ours(text); is {
			only = fields
			found++
		}
	}
	if found != 1 || len(only) > MaxRecord {
		return nil
	}
	return targets(only)
}

// ours cuts the version off a record; false when it is not a record of ours.
func ours(text string) (fields string, is bool) {
	rest, is := strings.CutPrefix(text, "v=TLSRPTv1")
	if !is {
		return "", false
	}
	rest = strings.TrimLeft(rest, blank)
	return strings.CutPrefix(rest, ";")
}

const blank = " \t" // WSP of RFC 5234

// targets reads the fields of a record. Unknown ones, and what is no field, are
// passed over (RFC 8460 3: parsers accept a superset).
func targets(fields string) []Target {
	var out []Target
	seen := map[Target]bool{}
	for field := range strings.SplitSeq(fields, ";") {
		uris, is := strings.CutPrefix(strings.Trim(field, blank), "rua=")
		if !is {
			continue
		}
		for uri := range strings.SplitSeq(uris, ",") {
			t, ok := parseTarget(strings.Trim(uri, blank))
			if !ok || seen[t] {
				continue
			}
			if len(out) == MaxTargets {
				return out
			}
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// parseTarget reads one URI; false when no report can go there.
func parseTarget(uri string) (Target, bool) {
	if len(uri) > maxURI || !visible(uri) {
		return Target{}, false
	}
	scheme, rest, _ := strings.Cut(uri, ":")
	switch strings.ToLower(scheme) {
	case "mailto":
		return mailTarget(rest)
	case "https":
		return webTarget(uri)
	}
	return Target{}, false
}

// mailTarget reads what follows mailto: (RFC 6068), one address. Header fields
// behind a question mark are somebody else's words, and left out.
func mailTarget(rest string) (Target, bool) {
	rest, _, _ = strings.Cut(rest, "?")
	address, err := url.PathUnescape(rest)
	if err != nil {
		return Target{}, false
	}
	m, err := smtp.ParseMailbox(address, false)
	if err != nil || m.IsLiteral() || smtp.CheckRecipient(m) != nil {
		return Target{}, false
	}
	return Target{Mail: m.String()}, true
}

// webTarget reads a URL. Who signs in by a name in it is not served.
func webTarget(uri string) (Target, bool) {
	u, err := url.Parse(uri)
	if err != nil || u.Opaque != "" || u.Hostname() == "" || u.User != nil {
		return Target{}, false
	}
	u.Fragment, u.RawFragment = "", ""
	return Target{URL: u.String()}, true
}

// visible reports whether s has visible ASCII characters only, as a URI has
// (RFC 3986 2).
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}
