package route

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// TestLab asks the resolver of the miniature internet (test/lab) that
// $MAILOUT_LAB_RESOLVER names: real unbound, real signed zones.
func TestLab(t *testing.T) {
	server := os.Getenv("MAILOUT_LAB_RESOLVER")
	if server == "" {
		t.Skip("MAILOUT_LAB_RESOLVER is not set; the lab is not asked")
	}
	w := &world{t: t}
	r := dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(server)}})
	defer r.Close()
	s := standard()
	s.PrivateNetworks = true
	var err error
	if w.p, err = New(Options{Resolver: r, Settings: s}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ domain, want string }{
		{"pf.test", "mx.pf.test: mx.pf.test(10) 127.0.1.1"},
		{"multi.test", "dead.multi.test,mx.pf.test,mx.exim.test: dead.multi.test(10) 127.0.1.90; mx.pf.test(20) 127.0.1.1; mx.exim.test(30) 127.0.1.2"},
		{"nullmx.test", "null mx"},
		{"nomx.test", "nomx.test: nomx.test(0) 127.0.1.1"},
		{"noaddr.test", "no address"},
		{"mxcname.test", "mx.mxcname.test: mx.mxcname.test(10) 127.0.1.1"},
		{"mxgone.test", "no address"},
		{"bogus.test", "dns"},
		{"expired.test", "dns"},
		{"xn--bcher-kva.test", "mx.pf.test: mx.pf.test(10) 127.0.1.1"},
		{"bücher.test", "mx.pf.test: mx.pf.test(10) 127.0.1.1"},
		{"nothing.test", "no domain"},
		{"osmtpd.test", "mx.osmtpd.test: mx.osmtpd.test(10) 127.0.1.3"},
		{"ok.sink.test", "mx.ok.sink.test: mx.ok.sink.test(10) 127.0.1.20"},
	} {
		w.expect(c.domain, c.want)
	}
	labSecurity(t, w.p, r)
	s.PrivateNetworks = false
	if err := w.p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	w.expect("pf.test", "forbidden address")
}

func labSecurity(t *testing.T, p *Planner, r *dns.Resolver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for domain, want := range map[string]string{
		"pf.test": "true true", "nomx.test": "true true", "osmtpd.test": "false false", "mxcname.test": "false false", "exim.test": "true true",
	} {
		route, f := p.Route(ctx, domain)
		if f != nil {
			t.Errorf("%s: %v", domain, f)
			continue
		}
		if got := fmt.Sprint(route.Secure, route.Hosts[0].Secure); got != want {
			t.Errorf("%s: MX and address secure: %s, want %s", domain, got, want)
		}
	}
	equal, f := p.Route(ctx, "equal.test")
	if f != nil || equal.Site != "mx.exim.test=mx.pf.test" || len(equal.Hosts) != 2 {
		t.Errorf("equal.test: %+v, %v", equal, f)
	}
	_, f = p.Route(ctx, "nullmx.test")
	if f == nil || f.Cause != mta.CauseNullMX {
		t.Errorf("nullmx.test: %v", f)
	}
	tlsa, err := r.TLSA(ctx, "_25._tcp.mx.pf.test")
	if err != nil || !tlsa.Secure || len(tlsa.Records) != 1 || len(tlsa.Records[0].Data) != 32 {
		t.Errorf("TLSA of mx.pf.test: %+v, %v", tlsa, err)
	}
	_, err = r.TLSA(ctx, "_25._tcp.mx.exim.test")
	if e := dns.AsError(err); e == nil || e.Kind != dns.NXDomain || !e.Secure {
		t.Errorf("TLSA of mx.exim.test: %v", err)
	}
	ptr, err := r.PTR(ctx, netip.MustParseAddr("127.0.1.9"))
	if err != nil || len(ptr.Records) != 1 || ptr.Records[0] != "out.origin.test" {
		t.Errorf("PTR of 127.0.1.9: %+v, %v", ptr, err)
	}
	txt, err := r.TXT(ctx, "rsa._domainkey.origin.test")
	if err != nil || len(txt.Records) != 1 || len(txt.Records[0]) < 390 {
		t.Errorf("TXT of a DKIM key: %+v, %v", txt, err)
	}
}
