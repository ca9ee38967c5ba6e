package dns

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

var (
	loopback  = netip.MustParseAddrPort("127.0.0.1:53")
	elsewhere = netip.MustParseAddrPort("192.0.2.1:53")
)

// checking is a server that marks what it answers, and refuses the bogus name.
func checking(root func(q *wire.Msg) *wire.Msg, bogus func(q *wire.Msg) *wire.Msg) handler {
	known := zone(true, "x.test. 600 IN MX 1 mx.test.", "_25._tcp.mx.test. 600 IN TLSA 3 1 1 00ff")
	return func(network string, q *wire.Msg) (*wire.Msg, []byte) {
		var m *wire.Msg
		switch q.Question[0].Name {
		case ".":
			m = root(q)
		case "bogus.test.":
			m = bogus(q)
		default:
			return known(network, q)
		}
		return m, nil
	}
}

func marked(q *wire.Msg) *wire.Msg {
	return reply(q, wire.RcodeSuccess, true, ". 60 IN SOA a. b. 1 2 3 4 5")
}
func unmarked(q *wire.Msg) *wire.Msg {
	return reply(q, wire.RcodeSuccess, false, ". 60 IN SOA a. b. 1 2 3 4 5")
}
func servfail(q *wire.Msg) *wire.Msg { return reply(q, wire.RcodeServerFailure, false) }
func answers(q *wire.Msg) *wire.Msg {
	return reply(q, wire.RcodeSuccess, false, "bogus.test. 60 IN A 192.0.2.66")
}
func mute(*wire.Msg) *wire.Msg { return nil }

// TestADIsBelieved: who marks an answer counts, and what the self-test shows.
func TestADIsBelieved(t *testing.T) {
	t.Parallel()
	absent := func(q *wire.Msg) *wire.Msg { return reply(q, wire.RcodeNameError, true) }
	for _, c := range []struct {
		name        string
		server      netip.AddrPort
		o           Options
		root, bogus func(*wire.Msg) *wire.Msg
		want        bool
		why         string
	}{
		{"this machine", loopback, Options{DNSSEC: DNSSECTrust}, marked, servfail, true, "this machine"},
		{"this machine, IPv6", netip.MustParseAddrPort("[::1]:53"), Options{DNSSEC: DNSSECTrust}, marked, servfail, true, "this machine"},
		{"elsewhere", elsewhere, Options{DNSSEC: DNSSECTrust}, marked, servfail, false, "not named in dns.trusted"},
		{"elsewhere, trusted", elsewhere, Options{DNSSEC: DNSSECTrust, Trusted: []netip.Addr{elsewhere.Addr()}}, marked, servfail, true, "named in dns.trusted"},
		{"does not mark the root", loopback, Options{DNSSEC: DNSSECTrust}, unmarked, servfail, false, "no AD"},
		{"answers for the bogus name", loopback, Options{DNSSEC: DNSSECTrust}, marked, answers, false, "answers for bogus.test"},
		{"does not know the bogus name", loopback, Options{DNSSEC: DNSSECTrust}, marked, absent, true, "this machine"},
		{"knows no root", loopback, Options{DNSSEC: DNSSECTrust}, absent, absent, true, "this machine"},
		{"refuses the root", loopback, Options{DNSSEC: DNSSECTrust}, func(q *wire.Msg) *wire.Msg { return reply(q, wire.RcodeRefused, true) }, servfail, false, "no AD"},
		{"silent", loopback, Options{DNSSEC: DNSSECTrust}, mute, servfail, false, "gave no answer to the self-test"},
		{"silent about the bogus name", loopback, Options{DNSSEC: DNSSECTrust}, marked, mute, true, "this machine"},
		{"off", loopback, Options{DNSSEC: DNSSECOff}, marked, servfail, false, "switched off"},
		{"as said", elsewhere, Options{}, unmarked, answers, true, "untested"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t)
				n.serve(c.server, checking(c.root, c.bogus))
				c.o.Servers, c.o.BogusName = []netip.AddrPort{c.server}, "bogus.test"
				r := n.newResolver(c.o)
				mx, err := r.MX(t.Context(), "x.test")
				check(t, mx.Records, err, []MX{{1, "mx.test"}})
				_, err = r.MX(t.Context(), "gone.test")
				e := AsError(err)
				if mx.Secure != c.want || e.Secure != c.want || e.Kind != NXDomain {
					t.Errorf("secure %v, denial %v (%v)", mx.Secure, e.Secure, e)
				}
				if st := r.DNSSEC(t.Context()); st.On() != c.want || !strings.Contains(st.Why, c.why) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestSelfTestIsOffTheRoad: it runs once, then every hour; look-ups wait for the
// first one no longer than for a query, and nothing is kept of what they then
// believed.
func TestSelfTestIsOffTheRoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		good := checking(marked, servfail)
		n.serve(loopback, checking(mute, mute))
		r := n.newResolver(Options{DNSSEC: DNSSECTrust, Servers: []netip.AddrPort{loopback}, BogusName: "bogus.test", Timeout: 3 * time.Second})
		start := time.Now()
		mx, err := r.MX(t.Context(), "x.test")
		if err != nil || mx.Secure || time.Since(start) > 3*time.Second {
			t.Errorf("%v %v after %v", mx, err, time.Since(start))
		}
		n.serve(loopback, good)
		time.Sleep(testAgain + time.Second) // virtual
		if mx, err = r.MX(t.Context(), "x.test"); err != nil || !mx.Secure {
			t.Errorf("still not believed: %v %v", mx, err)
		}
		n.asked()
		time.Sleep(3*testEvery + time.Second)
		if asked := n.asked(); len(asked) != 6 {
			t.Errorf("three hours: %q", asked)
		}
		n.serve(loopback, checking(mute, mute)) // silence proves nothing new
		time.Sleep(testEvery)
		if mx, err = r.MX(t.Context(), "x.test"); err != nil || !mx.Secure {
			t.Errorf("not believed after a silence: %v %v", mx, err)
		}
		var log bytes.Buffer
		r.settings.Load().trust.log = slog.New(slog.NewTextHandler(&log, nil))
		n.serve(loopback, checking(marked, answers))
		time.Sleep(testEvery)
		if mx, err = r.MX(t.Context(), "x.test"); err != nil || mx.Secure {
			t.Errorf("believed although it answers for the bogus name: %v %v", mx, err)
		}
		n.serve(loopback, checking(marked, mute))
		time.Sleep(testEvery)
		if mx, err = r.MX(t.Context(), "x.test"); err != nil || mx.Secure {
			t.Errorf("believed after a silence: %v %v", mx, err)
		}
		n.serve(loopback, checking(marked, answers))
		time.Sleep(3 * testEvery)
		if got := strings.Count(log.String(), "level=WARN"); got != 1 {
			t.Errorf("logged %d times: %s", got, log.String())
		}
	})
}

// TestSelfTestAfterReconfigure: another generation has a test of its own, and
// the old one's ends.
func TestSelfTestAfterReconfigure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(loopback, checking(marked, servfail))
		n.serve(elsewhere, checking(marked, servfail))
		o := Options{DNSSEC: DNSSECTrust, Servers: []netip.AddrPort{loopback}, BogusName: "bogus.test", Dialer: n.dial}
		r := n.newResolver(o)
		if mx, _ := r.MX(t.Context(), "x.test"); !mx.Secure {
			t.Error("not secure")
		}
		o.Servers = []netip.AddrPort{elsewhere}
		r.Reconfigure(o)
		if mx, _ := r.MX(t.Context(), "x.test"); mx.Secure {
			t.Error("the mark of another server is believed")
		}
		n.asked()
		time.Sleep(testEvery + time.Second)
		if asked := n.asked(); len(asked) != 0 {
			t.Errorf("asked %q", asked)
		}
	})
}

func TestParseServer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "192.0.2.1:53": "192.0.2.1", "192.0.2.1:5353": "192.0.2.1:5353", "2001:db8::1": "2001:db8::1",
		"[2001:db8::1]:54": "[2001:db8::1]:54", "tls://192.0.2.1": "tls://192.0.2.1", "tls://192.0.2.1:853#Dns.Example.": "tls://192.0.2.1#dns.example",
		"tls://[2001:db8::1]": "tls://[2001:db8::1]", "tls://2001:db8::1": "tls://[2001:db8::1]", "tls://192.0.2.1:53": "tls://192.0.2.1:53",
		"192.0.2.1:853": "192.0.2.1:853",
	} {
		s, err := ParseServer(text)
		if err != nil || s.String() != want {
			t.Errorf("%q: %v %v", text, s, err)
		}
		if again, err := ParseServer(s.String()); err != nil || again != s {
			t.Errorf("%q does not come back: %v %v", s, again, err)
		}
	}
	for _, text := range []string{"", "tls://", "dns.example", "tls://dns.example", "192.0.2.1#x.example", "tls://192.0.2.1#", "tls://192.0.2.1#a b", "192.0.2.1:0", "udp://192.0.2.1"} {
		if s, err := ParseServer(text); err == nil {
			t.Errorf("%q became %v", text, s)
		}
	}
}
