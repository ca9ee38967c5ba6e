package config

import (
	"net/netip"
	"strings"
)

// ACME says how certificates are got for the listeners with `acme`.
type ACME struct {
	Names     []string // each gets a certificate; the first serves clients that name none
	Directory string   // URL of the authority's directory
	Email     string   // empty: none
	Agree     bool     // to the authority's terms
	Challenge ACMEChallenge
	Address   netip.AddrPort // where the challenge is answered
	CAFile    string         // roots that verify the authority besides the system's; empty: none
}

// ACMEChallenge is how the authority sees that a name is ours.
type ACMEChallenge uint8

// The challenges of ACME.
const (
	ChallengeHTTP ACMEChallenge = iota // http-01
	ChallengeTLS                       // tls-alpn-01
)

// String gives the word of the configuration file.
func (c ACMEChallenge) String() string { return acmeChallenges.word(c) }

var acmeChallenges = words[ACMEChallenge]{{"http-01", ChallengeHTTP}, {"tls-alpn-01", ChallengeTLS}}

// letsEncrypt is the authority that is asked by default.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

func acmeTable() *table {
	at := func(c *Config) *ACME { return &c.ACME }
	return &table{name: "acme", doc: "Certificates from an authority by ACME, for each `[[listen]]`, `[http]` and `[unsubscribe]` with `acme = true`.", keys: []*key{
		newKey("agree", boolean(), func(c *Config, _ int) *bool { return &at(c).Agree }).
			is(`false`, "Whether you agree to the authority's terms of use; nothing is asked for without."),
		newKey("names", list(mapped("host name", lowerHostname, keep), 1, 100, `["mailout.example.com"]`), func(c *Config, _ int) *[]string { return &at(c).Names }).
			derives("`[hostname]`", func(c *Config, _ int) { at(c).Names = []string{strings.ToLower(c.Hostname)} }, "Names that clients use; each gets a certificate of its own. The first serves clients that say no name."),
		newKey("email", text("mailbox", optionalMailbox), func(c *Config, _ int) *string { return &at(c).Email }).
			is(`""`, "Where the authority may write to about your certificates."),
		newKey("directory", text("URL", checkDirectory), func(c *Config, _ int) *string { return &at(c).Directory }).
			is(`"`+letsEncrypt+`"`, "URL of the authority's ACME directory."),
		newKey("challenge", word(acmeChallenges), func(c *Config, _ int) *ACMEChallenge { return &at(c).Challenge }).
			is(`"http-01"`, "How the authority sees that a name is yours: by a page on its port 80 (`http-01`), or by a handshake on its port 443 (`tls-alpn-01`)."),
		newKey("address", endpoint(), func(c *Config, _ int) *netip.AddrPort { return &at(c).Address }).
			derives("`0.0.0.0:80`, or `0.0.0.0:443` with `tls-alpn-01`", acmeAddress, "Where the authority is answered; nothing listens there but while it looks. `0.0.0.0` is every address, also of IPv6. The authority comes to port 80 or 443: another port needs somebody who leads it here."),
		newKey("ca_file", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).CAFile }).
			is(`""`, "PEM file of roots that are trusted for the authority besides the system's."),
	}}
}

func acmeAddress(c *Config, _ int) {
	port := uint16(80)
	if c.ACME.Challenge == ChallengeTLS {
		port = 443
	}
	c.ACME.Address = netip.AddrPortFrom(netip.IPv4Unspecified(), port)
}

func lowerHostname(s string) (string, string) { return strings.ToLower(s), checkHostname(s) }

func optionalMailbox(s string) string {
	if s == "" {
		return ""
	}
	return checkMailbox(s)
}

func checkDirectory(s string) string {
	host, https := strings.CutPrefix(s, "https://")
	if !https || host == "" || strings.ContainsAny(s, " \t\r\n\x00") {
		return shown(s) + ` is not the URL of an ACME directory (write for example "` + letsEncrypt + `")`
	}
	return ""
}

const needsAgreement = "needs your agreement to the authority's terms (write agree = true in [acme])"

// UsesACME reports whether a listener, of mail or another, wants certificates by
// ACME.
func (c *Config) UsesACME() bool {
	if c.HTTP.ACME && c.HTTP.Address.IsValid() || c.Unsubscribe.ACME && c.Unsubscribe.Address.IsValid() {
		return true
	}
	for _, l := range c.Listen {
		if l.ACME {
			return true
		}
	}
	return false
}

// acmeComplete: nobody agrees to terms without having said so, and a listener
// has one source of its certificate.
func (l *loader) acmeComplete() {
	for i, own := range l.cfg.Listen {
		full := findTable("listen").full(i)
		if !own.ACME || !l.sound(full+".acme", full+".cert", full+".tls", "acme.agree") {
			continue
		}
		switch {
		case own.Cert != "" || own.Key != "":
			l.accuse("listen", "acme", i, "stands beside cert (keep one of them)")
		case own.TLS == ListenClear:
			l.accuse("listen", "tls", i, `"none" uses no certificate (write "offered", or remove acme)`)
		case !l.cfg.ACME.Agree:
			l.accuse("listen", "acme", i, needsAgreement)
		}
	}
}

// checkACMEFiles looks at the roots of the authority.
func (l *loader) checkACMEFiles() {
	if file := l.cfg.ACME.CAFile; file != "" && l.sound("acme.ca_file") {
		if err := checkRoots(file); err != nil {
			l.accuse("acme", "ca_file", 0, err.Error())
		}
	}
}
