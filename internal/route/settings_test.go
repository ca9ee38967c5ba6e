package route

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mailout/internal/mta"
)

func TestRelayForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		port uint16
		want string // "name port" or "" for an error
	}{
		{"smart.test", 0, "smart.test 25"},
		{"Smart.Test.", 0, "smart.test 25"},
		{"smart.test", 587, "smart.test 587"},
		{"smart.test:587", 0, "smart.test 587"},
		{"smart.test:587", 587, "smart.test 587"},
		{"smart.test:587", 25, ""},
		{"[smart.test]", 0, "smart.test 25"},
		{"[smart.test]:2525", 0, "smart.test 2525"},
		{"bücher.test", 0, "xn--bcher-kva.test 25"},
		{"192.0.2.1", 0, "192.0.2.1 25"},
		{"192.0.2.1:2525", 0, "192.0.2.1 2525"},
		{"[192.0.2.1]:2525", 0, "192.0.2.1 2525"},
		{"2001:db8::1", 0, "2001:db8::1 25"},
		{"[2001:db8::1]", 0, "2001:db8::1 25"},
		{"[2001:db8::1]:2525", 0, "2001:db8::1 2525"},
		{"[IPv6:2001:db8::1]:2525", 0, "2001:db8::1 2525"},
		{"localhost", 0, "localhost 25"},
		{"", 0, ""}, {":25", 0, ""}, {"[]", 0, ""}, {"[smart.test", 0, ""}, {"[smart.test]x", 0, ""}, {"smart.test:", 0, ""},
		{"smart.test:0", 0, ""}, {"smart.test:65536", 0, ""}, {"smart.test:-1", 0, ""}, {"smart.test:smtp", 0, ""},
		{"a b", 0, ""}, {"a/b", 0, ""}, {"*.test", 0, ""}, {"0.0.0.0", 0, ""}, {"::", 0, ""}, {"224.0.0.1", 0, ""}, {"direct:25", 0, ""},
	} {
		r, err := parseRelay(c.text, c.port, 25)
		got := ""
		if err == nil {
			got = r.peers[0].name
			if got == "" {
				got = r.peers[0].addr.String()
			}
			got += " " + fmt.Sprint(r.port)
		}
		if got != c.want {
			t.Errorf("%q port %d: got %q (%v), want %q", c.text, c.port, got, err, c.want)
		}
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	s := Settings{
		Rules: []Rule{
			{Domains: []string{"ok.test"}, Host: Direct},
			{Domains: nil, Host: Direct},
			{Domains: []string{"a.*.test"}, Host: Direct},
			{Domains: []string{"*.[192.0.2.1]"}, Host: Direct},
			{Domains: []string{""}, Host: Direct},
			{Domains: []string{"*."}, Host: Direct},
			{Domains: []string{"ok.test"}, Host: "x:y:z"},
		},
		Router: Router{Host: "bad host"},
	}
	err := Check(s)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"[[route]] 2:", "[[route]] 3:", "[[route]] 4:", "[[route]] 5:", "[[route]] 6:", "[[route]] 7:", "[router]:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not reported:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "[[route]] 1:") {
		t.Errorf("a good rule is reported:\n%v", err)
	}
	if _, err := New(Options{Settings: s}); err == nil {
		t.Error("New accepted them")
	}
	if err := Check(Settings{}); err != nil {
		t.Errorf("the zero settings: %v", err)
	}
}

func TestRefusedAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addr            string
		always, private bool
	}{
		{"0.0.0.0", true, true}, {"0.1.2.3", true, true}, {"224.0.0.1", true, true}, {"239.255.255.255", true, true},
		{"240.0.0.1", true, true}, {"255.255.255.255", true, true}, {"::", true, true}, {"ff02::1", true, true},
		{"::2", true, true}, {"::192.0.2.1", true, true}, {"100::1", true, true}, {"::ffff:0.0.0.0", true, true},
		{"64:ff9b::0.0.0.0", true, true}, {"2002:e000:1::", true, true},
		{"127.0.0.1", false, true}, {"127.255.255.255", false, true}, {"::1", false, true}, {"::ffff:127.0.0.1", false, true},
		{"10.0.0.1", false, true}, {"172.16.0.1", false, true}, {"172.31.255.255", false, true}, {"192.168.1.1", false, true},
		{"100.64.0.1", false, true}, {"100.127.255.255", false, true}, {"169.254.1.1", false, true}, {"192.0.0.1", false, true},
		{"fe80::1", false, true}, {"fec0::1", false, true}, {"fc00::1", false, true}, {"fdff::1", false, true},
		{"64:ff9b::10.0.0.1", false, true}, {"64:ff9b::127.0.0.1", false, true}, {"64:ff9b:1::1", false, true}, {"2002:7f00:1::", false, true},
		{"1.1.1.1", false, false}, {"172.32.0.1", false, false}, {"100.128.0.1", false, false}, {"198.51.100.1", false, false},
		{"2001:db8::1", false, false}, {"2600::1", false, false}, {"64:ff9b::1.1.1.1", false, false}, {"2002:101:101::", false, false},
	} {
		a := netip.MustParseAddr(c.addr)
		if got := refused(a, true) != ""; got != c.always {
			t.Errorf("%s, private networks allowed: refused %t (%s)", c.addr, got, refused(a, true))
		}
		if got := refused(a, false) != ""; got != c.private {
			t.Errorf("%s: refused %t (%s)", c.addr, got, refused(a, false))
		}
	}
}

func TestSiteNames(t *testing.T) {
	t.Parallel()
	hosts := func(text string) (out []mta.Host) {
		for i, group := range strings.Fields(text) {
			for _, name := range strings.Split(group, "=") {
				out = append(out, mta.Host{Name: name, Preference: uint16(i * 7)})
			}
		}
		return out
	}
	if got := siteOf(hosts("c.test=a.test b.test")); got != "a.test=c.test,b.test" {
		t.Errorf("got %s", got)
	}
	long := strings.Repeat("mx-of-some-length.example.test=", 20)
	a, b := siteOf(hosts(long+"a.test")), siteOf(hosts(long+"b.test"))
	if a == b || len(a) > maxSite || !strings.HasPrefix(a, "a.test=mx-of-some-length.example.test") {
		t.Errorf("long sites: %s and %s", a, b)
	}
	if again := siteOf(hosts("a.test=" + strings.TrimSuffix(long, "="))); again != a {
		t.Errorf("the order inside a preference matters: %s and %s", a, again)
	}
	if one := siteOf(hosts(strings.Repeat("a", 250))); len(one) > maxSite {
		t.Errorf("%d octets", len(one))
	}
}

// FuzzRelay: any configured host is refused or is asked for as what it says.
func FuzzRelay(f *testing.F) {
	for _, s := range []string{"smart.test:587", "[IPv6:2001:db8::1]:25", "192.0.2.1", "[a]:", "::", "a:1:2", "é.test", "mx:a.test:587", "unix:/run/lmtp", "a|b:26", "mx:192.0.2.1", "|"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRelay(s, 0, 25)
		if err != nil {
			return
		}
		for _, p := range r.peers {
			ways := 0
			for _, is := range []bool{p.name != "", p.addr.IsValid(), p.socket != ""} {
				if is {
					ways++
				}
			}
			if r.portOf(p) == 0 || ways != 1 || strings.ContainsAny(p.name, " :[]|\r\n") || p.socket != "" && p.socket[0] != '/' {
				t.Errorf("%q: %+v", s, p)
			}
		}
	})
}

// FuzzLiteral: a domain is an address literal or not, without a panic.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"[192.0.2.1]", "[IPv6:::1]", "[IPv6:fe80::1%x]", "[", "]", "[[]]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, ok := literal(s); ok && (!a.IsValid() || a.Zone() != "" || !isLiteral(s)) {
			t.Errorf("%q: %v", s, a)
		}
	})
}
