package bounce

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// The bounds of an operator's rules.
const (
	MaxOwn     = 1000 // rules
	MaxPattern = 1000 // octets of a regular expression
)

// Own is a rule of an operator's: the class of replies that fit all that is
// given.
type Own struct {
	Class    Class
	Code     string // the beginning of the code: "5", "55", "554"
	Enhanced string // "5.7.1", "5.7.*", "x.7.1" (x: any class)
	// Text is a regular expression (RE2) that fits somewhere in the text, without
	// regard to case; white space in the text is single spaces.
	Text string
	MX   []string // patterns of the mail server's name: "mx1.example.net", "*.example.net"
}

// WithOwn gives a classifier that asks an operator's own rules first, in their
// order. The error says what is wrong; it does not name the rule.
func (c *Classifier) WithOwn(rules []Own) (*Classifier, error) {
	if len(rules) > MaxOwn {
		return nil, fmt.Errorf("there are %d rules, more than %d", len(rules), MaxOwn)
	}
	first := make([]rule, 0, len(rules)+len(c.rules))
	for i := range rules {
		r, err := rules[i].compile()
		if err != nil {
			return nil, err
		}
		first = append(first, r)
	}
	return &Classifier{rules: append(first, c.rules...)}, nil
}

// Check says what is wrong with a rule; nil when nothing is.
func (o *Own) Check() error {
	_, err := o.compile()
	return err
}

func (o *Own) compile() (rule, error) {
	r := rule{class: o.Class, code: o.Code, enhanced: strings.ToLower(o.Enhanced)}
	switch {
	case !o.Class.Known():
		return rule{}, fmt.Errorf("%q is not a class", o.Class)
	case o.Code == "" && o.Enhanced == "" && o.Text == "":
		return rule{}, errors.New("a rule needs code, enhanced or text: this one fits every reply")
	case !codeBeginning(o.Code):
		return rule{}, fmt.Errorf("code %q is not the beginning of a code from 200 to 599", o.Code)
	case !enhancedPattern.MatchString(r.enhanced):
		return rule{}, fmt.Errorf("enhanced %q is not like 5.7.1, 5.7.* or x.7.1", o.Enhanced)
	}
	for _, p := range o.MX {
		r.hosts = append(r.hosts, strings.ToLower(p))
	}
	if o.Text == "" {
		return r, nil
	}
	p, err := Pattern(o.Text)
	if err != nil {
		return rule{}, err
	}
	r.pattern = []*regexp.Regexp{p}
	return r, nil
}

var enhancedPattern = regexp.MustCompile(`^$|^[245x]\.(\d{1,3}\.(\d{1,3}|\d{0,2}\*)|\*)$`)

func codeBeginning(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s == "" || len(s) <= 3 && '2' <= s[0] && s[0] <= '5'
}

// Pattern compiles an operator's regular expression for the text of replies.
func Pattern(text string) (*regexp.Regexp, error) {
	if len(text) > MaxPattern {
		return nil, fmt.Errorf("text has %d octets, more than %d", len(text), MaxPattern)
	}
	p, err := regexp.Compile("(?i)" + text)
	if wrong := new(syntax.Error); errors.As(err, &wrong) {
		return nil, fmt.Errorf("text is no regular expression: %s", wrong.Code)
	} else if err != nil {
		return nil, fmt.Errorf("text is no regular expression: %w", err)
	}
	return p, nil
}

// FitsHost reports whether a host's name is what a pattern in lower case names:
// the same name, or with "*." in front everything under it.
func FitsHost(pattern, host string) bool {
	if under, wild := strings.CutPrefix(pattern, "*."); wild {
		return strings.HasSuffix(host, "."+under)
	}
	return pattern == host || pattern == "*"
}
