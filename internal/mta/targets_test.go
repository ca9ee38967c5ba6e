package mta

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// host makes a host from "name preference address…".
func host(text string) Host {
	f := strings.Fields(text)
	h := Host{Name: f[0]}
	fmt.Sscan(f[1], &h.Preference)
	for _, a := range f[2:] {
		h.Addresses = append(h.Addresses, netip.MustParseAddr(a))
	}
	return h
}

// show gives targets as "name/address name/address".
func show(targets []Target) string {
	var b strings.Builder
	for i, t := range targets {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.Host.Name + "/" + t.IP.String())
	}
	return b.String()
}

func TestTargets(t *testing.T) {
	t.Parallel()
	v4only := []Source{{IP: netip.MustParseAddr("192.0.2.10"), Hostname: "out4.test"}}
	for _, c := range []struct {
		name  string
		route Route
		want  string
	}{
		{"nothing", Route{}, ""},
		{"families in turn, IPv6 first", Route{IPv6: true, Hosts: []Host{host("a 1 1.1.1.1 1.1.1.2 1.1.1.3 2::1 2::2")}},
			"a/2::1 a/1.1.1.1 a/2::2 a/1.1.1.2 a/1.1.1.3"},
		{"no IPv6", Route{Hosts: []Host{host("a 1 2::1 1.1.1.1"), host("b 2 2::2"), host("c 3 1.1.1.2")}},
			"a/1.1.1.1 c/1.1.1.2"},
		{"no source of the family", Route{IPv6: true, Sources: v4only, Hosts: []Host{host("a 1 2::1 1.1.1.1"), host("b 2 2::2")}},
			"a/1.1.1.1"},
		{"hosts without address do not count", Route{MaxHosts: 2, Hosts: []Host{host("a 1"), host("b 2 1.1.1.1"), host("c 3"), host("d 4 1.1.1.2"), host("e 5 1.1.1.3")}},
			"b/1.1.1.1 d/1.1.1.2"},
		{"five hosts by default", Route{Hosts: []Host{host("a 1 1.1.1.1"), host("b 1 1.1.1.2"), host("c 1 1.1.1.3"), host("d 1 1.1.1.4"), host("e 1 1.1.1.5"), host("f 1 1.1.1.6")}},
			"a/1.1.1.1 b/1.1.1.2 c/1.1.1.3 d/1.1.1.4 e/1.1.1.5"},
		{"a host of many addresses leaves room for the next", Route{MaxAddresses: 4, Hosts: []Host{host("a 1 1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5"), host("b 2 1.1.2.1")}},
			"a/1.1.1.1 a/1.1.1.2 a/1.1.1.3 b/1.1.2.1"},
		{"the last address is IPv4", Route{IPv6: true, MaxAddresses: 3, Hosts: []Host{host("a 1 2::1 1.1.1.1"), host("b 2 2::2 1.1.1.2")}},
			"a/2::1 a/1.1.1.1 b/1.1.1.2"},
		{"only one address", Route{IPv6: true, MaxAddresses: 1, Hosts: []Host{host("a 1 2::1 1.1.1.1")}}, "a/1.1.1.1"},
	} {
		if got := show(c.route.Targets(nil)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	many := Route{IPv6: true}
	for i := range 5 {
		many.Hosts = append(many.Hosts, host(fmt.Sprintf("h%d %d 1.1.%d.1 1.1.%d.2 1.1.%d.3 2::%d:1 2::%d:2", i, i, i, i, i, i, i)))
	}
	if got := many.Targets(nil); len(got) != DefaultMaxAddresses || got[9].Host.Name != "h4" {
		t.Errorf("ten addresses by default, some of every host: %s", show(got))
	}
}

// TRAPS 33: five dead AAAA records do not starve the A record in the same
// attempt, whatever the bounds.
func TestTrap33_DeadIPv6DoesNotStarveIPv4(t *testing.T) {
	t.Parallel()
	for limit := 1; limit <= 6; limit++ {
		r := Route{IPv6: true, MaxAddresses: limit, Hosts: []Host{host("a 1 2::1 2::2 2::3 2::4 2::5 1.1.1.1")}}
		if got := show(r.Targets(nil)); !strings.Contains(got, "1.1.1.1") {
			t.Errorf("%d addresses: %s", limit, got)
		}
	}
}

// TRAPS 18: the EHLO name is the source's, of the address's family.
func TestTrap18_EHLONameOfTheSource(t *testing.T) {
	t.Parallel()
	hosts := []Host{host("a 1 2::1 1.1.1.1")}
	for _, c := range []struct {
		sources []Source
		want    string
	}{
		{nil, "invalid IP/default.test invalid IP/default.test"},
		{[]Source{{IP: netip.MustParseAddr("192.0.2.1"), Hostname: "four.test"}, {IP: netip.MustParseAddr("2001:db8::1"), Hostname: "six.test"}}, "2001:db8::1/six.test 192.0.2.1/four.test"},
		{[]Source{{IP: netip.MustParseAddr("192.0.2.1")}, {IP: netip.MustParseAddr("192.0.2.2")}}, "192.0.2.1/default.test"},
		{[]Source{{Hostname: "any.test"}}, "invalid IP/any.test invalid IP/any.test"},
	} {
		r := Route{IPv6: true, Helo: "default.test", Hosts: hosts, Sources: c.sources}
		var got []string
		for _, target := range r.Targets(nil) {
			got = append(got, target.Source.IP.String()+"/"+target.Source.Hostname)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("got %s, want %s", s, c.want)
		}
	}
}

func TestTargetsAreShuffledInsideOnePreference(t *testing.T) {
	t.Parallel()
	r := Route{Hosts: []Host{host("a 1 1.1.1.1"), host("b 2 1.1.1.2"), host("c 2 1.1.1.3"), host("d 3 1.1.1.4")}}
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 100 {
		seen[show(r.Targets(rng.Shuffle))]++
	}
	if len(seen) != 2 || seen["a/1.1.1.1 b/1.1.1.2 c/1.1.1.3 d/1.1.1.4"] < 30 || seen["a/1.1.1.1 c/1.1.1.3 b/1.1.1.2 d/1.1.1.4"] < 30 {
		t.Errorf("orders: %v", seen)
	}
	if r.Hosts[1].Name != "b" {
		t.Error("the route was changed")
	}
}

// Whatever the route: the bounds hold, preferences never go back, nothing is
// tried twice, and IPv6 only where the route has it.
func TestTargetsProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Route{IPv6: rapid.Bool().Draw(t, "ipv6"), MaxHosts: rapid.IntRange(0, 4).Draw(t, "hosts"), MaxAddresses: rapid.IntRange(0, 8).Draw(t, "addresses")}
		pref := uint16(0)
		for i := range rapid.IntRange(0, 7).Draw(t, "n") {
			pref += uint16(rapid.IntRange(0, 1).Draw(t, "step"))
			h := Host{Name: fmt.Sprint(i), Preference: pref}
			for j := range rapid.IntRange(0, 4).Draw(t, "v4") {
				h.Addresses = append(h.Addresses, netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)}))
			}
			for j := range rapid.IntRange(0, 4).Draw(t, "v6") {
				h.Addresses = append(h.Addresses, netip.AddrFrom16([16]byte{0x20, 14: byte(i), 15: byte(j)}))
			}
			r.Hosts = append(r.Hosts, h)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		targets := r.Targets(rng.Shuffle)
		seen, hosts, last := map[netip.Addr]bool{}, map[string]bool{}, uint16(0)
		for _, target := range targets {
			if seen[target.IP] || target.Host.Preference < last || !r.IPv6 && target.IP.Is6() {
				t.Fatalf("%s", show(targets))
			}
			seen[target.IP], hosts[target.Host.Name], last = true, true, target.Host.Preference
		}
		if len(targets) > cmpOr(r.MaxAddresses, DefaultMaxAddresses) || len(hosts) > cmpOr(r.MaxHosts, DefaultMaxHosts) {
			t.Fatalf("over the bounds: %s", show(targets))
		}
	})
}

func cmpOr(n, fallback int) int {
	if n == 0 {
		return fallback
	}
	return n
}
