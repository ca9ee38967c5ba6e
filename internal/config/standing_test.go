package config

import (
	"strings"
	"testing"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/standing"
)

// TestStandingSettings: what the file says of fallback, classes and automation
// comes to the parts that use it, with the place it comes from.
func TestStandingSettings(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(host+`[router]
host = "smart.example"
use = "fallback"
fallback_on = ["ptr", "stalled:90m", "unresolved"]
fallback_probe = "1s"
fallback_probe_max = "1h"
[[classify]]
class = "user_moved"
text = "gone FISHING"
[[automation]]
action = "slow"
class = ["user_moved"]
text = "gone|away"
provider = ["google", "yahoo"]
of = "site"
for = "1h"
percent = 25
`))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Standing()
	want := standing.Fallback{Router: "smart.example", On: standing.Triggers{PTR: true, Unresolved: true, Stalled: 90 * time.Minute}, Probe: time.Second, ProbeMax: time.Hour}
	if s.Fallback != want {
		t.Errorf("%+v", s.Fallback)
	}
	if len(s.Rules) != 1 {
		t.Fatalf("%+v", s.Rules)
	}
	r := s.Rules[0]
	if r.Name != "[[automation]] 1 (line 12)" || r.Action != standing.Slow || !r.Site || r.For != time.Hour || r.Percent != 25 || r.Most != 24*time.Hour || len(r.Provider) != 2 || !r.Text.MatchString("AWAY") {
		t.Errorf("%+v", r)
	}
	rules, err := c.Classifier()
	if err != nil || rules.Classify(bounce.Reply{Code: 550, Text: "he has gone fishing"}) != bounce.UserMoved {
		t.Error(err)
	}
	c.Router.Use = UseAlways
	if c.Standing().Fallback.Router != "" {
		t.Error("a router for all mail stands in")
	}
}

// TestRulesAreCounted: more rules than a bound allows are refused, with the line
// of the first too many.
func TestRulesAreCounted(t *testing.T) {
	t.Parallel()
	for table, key := range map[string]string{"classify": "class = \"other\"", "automation": "action = \"slow\""} {
		text := host + strings.Repeat("[["+table+"]]\n"+key+"\ncode = \"4\"\n", 1001)
		_, err := Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), "f:3003:") || !strings.Contains(err.Error(), "is rule 1001 of 1001 (at most 1000 are possible)") {
			t.Errorf("%s: %v", table, err)
		}
	}
	if _, err := Parse("f", []byte(host+"[[automation]]\naction = \"other_source\"\nclass = [\"policy\"]\nof = \"site\"\n")); err == nil || !strings.Contains(err.Error(), "leaves no other source") {
		t.Error(err)
	}
}
