package doctor

import (
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

const ourReverse = "10.2.0.192.in-addr.arpa"

// sixWorld has IPv6 in perfect order, too.
func sixWorld(t *testing.T) (*fakeWorld, Identity) {
	six := netip.MustParseAddr("2001:db8::10")
	arpa, err := wire.ReverseAddr(six.String())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, ourName+". 300 AAAA 2001:db8::10", arpa+" 300 PTR "+ourName+".",
		ourName+". 300 TXT \"v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all\"", "widget.com. 300 TXT \"v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all\"")
	w.local = append(w.local, six)
	id := goodIdentity()
	id.Sources = append(id.Sources, mta.Source{IP: six, Hostname: ourName})
	id.PublicIP = append(id.PublicIP, six)
	return w, id
}

// withPTR is a world whose reverse record says something else.
func withPTR(t *testing.T, records ...string) *fakeWorld {
	w := newWorld(t, "2.0.192.in-addr.arpa. 3600 SOA ns.provider.example. dns\\.admin.provider.example. 1 7200 3600 604800 300",
		"2.0.192.in-addr.arpa. 3600 NS ns.widget.com.")
	w.withdraw(ourReverse, wire.TypePTR)
	w.publish(records...)
	return w
}

func TestCheck_ptr_exists(t *testing.T) {
	exists := func(t *testing.T, w *fakeWorld) Check {
		t.Helper()
		return find(t, examineFor(t, w, goodIdentity(), "ptr"), "ptr.exists", "192.0.2.10")
	}
	t.Run("pass", func(t *testing.T) { exists(t, newWorld(t)).mustBe(t, Pass, ourName) })
	t.Run("pass by a delegation", func(t *testing.T) {
		w := withPTR(t, ourReverse+". 300 CNAME 10.0-63.2.0.192.in-addr.arpa.", "10.0-63.2.0.192.in-addr.arpa. 300 PTR "+ourName+".")
		exists(t, w).mustBe(t, Pass, "delegated to 10.0-63.2.0.192.in-addr.arpa")
	})
	t.Run("fail", func(t *testing.T) {
		c := exists(t, withPTR(t))
		c.mustBe(t, Fail, "10.2.0.192.in-addr.arpa. IN PTR mailout.ofc.widget.com.", "“Please set the reverse DNS (PTR) record of 192.0.2.10 to mailout.ofc.widget.com",
			"2.0.192.in-addr.arpa is run at ns.provider.example, dns.admin@provider.example")
		if c.Who != AddressProvider {
			t.Errorf("%+v", c)
		}
	})
	t.Run("fail at the end of a delegation", func(t *testing.T) {
		c := exists(t, withPTR(t, ourReverse+". 300 CNAME 10.rev.widget.com."))
		c.mustBe(t, Fail, "10.rev.widget.com. IN PTR mailout.ofc.widget.com.", "has delegated")
		if c.Who != DNSHost {
			t.Errorf("%+v", c)
		}
	})
	t.Run("skip", func(t *testing.T) {
		w := newWorld(t)
		w.local = []netip.Addr{netip.MustParseAddr("10.0.0.5")}
		id := goodIdentity()
		id.Sources, id.PublicIP = nil, w.local
		find(t, examineFor(t, w, id, "ptr"), "ptr.exists", "10.0.0.5").mustBe(t, Skip, "a private address")
	})
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		w.ask = silentDNS
		exists(t, w).mustBe(t, Unknown)
		w.local, w.ask = nil, nil
		id := goodIdentity()
		id.Sources, id.PublicIP = nil, nil
		find(t, examineFor(t, w, id, "ptr"), "ptr.exists", "IPv4").mustBe(t, Unknown, "nobody could tell")
	})
}

func TestCheck_ptr_confirmed(t *testing.T) {
	confirmed := func(t *testing.T, w *fakeWorld) Check {
		t.Helper()
		return find(t, examineFor(t, w, goodIdentity(), "ptr"), "ptr.confirmed", "192.0.2.10")
	}
	t.Run("pass", func(t *testing.T) { confirmed(t, newWorld(t)).mustBe(t, Pass, "leads back to 192.0.2.10") })
	t.Run("warn at another name", func(t *testing.T) {
		w := withPTR(t, ourReverse+". 300 PTR mail.widget.com.", "mail.widget.com. 300 A 192.0.2.10")
		confirmed(t, w).mustBe(t, Warn, "config set hostname mail.widget.com", "EHLO says mailout.ofc.widget.com")
	})
	t.Run("warn while caches hold the old address", func(t *testing.T) {
		w := newWorld(t)
		caching(w, ourName+". 240 A 192.0.2.99")
		confirmed(t, w).mustBe(t, Warn, "published, caches still hold the old one (192.0.2.99) for 240 s")
	})
	t.Run("warn at two records", func(t *testing.T) {
		w := newWorld(t, ourReverse+". 300 PTR old.widget.com.", "old.widget.com. 300 A 192.0.2.10")
		confirmed(t, w).mustBe(t, Warn, "2 reverse records", "nobody knows which")
	})
	t.Run("warn at two names of one address", func(t *testing.T) {
		w := newWorld(t)
		w.local = append(w.local, netip.MustParseAddr("192.0.2.11"))
		id := goodIdentity()
		id.Sources = append(id.Sources, mta.Source{IP: w.local[1], Hostname: "two.widget.com"})
		find(t, examineFor(t, w, id, "ptr"), "ptr.confirmed", "192.0.2.10").mustBe(t, Warn, "should share one hostname")
	})
	t.Run("fail at a name that leads elsewhere", func(t *testing.T) {
		confirmed(t, withPTR(t, ourReverse+". 300 PTR vps7.provider.example.")).mustBe(t, Fail, "vps7.provider.example does not lead back", "Please set the reverse DNS")
	})
	t.Run("fail at our name without address record", func(t *testing.T) {
		w := newWorld(t)
		w.withdraw(ourName, wire.TypeA)
		confirmed(t, w).mustBe(t, Fail, "mailout.ofc.widget.com. IN A 192.0.2.10")
	})
	t.Run("skip", func(t *testing.T) { confirmed(t, withPTR(t)).mustBe(t, Skip, "ptr.exists") })
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		w.ask = func(p dns.Probe) (*wire.Msg, error) {
			if p.Type == wire.TypeA {
				return silentDNS(p)
			}
			return nil, nil
		}
		confirmed(t, w).mustBe(t, Unknown)
	})
}

func TestCheck_ptr_generic(t *testing.T) {
	generic := func(t *testing.T, w *fakeWorld) Check {
		t.Helper()
		return find(t, examineFor(t, w, goodIdentity(), "ptr"), "ptr.generic", "192.0.2.10")
	}
	t.Run("pass", func(t *testing.T) { generic(t, newWorld(t)).mustBe(t, Pass) })
	t.Run("warn", func(t *testing.T) {
		generic(t, withPTR(t, ourReverse+". 300 PTR 192-0-2-10.provider.example.")).mustBe(t, Warn, "has the address in it", "Please set")
		generic(t, withPTR(t, ourReverse+". 300 PTR host7.dyn.provider.example.")).mustBe(t, Warn, `has "dyn" in it`)
	})
	t.Run("skip", func(t *testing.T) { generic(t, withPTR(t)).mustBe(t, Skip) })
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		w.ask = silentDNS
		generic(t, w).mustBe(t, Unknown)
	})
}

func TestGenericNames(t *testing.T) {
	t.Parallel()
	four, six := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8:1:2:3:4:5:6")
	for name, want := range map[string]bool{
		"mailout.ofc.widget.com": false, "mx2.host9.example.com": false, "dsl.net": false, "dynamics.example.com": false, "home.example.com": true,
		"cable.co.example": true, "mail-113-9.example.com": false, "203.0.113.9.static.example.net": true, "9-113-0-203.example.net": true,
		"cb007109.example.net": true, "203000113009.example.net": true, "host-113-0-203.example.net": true, "ip203-000-113-009.example.net": true,
		"p5dc1.dip0.t-ipconnect.example": true, "pool-7.example.net": true, "adsl-7.example.net": true, "": false,
	} {
		if got := genericSign(name, four) != ""; got != want {
			t.Errorf("%s: %q", name, genericSign(name, four))
		}
	}
	for name, want := range map[string]bool{
		"mail.example.com": false, "2001-db8-1-2-3-4-5-6.example.net": true, "2001-0db8-0001-0002-0003-0004-0005-0006.example.net": true,
		"0003000400050006.example.net": true,
	} {
		if got := genericSign(name, six) != ""; got != want {
			t.Errorf("%s: %q", name, genericSign(name, six))
		}
	}
	if sign := genericSign("mail-1.example.com", netip.MustParseAddr("2001:db8::1")); sign != "" {
		t.Error(sign)
	}
}

func TestCheck_ipv6(t *testing.T) {
	ipv6 := func(t *testing.T, w *fakeWorld, id Identity, subject string) Check {
		t.Helper()
		return find(t, examineFor(t, w, id, "ipv6"), "ipv6", subject)
	}
	t.Run("pass", func(t *testing.T) {
		w, id := sixWorld(t)
		ipv6(t, w, id, "2001:db8::10").mustBe(t, Pass)
	})
	t.Run("fail without reverse record", func(t *testing.T) {
		w, id := sixWorld(t)
		arpa, _ := wire.ReverseAddr("2001:db8::10")
		w.withdraw(arpa, wire.TypePTR)
		ipv6(t, w, id, "2001:db8::10").mustBe(t, Fail, "no reverse record", arpa+" IN PTR "+ourName, "config set delivery.ipv6 false")
	})
	t.Run("fail without AAAA record", func(t *testing.T) {
		w, id := sixWorld(t)
		w.withdraw(ourName, wire.TypeAAAA)
		ipv6(t, w, id, "2001:db8::10").mustBe(t, Fail, "no AAAA record", ourName+". IN AAAA 2001:db8::10")
	})
	t.Run("fail without SPF", func(t *testing.T) {
		w, id := sixWorld(t)
		w.withdraw("widget.com", wire.TypeTXT)
		w.withdraw(ourName, wire.TypeTXT)
		w.publish("widget.com. 300 TXT \"v=spf1 ip4:192.0.2.10 -all\"")
		ipv6(t, w, id, "2001:db8::10").mustBe(t, Fail, "SPF of widget.com")
	})
	t.Run("warn when it leads nowhere", func(t *testing.T) {
		w, id := sixWorld(t)
		s := newStreet(t, w)
		s.open("198.51.100.25:25", "220 mx.example.net ESMTP\r\n", usual, "")
		w.publish("mx.example.net. 60 A 198.51.100.25", "mx.example.net. 60 AAAA 2001:db8:9::25")
		id.Probes = []string{"mx.example.net"}
		ipv6(t, w, id, "2001:db8::10").mustBe(t, Warn, "no mail server can be reached", "config set delivery.ipv6 false")
	})
	t.Run("skip", func(t *testing.T) {
		w, id := sixWorld(t)
		id.IPv6 = false
		ipv6(t, w, id, ourName).mustBe(t, Skip, "delivery.ipv6 = false")
		id.IPv6, id.Sources, w.local = true, nil, w.local[:1]
		ipv6(t, w, id, ourName).mustBe(t, Skip, "no way out over IPv6")
	})
	t.Run("unknown", func(t *testing.T) {
		w, id := sixWorld(t)
		w.ask = silentDNS
		ipv6(t, w, id, "2001:db8::10").mustBe(t, Unknown)
		w, id = sixWorld(t)
		w.local[1] = netip.MustParseAddr("fd00::5")
		id.Sources, id.PublicIP = nil, nil
		ipv6(t, w, id, "fd00::5").mustBe(t, Unknown, "nobody could tell")
	})
}
