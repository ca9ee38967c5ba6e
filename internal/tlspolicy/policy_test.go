package tlspolicy

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestParsePolicy: the syntax of RFC 8461 3.2.
func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n": "enforce 604800 mail.example.com *.example.net",
		"version: STSv1\r\nmode: testing\r\nmx: A.Example.COM\r\nmax_age: 5\r\n":                    "testing 5 a.example.com",
		"version:STSv1\nmode:none\nmax_age:0":                                                       "none 0",
		"mode: enforce\nmax_age: 9\nmx: a\nversion: STSv1 \t\n":                                     "enforce 9 a",
		"version: STSv1\nmode: none\nmode: enforce\nmax_age: 7\nmax_age: x\nversion: STSv2":         "none 7",
		"version: STSv1\nmode: none\nmax_age: 31557600":                                             "none 31557600",
		"version: STSv1\nmode: none\nmax_age: 9999999999":                                           "none 31557600",
		"version: STSv1\nmode: none\nmax_age: 1\nx-new: was das auch sei: ä\nA.b_c-d: \n":           "none 1",
		"version: STSv1\nmode: none\nmax_age: 1\n\n\n":                                              "none 1",
		"version: STSv1\nmode: enforce\nmx: mail_1.example.com\nmax_age: 1\n":                       "enforce 1 mail_1.example.com",
		"":                             "it is empty",
		"\n":                           "it is empty",
		"version: STSv1\nmode: none\n": "max_age is missing",
		"version: STSv1\nmax_age: 1\n": "mode is missing",
		"mode: none\nmax_age: 1\n":     "version is missing",
		"version: STSv1\nmode: enforce\nmax_age: 1\n":          "mx is missing",
		"version: STSv1\nmode: testing\nmax_age: 1\n":          "mx is missing",
		"version: STSv2\nmode: none\nmax_age: 1\n":             "line 1: the version is not STSv1",
		"version: STSv1\nmode: Enforce\nmx: a\nmax_age: 1\n":   "line 2: the mode is none of enforce, testing and none",
		"version: STSv1\nmode: none\nmax_age: -1\n":            "line 3: max_age is no number of seconds",
		"version: STSv1\nmode: none\nmax_age: 1s\n":            "line 3: max_age is no number of seconds",
		"version: STSv1\nmode: none\nmax_age: 10000000000\n":   "line 3: max_age is no number of seconds",
		"version: STSv1\nmode: none\nmax_age:\n":               "line 3: max_age is no number of seconds",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: *\n":   "line 4: mx is neither a host name nor \"*.\" and a name",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.*.b": "line 4: mx is neither a host name nor \"*.\" and a name",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a b":   "line 4: mx is neither a host name nor \"*.\" and a name",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: ü.de":  "line 4: mx is neither a host name nor \"*.\" and a name",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.b.":  "line 4: mx is neither a host name nor \"*.\" and a name",
		"version: STSv1\nmode: none\nmax_age: 1\nhello\n":      "line 4 is no key and value",
		"version: STSv1\nmode: none\nmax_age: 1\n_x: y\n":      "line 4 is no key and value",
		"version: STSv1\nmode: none\nmax_age: 1\nx: \x01\n":    "line 4 is no key and value",
		"version: STSv1\nmode: none\nmax_age: 1\nx: \xff\n":    "line 4 is no key and value",
		"version: STSv1\rmode: none\rmax_age: 1\r":             "line 1 is no key and value",
		"<html>": "line 1 is no key and value",
	} {
		p, err := ParsePolicy([]byte(text))
		got := fmt.Sprint(err)
		if err == nil {
			got = strings.TrimSpace(fmt.Sprintf("%s %d %s", p.Mode, p.MaxAge/time.Second, strings.Join(p.MX, " ")))
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestPolicyNames: the host's whole name, or one label for the "*" (RFC 8461 4.1).
func TestPolicyNames(t *testing.T) {
	t.Parallel()
	p := &Policy{MX: []string{"mail.example.com", "*.example.net"}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "MAIL.example.com.": true, "a.example.net": true, "A.EXAMPLE.NET": true,
		"example.com": false, "x.mail.example.com": false, "example.net": false, "a.b.example.net": false,
		"aexample.net": false, "a.example.net.evil": false, "": false, "net": false,
	} {
		if p.Names(host) != want {
			t.Errorf("%s: %t", host, !want)
		}
	}
}

// TestParseRecord: exactly one record, and its id (RFC 8461 3.1).
func TestParseRecord(t *testing.T) {
	t.Parallel()
	id32 := strings.Repeat("a1", 16)
	for _, c := range []struct {
		records []string
		id      string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=STSv1;id=1"}, "1"},
		{[]string{"v=STSv1 \t; \tid=1 ; "}, "1"},
		{[]string{"v=STSv1; x=y; id=1; a.b_c-d=!"}, "1"},
		{[]string{"v=STSv1; id=1; id=2"}, "1"},
		{[]string{"v=STSv1; id=" + id32}, id32},
		{[]string{"v=spf1 -all", "v=STSv1; id=1;", "other"}, "1"},
		{[]string{"v=STSv1; id=1;", "v=STSv2; id=2;"}, "1"},
		{[]string{"v=STSv1; id=1;", "v=STSv1; id=1;"}, ""},
		{[]string{"v=STSv1; id=" + id32 + "x"}, ""},
		{[]string{"v=STSv1; id=1-2"}, ""},
		{[]string{"v=STSv1; id="}, ""},
		{[]string{"v=STSv1; id"}, ""},
		{[]string{"v=STSv1;"}, ""},
		{[]string{"v=STSv1"}, ""},
		{[]string{"v=STSv1;; id=1"}, ""},
		{[]string{"v=STSv1; id=1; x=a=b"}, ""},
		{[]string{"v=STSv1; id=1; x=a b"}, ""},
		{[]string{"v=STSv10; id=1"}, ""},
		{[]string{"V=STSv1; id=1"}, ""},
		{[]string{" v=STSv1; id=1"}, ""},
		{nil, ""},
	} {
		if id, ok := ParseRecord(c.records); id != c.id || ok != (c.id != "") {
			t.Errorf("%q: %q %t", c.records, id, ok)
		}
	}
}

// FuzzParsePolicy: what is taken can be shown, is within bounds, and means the same
// again.
func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n"))
	f.Add([]byte("version:STSv1\r\nmode:none\r\nmax_age:0"))
	f.Add([]byte("version: STSv1\nmode: testing\nmx: a\nmax_age: 1\nx: y\n"))
	f.Add([]byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > MaxAge || p.Mode != ModeNone && len(p.MX) == 0 {
			t.Errorf("%q: %+v", text, p)
		}
		again, err := ParsePolicy([]byte(strings.Join(p.Lines(), "\n")))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%q: %+v, then %+v, %v", text, p, again, err)
		}
		k := &known{id: "1", policy: p, fetched: time.Unix(1, 0)}
		if noted, err := readNote(k.note()); err != nil || !reflect.DeepEqual(noted.policy, p) || len(k.note()) > maxNote {
			t.Errorf("%q: as a note %+v, %v", text, noted, err)
		}
	})
}

// FuzzParseRecord: no record makes it panic or gives an id out of bounds.
func FuzzParseRecord(f *testing.F) {
	f.Add("v=STSv1; id=1;", "")
	f.Add("v=STSv1; id=1; x=y", "v=STSv1")
	f.Fuzz(func(t *testing.T, a, b string) {
		if id, ok := ParseRecord([]string{a, b}); ok != (id != "") || len(id) > 32 {
			t.Errorf("%q %q: %q", a, b, id)
		}
	})
}

// TestSeeds: the corpora are there.
func TestSeeds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"FuzzParsePolicy", "FuzzParseRecord", "FuzzNote"} {
		files, err := os.ReadDir("testdata/fuzz/" + name)
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no seeds: %v", name, err)
		}
	}
}
