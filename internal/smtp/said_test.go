package smtp

import (
	"testing"

	"mailout/internal/mta"
)

func TestSaidAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mx.google.com at your service, [203.0.113.5]\nSIZE 157286400": "203.0.113.5",
		"mx.google.com at your service, [2001:db8::5]":                 "2001:db8::5",
		"AM5.prod.outlook.com Hello [203.0.113.5]":                     "203.0.113.5",
		"exim.test Hello mailout.origin.test [127.0.1.8]":              "127.0.1.8",
		"exim.test Hello [192.0.2.10] [203.0.113.5]":                   "203.0.113.5",
		"mx.test Hello [IPv6:2001:db8::5], pleased to meet you":        "2001:db8::5",
		"mx.test Hello mailout.widget.com (203.0.113.5), pleased":      "203.0.113.5",
		"mx.test Hi 203.0.113.5.":                                      "203.0.113.5",
		"mx.test Hello mailout [203.0.113.5]:41234":                    "203.0.113.5",
		"mx.test Hello 203.0.113.5:41234":                              "203.0.113.5",
		"mx.test Hello [::ffff:203.0.113.5]":                           "203.0.113.5",
		"mx.test Hello [UNAVAILABLE] at 203.0.113.5 [unknown]":         "203.0.113.5",
		"[198.51.100.1] Hello, your name is mailout":                   "invalid IP",
		"198.51.100.1":                    "invalid IP",
		"mx.test":                         "invalid IP",
		"mx.test Hello [0.0.0.0]":         "invalid IP",
		"mx.test\n[203.0.113.5]":          "invalid IP",
		"":                                "invalid IP",
		"mx.test ESMTP ready at 12:00:01": "invalid IP",
		"mx.test Hello [203.0.113.5":      "invalid IP",
	} {
		if got := SaidAddress(mta.Reply{Code: 250, Text: text}); got.String() != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// FuzzSaidAddress: whatever a server says, what is taken for an address is a
// plain one.
func FuzzSaidAddress(f *testing.F) {
	f.Add("mx.test Hello [203.0.113.5]")
	f.Add("mx.test [[[]]][ [IPv6:fe80::1%eth0]")
	f.Add("a 1.2.3.4:5 [")
	f.Fuzz(func(t *testing.T, text string) {
		a := SaidAddress(mta.Reply{Text: text})
		if a.IsValid() && (a.Zone() != "" || a.Is4In6() || a.IsUnspecified()) {
			t.Errorf("%q: %s", text, a)
		}
	})
}
