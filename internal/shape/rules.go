package shape

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
)

// MaxRules bounds the rules of a configuration.
const MaxRules = 10_000

// By is what a rate is counted apart by; a set of bits.
type By uint8

// The things that rates are counted by.
const (
	BySource By = 1 << iota
	BySite
	ByProvider
	ByDomain
	ByStream
	BySender
)

// DefaultBy is how rates are counted when nothing is said: as connections are.
const DefaultBy = BySource | BySite

// RateLimit is so many messages in a time.
type RateLimit struct {
	Count int
	Per   time.Duration
}

// Rule is one [[shape]]: conditions, and limits for the mail that meets all of
// them. Each condition is a list of which one has to fit; an empty list is no
// condition.
type Rule struct {
	// Domains and MX are patterns of the recipient's domain and of the hosts'
	// names: "x.example" alone, "*.x.example" for everything under it, "*".
	Domains, MX []string
	// Sites and Providers may have "*" for any run of characters.
	Sites, Providers []string
	Sources          []string // addresses, or EHLO names
	Pools            []string
	Streams          []string

	// Limits; 0: nothing is said.
	Connections, MessagesPerConnection, RecipientsPerMessage int
	Rates                                                    []RateLimit
	By                                                       By
	Line                                                     int // in the configuration file; 0: unknown
}

// Query is mail that limits are asked for.
type Query struct {
	Route  *mta.Route // Pool: "" is the default pool
	Stream string
}

// Rules are rules in a form in which the first that fits is found without
// looking at those that cannot. It is never changed.
type Rules struct {
	rules  []compiledRule
	by     [7]map[string][]int32 // by the first condition that is exact: the rules with it
	always []int32               // rules without one
}

type compiledRule struct {
	Rule
	name string // "[[shape]] 2 (line 31)"
	id   string // "shape 2"
	rest bool   // what an earlier rule leaves of a site's mail
}

// The conditions that rules are found by, the narrowest first.
const (
	findSite = iota
	findDomain
	findMX
	findSource
	findProvider
	findPool
	findStream
)

// DefaultPool is the word for the pool of mail for which none is named.
const DefaultPool = "default"

// NewRules prepares rules. The error names every one that is wrong.
func NewRules(list []Rule) (*Rules, error) {
	if len(list) > MaxRules {
		return nil, fmt.Errorf("there are %d rules, at most %d are served", len(list), MaxRules)
	}
	r := &Rules{rules: make([]compiledRule, len(list))}
	var errs []error
	rest := false
	for i := range list {
		id := fmt.Sprintf("shape %d", i+1)
		name := fmt.Sprintf("[[shape]] %d", i+1)
		if list[i].Line > 0 {
			name = fmt.Sprintf("%s (line %d)", name, list[i].Line)
		}
		if err := list[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		r.rules[i] = compiledRule{Rule: list[i].lowered(), name: name, id: id, rest: rest}
		rest = rest || list[i].partial()
		r.index(int32(i))
	}
	return r, errors.Join(errs...)
}

func (r *Rule) check() error {
	for _, rate := range r.Rates {
		if rate.Count < 1 || rate.Per <= 0 {
			return errors.New("rate: it lets nothing pass")
		}
	}
	for _, list := range [][]string{r.Domains, r.MX} {
		for _, pattern := range list {
			if rest := strings.TrimPrefix(pattern, "*."); pattern != "*" && (rest == "" || strings.Contains(rest, "*")) {
				return fmt.Errorf("%q is no pattern (write x.example, *.x.example or *)", pattern)
			}
		}
	}
	return nil
}

// partial reports that a rule may be for part of a site's mail only.
func (r *Rule) partial() bool { return len(r.Domains)+len(r.Streams)+len(r.Pools) > 0 }

// lowered gives a rule whose patterns are ready to be compared.
func (r Rule) lowered() Rule {
	keys := func(list []string, host bool) []string {
		out := make([]string, len(list))
		for i, s := range list {
			s = strings.ToLower(s)
			if rest, under := strings.CutPrefix(s, "*."); host && under {
				s = "." + rest
			}
			out[i] = s
		}
		return out
	}
	r.Domains, r.MX, r.Sources = keys(r.Domains, true), keys(r.MX, true), keys(r.Sources, false)
	r.Sites, r.Providers = keys(r.Sites, false), keys(r.Providers, false)
	return r
}

// index puts a rule where it is found: under every value of one of its
// conditions that has no "*" inside.
func (r *Rules) index(i int32) {
	rule := &r.rules[i]
	for kind, list := range [...][]string{rule.Sites, rule.Domains, rule.MX, rule.Sources, rule.Providers, rule.Pools, rule.Streams} {
		if len(list) == 0 || slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "*") }) {
			continue
		}
		if r.by[kind] == nil {
			r.by[kind] = map[string][]int32{}
		}
		for _, key := range list {
			if had := r.by[kind][key]; len(had) == 0 || had[len(had)-1] != i {
				r.by[kind][key] = append(had, i)
			}
		}
		return
	}
	r.always = append(r.always, i)
}

// Len is how many rules there are.
func (r *Rules) Len() int {
	if r == nil {
		return 0
	}
	return len(r.rules)
}

// Apply puts the limits of the first rule that mail meets into l, with their
// origins. It reports whether one does.
func (r *Rules) Apply(l *mta.Limits, q Query) bool {
	rule := r.match(q)
	if rule == nil {
		return false
	}
	l.Origin = rule.name
	if rule.Connections > 0 {
		l.Connections, l.From.Connections = rule.Connections, rule.name
	}
	if rule.MessagesPerConnection > 0 {
		l.MessagesPerConnection, l.From.MessagesPerConnection = rule.MessagesPerConnection, rule.name
	}
	if rule.RecipientsPerMessage > 0 {
		l.RecipientsPerMessage, l.From.RecipientsPerMessage = rule.RecipientsPerMessage, rule.name
	}
	if len(rule.Rates) > 0 {
		l.Rates = append(slices.Clip(l.Rates), rule.rates(q)...)
	}
	return true
}

// match gives the first rule that fits, or nil.
func (r *Rules) match(q Query) *compiledRule {
	if r.Len() == 0 {
		return nil
	}
	found := slices.Clone(r.always)
	add := func(kind int, key string) { found = append(found, r.by[kind][key]...) }
	route := q.Route
	add(findSite, strings.ToLower(route.Site))
	if r.by[findDomain] != nil {
		eachName(route.Domain, func(key string) bool { add(findDomain, key); return false })
	}
	for i := range route.Hosts {
		if r.by[findMX] == nil {
			break
		}
		eachName(route.Hosts[i].Name, func(key string) bool { add(findMX, key); return false })
	}
	eachSource(route, func(key string) bool { add(findSource, key); return false })
	add(findProvider, route.Provider)
	add(findPool, poolOf(route))
	add(findStream, q.Stream)
	slices.Sort(found)
	for n, i := range found {
		if (n == 0 || found[n-1] != i) && r.rules[i].fits(q) {
			return &r.rules[i]
		}
	}
	return nil
}

func poolOf(r *mta.Route) string {
	if r.Pool == "" {
		return DefaultPool
	}
	return r.Pool
}

// fits reports whether mail meets all conditions.
func (r *compiledRule) fits(q Query) bool {
	route := q.Route
	switch {
	case len(r.Sites) > 0 && !anyGlob(r.Sites, strings.ToLower(route.Site)),
		len(r.Providers) > 0 && (route.Provider == "" || !anyGlob(r.Providers, route.Provider)),
		len(r.Pools) > 0 && !slices.Contains(r.Pools, poolOf(route)),
		len(r.Streams) > 0 && !slices.Contains(r.Streams, q.Stream):
		return false
	}
	in := func(list []string) func(string) bool {
		return func(key string) bool { return slices.Contains(list, key) }
	}
	if len(r.Domains) > 0 && !eachName(route.Domain, in(r.Domains)) {
		return false
	}
	if len(r.MX) > 0 && !slices.ContainsFunc(route.Hosts, func(h mta.Host) bool { return eachName(h.Name, in(r.MX)) }) {
		return false
	}
	return len(r.Sources) == 0 || eachSource(route, in(r.Sources))
}

// eachName calls f with the patterns that a name fits, the narrowest first,
// until it returns true.
func eachName(name string, f func(key string) bool) bool {
	name = strings.ToLower(name)
	if f(name) {
		return true
	}
	if !strings.HasPrefix(name, "[") {
		for i := range len(name) {
			if name[i] == '.' && f(name[i:]) {
				return true
			}
		}
	}
	return f("*")
}

// eachSource calls f with the addresses and EHLO names that a route sends from.
func eachSource(r *mta.Route, f func(key string) bool) bool {
	for i := range r.Sources {
		s := &r.Sources[i]
		if s.IP.IsValid() && f(s.IP.Unmap().String()) || f(strings.ToLower(s.Hostname)) {
			return true
		}
	}
	return len(r.Sources) == 0 && f(strings.ToLower(r.Helo))
}

func anyGlob(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Glob(p, s) })
}

// Glob reports whether s fits a pattern in which "*" is any run of characters.
func Glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok || len(parts) == 1 {
		return ok && rest == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

// rates makes the rates of a rule for some mail.
func (r *compiledRule) rates(q Query) []mta.Rate {
	var name strings.Builder
	for _, part := range [...]struct {
		by    By
		value func() string
	}{
		{BySource, q.Route.SourceKey},
		{BySite, func() string { return q.Route.Site }},
		{ByProvider, func() string { return q.Route.Provider }},
		{ByDomain, func() string { return q.Route.Domain }},
	} {
		if r.By&part.by != 0 {
			name.WriteByte('|')
			name.WriteString(part.value())
		}
	}
	out := make([]mta.Rate, len(r.Rates))
	for i, rate := range r.Rates {
		out[i] = mta.Rate{
			Count: rate.Count, Per: rate.Per, Origin: r.name,
			Bucket:   fmt.Sprintf("%s.%d%s", r.id, i+1, name.String()),
			ByStream: r.By&ByStream != 0, BySender: r.By&BySender != 0,
			Apart: r.rest || r.partial() || r.By&ByDomain != 0,
		}
	}
	return out
}
