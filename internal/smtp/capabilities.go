package smtp

import (
	"strings"

	"mailout/internal/mta"
)

// Capabilities is what a server said in its reply to EHLO. The zero value is
// a server that answered HELO: it offers nothing.
type Capabilities struct {
	Host                string // the name it gives itself; "" when it gave none
	HasSize             bool
	Size                int64    // the limit in octets; 0 means none was stated (RFC 1870 4)
	Pipelining          bool     // RFC 2920
	EightBitMIME        bool     // RFC 6152
	SMTPUTF8            bool     // RFC 6531
	StartTLS            bool     // RFC 3207
	DSN                 bool     // RFC 3461
	Chunking            bool     // RFC 3030
	EnhancedStatusCodes bool     // RFC 2034
	RequireTLS          bool     // RFC 8689
	Auth                []string // mechanisms in capitals (RFC 4954 3)
	// The LIMITS of RFC 9422; 0 means not stated.
	MailMax, RcptMax, RcptDomainMax int
}

// ParseCapabilities reads a 250 reply to EHLO (RFC 5321 4.1.1.1): a line with
// the server's name, then one keyword with parameters a line. Unknown
// keywords and malformed values are passed over.
func ParseCapabilities(r mta.Reply) Capabilities {
	var c Capabilities
	first := true
	for line := range strings.SplitSeq(r.Text, "\n") {
		if first {
			c.Host, first = GreetingHost(r), false
			continue
		}
		word, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		c.keyword(strings.ToUpper(word), strings.TrimSpace(params))
	}
	return c
}

func (c *Capabilities) keyword(word, params string) {
	switch word {
	case "SIZE":
		c.HasSize = true
		if n, ok := parseDecimal(params, 20); ok {
			c.Size = n
		}
	case "PIPELINING":
		c.Pipelining = true
	case "8BITMIME":
		c.EightBitMIME = true
	case "SMTPUTF8":
		c.SMTPUTF8 = true
	case "STARTTLS":
		c.StartTLS = true
	case "DSN":
		c.DSN = true
	case "CHUNKING":
		c.Chunking = true
	case "ENHANCEDSTATUSCODES":
		c.EnhancedStatusCodes = true
	case "REQUIRETLS":
		c.RequireTLS = true
	case "AUTH":
		c.addAuth(params)
	case "LIMITS":
		c.limits(params)
	default:
		// "AUTH=LOGIN PLAIN": a form older than RFC 2554 that some still send.
		if m, ok := strings.CutPrefix(word, "AUTH="); ok {
			c.addAuth(m + " " + params)
		}
	}
}

// addAuth adds mechanisms that are not yet there.
func (c *Capabilities) addAuth(params string) {
next:
	for m := range strings.FieldsSeq(strings.ToUpper(params)) {
		for _, have := range c.Auth {
			if have == m {
				continue next
			}
		}
		c.Auth = append(c.Auth, m)
	}
}

// limits reads "MAILMAX=n RCPTMAX=n RCPTDOMAINMAX=n" (RFC 9422 4). A value of
// zero is malformed and passed over.
func (c *Capabilities) limits(params string) {
	for p := range strings.FieldsSeq(params) {
		name, value, _ := strings.Cut(p, "=")
		n, ok := parseDecimal(value, 6)
		if !ok || n == 0 {
			continue
		}
		switch strings.ToUpper(name) {
		case "MAILMAX":
			c.MailMax = int(n)
		case "RCPTMAX":
			c.RcptMax = int(n)
		case "RCPTDOMAINMAX":
			c.RcptDomainMax = int(n)
		}
	}
}

// GreetingHost gives the host name in a greeting or a reply to HELO or EHLO:
// the first word of its text, "" when that is empty.
func GreetingHost(r mta.Reply) string {
	line, _, _ := strings.Cut(r.Text, "\n")
	word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	return word
}
