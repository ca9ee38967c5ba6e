package mtatest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseScript(t *testing.T) {
	t.Parallel()
	var cfg MXConfig
	err := ParseScript(strings.NewReader(`
# a comment
option hostname mx1.example
option without pipelining chunking
option with LIMITS MAILMAX=5
option size 1000
option users a@b.example C@d.example
option max-recipients 3
rcpt nobody@* 550 5.1.1 no\nsuch user
rcpt *@grey.example greylist 2 451 4.7.1 later
mail /^bad/ after 1 first 2 delay 3s drop 421 4.3.2 bye
dot  *  lose
data *  delay 1m
quit *  hang
helo *.friend.example accept
connect 127.0.0.1 reset
`), "s", &cfg)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Hostname != "mx1.example" || len(cfg.Without) != 2 || cfg.With[0] != "LIMITS MAILMAX=5" || cfg.Size != 1000 || cfg.Users[1] != "c@d.example" || cfg.MaxRecipients != 3 {
		t.Errorf("options: %+v", cfg)
	}
	if len(cfg.Rules) != 8 {
		t.Fatalf("%d rules", len(cfg.Rules))
	}
	r := cfg.Rules
	if r[0].Stage != StageRcpt || r[0].Match != "nobody@*" || r[0].Reply != "550 5.1.1 no\nsuch user" {
		t.Errorf("reply: %+v", r[0])
	}
	if r[1].Greylist != 2 || r[1].Reply != "451 4.7.1 later" {
		t.Errorf("greylist: %+v", r[1])
	}
	if !r[2].Regexp.MatchString("BAD@x") || r[2].Skip != 1 || r[2].First != 2 || r[2].Delay != 3*time.Second || !r[2].Drop || r[2].Reply != "421 4.3.2 bye" {
		t.Errorf("modifiers: %+v", r[2])
	}
	if !r[3].Keep || !r[3].Drop || r[4].Delay != time.Minute || !r[5].Hang || !r[7].Drop || !r[7].Reset {
		t.Errorf("actions: %+v", r[3:])
	}
}

func TestParseScriptErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"rcpr * drop":                       "neither a stage",
		"rcpt":                              "pattern is missing",
		"rcpt *":                            "action is missing",
		"rcpt /(/ drop":                     "pattern /(/",
		"rcpt * 55 no":                      "not a reply",
		"rcpt * 650 no":                     "not a reply",
		"rcpt * accept it":                  "nothing may follow",
		"rcpt * lose":                       "stage dot",
		"mail * greylist 1":                 "stage rcpt",
		"rcpt * greylist":                   "number of at least 1",
		"rcpt * first 0 drop":               "number of at least 1",
		"rcpt * delay 5":                    "missing unit",
		"rcpt * delay 2h":                   "between 0 and 1h",
		"option size big":                   "number of octets",
		"option colour red":                 "no option",
		"option with":                       "needs a line",
		"option hostname":                   "needs a name",
		strings.Repeat("\n", 10000) + "# x": "more than 10000",
		strings.Repeat("x", 70000):          "too long",
	} {
		err := ParseScript(strings.NewReader(text), "file", &MXConfig{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
		var at *ScriptError
		if want != "too long" && (!errors.As(err, &at) || !strings.HasPrefix(err.Error(), "file:")) {
			t.Errorf("%.40q: %v has no place", text, err)
		}
	}
}

func TestGlobMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*@x.example", "a/b@x.example", true}, {"*@x.example", "a@y.example", false},
		{"a?b", "a/b", true}, {"a?b", "ab", false}, {"[1]", "[1]", true}, {`a\b`, `a\b`, true}, {"", "", true}, {"a/b*", "a/bc", true},
	} {
		if got := globMatch(c.pattern, c.text); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.text, got)
		}
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add("rcpt * first 2 delay 1s 450 4.2.0 later\\nmore")
	f.Add("option users a@b\nmail /x/ drop 421 bye\n")
	f.Add("dot * lose\nrcpt *@x greylist 3")
	f.Fuzz(func(t *testing.T, text string) {
		var cfg MXConfig
		if ParseScript(strings.NewReader(text), "f", &cfg) != nil {
			return
		}
		s := newScript(cfg.Rules)
		for stage := range numStages {
			if a, ok := s.find(stage, "a@b.example", ""); ok && a.Reply != "" && !strings.HasSuffix(formatReply(a.Reply), "\r\n") {
				t.Errorf("a reply without an end: %q", a.Reply)
			}
		}
	})
}

func TestFuzzSeedsAreThere(t *testing.T) {
	t.Parallel()
	seeds, err := filepath.Glob("testdata/fuzz/*/*")
	if err != nil || len(seeds) < 3 {
		t.Errorf("no seeds: %v", err)
	}
	for _, s := range seeds {
		if b, err := os.ReadFile(s); err != nil || !strings.HasPrefix(string(b), "go test fuzz v1\n") {
			t.Errorf("%s is no seed: %v", s, err)
		}
	}
}
