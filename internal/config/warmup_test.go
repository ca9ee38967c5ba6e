package config

import (
	"reflect"
	"testing"
	"time"

	"mailout/internal/warmup"
)

const twoSources = host + `[[source]]
ip = "192.0.2.10"
`

func TestWarmupErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []badFile{
		{"no table", twoSources + `warmup = "2026-01-10"` + "\n", []string{
			`f:4:10: [[source]] warmup: "2026-01-10" is not a table (write { start = "2026-01-10", plan = "default" })`,
		}},
		{"no start", twoSources + `warmup = { plan = "default" }` + "\n", []string{
			`f:4:10: [[source]] warmup: has no start (write { start = "2026-01-10", plan = "default" })`,
		}},
		{"no date", twoSources + `warmup = { start = "10.1.2026" }` + "\n", []string{
			`f:4:20: [[source]] warmup: "10.1.2026" is not a date (write for example "2026-01-10")`,
		}},
		{"no day of the calendar", twoSources + `warmup = { start = "2026-02-30" }` + "\n", []string{
			`f:4:20: [[source]] warmup: "2026-02-30" is not a date (write for example "2026-01-10")`,
		}},
		{"another word", twoSources + `warmup = { begin = "2026-01-10" }` + "\n", []string{
			`f:4:12: [[source]] warmup: "begin" is unknown (there are start and plan)`,
		}},
		{"another plan", twoSources + `warmup = { start = "2026-01-10", plan = "slwo" }` + "\n[[warmup_plan]]\nname = \"slow\"\ndays = [1]\n", []string{
			`f:4:10: [[source]] warmup: "slwo" is no [[warmup_plan]] (did you mean "slow"?)`,
		}},
		{"a header", twoSources + "[source.warmup]\nstart = \"2026-01-10\"\n", []string{
			`f:4:1: [source.warmup]: stands in one line (write warmup = { start = "2026-01-10", plan = "default" }) below [[source]]`,
		}},
		{"dots", twoSources + `warmup.start = "2026-01-10"` + "\n", []string{
			`f:4:1: [[source]] warmup: stands in one line (write warmup = { start = "2026-01-10", plan = "default" })`,
		}},
		{"no days", host + "[[warmup_plan]]\nname = \"slow\"\n", []string{
			`f:2:1: [[warmup_plan]] days: is missing (write days = [50, 100, 200])`,
		}},
		{"an empty day", host + "[[warmup_plan]]\nname = \"slow\"\ndays = [0]\n", []string{
			`f:4:9: [[warmup_plan]] days: 0 is out of range (from 1 to 1000000000)`,
		}},
		{"a plan twice", host + "[[warmup_plan]]\nname = \"slow\"\ndays = [1]\n[[warmup_plan]]\nname = \"slow\"\ndays = [2]\n", []string{
			`f:6:8: [[warmup_plan]] name: "slow" stands twice, first on line 3`,
		}},
		{"providers", host + "[[warmup_plan]]\nname = \"slow\"\ndays = [1]\nproviders = { gogle = 2, yahoo = 0, other = \"2\", microsoft = [1, -1] }\n", []string{
			`f:5:15: [[warmup_plan]] providers: "gogle" is no provider that is known (did you mean "google"?)`,
			`f:5:34: [[warmup_plan]] providers: 0 is out of range (above 0, to 1000)`,
			`f:5:45: [[warmup_plan]] providers: "2" is neither a factor nor a list of days (write for example { google = 2, yahoo = [20, 40, 80] })`,
			`f:5:66: [[warmup_plan]] providers: -1 is out of range (from 1 to 1000000000)`,
		}},
		{"a stream", host + "[[stream]]\nname = \"a\"\nwarmup = \"last\"\n", []string{
			`f:4:10: [[stream]] warmup: "last" is not "first", "any" or "never"`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, c.text, c.want)
		})
	}
}

func TestWarmup(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(twoSources+`warmup = { start = 2026-01-10, plan = "slow" }
[[source]]
ip = "192.0.2.11"
warmup = { start = "2026-02-01" }
[[source]]
ip = "192.0.2.12"
[[warmup_plan]]
name = "slow"
days = [5, 10]
providers = { google = 2.5, yahoo = [1, 2, 3], other = 1 }
step_back = 0
[[stream]]
name = "codes"
warmup = "first"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Warmup{
		{time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC), "slow"},
		{time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), "default"},
		{},
	}
	for i, w := range want {
		if c.Sources[i].Warmup != w {
			t.Errorf("source %d: %+v", i+1, c.Sources[i].Warmup)
		}
	}
	slow := warmup.Plan{Name: "slow", Days: []int{5, 10}, Providers: map[string]warmup.Share{"google": {Factor: 2.5}, "yahoo": {Days: []int{1, 2, 3}}, "other": {Factor: 1}}}
	if got := c.WarmupPlan("slow"); !reflect.DeepEqual(got, slow) {
		t.Errorf("%+v", got)
	}
	if got := c.WarmupPlan("default"); !reflect.DeepEqual(got, warmup.Default()) {
		t.Errorf("%+v", got)
	}
	if c.Streams[0].Warmup != warmup.First || c.Stream("other").Warmup != warmup.Any {
		t.Error("the streams")
	}
	again, err := Parse("f", []byte(Show(c)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.WarmupPlan("slow"), slow) || again.Sources[0].Warmup != want[0] || again.Sources[2].Warmup != want[2] {
		t.Errorf("show gives another configuration:\n%s", Show(c))
	}
	for key, want := range map[string]string{
		"source.1.warmup":         `{ start = "2026-01-10", plan = "slow" }`,
		"source.3.warmup":         `{}`,
		"warmup_plan.1.providers": `{ google = 2.5, other = 1, yahoo = [1, 2, 3] }`,
		"stream.1.warmup":         "first",
	} {
		if got, err := Get(c, key); got != want || err != nil {
			t.Errorf("%s is %s, %v", key, got, err)
		}
	}
}
