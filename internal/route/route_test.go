package route

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
	"pgregory.net/rapid"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// world is a planner with a DNS of its own, in memory.
type world struct {
	t   *testing.T
	dns *mtatest.DNS
	p   *Planner
	log bytes.Buffer
}

// standard are settings like those of a public server, on private networks.
func standard() Settings {
	return Settings{Hostname: "out.origin.test", Port: 25, IPv6: true}
}

func newWorld(t *testing.T, s Settings, zone string) *world {
	t.Helper()
	w := &world{t: t, dns: mtatest.NewDNS()}
	t.Cleanup(w.dns.Stop)
	if err := w.dns.Add(zone); err != nil {
		t.Fatal(err)
	}
	r := dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Dialer: w.dns.DialContext})
	t.Cleanup(func() { r.Close() })
	var err error
	w.p, err = New(Options{
		Resolver: r, Settings: s, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		Interfaces: func() ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("198.51.100.99"), netip.MustParseAddr("2001:db8::99")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// show asks for a route and gives it in one line: "site: host(preference)
// addresses; …", or the failure's cause.
func (w *world) show(domain string) string {
	w.t.Helper()
	r, f := w.p.Route(w.t.Context(), domain)
	if (r == nil) == (f == nil) {
		w.t.Fatalf("%s: route %v and failure %v", domain, r, f)
	}
	if f != nil {
		if f.Stage != mta.StageRoute || f.Text == "" {
			w.t.Errorf("%s: %+v", domain, f)
		}
		return f.Cause.String()
	}
	var hosts []string
	for _, h := range r.Hosts {
		s := fmt.Sprintf("%s(%d)", h.Name, h.Preference)
		for _, a := range h.Addresses {
			s += " " + a.String()
		}
		if h.Failure != nil {
			s += " " + h.Failure.Cause.String()
		}
		hosts = append(hosts, s)
	}
	return r.Site + ": " + strings.Join(hosts, "; ")
}

func (w *world) expect(domain, want string) {
	w.t.Helper()
	if got := w.show(domain); got != want {
		w.t.Errorf("%s:\n got %s\nwant %s", domain, got, want)
	}
}

const plainZone = `
one.test MX 10 mx1.test
one.test MX 20 mx2.test
two.test MX 10 MX1.test.
two.test MX 20 mx2.test
swapped.test MX 10 mx2.test
swapped.test MX 20 mx1.test
equal.test MX 5 mx2.test
equal.test MX 5 mx1.test
mx1.test A 198.51.100.1
mx1.test AAAA 2001:db8::1
mx2.test A 198.51.100.2
implicit.test A 198.51.100.3
alias.test CNAME implicit.test
aliasmx.test CNAME one.test
mxalias.test MX 10 alias.mx1.test
alias.mx1.test CNAME mx1.test
txt.test TXT "neither"
gone.test MX 10 nowhere.test
halfgone.test MX 10 nowhere.test
halfgone.test MX 20 mx2.test
double.test MX 30 mx2.test
double.test MX 10 mx1.test
double.test MX 20 mx1.test
xn--bcher-kva.test MX 10 mx1.test
`

func TestDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standard(), plainZone)
	const mx1, mx2 = "198.51.100.1 2001:db8::1", "198.51.100.2"
	w.expect("one.test", "mx1.test,mx2.test: mx1.test(10) "+mx1+"; mx2.test(20) "+mx2)
	w.expect("two.test", "mx1.test,mx2.test: mx1.test(10) "+mx1+"; mx2.test(20) "+mx2)
	w.expect("swapped.test", "mx2.test,mx1.test: mx2.test(10) "+mx2+"; mx1.test(20) "+mx1)
	w.expect("equal.test", "mx1.test=mx2.test: mx2.test(5) "+mx2+"; mx1.test(5) "+mx1)
	w.expect("implicit.test", "implicit.test: implicit.test(0) 198.51.100.3")
	w.expect("alias.test", "alias.test: alias.test(0) 198.51.100.3")
	w.expect("aliasmx.test", "mx1.test,mx2.test: mx1.test(10) "+mx1+"; mx2.test(20) "+mx2)
	w.expect("mxalias.test", "alias.mx1.test: alias.mx1.test(10) "+mx1)
	w.expect("txt.test", "no address")
	w.expect("gone.test", "no address")
	w.expect("halfgone.test", "nowhere.test,mx2.test: nowhere.test(10) no address; mx2.test(20) "+mx2)
	w.expect("double.test", "mx1.test,mx2.test: mx1.test(10) "+mx1+"; mx2.test(30) "+mx2)
	w.expect("nothing.test", "no domain")
	w.expect("a..test", "no domain")
	w.expect("", "no domain")
	w.expect("b\xff.test", "no domain")

	r, _ := w.p.Route(t.Context(), "ONE.test.")
	if r.Domain != "one.test" || r.Matched != "direct (default)" || r.Router != "" || r.Port != 25 || r.Helo != "out.origin.test" || !r.IPv6 || r.MaxHosts != 5 || r.MaxAddresses != 10 {
		t.Errorf("route: %+v", r)
	}
}

// TRAPS 24: an IDN domain becomes an A-label for DNS.
func TestTrap24_UnicodeDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standard(), plainZone)
	for _, name := range []string{"xn--bcher-kva.test", "bücher.test", "BÜCHER.test."} {
		w.expect(name, "mx1.test: mx1.test(10) 198.51.100.1 2001:db8::1")
	}
}

// TRAPS 30: null MX fails at once; MX SERVFAIL or time-out is deferred, never an
// address fallback; NXDOMAIN is no domain; no MX records: the address records.
func TestTrap30_WhatMXAnswersMean(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standard(), `
null.test MX 0 .
null.test A 198.51.100.1
nulls.test MX 0 .
nulls.test MX 10 .
mixed.test MX 0 .
mixed.test MX 10 mx.test
mx.test A 198.51.100.1
fail.test A 198.51.100.1
silent.test A 198.51.100.1
refused.test A 198.51.100.1
nomx.test A 198.51.100.1
nomxfail.test A 198.51.100.1
`)
		w.dns.Script("fail.test", wire.TypeMX, mtatest.Script{Rcode: wire.RcodeServerFailure})
		w.dns.Script("silent.test", wire.TypeMX, mtatest.Script{Silent: true})
		w.dns.Script("refused.test", wire.TypeMX, mtatest.Script{Rcode: wire.RcodeRefused})
		w.dns.Script("nomxfail.test", wire.TypeA, mtatest.Script{Rcode: wire.RcodeServerFailure})
		w.expect("null.test", "null mx")
		w.expect("nulls.test", "null mx")
		w.expect("mixed.test", "mx.test: mx.test(10) 198.51.100.1")
		w.expect("fail.test", "dns")
		w.expect("silent.test", "dns")
		w.expect("refused.test", "dns")
		w.expect("nothing.test", "no domain")
		w.expect("nomx.test", "nomx.test: nomx.test(0) 198.51.100.1")
		w.expect("nomxfail.test", "dns")
		for _, name := range []string{"fail.test", "silent.test", "refused.test", "null.test"} {
			if n := w.dns.Count(name, "A") + w.dns.Count(name, "AAAA"); n != 0 {
				t.Errorf("%s: the addresses were asked for", name)
			}
		}
	})
}

func TestHostsThatNobodyKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standard(), `
some.test 3600 MX 10 fail.test
some.test 3600 MX 20 good.test
good.test 3600 A 198.51.100.1
good.test 3600 AAAA 2001:db8::1
none.test MX 10 fail.test
none.test MX 20 nowhere.test
none.test MX 30 private.test
fail.test A 198.51.100.2
private.test A 10.0.0.1
forbidden.test MX 10 nowhere.test
forbidden.test MX 20 private.test
`)
		w.dns.Script("fail.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure})
		w.expect("some.test", "fail.test,good.test: fail.test(10) dns; good.test(20) 198.51.100.1 2001:db8::1")
		w.expect("none.test", "dns") // one that nobody knows about: all must wait
		w.expect("forbidden.test", "forbidden address")
		r, _ := w.p.Route(t.Context(), "some.test")
		if got := time.Until(r.Expires); got != partialLife {
			t.Errorf("a route with an unknown host is good for %v", got)
		}
	})
}

const selfZone = `
first.test MX 10 a.test
first.test MX 20 out.origin.test
first.test MX 20 b.test
first.test MX 30 c.test
best.test MX 10 OUT.origin.test
best.test MX 10 a.test
best.test MX 20 b.test
source.test MX 10 Second.origin.test
byaddr.test MX 10 a.test
byaddr.test MX 20 here.test
byaddr.test MX 30 b.test
bestaddr.test MX 10 here.test
bestaddr.test MX 20 a.test
here.test A 198.51.100.7
out.origin.test A 198.51.100.99
a.test A 198.51.100.1
b.test A 198.51.100.2
c.test A 198.51.100.3
imp.test A 198.51.100.7
other.test MX 10 otherport.test
otherport.test A 198.51.100.8
`

// TRAPS 31: an MX naming ourselves cuts everything at our preference and
// beyond; none left is a loop.
func TestTrap31_Ourselves(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Sources = []mta.Source{{IP: netip.MustParseAddr("198.51.100.50"), Hostname: "second.origin.test."}, {Hostname: "any.origin.test"}}
	s.Listen = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:25"), netip.MustParseAddrPort("198.51.100.8:2525")}
	w := newWorld(t, s, selfZone)
	w.expect("first.test", "a.test: a.test(10) 198.51.100.1")
	w.expect("best.test", "loop")
	w.expect("source.test", "loop")
	w.expect("byaddr.test", "a.test: a.test(10) 198.51.100.1")
	w.expect("bestaddr.test", "loop")
	w.expect("out.origin.test", "loop") // implicit MX, by name
	w.expect("imp.test", "loop")        // implicit MX, by address
	w.expect("[198.51.100.7]", "loop")
	w.expect("other.test", "otherport.test: otherport.test(10) 198.51.100.8")

	s.Port = 2525
	s.Sources = nil
	w = newWorld(t, s, selfZone)
	w.expect("bestaddr.test", "here.test,a.test: here.test(10) 198.51.100.7; a.test(20) 198.51.100.1")
	w.expect("other.test", "loop")
}

// Whatever the set: no host at our preference or beyond is left, and all before
// it are.
func TestTrap31_CutProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, err := compile(Settings{Hostname: "us.test", Sources: []mta.Source{{Hostname: "Too.us.test"}}}, tables{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"us.test", "too.us.test", "a.test", "b.test", "c.test", "d.test", "."}
		set := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) dns.MX {
			return dns.MX{Preference: rapid.Uint16Range(0, 4).Draw(t, "preference"), Host: rapid.SampledFrom(names).Draw(t, "host")}
		}), 1, 8).Draw(t, "set")
		ours, others := 5, map[string]int{}
		for _, mx := range set {
			pref := int(mx.Preference)
			switch mx.Host {
			case "us.test", "too.us.test":
				ours = min(ours, pref)
			case ".":
			default:
				if old, ok := others[mx.Host]; !ok || pref < old {
					others[mx.Host] = pref
				}
			}
		}
		want := 0
		for _, pref := range others {
			if pref < ours {
				want++
			}
		}
		hosts, failure := candidates("x.test", set)
		if failure != nil {
			return // all were "."
		}
		left, _ := (&plan{c: c}).cutOurNames(hosts)
		for _, h := range left {
			if int(h.Preference) >= ours || int(h.Preference) != others[h.Name] {
				t.Fatalf("%v leaves %v", set, left)
			}
		}
		if len(left) != want {
			t.Fatalf("%v leaves %v, want %d", set, left, want)
		}
	})
}

const privateZone = `
mixed.test MX 10 mixed.mx.test
mixed.mx.test A 10.0.0.1
mixed.mx.test A 198.51.100.1
next.test MX 10 inside.test
next.test MX 20 outside.test
inside.test A 192.168.0.1
inside.test AAAA fd00::1
outside.test A 198.51.100.1
loop.test MX 10 lo.test
lo.test A 127.0.0.5
lo.test AAAA ::1
local.test MX 10 localhost
locals.test MX 5 x.localhost
locals.test MX 10 outside.test
localhost A 127.0.0.1
zero.test A 0.0.0.0
zero.test AAAA ::
multi.test A 224.0.0.1
text.test MX 10 198.51.100.1
text.test MX 20 outside.test
texts.test MX 10 198.51.100.1
digits.test MX 10 mx.12
rootandtext.test MX 0 .
rootandtext.test MX 10 198.51.100.1
`

func TestHundredsOfHosts(t *testing.T) {
	t.Parallel()
	var zone strings.Builder
	for i := range 90 {
		fmt.Fprintf(&zone, "same.test MX 10 s%d.test\ns%d.test A 198.51.100.%d\n", i, i, i+1)
		fmt.Fprintf(&zone, "rising.test MX %d s%d.test\n", i, i)
		fmt.Fprintf(&zone, "dead.test MX %d d%d.test\n", i, i)
	}
	w := newWorld(t, standard(), zone.String())
	r, f := w.p.Route(t.Context(), "same.test")
	if f != nil || len(r.Hosts) != maxLookups || len(r.Site) > maxSite || !strings.Contains(r.Site, "s1.test") || !strings.Contains(r.Site, "~") {
		t.Errorf("%v, %v", r, f)
	}
	if len(r.Targets(nil)) != mta.DefaultMaxHosts {
		t.Errorf("%d targets", len(r.Targets(nil)))
	}
	before := w.dns.Count("", "")
	if r, f = w.p.Route(t.Context(), "rising.test"); f != nil || len(r.Hosts) != atOnce {
		t.Errorf("%v, %v", r, f)
	}
	if n := w.dns.Count("", "") - before; n > 2+2*atOnce {
		t.Errorf("%d questions for five hosts", n)
	}
	before = w.dns.Count("", "")
	w.expect("dead.test", "no address")
	if n := w.dns.Count("", "") - before; n != 2+2*maxLookups { // the MX set needs TCP
		t.Errorf("%d questions for 90 dead hosts", n)
	}
}

func TestRouteExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standard(), `
a.test 300 MX 10 mx.test
mx.test 70 A 198.51.100.1
mx.test 70 AAAA 2001:db8::1
long.test 86400 MX 10 longmx.test
longmx.test 86400 A 198.51.100.1
longmx.test 86400 AAAA 2001:db8::1
zero.test 0 MX 10 longmx.test
`)
		for domain, want := range map[string]time.Duration{
			"a.test": 70 * time.Second, "long.test": time.Hour, "zero.test": time.Second, "[198.51.100.1]": time.Hour,
		} {
			r, f := w.p.Route(t.Context(), domain)
			if f != nil || time.Until(r.Expires) != want {
				t.Errorf("%s: good for %v, want %v (%v)", domain, time.Until(r.Expires), want, f)
			}
		}
	})
}

func TestSecure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standard(), "a.test MX 10 mx.test\na.test MX 20 mx.plain\nmx.test A 198.51.100.1\nmx.plain A 198.51.100.2\nimp.test A 198.51.100.3\nplain MX 10 mx.test")
	w.dns.Secure("test")
	for domain, want := range map[string]string{"a.test": "true mx.test:true mx.plain:false", "imp.test": "true imp.test:true", "plain": "false mx.test:true"} {
		r, f := w.p.Route(t.Context(), domain)
		if f != nil {
			t.Fatal(f)
		}
		got := fmt.Sprint(r.Secure)
		for _, h := range r.Hosts {
			got += fmt.Sprintf(" %s:%t", h.Name, h.Secure)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", domain, got, want)
		}
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standard(), plainZone)
		w.dns.Script("one.test", 0, mtatest.Script{Silent: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, f := w.p.Route(ctx, "one.test"); f == nil || f.Cause != mta.CauseDNS || time.Since(start) != time.Second {
			t.Errorf("%v after %v", f, time.Since(start))
		}
	})
}
