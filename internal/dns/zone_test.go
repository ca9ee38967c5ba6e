package dns

import (
	"context"
	"errors"
	"fmt"
	"testing"

	wire "github.com/miekg/dns"
)

// lookIn answers from records in zone-file form; a name under "broken." fails.
func lookIn(t *testing.T, records ...string) Look {
	var all []wire.RR
	for _, text := range records {
		rr, err := wire.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return func(_ context.Context, name string, qtype uint16) (Looked, error) {
		if wire.IsSubDomain("broken.", name) {
			return Looked{}, errors.New("SERVFAIL")
		}
		found, aliases := Chain(&wire.Msg{Answer: all}, name, qtype)
		return Looked{found, len(aliases) > 0}, nil
	}
}

func TestFindZone(t *testing.T) {
	look := lookIn(t, "widget.com. SOA ns. h. 1 2 3 4 5", "widget.com. NS b.widget.com.", "widget.com. NS A.widget.com.", "widget.com. NS lost.widget.com.",
		"a.widget.com. A 192.0.2.1", "a.widget.com. AAAA 2001:db8::1", "b.widget.com. AAAA 2001:db8::2",
		"sub.widget.com. SOA ns. h. 1 2 3 4 5", "dark.com. SOA ns. h. 1 2 3 4 5", "dark.com. NS ns.dark.com.",
		"alias.widget.com. CNAME sub.widget.com.")
	for _, c := range []struct{ name, zone, servers string }{
		{"m1._domainkey.Widget.COM", "widget.com.", "[{b.widget.com [[2001:db8::2]:53]} {a.widget.com [192.0.2.1:53 [2001:db8::1]:53]}]"},
		{"alias.widget.com", "widget.com.", "[{b.widget.com [[2001:db8::2]:53]} {a.widget.com [192.0.2.1:53 [2001:db8::1]:53]}]"},
		{"x.sub.widget.com.", "sub.widget.com.", ""}, // it has no NS
		{"x.dark.com", "dark.com.", ""},
		{"x.nowhere", "", ""},
		{"x.broken", "", ""},
	} {
		z, err := FindZone(t.Context(), look, c.name)
		got := ""
		if err == nil {
			got = fmt.Sprint(z.Servers)
		}
		if z.Name != c.zone || got != c.servers {
			t.Errorf("%s: %q %q, %v; want %q %q", c.name, z.Name, got, err, c.zone, c.servers)
		}
	}
}

// TestChain: aliases are followed, not for ever, and the texts come out as
// octets.
func TestChain(t *testing.T) {
	m := &wire.Msg{}
	for _, text := range []string{"a. CNAME B.", "b. CNAME c.", `c. TXT "one" "\"t\\wo\"\010"`, `d. TXT "no"`, "r. CNAME r."} {
		rr, err := wire.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	records, aliases := Chain(m, "A", wire.TypeTXT)
	if got := Texts(records); len(got) != 1 || got[0] != "one\"t\\wo\"\n" || fmt.Sprint(aliases) != "[b c]" {
		t.Errorf("%q %v", got, aliases)
	}
	if records, aliases := Chain(m, "r.", wire.TypeTXT); len(records) != 0 || len(aliases) != maxChain {
		t.Errorf("%v %v", records, aliases)
	}
}
