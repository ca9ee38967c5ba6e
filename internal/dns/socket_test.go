package dns_test

import (
	"net"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mtatest"
)

// The same over real sockets of the loopback: a closed port first, which the
// kernel refuses at once, then UDP, then TCP for what is truncated.
func TestOverRealSockets(t *testing.T) {
	t.Parallel()
	server := mtatest.NewDNS()
	if err := server.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if err := server.Add("a.test MX 10 mx.a.test\nb.test MX 10 mx.b.test"); err != nil {
		t.Fatal(err)
	}
	server.Script("b.test", wire.TypeMX, mtatest.Script{Truncate: true})
	r := dns.New(dns.Options{Servers: []netip.AddrPort{closedPort(t), server.Addr()}})
	defer r.Close()
	for domain, want := range map[string]string{"a.test": "mx.a.test", "b.test": "mx.b.test"} {
		mx, err := r.MX(t.Context(), domain)
		if err != nil || len(mx.Records) != 1 || mx.Records[0].Host != want {
			t.Errorf("%s: %+v, %v", domain, mx, err)
		}
	}
	if a, b := server.Count("a.test", "MX"), server.Count("b.test", "MX"); a != 1 || b != 2 {
		t.Errorf("%d questions for a.test, %d for b.test", a, b)
	}
}

// closedPort gives a port on which nothing listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return netip.MustParseAddrPort(c.LocalAddr().String())
}
