package warmup

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The bounds of a plan.
const (
	MaxDays      = 366
	MaxCeiling   = 1_000_000_000
	MaxProviders = 64
	MaxStepBack  = 30
)

// DefaultStepBack is how many days of a plan a bad sign costs.
const DefaultStepBack = 2

// DefaultPlan is the name of the plan that is shipped.
const DefaultPlan = "default"

// Other names, in plans and to people, the provider of hosts that nobody known
// runs.
const Other = "other"

// Plan is how a source's ceilings grow.
type Plan struct {
	Name string
	// Days are the ceilings of each provider, the first day's first, in recipients.
	// After the last day there is none.
	Days []int
	// Providers have other ceilings, by name; Other names everybody else.
	Providers map[string]Share
	StepBack  int // days that a bad sign costs; 0: the source stops for the day only
}

// Share is what a plan says of one provider: days of its own, or a factor of the
// plan's.
type Share struct {
	Factor float64 // of Plan.Days; above 0, unless Days are given
	Days   []int
}

// days gives a provider's ceilings.
func (p *Plan) days(provider string) int {
	if s, ok := p.Providers[name(provider)]; ok && len(s.Days) > 0 {
		return len(s.Days)
	}
	return len(p.Days)
}

// ceiling is that of day i of the plan, which it has.
func (p *Plan) ceiling(provider string, i int) int {
	s, ok := p.Providers[name(provider)]
	switch {
	case !ok:
		return p.Days[i]
	case len(s.Days) > 0:
		return s.Days[i]
	}
	return min(MaxCeiling, max(1, int(float64(p.Days[i])*s.Factor)))
}

// name is how a provider is called in plans and to people.
func name(provider string) string {
	if provider == "" {
		return Other
	}
	return provider
}

// words are name in a sentence.
func words(provider string) string {
	if provider == "" {
		return "other providers"
	}
	return provider
}

//go:embed default.tsv
var shipped string

// Default is the plan that is shipped: default.tsv, with where its numbers come
// from.
func Default() Plan {
	p := Plan{Name: DefaultPlan, StepBack: DefaultStepBack}
	for line := range strings.Lines(shipped) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		_, ceiling, _ := strings.Cut(line, "\t")
		n, err := strconv.Atoi(ceiling)
		if err != nil {
			panic(fmt.Sprintf("warmup: default.tsv: %q", line))
		}
		p.Days = append(p.Days, n)
	}
	return p
}

// day is a UTC day: days since 1970-01-01.
type day int

const hoursADay = 24 * time.Hour

func dayOf(t time.Time) day {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return day(d)
}

func (d day) begin() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }
func (d day) end() time.Time   { return (d + 1).begin() }
func (d day) String() string   { return d.begin().Format(time.DateOnly) }

func parseDay(text string) (day, bool) {
	t, err := time.Parse(time.DateOnly, text)
	return dayOf(t), err == nil
}
