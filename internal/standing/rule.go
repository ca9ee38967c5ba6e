package standing

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// Action is what a rule does.
type Action uint8

// The actions.
const (
	Nothing     Action = iota // ends the search: a shipped rule is switched off
	OtherSource               // the source is not used at the site while there is another
	Suspend                   // nothing is sent from the source to the site, whatever else there is
	Slow                      // fewer connections, lower rates
)

// Actions are the words of [[automation]] action, in the order of the constants.
var Actions = [...]string{Nothing: "nothing", OtherSource: "other_source", Suspend: "suspend", Slow: "slow"}

// String gives the action's word.
func (a Action) String() string { return Actions[a] }

// The bounds of a rule, and what holds where it says nothing.
const (
	MaxRules       = 1000
	MinFor         = time.Second
	MaxFor         = 24 * time.Hour
	DefaultFor     = 10 * time.Minute
	DefaultPercent = 50
	leastFactor    = 0.01 // however often a site is slowed
)

// Rule says what is done about a reply. All that is given must fit.
type Rule struct {
	Name     string         // for people: "[[automation]] 2 (line 31)", "shipped: google-421-rate"
	Classes  []bounce.Class // none: any
	Code     string         // the beginning of the code
	Enhanced string         // as bounce.Own has it
	Text     *regexp.Regexp // in the text, as bounce.Pattern makes it
	MX       []string       // patterns of the mail server's name, in lower case
	Provider []string       // words of mta.Route.Provider

	Action Action
	Site   bool // from all sources, not from the one blamed alone
	// For is how long a suspension lasts; each that follows within a day of the
	// last lasts twice as long, up to Most. Of a slowing it is the half-life.
	For, Most time.Duration
	Percent   int // of connections and rates that a slowing leaves, each time
}

// Fits reports whether a result that is no delivery is what the rule is about.
func (r *Rule) Fits(route *mta.Route, host string, res *mta.Result) bool {
	switch {
	case len(r.Classes) > 0 && !slices.Contains(r.Classes, bounce.Class(res.Bounce)):
		return false
	case len(r.Provider) > 0 && !slices.Contains(r.Provider, route.Provider):
		return false
	case len(r.MX) > 0 && !slices.ContainsFunc(r.MX, func(p string) bool { return bounce.FitsHost(p, strings.ToLower(host)) }):
		return false
	case r.Code != "" && !strings.HasPrefix(fmt.Sprint(res.Reply.Code), r.Code):
		return false
	case r.Enhanced != "" && !bounce.FitsEnhanced(r.Enhanced, res.Reply.Enhanced.String()):
		return false
	}
	return r.Text == nil || r.Text.MatchString(bounce.Normal(res.Reply.Text))
}

// filled gives the rule with what it leaves out.
func (r Rule) filled() Rule {
	if r.For == 0 {
		r.For = DefaultFor
	}
	if r.Most == 0 {
		r.Most = MaxFor
	}
	r.For = min(max(r.For, MinFor), MaxFor)
	r.Most = min(max(r.Most, r.For), MaxFor)
	r.Site = r.Site && r.Action != OtherSource // another source of all there are is none
	if r.Percent <= 0 || r.Percent > 100 {
		r.Percent = DefaultPercent
	}
	return r
}

//go:embed replies.tsv
var shippedText string

// Shipped gives the shipped rules.
func Shipped() []Rule {
	rules, err := parseRules(shippedText)
	if err != nil {
		panic("standing: the shipped rules: " + err.Error()) // a test reads them
	}
	return rules
}

// parseRules reads replies.tsv: name, provider, class, code, enhanced, words
// (" | " between), action, of, for, percent and source, separated by tabs; "-"
// is nothing.
func parseRules(text string) ([]Rule, error) {
	var out []Rule
	for n, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRule(strings.Split(line, "\t"))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

const ruleFields = 11

func parseRule(f []string) (r Rule, err error) {
	if len(f) != ruleFields {
		return r, fmt.Errorf("%d fields, want %d", len(f), ruleFields)
	}
	for i := range f {
		if f[i] = strings.TrimSpace(f[i]); f[i] == "-" {
			f[i] = ""
		}
	}
	own := bounce.Own{Class: bounce.Class(f[2]), Code: f[3], Enhanced: f[4]}
	if own.Class == "" {
		own.Class = bounce.Other
	} else {
		r.Classes = []bounce.Class{own.Class}
	}
	if f[5] != "" {
		var words []string
		for w := range strings.SplitSeq(f[5], "|") {
			words = append(words, regexp.QuoteMeta(strings.TrimSpace(w)))
		}
		own.Text = strings.Join(words, "|")
		if r.Text, err = bounce.Pattern(own.Text); err != nil {
			return r, err
		}
	}
	if r.Classes == nil || own.Code+own.Enhanced+own.Text != "" {
		if err := own.Check(); err != nil {
			return r, err
		}
	}
	r.Name, r.Code, r.Enhanced, r.Site = "shipped: "+f[0], f[3], f[4], f[7] == "site"
	if f[1] != "" {
		r.Provider = []string{f[1]}
	}
	action := slices.Index(Actions[:], f[6])
	if r.For, err = time.ParseDuration(f[8]); err != nil || action < 0 || f[0] == "" || f[10] == "" {
		return r, errors.Join(err, fmt.Errorf("action %q, name %q or source %q", f[6], f[0], f[10]))
	}
	r.Action = Action(action)
	if f[9] != "" {
		if _, err := fmt.Sscan(f[9], &r.Percent); err != nil {
			return r, err
		}
	}
	return r.filled(), nil
}
