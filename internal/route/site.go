package route

import (
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"strconv"
	"strings"

	"mailout/internal/mta"
)

// The site's name is what shares connections and limits. Goal: two domains have
// the same site exactly when mail for both would try the same hosts in the same
// order over the same port with the same TLS demand, and the name can be read,
// typed and put into a URL.
//
// Host names of one preference are sorted and joined with "=", the groups in
// their order with ",": "mx1.example.net=mx2.example.net,backup.example.net".
// The numbers of the preferences do not matter, only their order. A port other
// than the default follows as ":587", a TLS demand other than the default as
// "/required"; a configured host begins with "router:". Names over maxSite
// octets keep their beginning and end in "~" and 16 hexadecimal digits of the
// SHA-256 of the whole.

const maxSite = 200

// siteOf gives the canonical text of an MX set that is sorted by preference.
func siteOf(hosts []mta.Host) string {
	var b strings.Builder
	for from := 0; from < len(hosts); {
		to := from + 1
		for to < len(hosts) && hosts[to].Preference == hosts[from].Preference {
			to++
		}
		names := make([]string, 0, to-from)
		for _, h := range hosts[from:to] {
			names = append(names, h.Name)
		}
		sort.Strings(names)
		if from > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.Join(names, "="))
		from = to
	}
	return shorten(b.String())
}

// shorten bounds the length of a site's name.
func shorten(name string) string {
	if len(name) <= maxSite {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	const mark = 17 // "~" and 16 digits
	cut := strings.LastIndexAny(name[:maxSite-mark], ",=")
	if cut < 0 {
		cut = maxSite - mark
	}
	return name[:cut] + "~" + hex.EncodeToString(sum[:8])
}

var tlsWords = [...]string{mta.TLSOpportunistic: "opportunistic", mta.TLSNone: "none", mta.TLSRequired: "required", mta.TLSImplicit: "implicit"}

// site completes a name with what differs from the default.
func (c *compiled) site(name string, port uint16, tls mta.TLSRequirement, defaultPort uint16) string {
	if port != defaultPort {
		name += ":" + strconv.Itoa(int(port))
	}
	if tls != c.TLS {
		name += "/" + tlsWords[tls]
	}
	return name
}
