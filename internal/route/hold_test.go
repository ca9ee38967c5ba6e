package route

import (
	"net/netip"
	"testing"

	"mailout/internal/mta"
)

const heldZone = `
both.test AAAA 2001:db8::1
both.test A 198.51.100.1
four.test A 198.51.100.1
six.test AAAA 2001:db8::1
smart.test A 198.51.100.9
`

// TestHoldByFamilyAndSource: what is sent where while something is held.
func TestHoldByFamilyAndSource(t *testing.T) {
	t.Parallel()
	ours4, ours6, other := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("192.0.2.11")
	configured := []mta.Source{{IP: ours4, Hostname: "o.test"}, {IP: ours6, Hostname: "o.test"}}
	v4, v6 := Hold{Reason: "four"}, Hold{V6: true, Reason: "six"}
	for name, c := range map[string]struct {
		sources          []mta.Source
		holds            []Hold
		both, four, sixT string // who holds it; "-": nobody, "4": nobody and IPv4 alone
	}{
		"nothing is held":          {nil, nil, "-", "-", "-"},
		"IPv4 of the system":       {nil, []Hold{v4}, "four", "four", "four"},
		"IPv6 of the system":       {nil, []Hold{v6}, "4", "4", "six"},
		"both of the system":       {nil, []Hold{v4, v6}, "four", "four", "four"},
		"both, the other way":      {nil, []Hold{v6, v4}, "four", "four", "four"},
		"a configured source":      {configured, []Hold{{Source: ours4, Reason: "four"}}, "four", "four", "four"},
		"a configured IPv6 source": {configured, []Hold{{Source: ours6, V6: true, Reason: "six"}}, "4", "4", "six"},
		"another source":           {configured, []Hold{{Source: other, Reason: "other"}}, "-", "-", "-"},
		"a mapped source":          {[]mta.Source{{IP: netip.MustParseAddr("::ffff:192.0.2.10"), Hostname: "o.test"}}, []Hold{{Source: ours4, Reason: "four"}}, "four", "four", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := standard()
			s.Sources = c.sources
			w := newWorld(t, s, heldZone)
			w.p.Hold(c.holds)
			for domain, want := range map[string]string{"both.test": c.both, "four.test": c.four, "six.test": c.sixT} {
				if want == "" {
					continue
				}
				r, f := w.p.Route(t.Context(), domain)
				if f != nil {
					t.Fatal(domain, f)
				}
				got := r.HeldBy
				switch {
				case got == "" && !r.IPv6:
					got = "4"
				case got == "":
					got = "-"
				}
				if got != want {
					t.Errorf("%s is held by %q, want %q", domain, got, want)
				}
			}
			w.p.Hold(nil)
			if r, _ := w.p.Route(t.Context(), "both.test"); r.HeldBy != "" || !r.IPv6 {
				t.Errorf("released: %q, IPv6 %t", r.HeldBy, r.IPv6)
			}
		})
	}
}

// TestHoldLeavesRoutersAlone: their mail does not show our address to receivers.
func TestHoldLeavesRoutersAlone(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Rules = []Rule{{Domains: []string{"routed.test"}, Host: "smart.test"}, {Domains: []string{"four.test"}, Host: Direct}}
	w := newWorld(t, s, heldZone)
	w.p.Hold([]Hold{{Reason: "four"}, {V6: true, Reason: "six"}})
	if r, f := w.p.Route(t.Context(), "routed.test"); f != nil || r.HeldBy != "" || !r.IPv6 {
		t.Errorf("%+v, %v", r, f)
	}
	if r, f := w.p.Route(t.Context(), "four.test"); f != nil || r.HeldBy != "four" {
		t.Errorf("%+v, %v", r, f)
	}
}
