package dns

import (
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"
)

// maxName is the longest name in text without its final dot (RFC 1035 2.3.4).
const maxName = 253

// fqdn gives the name as it is asked for: lower case, with the final dot. It
// reports false for what cannot be asked: see BadName. One final dot is
// accepted.
func fqdn(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return "", false
	}
	label := 0
	upper := false
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = -1
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_':
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if label == 0 {
		return "", false
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name + ".", true
}

// plain gives a name of a server's answer as callers see it: lower case,
// without the final dot. The root stays ".".
func plain(name string) string {
	if name == "." {
		return name
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// reverse gives the name whose PTR records name the address (RFC 1035 3.5, RFC
// 3596 2.5).
func reverse(addr netip.Addr) string {
	name, err := wire.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return "" // only the zero Addr; fqdn refuses the empty name
	}
	return name
}

// isLocalhost reports whether name (with its final dot) is "localhost" or under
// it. Such names are never asked for (RFC 6761 6.3).
func isLocalhost(name string) bool {
	return name == "localhost." || strings.HasSuffix(name, ".localhost.")
}

// unescape turns the presentation form of a character string ("\"", "\\" and
// "\DDD") back into its octets.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '\\' || i+1 >= len(s) {
			out = append(out, c)
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			out = append(out, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
			continue
		}
		i++
		out = append(out, s[i])
	}
	return string(out)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
