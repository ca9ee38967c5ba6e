package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/unsubscribe"
)

// Unsubscribe is where the links of one-click unsubscription lead.
type Unsubscribe struct {
	URL         string         // that links begin with, without a slash at its end; empty: there are none
	Address     netip.AddrPort // where they are served
	Cert        string         // PEM file of the certificate and those that lead to its root; empty: no TLS
	Key         string         // PEM file of its private key
	ACME        bool           // the certificate comes as Config.ACME says
	Plain       bool           // Address may be other than loopback without TLS
	Connections int            // at once
}

// Host is the host name of URL; empty without one.
func (u *Unsubscribe) Host() string {
	parsed, err := url.Parse(u.URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(parsed.Hostname())
}

func unsubscribeTable() *table {
	at := func(c *Config) *Unsubscribe { return &c.Unsubscribe }
	return &table{name: "unsubscribe", doc: "Where the links lead that streams with `unsubscribe = true` put into their mail.", keys: []*key{
		newKey("url", mapped("URL", linkURL, keep), func(c *Config, _ int) *string { return &at(c).URL }).
			is(`""`, "What links begin with, as recipients reach it: `https://` and a path of your own; a token follows it. Empty: there are no links.").restart(),
		newKey("address", optionalEndpoint(), func(c *Config, _ int) *netip.AddrPort { return &at(c).Address }).
			is(`""`, "IP address and TCP port where they are served, to everybody; nothing else is served there.").restart(),
		newKey("cert", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).Cert }).
			is(`""`, "PEM file of the certificate for `address`, followed by those that lead to its root. A changed file is taken within a minute.").restart(),
		newKey("key", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).Key }).
			is(`""`, "PEM file of the certificate's private key; not readable by everybody.").restart(),
		newKey("acme", boolean(), func(c *Config, _ int) *bool { return &at(c).ACME }).
			is(`false`, "Whether the certificate comes from an authority as `[acme]` says, instead of `cert` and `key`; the host of `url` stands in its `names` then.").restart(),
		newKey("plain", boolean(), func(c *Config, _ int) *bool { return &at(c).Plain }).
			is(`false`, "Whether `address` may be another than loopback without a certificate, as behind a proxy that has one.").restart(),
		newKey("connections", integer[int](1, 100000), func(c *Config, _ int) *int { return &at(c).Connections }).
			is(`256`, "Most connections to `address` at once; one peer has a quarter of them at most, unless it is on loopback.").restart(),
	}}
}

// linkURL reads what links begin with.
func linkURL(s string) (string, string) {
	const sample = ` (write for example "https://news.example.com/u")`
	if s == "" {
		return "", ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || u.Scheme != "https":
		return "", shown(s) + " is not a URL of https" + sample // RFC 8058 3.1
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return "", shown(s) + " has more than a host and a path" + sample
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(`<>,"\{}`, c) >= 0 {
			return "", shown(s) + " has characters that a header field does not take as they are"
		}
	}
	return strings.TrimRight(s, "/"), ""
}

// streamUnsubscribe are the keys of [[stream]] for fields that mail gets on its
// way out.
func streamUnsubscribe() []*key {
	return []*key{
		newKey("unsubscribe", boolean(), func(c *Config, i int) *bool { return &c.Streams[i].Unsubscribe }).
			is(`false`, "Whether its mail gets List-Unsubscribe and List-Unsubscribe-Post fields with a link of its own for each recipient, as `[unsubscribe]` says. Who follows it gets no more mail of the stream."),
		newKey("list_unsubscribe", templateKind("List-Unsubscribe template", unsubscribe.ParsePlaces), func(c *Config, i int) *unsubscribe.Places { return &c.Streams[i].Places }).
			is(`""`, "With `unsubscribe`: the field's value, with `<{url}>` for the link and, if you like, `<mailto:…>` beside it, in which `{token}` and `{stream}` stand for the link's token and the stream. Empty: the link alone."),
		newKey("feedback_id", templateKind("Feedback-ID template", unsubscribe.ParseFeedback), func(c *Config, i int) *unsubscribe.Feedback { return &c.Streams[i].Feedback }).
			is(`""`, "The value of a Feedback-ID field for its mail: up to four fields with colons between them, the last of which is your sender's ID (5 to 15 letters). `{stream}`, `{user}`, `{domain}` (of the return path), `{tag}` (the first) and `{metadata:KEY}` stand for the message's. Empty: none."),
	}
}

// templateKind is a text that parse understands; its errors are sentences that
// follow the text.
func templateKind[T interface{ String() string }](name string, parse func(string) (T, error)) kind[T] {
	return scalar(name, func(v *value) (T, string) {
		t, err := parse(v.text)
		switch {
		case v.kind != unstable.String:
			return t, "is not a text"
		case err != nil:
			return t, shown(v.text) + " " + err.Error()
		}
		return t, ""
	}, func(t T) string { return t.String() })
}

// unsubscribeComplete: links lead to a listener with TLS, in front of it or its
// own, and following one has an effect.
func (l *loader) unsubscribeComplete() {
	u := &l.cfg.Unsubscribe
	if !l.sound("unsubscribe.url", "unsubscribe.address", "unsubscribe.cert", "unsubscribe.key", "unsubscribe.plain", "unsubscribe.acme", "acme.agree", "acme.names") {
		return
	}
	accuse := func(name, text string) { l.accuse("unsubscribe", name, 0, text) }
	switch host := u.Host(); {
	case u.URL != "" && !u.Address.IsValid():
		accuse("url", "has nobody who serves it: links would lead nowhere (write address)")
	case u.URL == "" && u.Address.IsValid():
		accuse("address", "has nothing to serve (write url)")
	case u.ACME && (u.Cert != "" || u.Key != ""):
		accuse("acme", "stands beside cert (keep one of them)")
	case u.ACME && !l.cfg.ACME.Agree:
		accuse("acme", needsAgreement)
	case u.ACME && u.URL != "" && !slices.Contains(l.cfg.ACME.Names, host):
		accuse("acme", "gets no certificate for "+quote(host)+" (write it into names of [acme])")
	case u.Cert != "" && u.Key == "":
		accuse("cert", "needs its private key (write key)")
	case u.Key != "" && u.Cert == "":
		accuse("key", "needs its certificate (write cert)")
	case u.Address.IsValid() && u.Cert == "" && !u.ACME && !u.Plain && !u.Address.Addr().Unmap().IsLoopback():
		accuse("address", quote(u.Address.String())+" is not loopback and has no TLS (write cert and key, acme = true, or plain = true if a proxy before it has TLS)")
	}
	l.unsubscribeApart()
	l.linksComplete()
}

// unsubscribeApart: the address is nobody else's.
func (l *loader) unsubscribeApart() {
	u, table := &l.cfg.Unsubscribe, findTable("listen")
	if !u.Address.IsValid() {
		return
	}
	for i, own := range l.cfg.Listen {
		if l.sound(table.full(i)+".address") && collide(own.Address, u.Address) {
			line, _ := l.doc.position(l.at(table.key("address"), i))
			l.accuse("unsubscribe", "address", 0, quote(u.Address.String())+" is taken by the [[listen]] on line "+itoa(line)+" ("+quote(own.Address.String())+")")
			return
		}
	}
	if h := l.cfg.HTTP.Address; h.IsValid() && l.sound("http.address") && collide(h, u.Address) {
		l.accuse("unsubscribe", "address", 0, quote(u.Address.String())+" is taken by [http] ("+quote(h.String())+"): what everybody may reach is served apart")
	}
}

// linksComplete: streams have links that lead somewhere and change something.
func (l *loader) linksComplete() {
	u := &l.cfg.Unsubscribe
	for i, s := range l.cfg.Streams {
		full := findTable("stream").full(i)
		if !l.sound(full+".unsubscribe", full+".list_unsubscribe", full+".suppress", full+".name") {
			continue
		}
		switch {
		case !s.Unsubscribe && s.Places.String() != "":
			l.accuse("stream", "list_unsubscribe", i, "stands without unsubscribe = true")
		case !s.Unsubscribe:
		case u.URL == "":
			l.accuse("stream", "unsubscribe", i, "needs links (write url and address in [unsubscribe])")
		case !slices.Contains(s.Suppress, "unsubscribed"):
			l.accuse("stream", "suppress", i, `leaves "unsubscribed" out: who follows a link would go on getting mail`)
		case !unsubscribe.Fits(u.URL, s.Name):
			l.accuse("stream", "unsubscribe", i, "makes links too long for some addresses (shorten url in [unsubscribe], or the stream's name)")
		}
	}
}

// checkUnsubscribeFiles looks at the certificate of the links.
func (l *loader) checkUnsubscribeFiles() {
	u := &l.cfg.Unsubscribe
	if u.Cert == "" || u.Key == "" || !l.sound("unsubscribe.cert", "unsubscribe.key") {
		return
	}
	if _, err := ReadCertificate(u.Cert, u.Key); err != nil {
		name := "cert"
		if isKeyFault(err) {
			name = "key"
		}
		l.accuse("unsubscribe", name, 0, err.Error())
	}
}
