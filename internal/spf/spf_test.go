package spf

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) *Record {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestAllow(t *testing.T) {
	const a, b, six = "203.0.113.5", "203.0.113.6", "2001:db8::5"
	cases := []struct {
		name, text string
		addrs      []string
		want       string
	}{
		{"before all", "v=spf1 -all", []string{a}, "v=spf1 ip4:203.0.113.5 -all"},
		{"behind the leading networks", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8:1::/48 mx -all", []string{a}, "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8:1::/48 ip4:203.0.113.5 mx -all"},
		{"before look-ups", "v=spf1 include:_spf.example.net mx ~all", []string{a}, "v=spf1 ip4:203.0.113.5 include:_spf.example.net mx ~all"},
		{"both families, in order", "v=spf1 mx -all", []string{a, six}, "v=spf1 ip4:203.0.113.5 ip6:2001:db8::5 mx -all"},
		{"two addresses", "v=spf1 mx -all", []string{a, b}, "v=spf1 ip4:203.0.113.5 ip4:203.0.113.6 mx -all"},
		{"covered already", "v=spf1 mx ip4:203.0.113.0/24 -all", []string{a}, "v=spf1 mx ip4:203.0.113.0/24 -all"},
		{"covered with a plus", "v=spf1 +ip4:203.0.113.5 -all", []string{a}, "v=spf1 +ip4:203.0.113.5 -all"},
		{"covered in IPv6", "v=spf1 ip6:2001:DB8::/32 -all", []string{six}, "v=spf1 ip6:2001:DB8::/32 -all"},
		{"one of two covered", "v=spf1 ip4:203.0.113.5 -all", []string{a, b}, "v=spf1 ip4:203.0.113.5 ip4:203.0.113.6 -all"},
		{"refused before it is covered", "v=spf1 -ip4:203.0.113.5 ip4:203.0.113.0/24 -all", []string{a}, "v=spf1 ip4:203.0.113.5 -ip4:203.0.113.5 ip4:203.0.113.0/24 -all"},
		{"perhaps refused before", "v=spf1 -exists:%{i}.bad.example ip4:203.0.113.0/24 -all", []string{a}, "v=spf1 ip4:203.0.113.5 -exists:%{i}.bad.example ip4:203.0.113.0/24 -all"},
		{"others refused before", "v=spf1 ~ip4:198.51.100.0/24 ip4:203.0.113.0/24 -all", []string{a}, "v=spf1 ~ip4:198.51.100.0/24 ip4:203.0.113.0/24 -all"},
		{"neutral is not covered", "v=spf1 ?ip4:203.0.113.5 -all", []string{a}, "v=spf1 ip4:203.0.113.5 ?ip4:203.0.113.5 -all"},
		{"before a redirect", "v=spf1 redirect=_spf.example.net", []string{a}, "v=spf1 ip4:203.0.113.5 redirect=_spf.example.net"},
		{"modifiers anywhere", "v=spf1 exp=why.example.com redirect=_spf.example.net ip4:192.0.2.1", []string{a}, "v=spf1 ip4:203.0.113.5 exp=why.example.com redirect=_spf.example.net ip4:192.0.2.1"},
		{"macros as they are", "v=spf1 include:%{ir}.%{v}._spf.%{d2} ~all", []string{a}, "v=spf1 ip4:203.0.113.5 include:%{ir}.%{v}._spf.%{d2} ~all"},
		{"unknown modifiers as they are", "v=spf1 foo=%{d}-x -all", []string{a}, "v=spf1 ip4:203.0.113.5 foo=%{d}-x -all"},
		{"case as it is", "V=SPF1 Include:Example.NET -ALL", []string{a}, "v=spf1 ip4:203.0.113.5 Include:Example.NET -ALL"},
		{"an empty record", "v=spf1", []string{a}, "v=spf1 ip4:203.0.113.5"},
		{"spaces", "v=spf1   mx   -all ", []string{a}, "v=spf1 ip4:203.0.113.5 mx -all"},
		{"mapped", "v=spf1 -all", []string{"::ffff:203.0.113.5"}, "v=spf1 ip4:203.0.113.5 -all"},
		{"plus all covers nobody by name", "v=spf1 +all", []string{a}, "v=spf1 ip4:203.0.113.5 +all"},
		{"behind all is not covered", "v=spf1 -all ip4:203.0.113.5", []string{a}, "v=spf1 ip4:203.0.113.5 -all ip4:203.0.113.5"},
		{"nobody", "v=spf1 mx -all", nil, "v=spf1 mx -all"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := parse(t, c.text)
			before := r.String()
			got := r.Allow(addrs(c.addrs...)...)
			if got.String() != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if r.String() != before {
				t.Errorf("the record itself became %s", r)
			}
			if again := got.Allow(addrs(c.addrs...)...); again.String() != c.want {
				t.Errorf("merged twice: %s", again)
			}
			if _, err := Parse(got.String()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClose(t *testing.T) {
	for text, want := range map[string]string{
		"v=spf1 mx -all":                    "v=spf1 mx -all",
		"v=spf1 mx ~all":                    "v=spf1 mx ~all",
		"v=spf1 mx ?all":                    "v=spf1 mx ~all",
		"v=spf1 mx +all":                    "v=spf1 mx ~all",
		"v=spf1 all":                        "v=spf1 ~all",
		"v=spf1 mx":                         "v=spf1 mx ~all",
		"v=spf1 redirect=_spf.example.com":  "v=spf1 redirect=_spf.example.com",
		"v=spf1 ?all redirect=a.example":    "v=spf1 ~all redirect=a.example",
		"v=spf1 exp=e.example.com mx":       "v=spf1 exp=e.example.com mx ~all",
		"v=spf1 mx ?all exp=e.example.com ": "v=spf1 mx ~all exp=e.example.com",
	} {
		if got := parse(t, text).Close().String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestJoin(t *testing.T) {
	cases := []struct {
		texts []string
		want  string
	}{
		{[]string{"v=spf1 mx -all"}, "v=spf1 mx -all"},
		{[]string{"v=spf1 mx -all", "v=spf1 a -all"}, "v=spf1 mx a -all"},
		{[]string{"v=spf1 mx -all", "v=spf1 a ~all"}, "v=spf1 mx a ~all"},
		{[]string{"v=spf1 mx -all", "v=spf1 +MX a +all"}, "v=spf1 mx a ~all"},
		{[]string{"v=spf1 mx", "v=spf1 redirect=_spf.example.net"}, "v=spf1 mx include:_spf.example.net ~all"},
		{[]string{"v=spf1 mx exp=a.example -all", "v=spf1 exp=b.example ip4:192.0.2.1 -all"}, "v=spf1 mx ip4:192.0.2.1 -all exp=a.example"},
		{[]string{"v=spf1 -all redirect=never.example", "v=spf1 a -all"}, "v=spf1 a -all"},
		{[]string{"v=spf1 mx -all include:never.example ip4:192.0.2.1", "v=spf1 a -all exp=b.example"}, "v=spf1 mx a -all exp=b.example"},
	}
	for _, c := range cases {
		var records []*Record
		for _, text := range c.texts {
			records = append(records, parse(t, text))
		}
		if got := Join(records...).String(); got != c.want {
			t.Errorf("%q: %s, want %s", c.texts, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, problem := range map[string]string{
		"v=spf10 -all":                                 "does not begin",
		"v=spf1 ipv4:192.0.2.1 -all":                   "write ip4:ADDRESS",
		"v=spf1 ip4 -all":                              "names no address",
		"v=spf1 ip4:192.0.2 -all":                      "does not hold an address",
		"v=spf1 ip4:192.0.2.0/33 -all":                 "prefix length",
		"v=spf1 ip4:192.0.2.0/024 -all":                "prefix length",
		"v=spf1 ip4:2001:db8::1 -all":                  "write ip6:2001:db8::1",
		"v=spf1 ip6:192.0.2.1 -all":                    "write ip4:192.0.2.1",
		"v=spf1 192.0.2.1 -all":                        "write ip4:192.0.2.1",
		"v=spf1 a:192.0.2.1 -all":                      "names an address",
		"v=spf1 a:widget.com/33 -all":                  "prefix length",
		"v=spf1 mx:widget.com//129 -all":               "prefix length",
		"v=spf1 include -all":                          "names no domain",
		"v=spf1 include: -all":                         "names no domain",
		"v=spf1 include:widget -all":                   "no domain that could exist",
		"v=spf1 include:example.123 -all":              "no domain that could exist",
		"v=spf1 exists:%{q}.example.com -all":          "begins no macro",
		"v=spf1 exists:%{i.example.com -all":           "begins no macro",
		"v=spf1 exists:100%.example.com -all":          "begins no macro",
		"v=spf1 all:x":                                 "takes nothing",
		"v=spf1 redirect=a.example redirect=b.example": "twice",
		"v=spf1 redirect= -all":                        "names no domain",
		"v=spf1 mx,a -all":                             "is no mechanism",
		"v=spf1\tmx -all":                              "does not begin",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q: %v, want %q", text, err, problem)
		}
	}
}

func TestDoubtsAndFacts(t *testing.T) {
	r := parse(t, "v=spf1 ptr ip4=192.0.2.1 exists:%{i}.x.example mx/24//64 a:h.example/28 -all include:late.example redirect=never.example")
	if d := strings.Join(r.Doubts(), "\n"); strings.Count(d, "\n") != 3 || !strings.Contains(d, "never followed") || !strings.Contains(d, "never looked at") {
		t.Errorf("%s", d)
	}
	if r.Redirect() != "" || r.All() != '-' || !r.Macros() {
		t.Errorf("%q %q %v", r.Redirect(), r.All(), r.Macros())
	}
	var asked []string
	for _, term := range r.Terms {
		if term.Lookup() {
			asked = append(asked, term.Name+":"+term.Spec)
		}
	}
	if want := []string{"ptr:", "exists:%{i}.x.example", "mx:", "a:h.example", "include:late.example", "redirect:never.example"}; !slices.Equal(asked, want) {
		t.Errorf("%q", asked)
	}
	if got := New("~all", addrs("203.0.113.5")...).String(); got != "v=spf1 ip4:203.0.113.5 ~all" {
		t.Error(got)
	}
	if all := parse(t, "v=spf1 +all"); !all.Covers(addrs("203.0.113.5")[0]) {
		t.Error("+all covers everybody")
	}
}

// FuzzParse: what is read is printed so that it reads the same, and merging
// keeps it readable and covers the address.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"v=spf1 -all", "v=spf1 ip4:192.0.2.0/24 a:%{d}/24//64 mx ptr exists:%{ir}.x.example redirect=y.example", "v=spf1 a//0 ?ip6:::/0 exp=e.example x=%_"} {
		f.Add(s)
	}
	a := netip.MustParseAddr("203.0.113.5")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q reads back as %v, %v", r, again, err)
		}
		merged, err := Parse(r.Allow(a).Close().String())
		if err != nil || !merged.Covers(a) {
			t.Fatalf("%q merged is %v, %v", text, merged, err)
		}
	})
}
