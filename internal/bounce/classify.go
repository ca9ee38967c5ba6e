package bounce

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed rules.tsv
var shipped string

// Reply is what a server said. Any part may be missing; codes inside of the
// text count where the fields are empty.
type Reply struct {
	Code     int    // 0: unknown
	Enhanced string // "5.1.1"; empty: unknown
	Text     string // lines joined by anything that is white space
	Host     string // name of the mail server; empty: unknown
}

// Classifier holds rules. It is never changed, so any number of goroutines may
// use it.
type Classifier struct{ rules []rule }

// rule names the class of the replies that it fits.
type rule struct {
	class    Class
	code     string           // begins the code; empty: any
	enhanced string           // the enhanced code, or its beginning with "*" behind; empty: any
	words    []string         // lower case; any of them; none: any text
	pattern  []*regexp.Regexp // those words that have a gap ("*") in them
	hosts    []string         // patterns of the host's name; none: any, even when it is unknown
}

// New makes a classifier of the shipped rules.
func New() *Classifier {
	c, err := Parse(shipped)
	if err != nil {
		panic("bounce: the shipped rules: " + err.Error()) // a test reads them
	}
	return c
}

// With gives a classifier that asks an operator's own rules first; the text
// has the form of rules.tsv. The error names the line.
func (c *Classifier) With(own string) (*Classifier, error) {
	first, err := Parse(own)
	if err != nil {
		return nil, err
	}
	return &Classifier{rules: append(first.rules, c.rules...)}, nil
}

// Parse reads rules, a line each: class, code, enhanced code and words,
// separated by tabs; the words of a rule are separated by " | ", and "*" in them
// stands for up to 60 characters. A field that is empty or "-" fits everything.
// Lines that are empty or begin with # count nothing.
func Parse(text string) (*Classifier, error) {
	c := &Classifier{}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		c.rules = append(c.rules, r)
	}
	return c, nil
}

func parseRule(line string) (rule, error) {
	f := append(strings.Split(line, "\t"), "", "", "")
	for i := range f {
		if f[i] = strings.TrimSpace(f[i]); f[i] == "-" {
			f[i] = ""
		}
	}
	r := rule{class: Class(f[0]), code: f[1], enhanced: f[2]}
	if !r.class.Known() {
		return rule{}, fmt.Errorf("%q is not a class", f[0])
	}
	if f[1] == "" && f[2] == "" && f[3] == "" {
		return rule{}, fmt.Errorf("the rule for %s fits everything", r.class)
	}
	for word := range strings.SplitSeq(f[3], "|") {
		word = Normal(word)
		switch {
		case word == "":
		case strings.Contains(word, "*"):
			parts := strings.Split(word, "*")
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			r.pattern = append(r.pattern, regexp.MustCompile(strings.Join(parts, ".{0,60}?")))
		default:
			r.words = append(r.words, word)
		}
	}
	return r, nil
}

// Classify names the class of a reply: that of the first rule that fits, and
// Other when none does.
func (c *Classifier) Classify(r Reply) Class {
	q := newQuestion(r)
	for i := range c.rules {
		if c.rules[i].fits(&q) {
			return c.rules[i].class
		}
	}
	return Other
}

// question is a reply as rules look at it.
type question struct{ code, enhanced, text, host string }

var (
	inText       = regexp.MustCompile(`\b([245]\d\d)[ -](?:#?([245]\.\d{1,3}\.\d{1,3})\b)?`)
	enhancedText = regexp.MustCompile(`(?:^|[\s(#'"\[-])([245]\.\d{1,3}\.\d{1,3})(?:[\s):\]'"-]|$)`)
)

// maxText is how much of a text is looked at.
const maxText = 4096

func newQuestion(r Reply) question {
	text := r.Text
	if len(text) > maxText {
		text = text[:maxText]
	}
	q := question{enhanced: r.Enhanced, text: withoutPreface(Normal(text)), host: strings.ToLower(r.Host)}
	if r.Code > 0 {
		q.code = fmt.Sprint(r.Code)
	}
	if m := inText.FindStringSubmatch(q.text); m != nil && q.code == "" {
		q.code = m[1]
	}
	if m := enhancedText.FindStringSubmatch(q.text); m != nil && (q.enhanced == "" || strings.HasSuffix(q.enhanced, ".0.0")) {
		q.enhanced = m[1]
	}
	return q
}

// withoutPreface drops what a report says to its human reader before it comes
// to the reply.
func withoutPreface(text string) string {
	for _, mark := range []string{"technical report:", "error message below:", "unknown address error '"} {
		if _, rest, ok := strings.Cut(text, mark); ok {
			return strings.TrimSpace(rest)
		}
	}
	return text
}

func (r *rule) fits(q *question) bool {
	if r.code != "" && !strings.HasPrefix(q.code, r.code) {
		return false
	}
	if r.enhanced != "" && !FitsEnhanced(r.enhanced, q.enhanced) {
		return false
	}
	if r.hosts != nil && !slices.ContainsFunc(r.hosts, func(p string) bool { return FitsHost(p, q.host) }) {
		return false
	}
	if r.words == nil && r.pattern == nil {
		return true
	}
	for _, w := range r.words {
		if strings.Contains(q.text, w) {
			return true
		}
	}
	for _, p := range r.pattern {
		if p.MatchString(q.text) {
			return true
		}
	}
	return false
}

// FitsEnhanced compares an enhanced code with that of a rule; "x" at its beginning
// stands for any class.
func FitsEnhanced(want, got string) bool {
	if rest, ok := strings.CutPrefix(want, "x"); ok {
		if len(got) < 2 {
			return false
		}
		want, got = rest, got[1:]
	}
	if begin, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(got, begin)
	}
	return want == got
}

// Normal gives a text in lower case, with single spaces and plain quotes.
func Normal(text string) string {
	text = strings.ToLower(text)
	text = strings.NewReplacer("’", "'", "‘", "'", "“", `"`, "”", `"`).Replace(text)
	return strings.Join(strings.Fields(text), " ")
}
