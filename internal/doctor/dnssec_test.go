package doctor

import (
	"context"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// TestDNSSECIsTheResolvers: what counts is whom the resolver believes, and what
// it checks itself.
func TestDNSSECIsTheResolvers(t *testing.T) {
	t.Parallel()
	const id = "resolver.dnssec"
	unmarked := func(t *testing.T) *fakeWorld {
		w := resolving(t, nil)
		w.ask = func(p dns.Probe) (*wire.Msg, error) {
			m := goodServer(w, p)
			m.AuthenticatedData, m.Rcode = false, wire.RcodeSuccess
			return m, nil
		}
		return w
	}
	marked := func(t *testing.T) *fakeWorld { return resolving(t, nil) }
	believed := []dns.ServerTrust{{Server: recursive, Trusted: "named in dns.trusted", Believed: true}}
	for name, c := range map[string]struct {
		world func(t *testing.T) *fakeWorld
		state dns.DNSSECState
		want  Status
		seen  string
	}{
		"checked here":              {unmarked, dns.DNSSECState{Mode: dns.DNSSECAuto, Status: dns.SecureHere, Why: "mailout checks the signatures itself"}, Pass, "itself"},
		"checked here, in doubt":    {unmarked, dns.DNSSECState{Mode: dns.DNSSECAuto, Status: dns.SecureHere, Why: "the last self-test failed", Doubt: "expired"}, Warn, "failed"},
		"believed":                  {marked, dns.DNSSECState{Mode: dns.DNSSECAuto, Status: dns.SecureTrusted, Servers: believed}, Pass, "count as authenticated (named in dns.trusted)"},
		"marks, and is not trusted": {marked, dns.DNSSECState{Mode: dns.DNSSECTrust, Status: dns.SecureOff, Why: "nobody is trusted"}, Warn, "nobody is trusted"},
		"nobody":                    {unmarked, dns.DNSSECState{Mode: dns.DNSSECAuto, Status: dns.SecureOff, Why: "the root does not fit"}, Warn, "the root does not fit"},
		"not any more":              {unmarked, dns.DNSSECState{Mode: dns.DNSSECAuto, Status: dns.SecureOff, Why: "expired", Alarm: true}, Fail, "authenticated before"},
		"switched off":              {unmarked, dns.DNSSECState{Mode: dns.DNSSECOff, Status: dns.SecureOff, Why: "it is off"}, Skip, "it is off"},
	} {
		t.Run(name, func(t *testing.T) {
			of := resolverIdentity()
			of.DNSSEC = func(context.Context) dns.DNSSECState { return c.state }
			examineResolver(t, c.world(t), of, id, "192.0.2.53", c.want, c.seen)
		})
	}
}

// TestServersOverTLSAreAskedSo: every question of an examination goes over TLS
// to those that are configured so, and to no others.
func TestServersOverTLSAreAskedSo(t *testing.T) {
	t.Parallel()
	w := resolving(t, nil)
	of := resolverIdentity()
	of.Servers = []netip.AddrPort{recursive, second}
	of.TLSServers = map[netip.AddrPort]string{second: "dns.example"}
	Examine(t.Context(), of, w.world(), Options{Only: []string{"resolver"}})
	over := map[bool]int{}
	for _, p := range w.asked {
		if (p.Server == second) != p.TLS || p.TLS && p.TLSName != "dns.example" {
			t.Errorf("%+v", p)
		}
		over[p.TLS]++
	}
	if over[true] == 0 || over[false] == 0 {
		t.Errorf("%v", over)
	}
}
