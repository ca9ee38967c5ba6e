package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

func TestRecordsOfEveryType(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	n.serve(serverA, zone(true,
		"pf.test. 60 IN MX 20 B.pf.test.", "pf.test. 60 IN MX 10 a.pf.test.",
		"null.test. 60 IN MX 0 .",
		"a.pf.test. 60 IN A 198.51.100.1", "a.pf.test. 60 IN A 198.51.100.2", "a.pf.test. 60 IN AAAA 2001:db8::1",
		`pf.test. 60 IN TXT "v=spf1 " "quote \" backslash \\ byte \200"`,
		"1.100.51.198.in-addr.arpa. 60 IN PTR A.pf.test.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR a6.pf.test.",
		"_25._tcp.a.pf.test. 60 IN TLSA 3 1 1 ABCD",
	))
	r, ctx := n.newResolver(Options{}), t.Context()

	mx, err := r.MX(ctx, "PF.test.")
	check(t, mx.Records, err, []MX{{20, "b.pf.test"}, {10, "a.pf.test"}})
	if !mx.Secure || mx.CanonicalName != "pf.test" {
		t.Errorf("secure %t, canonical %q", mx.Secure, mx.CanonicalName)
	}
	mx, err = r.MX(ctx, "null.test")
	check(t, mx.Records, err, []MX{{0, "."}})
	a, err := r.A(ctx, "a.pf.test")
	check(t, a.Records, err, addrs("198.51.100.1", "198.51.100.2"))
	a, err = r.AAAA(ctx, "a.pf.test")
	check(t, a.Records, err, addrs("2001:db8::1"))
	a, err = r.Addresses(ctx, "a.pf.test")
	check(t, a.Records, err, addrs("198.51.100.1", "198.51.100.2", "2001:db8::1"))
	txt, err := r.TXT(ctx, "pf.test")
	check(t, txt.Records, err, []string{"v=spf1 quote \" backslash \\ byte \xc8"})
	ptr, err := r.PTR(ctx, netip.MustParseAddr("::ffff:198.51.100.1"))
	check(t, ptr.Records, err, []string{"a.pf.test"})
	ptr, err = r.PTR(ctx, netip.MustParseAddr("2001:db8::1"))
	check(t, ptr.Records, err, []string{"a6.pf.test"})
	tlsa, err := r.TLSA(ctx, "_25._tcp.a.pf.test")
	check(t, tlsa.Records, err, []TLSA{{3, 1, 1, []byte{0xab, 0xcd}}})
}

func check[T any](t *testing.T, got []T, err error, want []T) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestWhyThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	bogus := func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		m := reply(q, wire.RcodeServerFailure, false)
		m.SetEdns0(1232, true)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &wire.EDNS0_EDE{InfoCode: wire.ExtendedErrorCodeSignatureExpired, ExtraText: "evil\r\ntext"})
		return m, nil
	}
	refer := func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		m := reply(q, wire.RcodeSuccess, false)
		m.Ns = append(m.Ns, rr("test. 60 IN NS ns.test."))
		return m, nil
	}
	circle := zone(false, "x.test. 60 IN CNAME y.test.", "y.test. 60 IN CNAME z.test.", "z.test. 60 IN CNAME x.test.")
	for _, c := range []struct {
		name   string
		a, b   handler
		kind   Kind
		text   string
		secure bool
		asked  int
	}{
		{"NXDOMAIN", zone(true), nil, NXDomain, "", true, 1},
		{"NODATA", zone(false, "x.test. 60 IN A 192.0.2.9"), nil, NoData, "", false, 1},
		{"NODATA of type 3", rcode(wire.RcodeSuccess), nil, NoData, "", false, 1},
		{"NXDOMAIN of an alias", zone(true, "x.test. 60 IN CNAME y.test."), nil, NXDomain, "alias of y.test", true, 2},
		{"SERVFAIL everywhere", rcode(wire.RcodeServerFailure), rcode(wire.RcodeServerFailure), Temporary, "SERVFAIL", false, 4},
		{"REFUSED, then NXDOMAIN", rcode(wire.RcodeRefused), zone(false), NXDomain, "", false, 2},
		{"referral, then NODATA", refer, zone(false, "x.test. 60 IN A 192.0.2.9"), NoData, "", false, 2},
		{"referral everywhere", refer, refer, Temporary, "refers", false, 4},
		{"bogus is not asked elsewhere", bogus, zone(false, "x.test. 60 IN MX 1 evil.test."), Bogus, "Signature Expired", false, 1},
		{"NOTIMP with and without EDNS0", rcode(wire.RcodeNotImplemented), rcode(wire.RcodeNotImplemented), Temporary, "NOTIMP", false, 8},
		{"unknown code", rcode(13), rcode(13), Temporary, "code 13", false, 4},
		{"CNAMEs in a circle", circle, nil, Temporary, "circle", false, 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNet(t)
			n.serve(serverA, c.a)
			if c.b != nil {
				n.serve(serverB, c.b)
			}
			_, err := n.newResolver(Options{}).MX(t.Context(), "x.test")
			e := AsError(err)
			if e == nil || e.Kind != c.kind || !strings.Contains(e.Text, c.text) || e.Secure != c.secure || strings.Contains(e.Error(), "evil") {
				t.Errorf("got %+v", e)
			}
			if e.Name != "x.test" || e.Type != "MX" || e.Server == "" {
				t.Errorf("the error does not say who and what: %v", e)
			}
			if asked := n.asked(); len(asked) != c.asked {
				t.Errorf("asked %d times, want %d: %q", len(asked), c.asked, asked)
			}
		})
	}
}

func TestNamesThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	r := newFakeNet(t).newResolver(Options{})
	long := strings.Repeat("a", 64)
	for _, name := range []string{"", ".", "..", "a..test", ".test", "a b.test", "a\\.test", "bücher.test", long + ".test", strings.Repeat("abc.", 64) + "test", "a/b.test", "a\x00.test"} {
		for _, f := range []func() error{
			func() error { _, err := r.MX(t.Context(), name); return err },
			func() error { _, err := r.Addresses(t.Context(), name); return err },
		} {
			if e := AsError(f()); e == nil || e.Kind != BadName || e.Temporary() || strings.ContainsRune(e.Error(), 0) {
				t.Errorf("%q: got %v, want BadName", name, e)
			}
		}
	}
	if _, err := r.PTR(t.Context(), netip.Addr{}); AsError(err).Kind != BadName {
		t.Errorf("PTR of no address: %v", err)
	}
}

func TestCNAMEsAreFollowed(t *testing.T) {
	t.Parallel()
	long := []string{"n10.test. 60 IN MX 1 mx.test."}
	for i := range 10 {
		long = append(long, fmt.Sprintf("n%d.test. 60 IN CNAME N%d.test.", i, i+1))
	}
	whole := func(_ string, q *wire.Msg) (*wire.Msg, []byte) { // in an order of its own, as some servers do
		return reply(q, wire.RcodeSuccess, true, "b.test. 30 IN MX 1 mx.test.", "evil.test. 60 IN MX 1 evil.test.", "a.test. 60 IN CNAME b.test.", "n0.test. 60 IN CNAME a.test."), nil
	}
	for _, c := range []struct {
		name      string
		h         handler
		canonical string
	}{
		{"the whole chain in one message", whole, "b.test"},
		{"link by link, ten links", zone(true, long...), "n10.test"},
	} {
		n := newFakeNet(t)
		n.serve(serverA, c.h)
		mx, err := n.newResolver(Options{}).MX(t.Context(), "n0.test")
		check(t, mx.Records, err, []MX{{1, "mx.test"}})
		if mx.CanonicalName != c.canonical || !mx.Secure {
			t.Errorf("%s: canonical %q, secure %t", c.name, mx.CanonicalName, mx.Secure)
		}
	}
	n := newFakeNet(t)
	n.serve(serverA, zone(true, append(long, "n.test. 60 IN CNAME n0.test.")...))
	if _, err := n.newResolver(Options{}).MX(t.Context(), "n.test"); AsError(err).Kind != Temporary {
		t.Errorf("eleven links: %v", err)
	}
}

// TestAlias: one step, of a name that may be the end of others, and its own worth.
func TestAlias(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	n.serve(serverA, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		if q.Question[0].Name == "end.test." {
			return reply(q, 0, true), nil
		}
		return reply(q, 0, true, "mx.test. 60 IN CNAME end.test.", "end.test. 60 IN CNAME further.test."), nil
	})
	r := n.newResolver(Options{})
	a, err := r.Alias(t.Context(), "mx.test")
	check(t, a.Records, err, []string{"end.test"})
	if !a.Secure || a.CanonicalName != "mx.test" {
		t.Errorf("%+v", a)
	}
	if _, err := r.Alias(t.Context(), "end.test"); AsError(err).Kind != NoData {
		t.Errorf("no alias: %v", err)
	}
}

// One insecure link makes the answer insecure, wherever it is in the chain.
func TestSecureOnlyWhenEveryLinkIs(t *testing.T) {
	t.Parallel()
	for insecure, want := range map[string]bool{"a.test.": false, "b.test.": false, "c.test.": true} {
		n := newFakeNet(t)
		n.serve(serverA, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
			name := q.Question[0].Name
			if name == "a.test." {
				return reply(q, 0, name != insecure, "a.test. 60 IN CNAME b.test."), nil
			}
			return reply(q, 0, name != insecure, "b.test. 60 IN MX 1 mx.test."), nil
		})
		mx, err := n.newResolver(Options{}).MX(t.Context(), "a.test")
		if err != nil || mx.Secure != want {
			t.Errorf("%s insecure: secure %t, %v", insecure, mx.Secure, err)
		}
	}
}

// TRAPS 32: answers truncated in UDP go over TCP, hundreds of records are
// capped, no search domain is appended, trailing dots are gone.
func TestTrap32_TruncatedCappedAbsolute(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	n.serve(serverA, func(network string, q *wire.Msg) (*wire.Msg, []byte) {
		if network == "udp" {
			m := reply(q, 0, false, "many.test. 60 IN MX 1 first.test.")
			m.Truncated = true
			return m, nil
		}
		m := reply(q, 0, false)
		m.Compress = true
		for i := range 700 {
			m.Answer = append(m.Answer, rr(fmt.Sprintf("many.test. 60 IN MX %d mx%d.test.", i, i)))
		}
		return m, nil
	})
	conf := write(t, "resolv.conf", "search wrong.test\ndomain wrong.test\nnameserver 192.0.2.1\n")
	r := n.newResolver(Options{ResolvConf: conf})
	mx, err := r.MX(t.Context(), "many.test")
	if err != nil || len(mx.Records) != MaxRecords || mx.Records[99] != (MX{99, "mx99.test"}) {
		t.Fatalf("%d records, %v", len(mx.Records), err)
	}
	want := []string{"udp 192.0.2.1:53 many.test. MX", "tcp 192.0.2.1:53 many.test. MX"}
	if got := n.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	n.serve(serverA, zone(false))
	if _, err := r.A(t.Context(), "single"); AsError(err).Kind != NXDomain {
		t.Errorf("a single label: %v", err)
	}
	if got := n.asked(); !slices.Equal(got, []string{"udp 192.0.2.1:53 single. A"}) {
		t.Errorf("asked %q", got)
	}
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	t.Parallel()
	good := func(q *wire.Msg) *wire.Msg { return reply(q, 0, false, "x.test. 60 IN MX 1 mx.test.") }
	forged := map[string]func(q *wire.Msg) *wire.Msg{
		"another ID":       func(q *wire.Msg) *wire.Msg { m := good(q); m.Id++; return m },
		"another question": func(q *wire.Msg) *wire.Msg { m := good(q); m.Question[0].Name = "y.test."; return m },
		"another type":     func(q *wire.Msg) *wire.Msg { m := good(q); m.Question[0].Qtype = wire.TypeA; return m },
		"a query":          func(q *wire.Msg) *wire.Msg { m := good(q); m.Response = false; return m },
	}
	for name, forge := range forged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t)
				n.serve(serverA, func(_ string, q *wire.Msg) (*wire.Msg, []byte) { return forge(q), nil })
				n.serve(serverB, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
					return reply(q, 0, false, "X.test. 60 IN MX 2 real.test."), nil
				})
				r := n.newResolver(Options{})
				mx, err := r.MX(t.Context(), "x.test")
				check(t, mx.Records, err, []MX{{2, "real.test"}})
			})
		})
	}
}

// A message that ends before what its header counts must not become "no such
// record": the domain would lose its MX.
func TestBrokenAnswerGoesOverTCP(t *testing.T) {
	t.Parallel()
	cut := func(q *wire.Msg, octets int) []byte {
		b, _ := reply(q, 0, false, "x.test. 60 IN MX 1 mx.test.").Pack()
		return b[:octets]
	}
	for _, octets := range []int{12, 24, 30, 37} {
		n := newFakeNet(t)
		n.serve(serverA, func(network string, q *wire.Msg) (*wire.Msg, []byte) {
			if network == "udp" {
				return nil, cut(q, octets)
			}
			return reply(q, 0, false, "x.test. 60 IN MX 1 mx.test."), nil
		})
		mx, err := n.newResolver(Options{}).MX(t.Context(), "x.test")
		check(t, mx.Records, err, []MX{{1, "mx.test"}})
	}
}

func TestQueryAsksForValidationAndFallsBackWithoutEDNS(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	n.serve(serverA, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		if !q.RecursionDesired || !q.AuthenticatedData || q.CheckingDisabled {
			t.Errorf("flags of the query: %v", q.MsgHdr)
		}
		if opt := q.IsEdns0(); opt != nil {
			if opt.UDPSize() != 1232 || !opt.Do() {
				t.Errorf("EDNS0 of the query: %v", opt)
			}
			m := new(wire.Msg) // the header alone, as old servers answer
			m.Id, m.Response, m.Rcode = q.Id, true, wire.RcodeFormatError
			return m, nil
		}
		return reply(q, 0, true, "x.test. 60 IN MX 1 mx.test."), nil
	})
	mx, err := n.newResolver(Options{}).MX(t.Context(), "x.test")
	check(t, mx.Records, err, []MX{{1, "mx.test"}})
	if !mx.Secure {
		t.Error("the AD bit is lost without EDNS0")
	}
}

func TestAddressesOfTwoFamilies(t *testing.T) {
	t.Parallel()
	byType := func(a, aaaa handler) handler {
		return func(network string, q *wire.Msg) (*wire.Msg, []byte) {
			if q.Question[0].Qtype == wire.TypeA {
				return a(network, q)
			}
			return aaaa(network, q)
		}
	}
	four := zone(true, "x.test. 600 IN A 198.51.100.1")
	six := zone(true, "x.test. 600 IN AAAA 2001:db8::1")
	nodata, gone, fail := rcode(wire.RcodeSuccess), zone(true), rcode(wire.RcodeServerFailure)
	for _, c := range []struct {
		name    string
		a, aaaa handler
		want    []netip.Addr
		secure  bool
		kind    Kind
		within  time.Duration
	}{
		{"both", four, six, addrs("198.51.100.1", "2001:db8::1"), true, 0, 600 * time.Second},
		{"IPv4 only, securely", four, four, addrs("198.51.100.1"), true, 0, 60 * time.Second},
		{"IPv4, the denial of IPv6 not secure", four, nodata, addrs("198.51.100.1"), false, 0, time.Second},
		{"IPv4, nobody knows IPv6", four, fail, addrs("198.51.100.1"), true, 0, partialTTL},
		{"IPv6, nobody knows IPv4", fail, six, addrs("2001:db8::1"), true, 0, partialTTL},
		{"IPv6, IPv4 denied as a name", gone, six, addrs("2001:db8::1"), true, 0, 60 * time.Second},
		{"neither", nodata, nodata, nil, false, NoData, time.Second},
		{"no such name", gone, gone, nil, true, NXDomain, 60 * time.Second},
		{"no such name and no such record", gone, nodata, nil, false, NoData, time.Second},
		{"nobody knows IPv4", fail, gone, nil, false, Temporary, time.Second},
		{"nobody knows IPv6", gone, fail, nil, false, Temporary, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t)
				n.serve(serverA, byType(c.a, c.aaaa))
				n.serve(serverB, byType(c.a, c.aaaa))
				a, err := n.newResolver(Options{}).Addresses(t.Context(), "x.test")
				expires, secure := a.Expires, a.Secure
				var kind Kind
				if e := AsError(err); e != nil {
					kind, expires, secure = e.Kind, e.Expires, e.Secure
				}
				if kind != c.kind || !slices.Equal(a.Records, c.want) || secure != c.secure {
					t.Errorf("got %v, secure %t, %v", a.Records, secure, err)
				}
				if got := time.Until(expires); got != c.within {
					t.Errorf("good for %v, want %v", got, c.within)
				}
			})
		})
	}
}

func TestErrorUnwraps(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	n.serve(serverA, silence)
	n.serve(serverB, silence)
	r := n.newResolver(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.MX(ctx, "x.test")
	if !errors.Is(err, context.Canceled) || AsError(err).Kind != Temporary {
		t.Errorf("got %v", err)
	}
	if AsError(nil) != nil || AsError(errors.New("x")).Kind != Temporary {
		t.Error("AsError: unknown must mean temporary")
	}
}
