package smtp

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// HostnameProblem says what is wrong with s as the name that we introduce
// ourselves with, and what to write instead, as the end of a sentence that
// begins with the name; empty when nothing is. It is stricter than ValidHelo:
// an address literal, localhost and names under it are refused too. Whether
// the name resolves is not asked here.
func HostnameProblem(s string) string {
	const sample = `such as "mailout.example.com"`
	if s == "" {
		return `is empty (write the fully qualified name that other servers are to see, ` + sample + `)`
	}
	if isAddress(s) {
		return `is an address, not a name (write the name that has this address, ` + sample + `)`
	}
	if problem := NameProblem(s); problem != "" {
		return problem
	}
	lower := lower(s)
	if lower == "localhost" || strings.HasSuffix(lower, ".localhost") {
		return `means every machine to itself (write the name that other servers are to see, ` + sample + `)`
	}
	if strings.Contains(s, "_") {
		return `has an underscore, which no host name may have (write for example "` + strings.ReplaceAll(s, "_", "-") + `")`
	}
	if !strings.Contains(s, ".") {
		return `has no domain (write it in full, such as "` + s + `.example.com")`
	}
	return ""
}

// NameProblem says why s is not a DNS name of letters, digits, hyphens and
// underscores, in the form of HostnameProblem; empty when it is one. A name
// of one label is one.
func NameProblem(s string) string {
	if !isASCII(s) {
		if a, err := idna.Lookup.ToASCII(s); err == nil {
			return `is not ASCII (write "` + a + `")`
		}
		return `is not a host name`
	}
	if strings.HasSuffix(s, ".") && len(s) > 1 {
		return `ends with a dot (write "` + strings.TrimRight(s, ".") + `")`
	}
	if len(s) > MaxDomain {
		return `is longer than the 253 octets of a DNS name`
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if problem := labelProblem(label); problem != "" {
			return problem
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return `is not a host name: it ends with a number`
	}
	return ""
}

func labelProblem(label string) string {
	switch {
	case label == "":
		return `is not a host name: it has nothing between two dots or before the first`
	case len(label) > MaxLabel:
		return `has a part longer than the 63 octets of a DNS label`
	case label[0] == '-' || label[len(label)-1] == '-':
		return `is not a host name: a part begins or ends with a hyphen`
	}
	for i := range len(label) {
		if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
			return `is not a host name: it contains ` + quoteOctet(c)
		}
	}
	return ""
}

// quoteOctet shows one ASCII character, also where it cannot be seen.
func quoteOctet(c byte) string {
	switch {
	case c == '"' || c == '\\':
		return `"\` + string(rune(c)) + `"`
	case c < ' ' || c == 0x7f:
		return fmt.Sprintf(`"\u%04X"`, c)
	}
	return `"` + string(rune(c)) + `"`
}

// isAddress reports whether s is an address, in the brackets of a literal or
// without.
func isAddress(s string) bool {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	_, err := netip.ParseAddr(s)
	if err != nil {
		_, err = netip.ParseAddr(strings.TrimPrefix(s, "IPv6:"))
	}
	return err == nil
}
