package config

import (
	"net/netip"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/account"
	"mailout/internal/shape"
)

// Shape is one [[shape]]: limits for the mail that meets all its conditions.
type Shape struct {
	shape.Rule
	Line int // in the file
}

// ShapeRules gives the rules in order.
func (c *Config) ShapeRules() []shape.Rule {
	out := make([]shape.Rule, len(c.Shapes))
	for i := range c.Shapes {
		out[i] = c.Shapes[i].Rule
		out[i].Line = c.Shapes[i].Line
	}
	return out
}

// The widest limits that make sense, to catch slips.
const (
	maxConnections = 10_000 // as of [delivery] connections
	maxMessages    = 100_000
	maxRecipients  = 100_000
	maxRates       = 10
)

var shapeBy = words[shape.By]{{"source", shape.BySource}, {"site", shape.BySite}, {"provider", shape.ByProvider},
	{"domain", shape.ByDomain}, {"stream", shape.ByStream}, {"sender", shape.BySender}}

func shapeTable() *table {
	at := func(c *Config, i int) *Shape { return &c.Shapes[i] }
	return &table{name: "shape", array: true, live: true,
		count: func(c *Config) int { return len(c.Shapes) },
		grow:  func(c *Config) { c.Shapes = append(c.Shapes, Shape{}) },
		doc:   "Limits for some mail: that which meets every condition given (`sites`, `domains`, `mx`, `providers`, `sources`, `pools`, `streams`). The first match decides what it sets; the rest is the provider's (`[delivery] provider_limits`) or that of `[delivery]`. At most 10,000.", keys: []*key{
			newKey("sites", list(text("site", checkSite), 0, maxList, `["mx1.example.net=mx2.example.net"]`), func(c *Config, i int) *[]string { return &at(c, i).Sites }).
				is(`[]`, "Sites as `mailout queue list` and `explain` name them; `*` is any run of characters."),
			newKey("domains", list(mapped("domain", routeDomain, keep), 0, maxList, `["example.com"]`), func(c *Config, i int) *[]string { return &at(c, i).Domains }).
				is(`[]`, "Recipient domains, as in `[[route]]`. Connections are shared with other domains behind the same hosts."),
			newKey("mx", list(text("host name or pattern", checkHostPattern), 0, maxList, `["*.google.com"]`), func(c *Config, i int) *[]string { return &at(c, i).MX }).
				is(`[]`, "Names of mail servers, of which one has to fit: `mx1.example.net`, or `*.example.net` for those under it."),
			newKey("providers", list(text("provider", checkProviderPattern), 0, maxList, `["google"]`), func(c *Config, i int) *[]string { return &at(c, i).Providers }).
				is(`[]`, "Providers that mailout knows by their hosts ([list](shaping.md#providers)); `*` is any run of characters, so `microsoft*` is both of them and `*` every known one."),
			newKey("sources", list(text("source", checkSourceName), 0, maxList, `["192.0.2.10"]`), func(c *Config, i int) *[]string { return &at(c, i).Sources }).
				is(`[]`, "Sources by `ip` or `hostname`."),
			newKey("pools", list(text("pool name", checkPoolName), 0, maxList, `["bulk"]`), func(c *Config, i int) *[]string { return &at(c, i).Pools }).
				is(`[]`, "Pools that the mail goes out from; `default` is that of mail for which none is named."),
			newKey("streams", list(text("stream name", checkStream), 0, maxList, `["invoices"]`), func(c *Config, i int) *[]string { return &at(c, i).Streams }).
				is(`[]`, "Streams. Not with `connections` or `messages_per_connection`: sessions carry mail of all streams."),
			newKey("connections", integer[int](0, maxConnections), func(c *Config, i int) *int { return &at(c, i).Connections }).
				is(`0`, "Most connections at once to one site from one source. `0`: nothing is said here."),
			newKey("messages_per_connection", integer[int](0, maxMessages), func(c *Config, i int) *int { return &at(c, i).MessagesPerConnection }).
				is(`0`, "Messages after which a connection is closed. `0`: nothing is said here."),
			newKey("recipients_per_message", integer[int](0, maxRecipients), func(c *Config, i int) *int { return &at(c, i).RecipientsPerMessage }).
				is(`0`, "Most recipients of one transaction; a message for more goes in several. `0`: nothing is said here (100)."),
			newKey("rate", ratesKind(), func(c *Config, i int) *[]shape.RateLimit { return &at(c, i).Rates }).
				is(`[]`, "Most messages in a time: `\"5/s\"`, `\"100/m\"`, `\"1000/h\"`, `\"20000/d\"`, or several of these, all of which hold. `[]`: nothing is said here."),
			newKey("by", byKind(), func(c *Config, i int) *shape.By { return &at(c, i).By }).
				is(`["source", "site"]`, "What `rate` is counted apart by: `source`, `site`, `provider`, `domain`, `stream`, `sender` (return path). `[]`: all mail that meets the rule counts together."),
		}}
}

// providerLimits is the key of [delivery].
func providerLimits() *key {
	return newKey("provider_limits", boolean(), func(c *Config, _ int) *bool { return &c.Delivery.ProviderLimits }).
		is(`true`, "Whether limits are lowered to what is [known of providers](shaping.md#providers), where no `[[shape]]` says otherwise.")
}

func checkSite(s string) string {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return quote(s) + ` is not a site (write it as "mailout explain" names it)`
	}
	return ""
}

func checkProviderPattern(s string) string {
	if strings.Contains(s, "*") {
		for _, p := range shape.Providers() {
			if shape.Glob(s, p.Name) {
				return ""
			}
		}
		return quote(s) + " fits no provider that is known"
	}
	return checkRunBy(s)
}

func checkPoolName(s string) string {
	if s == DefaultPool {
		return ""
	}
	return checkPool(s)
}

// ratesKind is one rate, or a list of them.
func ratesKind() kind[[]shape.RateLimit] {
	single := scalar("rate", func(v *value) (shape.RateLimit, string) {
		r, err := account.ParseRate(v.text)
		if v.kind != unstable.String || err != nil || r.Messages == 0 {
			return shape.RateLimit{}, v.shown() + ` is not a rate (write for example "1000/h"; the times are /s, /m, /h and /d)`
		}
		return shape.RateLimit{Count: r.Messages, Per: r.Per}, ""
	}, func(r shape.RateLimit) string { return account.Rate{Messages: r.Count, Per: r.Per}.String() })
	k := list(single, 0, maxRates, `["5/s", "1000/h"]`)
	several := k.read
	k.name = "rate, or list of rates"
	k.read = func(v *value) ([]shape.RateLimit, []complaint) {
		if v.kind == unstable.Array {
			return several(v)
		}
		r, bad := single.read(v)
		return []shape.RateLimit{r}, bad
	}
	return k
}

// byKind is a set of words.
func byKind() kind[shape.By] {
	of := list(word(shapeBy), 0, len(shapeBy), `["source", "site"]`)
	split := func(b shape.By) (out []shape.By) {
		for _, w := range shapeBy {
			if b&w.value != 0 {
				out = append(out, w.value)
			}
		}
		return out
	}
	return kind[shape.By]{
		name: of.name,
		read: func(v *value) (b shape.By, bad []complaint) {
			list, bad := of.read(v)
			for _, w := range list {
				b |= w
			}
			return b, bad
		},
		write: func(b shape.By) string { return of.write(split(b)) },
		plain: func(b shape.By) string { return of.plain(split(b)) },
		bare:  of.bare,
	}
}

// shapesWhole: a rule must limit something, and what it can; and what it names
// must be there.
func (l *loader) shapesWhole() {
	if len(l.cfg.Shapes) > shape.MaxRules {
		l.accuse("shape", "rate", shape.MaxRules, "is rule "+itoa(shape.MaxRules+1)+": at most "+itoa(shape.MaxRules)+" are possible")
	}
	tbl := findTable("shape")
	for i := range l.cfg.Shapes {
		s, full := &l.cfg.Shapes[i], tbl.full(i)
		s.Line, _ = l.doc.position(l.sectionAt(tbl, i))
		if s.Connections+s.MessagesPerConnection+s.RecipientsPerMessage+len(s.Rates) == 0 &&
			l.sound(full+".connections", full+".messages_per_connection", full+".recipients_per_message", full+".rate") {
			l.accuse("shape", "connections", i, "nothing is limited (write connections, messages_per_connection, recipients_per_message or rate)")
		}
		if len(s.Streams) > 0 && s.Connections+s.MessagesPerConnection > 0 && l.sound(full+".streams") {
			l.accuse("shape", "streams", i, "does not go with connections or messages_per_connection: sessions carry mail of all streams (write rate)")
		}
		for _, pool := range s.Pools {
			if why := l.noPool(pool); why != "" {
				l.accuse("shape", "pools", i, why)
			}
		}
		for _, source := range s.Sources {
			if !l.isSource(source) {
				l.accuse("shape", "sources", i, quote(source)+" is no [[source]]")
			}
		}
	}
}

// isSource reports whether a source is configured by an address or EHLO name;
// without any, the EHLO name of all mail is one.
func (l *loader) isSource(name string) bool {
	for i := range l.cfg.Sources {
		if l.cfg.Sources[i].named(name) {
			return true
		}
	}
	_, err := netip.ParseAddr(name)
	return len(l.cfg.Sources) == 0 && err != nil && strings.EqualFold(name, l.cfg.Hostname)
}
