package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/shape"
	"mailout/internal/warmup"
)

// Warmup is when a source's warm-up begins, and by which plan it goes.
type Warmup struct {
	Start time.Time // the first day, at midnight UTC; zero: the source is warm
	Plan  string
}

// WarmupPlan is one [[warmup_plan]].
type WarmupPlan struct {
	warmup.Plan
	Line int // in the file
}

// WarmupPlan gives the plan of a name: the operator's, or the shipped one.
func (c *Config) WarmupPlan(name string) warmup.Plan {
	for i := range c.Warmups {
		if c.Warmups[i].Name == name {
			return c.Warmups[i].Plan
		}
	}
	return warmup.Default()
}

// sourceWarmup is the key of [[source]].
func sourceWarmup() *key {
	return newKey("warmup", warmupKind(), func(c *Config, i int) *Warmup { return &c.Sources[i].Warmup }).
		is(`{}`, "Warm-up of a new source: `{ start = \"2026-01-10\", plan = \"default\" }`, with its first day and the name of a `[[warmup_plan]]`, or `default` for the plan that is shipped. Until the plan has ended the source has a ceiling a day at each provider; what is beyond goes out by other sources, or waits. `{}`: it is warm.").oneLine(warmupSample)
}

// streamWarmup is the key of [[stream]].
func streamWarmup() *key {
	return newKey("warmup", word(warmupPriorities), func(c *Config, i int) *warmup.Priority { return &c.Streams[i].Warmup }).
		is(`"any"`, "What the stream's mail has of sources that are being warmed up: it goes `first` (for mail that people wait for and read), goes with `any` other, or `never` by such a source.")
}

var warmupPriorities = words[warmup.Priority]{{"first", warmup.First}, {"any", warmup.Any}, {"never", warmup.Never}}

func warmupPlanTable() *table {
	at := func(c *Config, i int) *WarmupPlan { return &c.Warmups[i] }
	return &table{name: "warmup_plan", array: true, live: true,
		count: func(c *Config) int { return len(c.Warmups) },
		grow:  func(c *Config) { c.Warmups = append(c.Warmups, WarmupPlan{}) },
		doc:   "How the ceilings of a source that is warmed up grow. One with the name `default` takes the place of the plan that is shipped.", keys: []*key{
			newKey("name", text("plan name", checkPlanName), func(c *Config, i int) *string { return &at(c, i).Name }).
				needs(`name = "slow"`, "Name of the plan, for `warmup` of a `[[source]]`."),
			newKey("days", list(integer[int](1, warmup.MaxCeiling), 1, warmup.MaxDays, `[50, 100, 200]`), func(c *Config, i int) *[]int { return &at(c, i).Days }).
				needs(`days = [50, 100, 200]`, "Most recipients a day at one provider, the first day's first. After the last day there is no ceiling."),
			newKey("providers", sharesKind(), func(c *Config, i int) *map[string]warmup.Share { return &at(c, i).Providers }).
				is(`{}`, "Providers with other ceilings: a factor of `days`, or days of their own, as in `{ google = 2, yahoo = [20, 40, 80], other = 0.5 }`. `other` is everybody who is not known by name, together.").oneLine(sharesSample),
			newKey("step_back", integer[int](0, warmup.MaxStepBack), func(c *Config, i int) *int { return &at(c, i).StepBack }).
				is(itoa(warmup.DefaultStepBack), "Days by which the plan steps back at a provider after a day of bad signs there; with `0` the source only stops for the rest of the day."),
		}}
}

// oneLine says that the key's value is an inline table.
func (k *key) oneLine(sample string) *key {
	k.sample = sample
	return k
}

// noKeys says how a key is written that somebody gave keys of its own.
func noKeys(k *key) string {
	if k.sample == "" {
		return "has no keys of its own"
	}
	return "stands in one line (write " + k.name + " = " + k.sample + ")"
}

// inline reads an inline table, field by field.
func inline(v *value, sample string, read func(name string, v *value) []complaint) []complaint {
	if v.kind != unstable.InlineTable {
		return one(v, "%s is not a table (write %s)", v.shown(), sample)
	}
	var all []complaint
	seen := map[string]bool{}
	for _, f := range v.fields {
		name := dotted(f.path)
		if seen[name] {
			all = append(all, complaint{f.path[0].at, quote(name) + " is set twice"})
			continue
		}
		seen[name] = true
		for _, bad := range read(name, f.value) {
			if bad.at == 0 { // it means the name
				bad.at = f.path[0].at
			}
			all = append(all, bad)
		}
	}
	return all
}

const warmupSample = `{ start = "2026-01-10", plan = "default" }`

func warmupKind() kind[Warmup] {
	write := func(w Warmup) string {
		if w.Start.IsZero() {
			return "{}"
		}
		return fmt.Sprintf("{ start = %s, plan = %s }", quote(w.Start.Format(time.DateOnly)), quote(w.Plan))
	}
	return kind[Warmup]{
		name: "table of start and plan",
		read: func(v *value) (Warmup, []complaint) {
			w := Warmup{Plan: warmup.DefaultPlan}
			bad := inline(v, warmupSample, func(name string, v *value) []complaint {
				switch name {
				case "start":
					t, err := time.Parse(time.DateOnly, v.text)
					if err != nil || v.kind != unstable.String && v.kind != unstable.LocalDate || t.Year() < 2000 {
						return one(v, `%s is not a date (write for example "2026-01-10")`, v.shown())
					}
					w.Start = t
				case "plan":
					if problem := checkPlanName(v.text); problem != "" || v.kind != unstable.String {
						return one(v, "%s", cmp.Or(problem, v.shown()+" is not a plan name (write it in quotes)"))
					}
					w.Plan = v.text
				default:
					return []complaint{{0, quote(name) + " is unknown (there are start and plan)"}}
				}
				return nil
			})
			if bad == nil && w.Start.IsZero() {
				if len(v.fields) > 0 {
					return w, one(v, "has no start (write %s)", warmupSample)
				}
				return Warmup{}, nil
			}
			return w, bad
		},
		write: write, plain: write, bare: asIs,
	}
}

const sharesSample = `{ google = 2, yahoo = [20, 40, 80] }`

func sharesKind() kind[map[string]warmup.Share] {
	return kind[map[string]warmup.Share]{
		name: "table of providers",
		read: func(v *value) (map[string]warmup.Share, []complaint) {
			out := map[string]warmup.Share{}
			bad := inline(v, sharesSample, func(name string, v *value) []complaint {
				if problem := checkProvider(name); problem != "" {
					return []complaint{{0, problem}}
				}
				share, bad := readShare(v)
				out[name] = share
				return bad
			})
			return out, bad
		},
		write: writeShares, plain: writeShares, bare: asIs,
	}
}

func writeShares(shares map[string]warmup.Share) string {
	if len(shares) == 0 {
		return "{}"
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		s := shares[name]
		text := strconv.FormatFloat(s.Factor, 'f', -1, 64)
		if len(s.Days) > 0 {
			text = planDays().write(s.Days)
		}
		texts = append(texts, name+" = "+text)
	}
	return "{ " + strings.Join(texts, ", ") + " }"
}

func planDays() kind[[]int] {
	return list(integer[int](1, warmup.MaxCeiling), 1, warmup.MaxDays, `[20, 40, 80]`)
}

// readShare reads a factor of the plan's days, or days.
func readShare(v *value) (warmup.Share, []complaint) {
	if v.kind == unstable.Array {
		days, bad := planDays().read(v)
		return warmup.Share{Days: days}, bad
	}
	const most = 1000
	factor, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
	switch {
	case err != nil || v.kind != unstable.Integer && v.kind != unstable.Float:
		return warmup.Share{}, one(v, "%s is neither a factor nor a list of days (write for example %s)", v.shown(), sharesSample)
	case !(factor > 0 && factor <= most):
		return warmup.Share{}, one(v, "%s is out of range (above 0, to %d)", v.text, most)
	}
	return warmup.Share{Factor: factor}, nil
}

// checkProvider says why a name is no provider's; empty when it is one.
func checkProvider(name string) string {
	names := []string{warmup.Other}
	for _, p := range shape.Providers() {
		names = append(names, p.Name)
	}
	if slices.Contains(names, name) {
		return ""
	}
	if near := nearest(name, names); near != "" {
		return quote(name) + ` is no provider that is known (did you mean "` + near + `"?)`
	}
	return quote(name) + " is no provider that is known (there are " + strings.Join(names[1:], ", ") + `, and "` + warmup.Other + `" for everybody else)`
}

func checkPlanName(s string) string {
	if checkStream(s) != "" {
		return shown(s) + " is not a plan name (1 to 64 letters, digits, and . _ -)"
	}
	return ""
}

// warmupComplete: plans have names of their own, and sources name plans that
// are there.
func (l *loader) warmupComplete() {
	tbl := findTable("warmup_plan")
	first := map[string]int{}
	for i := range l.cfg.Warmups {
		p := &l.cfg.Warmups[i]
		p.Line, _ = l.doc.position(l.sectionAt(tbl, i))
		if !l.sound(tbl.full(i) + ".name") {
			continue
		}
		if j, twice := first[p.Name]; twice {
			line, _ := l.doc.position(l.at(tbl.key("name"), j))
			l.accuse("warmup_plan", "name", i, quote(p.Name)+" stands twice, first on line "+itoa(line))
			continue
		}
		first[p.Name] = i
	}
	names := append(slices.Sorted(maps.Keys(first)), warmup.DefaultPlan)
	for i, s := range l.cfg.Sources {
		if s.Warmup.Start.IsZero() || slices.Contains(names, s.Warmup.Plan) || !l.sound(findTable("source").full(i)+".warmup") {
			continue
		}
		why := quote(s.Warmup.Plan) + " is no [[warmup_plan]]"
		if near := nearest(s.Warmup.Plan, names); near != "" {
			why += ` (did you mean "` + near + `"?)`
		}
		l.accuse("source", "warmup", i, why)
	}
}
