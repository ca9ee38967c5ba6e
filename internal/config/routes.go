package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"mailout/internal/account"
	"mailout/internal/mta"
)

// Route sends some mail elsewhere: that which meets all its conditions. Of each
// list one has to fit; an empty one is no condition.
type Route struct {
	// Domains are patterns: lower-case A-labels, "*.example.com" (names under
	// it, not itself), "*" (every domain), or an address literal ("[192.0.2.1]").
	Domains []string
	Senders []string // patterns as account.Senders has them, and "<>"
	Streams []string
	Users   []string
	Tags    []string

	Host string // the first host, RouteDirect or RouteRouter; empty: none is given
	Peers
	Port uint16
	TLS  mta.TLSRequirement
	Auth Credentials
	Pool string // empty: none is given

	Action RouteAction
	Text   string // in the bounce, with RouteFail

	Table          string // path or URL; empty: none
	TableBy        []RouteFact
	TableTokenFile string

	Line int // in the file, to say which route matched
}

// The words that stand where hosts stand.
const (
	RouteDirect = "direct" // the domain's own mail servers
	RouteRouter = "router" // the host of [router]
)

// Direct reports whether the route delivers to the domain's own mail servers.
func (r *Route) Direct() bool { return r.Host == RouteDirect }

// To reports whether the route names a host.
func (r *Route) To() bool { return r.Host != "" && r.Host != RouteDirect && r.Host != RouteRouter }

// RouteAction is what a route does instead of sending.
type RouteAction uint8

// The actions.
const (
	RouteSend RouteAction = iota
	RouteHold
	RouteDiscard
	RouteFail
)

// RouteFact is what a table is asked by.
type RouteFact uint8

// The facts.
const (
	RouteByDomain RouteFact = iota
	RouteBySender
	RouteByStream
	RouteByUser
	RouteByTags
)

var (
	routeActions = words[RouteAction]{{"none", RouteSend}, {"hold", RouteHold}, {"discard", RouteDiscard}, {"fail", RouteFail}}
	routeFacts   = words[RouteFact]{{"domain", RouteByDomain}, {"sender", RouteBySender}, {"stream", RouteByStream}, {"user", RouteByUser}, {"tags", RouteByTags}}
)

// localUser begins the names of this machine's accounts (mta.LocalUser).
const localUser = "unix:"

// The bounds of [[route]].
const (
	maxRoutes    = 10_000
	maxRouteText = 500 // octets
)

func routeTable() *table {
	at := func(c *Config, i int) *Route { return &c.Routes[i] }
	return &table{name: "route", array: true, live: true,
		count: func(c *Config) int { return len(c.Routes) },
		grow:  func(c *Config) { c.Routes = append(c.Routes, Route{}) },
		doc:   "Other ways for some mail: that which meets every condition given (`domains`, `senders`, `streams`, `users`, `tags`). The first match wins; all of them come before `[router]`. At most 10,000.", keys: append([]*key{
			newKey("domains", list(mapped("domain", routeDomain, keep), 0, maxList, `["example.com"]`), func(c *Config, i int) *[]string { return &at(c, i).Domains }).
				is(`[]`, "Recipient domains: a name, `*.example.com` or `.example.com` for the names under it (not itself), `*` for every domain, or an address literal such as `[192.0.2.1]`."),
			newKey("senders", list(mapped("address or pattern", routeSender, keep), 0, maxList, `["*@example.com"]`), func(c *Config, i int) *[]string { return &at(c, i).Senders }).
				is(`[]`, "Return paths, as `from` of `[[user]]` has them: `erp@example.com`, `*@example.com`, `*@*.example.com`, `*`; and `<>` for the null return path of bounces."),
			newKey("streams", list(text("stream name", checkStream), 0, maxList, `["invoices"]`), func(c *Config, i int) *[]string { return &at(c, i).Streams }).
				is(`[]`, "Streams."),
			newKey("users", list(text("user name", routeUser), 0, maxList, `["erp"]`), func(c *Config, i int) *[]string { return &at(c, i).Users }).
				is(`[]`, "Who handed the mail over: names of `[[user]]`, and `unix:NAME` for accounts of this machine that used the control socket."),
			newKey("tags", list(text("tag", routeTag), 0, maxList, `["urgent"]`), func(c *Config, i int) *[]string { return &at(c, i).Tags }).
				is(`[]`, "Tags: those given at an API or in a file, and those of the header field X-Mailout-Tag."),
			hostKey(newKey("host", mapped("host name or address", routeHost, keep), func(c *Config, i int) *string { return &at(c, i).Host }), routePeers, "").
				is(`""`, "The host that takes this mail, as in `[router]`; `direct` delivers to the domain's own mail servers, `router` to that of `[router]`, whatever its `use`."),
			newKey("port", integer[uint16](1, 65535), func(c *Config, i int) *uint16 { return &at(c, i).Port }).
				derives("25, or 465 with `tls = \"implicit\"`, or 24 with `protocol = \"lmtp\"`; for `direct`, `[delivery] port`", routePort, "TCP port of the hosts that name none."),
			newKey("tls", word(peerTLS), func(c *Config, i int) *mta.TLSRequirement { return &at(c, i).TLS }).
				derives("`opportunistic`; `required` with `username` or `client_cert`; for `direct` and with `table`, `[tls] outbound`", routeTLS, "As in `[router]`; `implicit` is not possible with `direct`."),
			newKey("pool", text("pool name", optionalPool), func(c *Config, i int) *string { return &at(c, i).Pool }).
				is(`""`, "Pool of sources that the mail goes out from. Without `host` the mail goes the way it would without this route. Empty: none of the route's own."),
			newKey("action", word(routeActions), func(c *Config, i int) *RouteAction { return &at(c, i).Action }).
				is(`"none"`, "Instead of sending: `hold` keeps the mail until somebody releases it; `discard` ends it, and the journal alone says so; `fail` returns it to its sender (5.7.1)."),
			newKey("text", text("sentence", routeText), func(c *Config, i int) *string { return &at(c, i).Text }).
				is(`""`, "With `action = \"fail\"`: the sentence in the bounce."),
			newKey("table", mapped("path or URL", routeTableSource, keep), func(c *Config, i int) *string { return &at(c, i).Table }).
				is(`""`, "File, or service (`https://…`, `http://…`), that says where mail goes, instead of `host`, `pool` and `action`. What it does not know goes on to the next route. Empty: none."),
			newKey("table_by", list(word(routeFacts), 0, len(routeFacts), `["domain"]`), func(c *Config, i int) *[]RouteFact { return &at(c, i).TableBy }).
				derives("`[\"domain\"]`", func(c *Config, i int) { at(c, i).TableBy = []RouteFact{RouteByDomain} }, "What the table is asked by: a file by `domain` or by `sender`, a service by any of them."),
			newKey("table_token_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).TableTokenFile }).
				is(`""`, "File whose only line is the token that the service is shown (`Authorization: Bearer`); not readable by everybody."),
		}, append(peerKeys(routePeers), credentialKeys(func(c *Config, i int) *Credentials { return &at(c, i).Auth })...)...)}
}

func routePeers(c *Config, i int) *Peers { return &c.Routes[i].Peers }

func routeDomain(s string) (string, string) {
	if strings.HasPrefix(s, ".") {
		s = "*" + s
	}
	return canonicalPattern(s)
}

func routeSender(s string) (string, string) {
	if s == "<>" {
		return s, ""
	}
	p, err := account.ParseSender(s)
	if err != nil {
		return "", shown(s) + " " + err.Error()
	}
	return p, ""
}

func routeUser(s string) string {
	if local, is := strings.CutPrefix(s, localUser); is && local != "" && mta.Printable(local) {
		return ""
	}
	return checkUser(s)
}

func routeTag(s string) string {
	if s == "" || len(s) > mta.MaxTag || !mta.Printable(s) {
		return shown(s) + " is not a tag (1 to " + itoa(mta.MaxTag) + " printable octets)"
	}
	return ""
}

// routeHost reads a host, or a word that stands for one.
func routeHost(s string) (string, string) {
	switch s {
	case "", RouteDirect, RouteRouter:
		return s, ""
	case "none":
		return "", shown(s) + ` is not a host (write "` + RouteDirect + `" to deliver directly)`
	}
	return s, checkPeer(s)
}

func routeText(s string) string {
	if len(s) > maxRouteText || !mta.Printable(s) {
		return shown(s) + " is not a sentence of at most " + itoa(maxRouteText) + " printable octets"
	}
	return ""
}

// remoteTable reports whether a table is a service.
func remoteTable(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

func routeTableSource(s string) (string, string) {
	if !remoteTable(s) {
		return optionalPath(s)
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Fragment != "" {
		return "", "is not a URL" // without the text: it may have a secret in it
	}
	if u.User != nil {
		return "", "has a password in it, which show would print (write table_token_file)"
	}
	return s, ""
}

// TableName is a table as it may be shown: of a URL without its query, which may
// have a secret in it.
func TableName(table string) string {
	if remoteTable(table) {
		table, _, _ = strings.Cut(table, "?")
	}
	return table
}

func routePort(c *Config, i int) {
	r := &c.Routes[i]
	r.Port = defaultPort(r.TLS, r.Protocol)
	if r.Direct() {
		r.Port = c.Delivery.Port
	}
}

func routeTLS(c *Config, i int) {
	switch r := &c.Routes[i]; {
	case r.Direct() || r.Table != "":
		r.TLS = c.TLS.Outbound
	case r.Auth.Any():
		r.TLS = mta.TLSRequired
	}
}

// routesComplete: each route has a condition and one target.
func (l *loader) routesComplete() {
	if n := len(l.cfg.Routes); n > maxRoutes {
		l.accuse("route", "domains", maxRoutes, "there are "+itoa(n)+" [[route]] (at most "+itoa(maxRoutes)+" are possible; write a table)")
		return
	}
	users := map[string]bool{}
	for _, u := range l.cfg.Users {
		users[u.Name] = true
	}
	for i := range l.cfg.Routes {
		l.routeTarget(i)
		l.routeTableFits(i)
		l.routeNames(i, users)
	}
}

// routeBad reports whether one of a route's keys was refused.
func (l *loader) routeBad(i int, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return l.bad[findTable("route").full(i)+"."+key] })
}

// What stands at its default is not complained of: show writes it too.
func (l *loader) routeTarget(i int) {
	r := &l.cfg.Routes[i]
	bad := func(key, message string) { l.accuse("route", key, i, message) }
	if len(r.Domains)+len(r.Senders)+len(r.Streams)+len(r.Users)+len(r.Tags) == 0 && r.Table == "" &&
		!l.routeBad(i, "domains", "senders", "streams", "users", "tags", "table") {
		bad("domains", `is missing (write domains = ["example.com"], or another condition)`)
	}
	sends := r.Host != "" || r.Pool != ""
	switch {
	case l.routeBad(i, "host", "pool", "action", "table"):
	case !sends && r.Action == RouteSend && r.Table == "":
		bad("host", `is missing (write host = "direct", a pool, an action or a table)`)
	case r.Table != "" && (sends || r.Action != RouteSend):
		bad("table", "says where mail goes, and so do host, pool and action (keep one)")
	case r.Action != RouteSend && sends:
		bad("action", "sends the mail nowhere, and host or pool sends it somewhere (keep one)")
	case r.To() || r.Direct() || r.Table != "":
	case r.TLS != mta.TLSOpportunistic:
		bad("tls", "goes with a host (or with the hosts of a table)")
	case r.Port != smtpPort(r.TLS):
		bad("port", "goes with a host (or with the hosts of a table)")
	}
	if r.Text != "" && r.Action != RouteFail {
		bad("text", `goes with action = "fail"`)
	}
	if r.Direct() && r.TLS == mta.TLSImplicit && l.sound(findTable("route").full(i)+".tls") {
		bad("tls", `"implicit" needs a host; with host = "direct" servers are reached on port `+itoa(int(l.cfg.Delivery.Port))+` (write "required")`)
	}
}

func (l *loader) routeTableFits(i int) {
	r := &l.cfg.Routes[i]
	bad := func(key, message string) { l.accuse("route", key, i, message) }
	switch {
	case r.Table == "":
		if l.routeBad(i, "table") {
			return
		}
		if !slices.Equal(r.TableBy, []RouteFact{RouteByDomain}) && !l.routeBad(i, "table_by") {
			bad("table_by", "goes with a table")
		}
		if r.TableTokenFile != "" {
			bad("table_token_file", "goes with a table")
		}
	case l.routeBad(i, "table_by"):
	case len(r.TableBy) == 0:
		bad("table_by", `is empty (write ["domain"])`)
	case !remoteTable(r.Table):
		if len(r.TableBy) > 1 || r.TableBy[0] != RouteByDomain && r.TableBy[0] != RouteBySender {
			bad("table_by", `a file is asked by one of "domain" and "sender"`)
		}
		if r.TableTokenFile != "" {
			bad("table_token_file", "goes with a table that is a service (https://…)")
		}
	case r.TableTokenFile != "" && strings.HasPrefix(r.Table, "http://") && !loopbackURL(r.Table):
		bad("table_token_file", "the token would cross the network in clear text (write https:// in table)")
	}
}

// loopbackURL reports whether a URL surely leads to this machine.
func loopbackURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// routeNames: what a route names is there.
func (l *loader) routeNames(i int, users map[string]bool) {
	r := &l.cfg.Routes[i]
	full := findTable("route").full(i)
	if r.Host == RouteRouter && l.cfg.Router.Host == "" && l.sound("router.host") {
		l.accuse("route", "host", i, `"router" is named, and there is no [router] (write its host there)`)
	}
	if why := l.noPool(r.Pool); why != "" {
		l.accuse("route", "pool", i, why)
	}
	p, there := l.places[full+".users"]
	if !there || !l.sound(full+".users") {
		return
	}
	for n, user := range r.Users {
		if !users[user] && !strings.HasPrefix(user, localUser) {
			l.fail(p.value.items[n].at, findTable("route").key("users").label(), "there is no [[user]] with the name "+quote(user))
		}
	}
}

// routesReachable: mail that an earlier route takes without any other condition
// never comes to a later one.
func (l *loader) routesReachable() {
	taken := map[string]int{} // pattern → line
	k := findTable("route").key("domains")
	for i := range l.cfg.Routes {
		r := &l.cfg.Routes[i]
		if !l.sound(k.full(i)) {
			continue
		}
		p, there := l.places[k.full(i)]
		if line, all := taken["*"]; all && !there {
			l.fail(l.sectionAt(k.table, i), k.table.label(), neverUsed("*", line))
			continue
		}
		certain := len(r.Senders)+len(r.Streams)+len(r.Users)+len(r.Tags) == 0 && r.Table == "" && l.routeSound(i)
		for n, domain := range r.Domains {
			if by, line := takenBy(taken, domain); by != "" {
				l.fail(p.value.items[n].at, k.label(), quote(domain)+" "+neverUsed(by, line))
			} else if certain {
				taken[domain], _ = l.doc.position(p.value.items[n].at)
			}
		}
	}
}

// routeSound reports whether no condition of a route was refused.
func (l *loader) routeSound(i int) bool {
	full := findTable("route").full(i)
	return l.sound(full+".senders", full+".streams", full+".users", full+".tags", full+".table")
}

func neverUsed(by string, line int) string {
	return "is never used: " + quote(by) + " has a route already on line " + itoa(line) + "; the first match wins"
}

// takenBy finds the pattern before that has everything of a pattern.
func takenBy(taken map[string]int, pattern string) (by string, line int) {
	for _, each := range wider(pattern) {
		if line, ok := taken[each]; ok {
			return each, line
		}
	}
	return "", 0
}

// wider gives a pattern and those that have everything that it has.
func wider(pattern string) []string {
	out := []string{pattern}
	if rest, sub := strings.CutPrefix(pattern, "*."); sub {
		pattern = rest
	}
	if pattern != "*" && !strings.HasPrefix(pattern, "[") {
		for rest := pattern; ; {
			_, parent, more := strings.Cut(rest, ".")
			if !more {
				break
			}
			out, rest = append(out, "*."+parent), parent
		}
	}
	if pattern != "*" {
		out = append(out, "*")
	}
	return out
}

// checkRouteFiles looks at the secrets that routes name. Tables are not read
// here: they may change at any time, and a broken one is no reason to take no
// mail.
func (l *loader) checkRouteFiles() {
	for i := range l.cfg.Routes {
		file := l.cfg.Routes[i].TableTokenFile
		if file == "" || !l.sound(findTable("route").full(i)+".table_token_file") {
			continue
		}
		if _, err := ReadSecret(file); err != nil {
			l.accuse("route", "table_token_file", i, err.Error())
		}
	}
}

// routePaths are those that may be relative to the file.
func (l *loader) routePaths() (out []*string) {
	for i := range l.cfg.Routes {
		r := &l.cfg.Routes[i]
		if !remoteTable(r.Table) {
			out = append(out, &r.Table)
		}
		out = append(out, &r.TableTokenFile)
	}
	return out
}
