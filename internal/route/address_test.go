package route

import (
	"net/netip"
	"strings"
	"testing"

	"mailout/internal/mta"
)

func TestListeningOnEveryAddress(t *testing.T) {
	t.Parallel()
	const zone = `
v4.test A 198.51.100.99
v6.test AAAA 2001:db8::99
lo.test A 127.0.0.2
lo6.test AAAA ::1
far.test A 198.51.100.1
`
	for _, c := range []struct{ listen, v4, v6, lo, lo6 string }{
		{"0.0.0.0:25", "loop", "v6.test: v6.test(0) 2001:db8::99", "loop", "lo6.test: lo6.test(0) ::1"},
		{"[::]:25", "loop", "loop", "loop", "loop"},
		{"127.0.0.1:25", "v4.test: v4.test(0) 198.51.100.99", "v6.test: v6.test(0) 2001:db8::99", "lo.test: lo.test(0) 127.0.0.2", "lo6.test: lo6.test(0) ::1"},
	} {
		s := standard()
		s.PrivateNetworks = true
		s.Listen = []netip.AddrPort{netip.MustParseAddrPort(c.listen)}
		w := newWorld(t, s, zone)
		w.expect("v4.test", c.v4)
		w.expect("v6.test", c.v6)
		w.expect("lo.test", c.lo)
		w.expect("lo6.test", c.lo6)
		w.expect("far.test", "far.test: far.test(0) 198.51.100.1")
	}
	if list, err := systemAddresses(); err != nil || len(list) == 0 {
		t.Errorf("this machine's addresses: %v, %v", list, err)
	}
}

// TRAPS 31: an MX naming loopback or a private address is skipped; 0.0.0.0, ::,
// localhost and address texts always.
func TestTrap31_ForbiddenAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standard(), privateZone)
	w.expect("mixed.test", "mixed.mx.test: mixed.mx.test(10) 198.51.100.1")
	w.expect("next.test", "inside.test,outside.test: inside.test(10) forbidden address; outside.test(20) 198.51.100.1")
	w.expect("loop.test", "forbidden address")
	w.expect("[127.0.0.1]", "forbidden address")
	w.expect("[IPv6:fd00::1]", "forbidden address")
	always := func(w *world) {
		w.t.Helper()
		w.expect("local.test", "forbidden address")
		w.expect("locals.test", "outside.test: outside.test(10) 198.51.100.1")
		w.expect("localhost", "forbidden address")
		w.expect("zero.test", "forbidden address")
		w.expect("multi.test", "forbidden address")
		w.expect("text.test", "outside.test: outside.test(20) 198.51.100.1")
		w.expect("texts.test", "no address")
		w.expect("digits.test", "no address")
		w.expect("rootandtext.test", "no address") // not a null MX: that stands alone
		w.expect("[0.0.0.0]", "forbidden address")
		w.expect("[255.255.255.255]", "forbidden address")
	}
	always(w)
	_, f := w.p.Route(t.Context(), "loop.test")
	if !strings.Contains(f.Text, "private_networks") {
		t.Errorf("the setting is not named: %s", f.Text)
	}
	s := standard()
	s.PrivateNetworks = true
	w = newWorld(t, s, privateZone)
	always(w)
	w.expect("mixed.test", "mixed.mx.test: mixed.mx.test(10) 10.0.0.1 198.51.100.1")
	w.expect("loop.test", "lo.test: lo.test(10) 127.0.0.5 ::1")
	w.expect("[127.0.0.1]", "[127.0.0.1]: 127.0.0.1(0) 127.0.0.1")
}

func TestAddressLiterals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standard(), "")
	w.expect("[198.51.100.1]", "[198.51.100.1]: 198.51.100.1(0) 198.51.100.1")
	w.expect("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]: 2001:db8::1(0) 2001:db8::1")
	for _, bad := range []string{"[198.51.100]", "[2001:db8::1]", "[IPv6:198.51.100.1]", "[x-tag:a]", "[", "[]", "[198.51.100.1", "[IPv6:fe80::1%eth0]"} {
		w.expect(bad, "no domain")
	}
	if w.dns.Count("", "") != 0 {
		t.Error("DNS was asked about an address literal")
	}
	s := standard()
	s.IPv6 = false
	w = newWorld(t, s, "")
	w.expect("[IPv6:2001:db8::1]", "local")
}

func TestFamiliesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const zone = "six.test AAAA 2001:db8::1\nboth.test AAAA 2001:db8::1\nboth.test A 198.51.100.1"
	s := standard()
	s.IPv6 = false
	w := newWorld(t, s, zone)
	w.expect("both.test", "both.test: both.test(0) 198.51.100.1")
	w.expect("six.test", "no address")
	if _, f := w.p.Route(t.Context(), "six.test"); !strings.Contains(f.Text, "delivery.ipv6") {
		t.Errorf("the setting is not named: %s", f.Text)
	}
	if w.dns.Count("both.test", "AAAA") != 0 {
		t.Error("AAAA was asked for without IPv6")
	}
	s = standard()
	s.Sources = []mta.Source{{IP: netip.MustParseAddr("198.51.100.50"), Hostname: "o.test"}}
	w = newWorld(t, s, zone)
	w.expect("six.test", "local")
	w.expect("both.test", "both.test: both.test(0) 198.51.100.1 2001:db8::1")
}
