package doctor

import (
	"errors"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

const ourName = "mailout.ofc.widget.com"

// authoritative2 is a second name server of widget.com.
var authoritative2 = netip.MustParseAddrPort("198.51.100.54:53")

// withSecondary adds it, with what the first has now.
func withSecondary(w *fakeWorld) {
	w.publish("widget.com. 3600 NS ns2.widget.com.", "ns2.widget.com. 3600 A 198.51.100.54")
	w.zones[authoritative2] = map[string][]wire.RR{}
	for name, rrs := range w.zones[authoritative] {
		w.zones[authoritative2][name] = append([]wire.RR(nil), rrs...)
	}
}

// caching makes the resolver answer for our name with a record that has some
// seconds left to live.
func caching(w *fakeWorld, record string) {
	w.withdrawAt(recursive, ourName, wire.TypeA)
	if record != "" {
		w.publishAt(recursive, record)
	}
}

func silentDNS(dns.Probe) (*wire.Msg, error) { return nil, errors.New("i/o timeout") }

func TestCheck_address_record(t *testing.T) {
	record := func(t *testing.T, w *fakeWorld, id Identity) Check {
		t.Helper()
		return find(t, examineFor(t, w, id, "address.record"), "address.record", ourName)
	}
	t.Run("pass", func(t *testing.T) {
		record(t, newWorld(t), goodIdentity()).mustBe(t, Pass, "192.0.2.10")
	})
	t.Run("fail without a record", func(t *testing.T) {
		w := newWorld(t)
		w.withdraw(ourName, wire.TypeA)
		c := record(t, w, goodIdentity())
		c.mustBe(t, Fail, "NXDOMAIN")
		if c.Fix.Record != "mailout.ofc.widget.com. IN A 192.0.2.10" || c.Who != DNSHost {
			t.Errorf("%+v", c.Fix)
		}
	})
	t.Run("fail with the inner address behind NAT", func(t *testing.T) {
		w, _, id := natted(t)
		w.withdraw(ourName, wire.TypeA)
		w.publish(ourName + ". 300 A 10.0.0.5")
		record(t, w, id).mustBe(t, Fail, "mailout.ofc.widget.com. IN A 203.0.113.5", "in place of mailout.ofc.widget.com. IN A 10.0.0.5")
	})
	t.Run("fail for one of two sources", func(t *testing.T) {
		w := newWorld(t)
		w.local = append(w.local, netip.MustParseAddr("192.0.2.11"))
		id := goodIdentity()
		id.PublicIP = nil
		id.Sources = append(id.Sources, mta.Source{IP: w.local[1]})
		record(t, w, id).mustBe(t, Fail, "mailout.ofc.widget.com. IN A 192.0.2.11")
	})
	t.Run("fail for IPv6", func(t *testing.T) {
		w, id := sixWorld(t)
		w.withdraw(ourName, wire.TypeAAAA)
		r := examineFor(t, w, id, "address.record")
		find(t, r, "address.record", ourName).mustBe(t, Pass)
		find(t, r, "address.record", ourName+" (IPv6)").mustBe(t, Fail, "no AAAA record", "mailout.ofc.widget.com. IN AAAA 2001:db8::10")
	})
	t.Run("fail for an impossible name", func(t *testing.T) {
		id := goodIdentity()
		id.Hostname, id.Sources = "localhost", nil
		find(t, examineFor(t, newWorld(t), id, "address.record"), "address.record", "localhost").mustBe(t, Fail, "name.form")
	})
	t.Run("warn about a further address", func(t *testing.T) {
		w := newWorld(t, ourName+". 300 A 192.0.2.99")
		record(t, w, goodIdentity()).mustBe(t, Warn, "Remove mailout.ofc.widget.com. IN A 192.0.2.99")
	})
	t.Run("warn while caches hold the old one", func(t *testing.T) {
		w := newWorld(t)
		caching(w, ourName+". 240 A 192.0.2.99")
		record(t, w, goodIdentity()).mustBe(t, Warn, "published, caches still hold the old one (192.0.2.99) for 240 s")
	})
	t.Run("warn while a secondary lacks it", func(t *testing.T) {
		w := newWorld(t)
		withSecondary(w)
		w.withdrawAt(authoritative2, ourName, wire.TypeA)
		caching(w, "")
		record(t, w, goodIdentity()).mustBe(t, Warn, "at some of the zone's own servers")
	})
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		w.ask = silentDNS
		record(t, w, goodIdentity()).mustBe(t, Unknown, "i/o timeout")
		w, _, id := natted(t)
		id.Probes = nil
		record(t, w, id).mustBe(t, Unknown, "nobody could tell")
	})
	t.Run("skip", func(t *testing.T) {
		id := goodIdentity()
		id.Router = Router{Host: "smtp.provider.example", Use: "always"}
		if c := record(t, newWorld(t), id); c.Status != Skip {
			t.Errorf("%+v", c)
		}
	})
}

func TestCheck_address_authoritative(t *testing.T) {
	zone := func(t *testing.T, w *fakeWorld) Check {
		t.Helper()
		return find(t, examineFor(t, w, goodIdentity(), "address"), "address.authoritative", ourName)
	}
	t.Run("pass", func(t *testing.T) {
		w := newWorld(t)
		withSecondary(w)
		zone(t, w).mustBe(t, Pass, "ns.widget.com: 192.0.2.10; ns2.widget.com: 192.0.2.10")
	})
	t.Run("fail", func(t *testing.T) {
		w := newWorld(t)
		w.withdraw(ourName, wire.TypeA)
		zone(t, w).mustBe(t, Fail, "mailout.ofc.widget.com. IN A 192.0.2.10")
	})
	t.Run("fail though caches still have it", func(t *testing.T) {
		w := newWorld(t)
		w.withdrawAt(authoritative, ourName, wire.TypeA)
		zone(t, w).mustBe(t, Fail, "caches still hold the right one for 300 s", "mailout.ofc.widget.com. IN A 192.0.2.10")
	})
	t.Run("warn while caches hold the old one", func(t *testing.T) {
		w := newWorld(t)
		caching(w, ourName+". 240 A 192.0.2.99")
		zone(t, w).mustBe(t, Warn, "published, caches still hold the old one (192.0.2.99) for 240 s", "wait")
	})
	t.Run("warn while caches remember that there was none", func(t *testing.T) {
		w := newWorld(t)
		caching(w, "")
		w.ask = func(p dns.Probe) (*wire.Msg, error) {
			if p.Server != recursive || wire.CanonicalName(p.Name) != ourName+"." || p.Type != wire.TypeA {
				return nil, nil
			}
			m := fromZone(w.zones[recursive], p)
			soa, err := wire.NewRR("widget.com. 77 SOA ns.widget.com. hostmaster.widget.com. 1 7200 3600 604800 300")
			m.Ns = append(m.Ns, soa)
			return m, err
		}
		zone(t, w).mustBe(t, Warn, "published, caches still hold the old one", "for 77 s")
	})
	t.Run("warn when the zone's servers differ", func(t *testing.T) {
		w := newWorld(t)
		withSecondary(w)
		w.withdrawAt(authoritative2, ourName, wire.TypeA)
		zone(t, w).mustBe(t, Warn, "ns2.widget.com: ", "serial")
	})
	t.Run("warn about a server that is mute", func(t *testing.T) {
		w := newWorld(t)
		withSecondary(w)
		delete(w.zones, authoritative2)
		zone(t, w).mustBe(t, Warn, "i/o timeout", "NS record")
	})
	t.Run("warn about a further address", func(t *testing.T) {
		zone(t, newWorld(t, ourName+". 300 A 192.0.2.99")).mustBe(t, Warn, "Remove")
	})
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		delete(w.zones, authoritative)
		zone(t, w).mustBe(t, Unknown, "i/o timeout")
		w = newWorld(t)
		w.ask = silentDNS
		zone(t, w).mustBe(t, Unknown)
	})
	t.Run("skip", func(t *testing.T) {
		id := goodIdentity()
		id.Hostname, id.Sources = "localhost", nil
		find(t, examineFor(t, newWorld(t), id, "address"), "address.authoritative", "localhost").mustBe(t, Skip)
	})
	t.Run("at the end of an alias", func(t *testing.T) {
		w := newWorld(t)
		w.withdraw(ourName, wire.TypeA)
		w.publish(ourName+". 300 CNAME real.widget.com.", "real.widget.com. 300 A 192.0.2.10")
		zone(t, w).mustBe(t, Pass)
	})
}
