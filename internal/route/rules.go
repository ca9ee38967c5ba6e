package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"mailout/internal/account"
	"mailout/internal/mta"
)

// MaxRules bounds the rules of a configuration.
const MaxRules = 10_000

// Rule is one [[route]]: conditions, and where mail goes that meets all of them.
// Each is a list of which one has to fit; an empty list is no condition.
type Rule struct {
	// Domains are patterns of the recipient's domain, without regard to case:
	// "near.example" is that domain alone; "*.partner.example" and
	// ".partner.example" are everything under it but not itself; "*" is
	// everything. An address literal ("[192.0.2.1]") is compared as text. Unicode
	// names match their A-labels.
	Domains []string
	// Senders are patterns of the return path, as account.Senders has them, and
	// NullSender.
	Senders []string
	Streams []string
	Users   []string // mta.Origin.User
	Tags    []string // of mta.Message.Tags

	// Host is "direct", "router" (that of Settings, whatever its use), or where
	// the mail goes, as [Peers] says. Empty with only Pool: as without the rule.
	Host string
	Peers
	Port uint16              // 0: the one in Host, else Settings.Port
	TLS  *mta.TLSRequirement // nil: Settings.TLS
	Pool string              // of sources; empty: as without the rule
	// Action, instead of Host and Pool, sends the mail nowhere. Text is the
	// sentence in the bounce, with ActionFail.
	Action Action
	Text   string
	// Table, instead of them, says for each domain or sender; Port and TLS are for
	// its hosts then. Mail that it does not know goes on to the next rule.
	Table Table
	Line  int // in the configuration file, for explanations; 0: unknown
}

// NullSender is the pattern of the null return path: of bounces.
const NullSender = "<>"

// Action is what a rule does instead of sending.
type Action uint8

// The actions.
const (
	ActionNone    Action = iota
	ActionHold           // held until somebody releases it
	ActionDiscard        // cancelled, and the journal alone has it
	ActionFail           // refused for good, and returned to the sender
)

// DefaultText is Rule.Text where none is given.
const DefaultText = "mail of this kind is not sent"

// way is where a target sends mail.
type way uint8

const (
	wayDefault way = iota // as without a rule
	wayDirect
	wayRouter
	wayHost
	wayHold
	wayDiscard
	wayFail
)

// target is where a rule or a line of a table sends mail.
type target struct {
	way   way
	relay *relay // with wayHost
	port  uint16
	tls   mta.TLSRequirement
	ruled bool // a rule says tls
	pool  string
	text  string // with wayFail
}

// compiledRule is a Rule in the form that planning works with.
type compiledRule struct {
	matched string // "[[route]] 2 (line 31)"
	target  target
	table   table // nil: target
	senders keys  // nil: no condition
	streams keys
	users   keys
	tags    keys
	any     bool // senders has "*"
	// dependent: whether the rule holds is seen at the message.
	dependent bool
	alone     string // the variant that notes this rule alone
	port      uint16 // Rule.Port, for the hosts of its table
	peers     Peers  // what the rule says of them, but Hosts

	mu struct {
		sync.Mutex
		resolved map[spec]*target // of its table
	}
}

// keys is a set of texts.
type keys map[string]struct{}

func newKeys(list []string) keys {
	if len(list) == 0 {
		return nil
	}
	k := make(keys, len(list))
	for _, s := range list {
		k[s] = struct{}{}
	}
	return k
}

func (k keys) has(s string) bool {
	_, ok := k[s]
	return ok
}

// addRules compiles the rules.
func (c *compiled) addRules() (errs []error) {
	if len(c.Rules) > MaxRules {
		return []error{fmt.Errorf("[[route]]: there are %d (at most %d are possible)", len(c.Rules), MaxRules)}
	}
	c.index = newIndex()
	c.unmatched = target{tls: c.TLS, port: c.Port}
	c.rules = make([]compiledRule, len(c.Rules))
	for i := range c.Rules {
		if err := c.addRule(i, &c.Rules[i]); err != nil {
			errs = append(errs, fmt.Errorf("[[route]] %d: %w", i+1, err))
		}
	}
	return errs
}

func (c *compiled) addRule(i int, r *Rule) error {
	rule := &c.rules[i]
	rule.matched, rule.port = at("[[route]] "+strconv.Itoa(i+1), r.Line), r.Port
	rule.peers = Peers{Protocol: r.Protocol, Helo: r.Helo, Limits: r.Limits}
	if err := c.setTarget(rule, r); err != nil {
		return err
	}
	if len(r.Domains)+len(r.Senders)+len(r.Streams)+len(r.Users)+len(r.Tags) == 0 && r.Table.Source == "" {
		return errors.New("domains: there is no condition (write domains = [\"*\"] for all mail)")
	}
	senders, err := senderKeys(r.Senders)
	if err != nil {
		return err
	}
	domains, err := domainKeys(r.Domains)
	if err != nil {
		return err
	}
	rule.senders, rule.any = newKeys(senders), hasAny(senders)
	rule.streams, rule.users, rule.tags = newKeys(r.Streams), newKeys(r.Users), newKeys(r.Tags)
	rule.dependent = rule.senders != nil && !rule.any || rule.users != nil || rule.tags != nil || rule.table != nil && rule.table.dependent()
	rule.alone = string(noted{rule: int32(i)}.append([]byte(c.none)))
	c.dependent = c.dependent || rule.dependent
	c.index.add(int32(i), domains, senders, r)
	return nil
}

// setTarget reads where the rule sends mail.
func (c *compiled) setTarget(rule *compiledRule, r *Rule) error {
	given := 0
	for _, is := range []bool{r.Host != "" || len(r.Hosts) > 0 || r.Pool != "", r.Action != ActionNone, r.Table.Source != ""} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return errors.New("host: it is missing")
	case given > 1:
		return errors.New("host and pool, action, and table exclude each other")
	case r.Text != "" && r.Action != ActionFail:
		return errors.New("text: it is for action = \"fail\"")
	}
	if err := c.checkPool(r.Pool); err != nil {
		return err
	}
	rule.target = target{tls: c.TLS, port: c.Port, pool: r.Pool, text: r.Text}
	if r.TLS != nil {
		rule.target.tls, rule.target.ruled = *r.TLS, true
	}
	switch {
	case r.Table.Source != "":
		var err error
		rule.table, err = c.tables.get(r)
		return err
	case r.Action != ActionNone:
		rule.target.way = actionWay(r.Action)
		return nil
	case r.Host == "" && len(r.Hosts) == 0:
		return nil
	}
	return c.setHost(&rule.target, r.Host, r.Port, &r.Peers)
}

// checkPool says why a pool cannot be used; nil for none.
func (c *compiled) checkPool(name string) error {
	if _, there := c.pools[name]; there || name == DefaultPool {
		return nil
	}
	return fmt.Errorf("pool: there is no pool %q", name)
}

func actionWay(a Action) way {
	return [...]way{ActionHold: wayHold, ActionDiscard: wayDiscard, ActionFail: wayFail}[a]
}

// setHost reads a host as Rule has it.
func (c *compiled) setHost(t *target, host string, port uint16, peers *Peers) error {
	switch host {
	case Direct:
		t.way = wayDirect
		if port != 0 {
			t.port = port
		}
		return nil
	case ViaRouter:
		t.way = wayRouter
		if c.router == nil {
			return errors.New("host: \"router\" is named, and no [router] is configured")
		}
		return nil
	}
	var err error
	t.way = wayHost
	t.relay, err = peers.relay(host, port, c.Port, t.tls)
	return err
}

// domainKeys reads patterns of domains: a domain as it is, ".domain" for what is
// under it, "*" for everything.
func domainKeys(patterns []string) ([]string, error) {
	out := make([]string, len(patterns))
	for i, pattern := range patterns {
		key, err := domainKey(pattern)
		if err != nil {
			return nil, err
		}
		out[i] = key
	}
	return out, nil
}

func domainKey(pattern string) (string, error) {
	if pattern == "*" {
		return pattern, nil
	}
	rest, sub := strings.CutPrefix(pattern, "*.")
	if !sub {
		rest, sub = strings.CutPrefix(pattern, ".")
	}
	name, err := ascii(rest)
	if err != nil || strings.ContainsAny(name, "*@ ") || sub && isLiteral(name) {
		return "", fmt.Errorf("domains: %q is no pattern (write near.example, *.partner.example or *)", pattern)
	}
	if sub {
		return "." + name, nil
	}
	return name, nil
}

// senderKeys reads patterns of return paths: "a@b", "@b" for everybody there,
// ".b" for everybody under it, "*" for everybody, "<>" for nobody.
func senderKeys(patterns []string) ([]string, error) {
	out := make([]string, len(patterns))
	for i, pattern := range patterns {
		key, err := senderKey(pattern)
		if err != nil {
			return nil, fmt.Errorf("senders: %w", err)
		}
		out[i] = key
	}
	return out, nil
}

func senderKey(pattern string) (string, error) {
	if pattern == NullSender {
		return pattern, nil
	}
	p, err := account.ParseSender(pattern)
	if err != nil {
		return "", fmt.Errorf("%q %w", pattern, err)
	}
	if rest, ok := strings.CutPrefix(p, "*@*"); ok {
		return rest, nil
	}
	if strings.HasPrefix(p, "*@") {
		return p[1:], nil
	}
	return p, nil
}

func hasAny(list []string) bool {
	for _, s := range list {
		if s == "*" {
			return true
		}
	}
	return false
}

// eachDomain calls f with the keys that a domain meets, the narrowest first,
// until it returns true.
func eachDomain(domain string, f func(key string) bool) bool {
	if f(domain) {
		return true
	}
	return !isLiteral(domain) && eachParent(domain, f) || f("*")
}

// eachParent calls f with ".parent" of a domain and of each parent, until it
// returns true.
func eachParent(domain string, f func(key string) bool) bool {
	for {
		dot := strings.IndexByte(domain, '.')
		if dot < 0 {
			return false
		}
		if f(domain[dot:]) {
			return true
		}
		domain = domain[dot+1:]
	}
}

// eachSender calls f with the keys that a return path meets, the narrowest
// first, until it returns true. "*" is every return path, the null one included.
func eachSender(sender string, f func(key string) bool) bool {
	at := strings.LastIndexByte(sender, '@')
	switch {
	case sender == "":
		return f(NullSender) || f("*")
	case at < 0:
		return f("*")
	}
	sender = strings.ToLower(sender)
	return f(sender) || f(sender[at:]) || eachParent(sender[at+1:], f) || f("*")
}

// meets reports whether a message meets the conditions that its destination does
// not answer. Whether a table knows it is another matter.
func (r *compiledRule) meets(m *mta.Message) bool {
	return r.meetsSender(m) && (r.users == nil || r.users.has(m.Origin.User)) && r.meetsTags(m)
}

func (r *compiledRule) meetsSender(m *mta.Message) bool {
	return r.senders == nil || r.any || eachSender(m.Envelope.Sender, r.senders.has)
}

func (r *compiledRule) meetsTags(m *mta.Message) bool {
	if r.tags == nil {
		return true
	}
	for _, t := range m.Tags {
		if r.tags.has(t) {
			return true
		}
	}
	return false
}

func (r *compiledRule) meetsStream(stream string) bool {
	return r.streams == nil || r.streams.has(stream)
}
