package config

import (
	"net/netip"
	"path/filepath"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/account"
)

// HTTP is where the API listens.
type HTTP struct {
	Address     netip.AddrPort // for those who sign in; the zero value: no TCP port is opened
	Socket      string         // absolute path of a Unix socket
	Cert        string         // PEM file of the certificate and those that lead to its root; empty: no TLS
	Key         string         // PEM file of its private key
	ACME        bool           // the certificate comes as Config.ACME says
	Plain       bool           // Address may be other than loopback without TLS
	Names       []string       // by which a listener on loopback may be called, beside its own
	Connections int            // on Address at once
}

func httpTable() *table {
	at := func(c *Config) *HTTP { return &c.HTTP }
	return &table{name: "http", doc: "The API: what programs hand mail over to and ask, and the command line's socket.", keys: []*key{
		newKey("address", optionalEndpoint(), func(c *Config, _ int) *netip.AddrPort { return &at(c).Address }).
			is(`""`, "IP address and TCP port for the users of `[[user]]`. Empty: no TCP port is opened.").restart(),
		newKey("socket", mapped("path", requiredPath, keep), func(c *Config, _ int) *string { return &at(c).Socket }).
			derives("`mailout.sock` in the directory `spool`", func(c *Config, _ int) { c.HTTP.Socket = filepath.Join(c.Spool, "mailout.sock") }, "Unix socket through which the command line talks to the daemon.").restart(),
		newKey("cert", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).Cert }).
			is(`""`, "PEM file of the certificate for `address`, followed by those that lead to its root. A changed file is taken within a minute.").restart(),
		newKey("key", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).Key }).
			is(`""`, "PEM file of the certificate's private key; not readable by everybody.").restart(),
		newKey("acme", boolean(), func(c *Config, _ int) *bool { return &at(c).ACME }).
			is(`false`, "Whether the certificate comes from an authority as `[acme]` says, instead of `cert` and `key`.").restart(),
		newKey("plain", boolean(), func(c *Config, _ int) *bool { return &at(c).Plain }).
			is(`false`, "Whether `address` may be another than loopback without a certificate, as behind a proxy that has one: tokens and mail cross the network in clear text.").restart(),
		newKey("names", list(text("host name", checkName), 0, maxList, `["mail.example.com"]`), func(c *Config, _ int) *[]string { return &at(c).Names }).
			is(`[]`, "Host names by which clients call an `address` on loopback, besides `localhost`, `hostname` and addresses: those of a proxy that passes the name on.").restart(),
		newKey("connections", integer[int](1, 100000), func(c *Config, _ int) *int { return &at(c).Connections }).
			is(`256`, "Most connections to `address` at once.").restart(),
	}}
}

// optionalEndpoint is an address and port to listen on, or nothing.
func optionalEndpoint() kind[netip.AddrPort] {
	of := endpoint()
	return scalar(of.name, func(v *value) (netip.AddrPort, string) {
		if v.kind == unstable.String && v.text == "" {
			return netip.AddrPort{}, ""
		}
		ap, bad := of.read(v)
		if len(bad) > 0 {
			return ap, bad[0].text
		}
		return ap, ""
	}, func(ap netip.AddrPort) string {
		if !ap.IsValid() {
			return ""
		}
		return ap.String()
	})
}

// scopeWords are the scopes of users.
var scopeWords = words[account.Scope]{
	{"send", account.ScopeSend}, {"read", account.ScopeRead}, {"control", account.ScopeControl}, {"suppress", account.ScopeSuppress}, {"admin", account.ScopeAdmin},
}

// keyHash is the hash of an HTTP key.
func keyHash() kind[account.Key] {
	return scalar("key hash", func(v *value) (account.Key, string) {
		switch k, err := account.ParseKey(v.text); {
		case v.kind != unstable.String:
			return account.Key{}, "is not a text"
		case v.text == "":
			return account.Key{}, ""
		case err != nil: // without the text: it may be a key
			return account.Key{}, err.Error()
		default:
			return k, ""
		}
	}, account.Key.String)
}

// httpComplete: a certificate has its key, and passwords do not cross a network
// in clear text by mistake.
func (l *loader) httpComplete() {
	h := &l.cfg.HTTP
	if !l.sound("http.address", "http.cert", "http.key", "http.plain", "http.acme", "acme.agree") {
		return
	}
	switch {
	case h.ACME && (h.Cert != "" || h.Key != ""):
		l.accuse("http", "acme", 0, "stands beside cert (keep one of them)")
	case h.ACME && !l.cfg.ACME.Agree:
		l.accuse("http", "acme", 0, needsAgreement)
	case h.Cert != "" && h.Key == "":
		l.accuse("http", "cert", 0, "needs its private key (write key)")
	case h.Key != "" && h.Cert == "":
		l.accuse("http", "key", 0, "needs its certificate (write cert)")
	case h.Address.IsValid() && h.Cert == "" && !h.ACME && !h.Plain && !h.Address.Addr().Unmap().IsLoopback():
		l.accuse("http", "address", 0, quote(h.Address.String())+" is not loopback, and without TLS tokens would cross the network in clear text (write cert and key, acme = true, or plain = true if a proxy before it has TLS)")
	}
	for i, own := range l.cfg.Listen {
		if h.Address.IsValid() && l.sound(findTable("listen").full(i)+".address") && collide(own.Address, h.Address) {
			line, _ := l.doc.position(l.at(findTable("listen").key("address"), i))
			l.accuse("http", "address", 0, quote(h.Address.String())+" is taken by the [[listen]] on line "+itoa(line)+" ("+quote(own.Address.String())+")")
			return
		}
	}
}

// keysOnce: a key tells who it is.
func (l *loader) keysOnce() {
	first := map[account.Key]int{}
	for i, u := range l.cfg.Users {
		if u.Key.IsZero() || !l.sound(findTable("user").full(i)+".key") {
			continue
		}
		if j, twice := first[u.Key]; twice {
			line, _ := l.doc.position(l.at(findTable("user").key("key"), j))
			l.accuse("user", "key", i, "is that of the user on line "+itoa(line)+" too (make one for each)")
			continue
		}
		first[u.Key] = i
	}
}

// checkHTTPFiles looks at the certificate of the API.
func (l *loader) checkHTTPFiles() {
	h := &l.cfg.HTTP
	if h.Cert == "" || h.Key == "" || !l.sound("http.cert", "http.key") {
		return
	}
	if _, err := ReadCertificate(h.Cert, h.Key); err != nil {
		name := "cert"
		if isKeyFault(err) {
			name = "key"
		}
		l.accuse("http", name, 0, err.Error())
	}
}
