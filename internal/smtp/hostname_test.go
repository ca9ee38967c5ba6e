package smtp

import (
	"strings"
	"testing"
)

// The whole table of what is refused, in words, is internal/config's
// TestTrap18_Hostname; this one holds that no name which passes is refused by
// the session, and what only this one knows.
func TestHostnameProblem(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"mailout.example.com": "",
		"":                    "is empty",
		"mail":                "has no domain",
		"localhost":           "means every machine",
		"a.localhost":         "means every machine",
		"a_b.example.com":     "has an underscore",
		"[192.0.2.1]":         "is an address",
		"IPv6:2001:db8::1":    "is an address",
		"a b.example":         `contains " "`,
		`a"b.example`:         `contains "\""`,
		"a\tb.example":        `contains "\u0009"`,
		".":                   "nothing between two dots",
		"a.-b.example":        "begins or ends with a hyphen",
	} {
		got := HostnameProblem(name)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q", name, got)
		}
		if got == "" && !ValidHelo(name) {
			t.Errorf("%q passes and a session would refuse it", name)
		}
	}
}
