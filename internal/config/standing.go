package config

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/shape"
	"mailout/internal/standing"
)

// Fallback is how [router] use = "fallback" goes.
type Fallback struct {
	On       []string // words of standing.ParseTriggers
	Probe    time.Duration
	ProbeMax time.Duration
}

// Triggers gives what makes the router stand in.
func (f Fallback) Triggers() standing.Triggers {
	t, _ := standing.ParseTriggers(f.On, parseDuration) // checked when it was read
	return t
}

// Classify is one [[classify]].
type Classify struct {
	bounce.Own
	Line int // of class in the file
}

// Automation is one [[automation]].
type Automation struct {
	Classes   []bounce.Class
	Code      string
	Enhanced  string
	Text      string
	MX        []string
	Providers []string
	Action    standing.Action
	Site      bool
	For       time.Duration
	Most      time.Duration
	Percent   int
	Line      int // of action in the file
}

// Classifier gives the rules that say what replies mean: the file's, then the
// shipped ones.
func (c *Config) Classifier() (*bounce.Classifier, error) {
	own := make([]bounce.Own, len(c.Classify))
	for i := range c.Classify {
		own[i] = c.Classify[i].Own
	}
	return bounce.New().WithOwn(own)
}

// Standing gives what is done about what replies say of us.
func (c *Config) Standing() standing.Settings {
	var s standing.Settings
	if r := &c.Router; r.Host != "" && r.Use == UseFallback {
		s.Fallback = standing.Fallback{Router: r.Host, On: r.Fallback.Triggers(), Probe: r.Fallback.Probe, ProbeMax: r.Fallback.ProbeMax}
	}
	for i := range c.Automations {
		s.Rules = append(s.Rules, c.Automations[i].rule(i))
	}
	return s
}

func (a *Automation) rule(i int) standing.Rule {
	r := standing.Rule{
		Name: "[[automation]] " + strconv.Itoa(i+1), Classes: a.Classes, Code: a.Code, Enhanced: a.Enhanced,
		MX: a.MX, Provider: a.Providers, Action: a.Action, Site: a.Site, For: a.For, Most: a.Most, Percent: a.Percent,
	}
	if a.Line > 0 {
		r.Name += " (line " + strconv.Itoa(a.Line) + ")"
	}
	if a.Text != "" {
		r.Text, _ = bounce.Pattern(a.Text) // checked when it was read
	}
	return r
}

// fallbackKeys are those of [router] for use = "fallback".
func fallbackKeys() []*key {
	at := func(c *Config) *Fallback { return &c.Router.Fallback }
	return []*key{
		newKey("fallback_on", list(text("trigger", checkTrigger), 1, 10, `["blocked"]`), func(c *Config, _ int) *[]string { return &at(c).On }).
			is(`["blocked", "ptr", "port25", "stalled:4h"]`, "With `use = \"fallback\"`: what makes the router stand in for direct delivery to a site. `blocked`: a reply that our address is on a block list or has a bad reputation; `ptr`: that it has no fitting reverse DNS; `port25`: no host can be connected to; `stalled` or `stalled:TIME`: nothing was taken for the time (4 h) while mail waits as long; `unresolved`: DNS does not say where mail goes."),
		newKey("fallback_probe", duration(time.Second, day, "10m"), func(c *Config, _ int) *time.Duration { return &at(c).Probe }).
			is(`"10m"`, "When a single delivery tries the direct way again; after each refusal the time doubles."),
		newKey("fallback_probe_max", duration(time.Second, 30*day, "24h"), func(c *Config, _ int) *time.Duration { return &at(c).ProbeMax }).
			is(`"24h"`, "The longest that the time grows to."),
	}
}

func checkTrigger(s string) string {
	if _, err := standing.ParseTriggers([]string{s}, parseDuration); err != nil {
		return err.Error()
	}
	return ""
}

var (
	bounceClasses = func() (w words[bounce.Class]) {
		for _, c := range bounce.Classes() {
			w = append(w, struct {
				word  string
				value bounce.Class
			}{string(c), c})
		}
		return w
	}()
	automationActions = words[standing.Action]{
		{"suspend", standing.Suspend}, {"other_source", standing.OtherSource}, {"slow", standing.Slow}, {"nothing", standing.Nothing},
	}
	automationOf = words[bool]{{"source", false}, {"site", true}}
)

const hostPatternWords = "Patterns of the mail server's name: `mx1.example.net`, or `*.example.net` for the names under it. An empty list means any."

func classifyTable() *table {
	at := func(c *Config, i int) *Classify { return &c.Classify[i] }
	return &table{name: "classify", array: true, live: true,
		count: func(c *Config) int { return len(c.Classify) },
		grow:  func(c *Config) { c.Classify = append(c.Classify, Classify{}) },
		doc:   "What replies of receivers mean, where the shipped rules do not know. The first that fits wins; all of them come before the shipped ones.", keys: []*key{
			newKey("class", word(bounceClasses), func(c *Config, i int) *bounce.Class { return &at(c, i).Class }).
				needs(`class = "ip_blocked"`, "The class of the reply; docs/bounces.md lists them."),
			newKey("code", text("code", checkCode), func(c *Config, i int) *string { return &at(c, i).Code }).
				is(`""`, "The reply's code, or its beginning: `554`, `55`, `5`."),
			newKey("enhanced", text("enhanced code", checkEnhanced), func(c *Config, i int) *string { return &at(c, i).Enhanced }).
				is(`""`, "The enhanced code: `5.7.1`, `5.7.*`, or `x.7.1` for any class."),
			newKey("text", text("regular expression", checkExpression), func(c *Config, i int) *string { return &at(c, i).Text }).
				is(`""`, "Words, or a regular expression (RE2), somewhere in the text, without regard to case; white space is a single space."),
			newKey("mx", list(text("pattern", checkHostPattern), 0, maxList, `["*.example.net"]`), func(c *Config, i int) *[]string { return &at(c, i).MX }).
				is(`[]`, hostPatternWords),
		}}
}

func automationTable() *table {
	at := func(c *Config, i int) *Automation { return &c.Automations[i] }
	return &table{name: "automation", array: true, live: true,
		count: func(c *Config) int { return len(c.Automations) },
		grow:  func(c *Config) { c.Automations = append(c.Automations, Automation{}) },
		doc:   "What is done about what a reply says of us. All that is given must fit. The first that fits wins; all of them come before the shipped ones (docs/fallback.md).", keys: []*key{
			newKey("action", word(automationActions), func(c *Config, i int) *standing.Action { return &at(c, i).Action }).
				needs(`action = "slow"`, "`suspend`: nothing is sent; `other_source`: another source of the pool is used, and the same where there is none; `slow`: fewer connections and lower rates; `nothing`: a shipped rule is switched off."),
			newKey("class", list(word(bounceClasses), 0, len(bounceClasses), `["ip_blocked"]`), func(c *Config, i int) *[]bounce.Class { return &at(c, i).Classes }).
				is(`[]`, "Classes of the reply; an empty list means any."),
			newKey("code", text("code", checkCode), func(c *Config, i int) *string { return &at(c, i).Code }).
				is(`""`, "As in `[[classify]]`."),
			newKey("enhanced", text("enhanced code", checkEnhanced), func(c *Config, i int) *string { return &at(c, i).Enhanced }).
				is(`""`, "As in `[[classify]]`."),
			newKey("text", text("regular expression", checkExpression), func(c *Config, i int) *string { return &at(c, i).Text }).
				is(`""`, "As in `[[classify]]`."),
			newKey("mx", list(text("pattern", checkHostPattern), 0, maxList, `["*.example.net"]`), func(c *Config, i int) *[]string { return &at(c, i).MX }).
				is(`[]`, hostPatternWords),
			newKey("provider", list(text("provider", checkRunBy), 0, maxList, `["google"]`), func(c *Config, i int) *[]string { return &at(c, i).Providers }).
				is(`[]`, "Who runs the mail servers; an empty list means anybody."),
			newKey("of", word(automationOf), func(c *Config, i int) *bool { return &at(c, i).Site }).
				is(`"source"`, "`source`: the source that was spoken to, at this site; `site`: all sources."),
			newKey("for", duration(standing.MinFor, standing.MaxFor, "10m"), func(c *Config, i int) *time.Duration { return &at(c, i).For }).
				is(`"10m"`, "How long a suspension or another source lasts; each that follows within a day lasts twice as long. Of a slowing: the time in which half of it has faded."),
			newKey("most", duration(standing.MinFor, standing.MaxFor, "24h"), func(c *Config, i int) *time.Duration { return &at(c, i).Most }).
				is(`"24h"`, "The longest that it grows to."),
			newKey("percent", integer[int](1, 99), func(c *Config, i int) *int { return &at(c, i).Percent }).
				is(`50`, "With `slow`: what each reply leaves of connections and rates, not more often than once a minute."),
		}}
}

var codePattern = regexp.MustCompile(`^[2-5]\d{0,2}$`)

func checkCode(s string) string {
	if s == "" || codePattern.MatchString(s) {
		return ""
	}
	return quote(s) + ` is not a code of a reply or its beginning (write for example "554" or "55")`
}

func checkEnhanced(s string) string {
	if err := (&bounce.Own{Class: bounce.Other, Code: "5", Enhanced: s}).Check(); err != nil {
		return quote(s) + ` is not an enhanced code (write for example "5.7.1", "5.7.*" or "x.7.1")`
	}
	return ""
}

func checkExpression(s string) string {
	if _, err := bounce.Pattern(s); err != nil {
		return quote(s) + ": " + err.Error()
	}
	return ""
}

var hostPattern = regexp.MustCompile(`^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$`)

func checkHostPattern(s string) string {
	if len(s) > 255 || !hostPattern.MatchString(s) {
		return quote(s) + ` is not a pattern of host names in lower case (write for example "mx1.example.net" or "*.example.net")`
	}
	return ""
}

func checkRunBy(s string) string {
	if _, known := shape.Defaults(s); known {
		return ""
	}
	var names []string
	for _, p := range shape.Providers() {
		names = append(names, p.Name)
	}
	if near := nearest(s, names); near != "" {
		return quote(s) + " is no provider that is known (did you mean " + quote(near) + "?)"
	}
	return quote(s) + " is no provider that is known (those are " + strings.Join(names, ", ") + ")"
}

// rulesWhole: a rule about replies must ask for something.
func (l *loader) rulesWhole() {
	if n := len(l.cfg.Classify); n > bounce.MaxOwn {
		l.accuse("classify", "class", bounce.MaxOwn, "is rule "+itoa(bounce.MaxOwn+1)+" of "+itoa(n)+" (at most "+itoa(bounce.MaxOwn)+" are possible)")
	}
	if n := len(l.cfg.Automations); n > standing.MaxRules {
		l.accuse("automation", "action", standing.MaxRules, "is rule "+itoa(standing.MaxRules+1)+" of "+itoa(n)+" (at most "+itoa(standing.MaxRules)+" are possible)")
	}
	for i := range l.cfg.Classify {
		r := &l.cfg.Classify[i]
		full := findTable("classify").full(i)
		if l.sound(full+".class", full+".code", full+".enhanced", full+".text") && r.Code+r.Enhanced+r.Text == "" {
			l.accuse("classify", "class", i, "stands without code, enhanced or text: it would fit every reply (write one of them)")
		}
		r.Line = l.lineOf("classify", "class", i)
	}
	for i := range l.cfg.Automations {
		a := &l.cfg.Automations[i]
		full := findTable("automation").full(i)
		if l.sound(full+".class", full+".code", full+".enhanced", full+".text") && len(a.Classes) == 0 && a.Code+a.Enhanced+a.Text == "" {
			l.accuse("automation", "action", i, "stands without class, code, enhanced or text: it would follow every refusal (write one of them)")
		}
		if a.Action == standing.OtherSource && a.Site && l.sound(full+".action", full+".of") {
			l.accuse("automation", "of", i, `"site" leaves no other source (write "source", or action = "suspend")`)
		}
		if l.sound(full+".for", full+".most") && a.Most < a.For {
			l.accuse("automation", "most", i, quote(formatDuration(a.Most))+" is shorter than for ("+quote(formatDuration(a.For))+")")
		}
		a.Line = l.lineOf("automation", "action", i)
	}
	if f := &l.cfg.Router.Fallback; l.sound("router.fallback_probe", "router.fallback_probe_max") && f.ProbeMax < f.Probe {
		l.accuse("router", "fallback_probe_max", 0, quote(formatDuration(f.ProbeMax))+" is shorter than fallback_probe ("+quote(formatDuration(f.Probe))+")")
	}
}

// lineOf is where a key stands in the file; 0 when it does not.
func (l *loader) lineOf(table, name string, i int) int {
	k := findTable(table).key(name)
	if _, there := l.places[k.full(i)]; !there {
		return 0
	}
	line, _ := l.doc.position(l.at(k, i))
	return line
}
