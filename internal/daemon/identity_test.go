package daemon

import (
	"net/netip"
	"reflect"
	"testing"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
)

// TestIdentityIsTheConfiguration: the doctor examines what the daemon uses.
func TestIdentityIsTheConfiguration(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("/etc/x/f", []byte(`hostname = "out.example.com"
spool = "/s"
postmaster = "pm@example.com"
[dns]
servers = ["192.0.2.53"]
[router]
host = "smart.example"
use = "unresolved"
tls = "implicit"
[[route]]
domains = ["a.example"]
host = "direct"
[[listen]]
address = "127.0.0.1:25"
connections = 7
[[source]]
ip = "192.0.2.1"
[tls]
ca_file = "roots.pem"
[[dkim]]
domain = "example.net"
selector = "s"
key = "k.pem"
[identity]
public_ip = ["203.0.113.5"]
reflectors = []
probes = ["mx.example"]
blocklists = ["bl.example"]
external_names = ["www.example"]
bogus_name = ""
`))
	if err != nil {
		t.Fatal(err)
	}
	want := doctor.Identity{
		Hostname: "out.example.com", Sources: []mta.Source{{IP: netip.MustParseAddr("192.0.2.1"), Hostname: "out.example.com"}},
		IPv6: true, Port: 25,
		Router:  doctor.Router{Host: "smart.example", Port: 465, Use: "unresolved", TLS: mta.TLSImplicit, Line: 7},
		Routes:  []doctor.Route{{Domains: []string{"a.example"}, Port: 25, Line: 10}},
		Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, HostsFile: "/etc/hosts",
		Postmaster: "pm@example.com", Domains: []string{"example.com", "example.net"}, TrustedCA: "/etc/x/roots.pem",
		DKIM:     []doctor.DKIMKey{{Domain: "example.net", Selector: "s", Path: "/etc/x/k.pem"}},
		PublicIP: []netip.Addr{netip.MustParseAddr("203.0.113.5")}, Reflectors: []string{}, Probes: []string{"mx.example"},
		BlockLists: []string{"bl.example"}, ExternalNames: []string{"www.example"},
		Spool: "/s", SpoolFree: 100 << 20, MaxFiles: 6007,
	}
	got := Identity(c)
	if got.DNSSEC == nil {
		t.Error("the doctor does not learn who authenticates answers")
	}
	got.DNSSEC = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestIdentityFindsTheSystemsServers: none configured, and still somebody to ask.
func TestIdentityFindsTheSystemsServers(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte("hostname = \"out.example.com\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if id := Identity(c); len(id.Servers) == 0 || !id.SystemServers {
		t.Errorf("%+v", id.Servers)
	}
}
