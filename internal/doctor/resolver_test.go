package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// second is another DNS server of the fake world.
var second = netip.MustParseAddrPort("192.0.2.54:5353")

// resolving is a world whose DNS server is as good as can be, with an override
// of what it answers.
func resolving(t *testing.T, ask func(p dns.Probe) (*wire.Msg, error)) *fakeWorld {
	w := newWorld(t, ". 3600 SOA a.root. nobody.root. 1 2 3 4 5", ". 3600 NS a.root.", "www.example. 60 A 203.0.113.80",
		"bogus.example. 60 A 203.0.113.66")
	w.ask = func(p dns.Probe) (*wire.Msg, error) {
		if ask != nil {
			if m, err := ask(p); m != nil || err != nil {
				return m, err
			}
		}
		return goodServer(w, p), nil
	}
	return w
}

// goodServer answers with EDNS, marks what it checked, and refuses what is
// wrong.
func goodServer(w *fakeWorld, p dns.Probe) *wire.Msg {
	m := fromZone(w.zones[recursive], p)
	m.RecursionAvailable, m.AuthenticatedData = true, p.Name == "."
	if !p.NoEDNS {
		m.SetEdns0(1232, true)
	}
	if wire.Fqdn(p.Name) == "bogus.example." && !p.CheckingDisabled {
		m.Answer, m.Rcode = nil, wire.RcodeServerFailure
	}
	return m
}

func resolverIdentity() Identity {
	id := goodIdentity()
	id.ExternalNames, id.BogusName = []string{"www.example"}, "bogus.example"
	return id
}

// examineResolver makes one check, of the server alone unless more are given.
func examineResolver(t *testing.T, w *fakeWorld, id Identity, check string, subject string, want Status, seen string) Check {
	t.Helper()
	r := Examine(context.Background(), id, w.world(), Options{Only: []string{check}})
	c := find(t, r, check, subject)
	if c.Status != want || !strings.Contains(c.Seen, seen) {
		t.Errorf("%s: %s, want %s with %q", c.Status, c.Seen, want, seen)
	}
	if c.Status == Fail || c.Status == Warn {
		if c.Fix == nil || c.Fix.Text == "" || c.Who == "" {
			t.Errorf("no fix, or nobody to make it: %+v", c)
		}
	} else if c.Fix != nil {
		t.Errorf("a fix for nothing: %+v", c.Fix)
	}
	if c.Why == "" && c.Status != Skip || c.Asked == "" && c.Status != Skip {
		t.Errorf("not explained: %+v", c)
	}
	return c
}

var errSilent = errors.New("i/o timeout")

// silentAt is a server that gives no answer.
func silentAt(server netip.AddrPort) func(dns.Probe) (*wire.Msg, error) {
	return func(p dns.Probe) (*wire.Msg, error) {
		if p.Server == server {
			return nil, errSilent
		}
		return nil, nil
	}
}

// rcode is a server that answers everything with a code.
func rcode(code int) func(dns.Probe) (*wire.Msg, error) {
	return func(p dns.Probe) (*wire.Msg, error) {
		return new(wire.Msg).SetRcode(new(wire.Msg).SetQuestion(wire.Fqdn(p.Name), p.Type), code), nil
	}
}

func TestCheck_resolver_answers(t *testing.T) {
	t.Parallel()
	const id = "resolver.answers"
	t.Run("pass", func(t *testing.T) {
		examineResolver(t, resolving(t, nil), resolverIdentity(), id, "192.0.2.53", Pass, "it answers")
	})
	t.Run("pass system", func(t *testing.T) {
		of := resolverIdentity()
		of.SystemServers = true
		examineResolver(t, resolving(t, nil), of, id, "", Pass, "/etc/resolv.conf")
	})
	t.Run("pass with an error of the question", func(t *testing.T) {
		examineResolver(t, resolving(t, rcode(wire.RcodeServerFailure)), resolverIdentity(), id, "", Pass, "SERVFAIL")
	})
	t.Run("warn", func(t *testing.T) {
		of := resolverIdentity()
		of.Servers = []netip.AddrPort{recursive, second}
		c := examineResolver(t, resolving(t, silentAt(second)), of, id, "192.0.2.54:5353", Warn, "no answer")
		if c.Fix.Command != "mailout config set dns.servers 192.0.2.53" {
			t.Error(c.Fix.Command)
		}
	})
	t.Run("warn beside one over TLS", func(t *testing.T) { // which the command must not make one in clear
		of := resolverIdentity()
		of.Servers = []netip.AddrPort{recursive, second}
		of.TLSServers = map[netip.AddrPort]string{second: "dns.example"}
		c := examineResolver(t, resolving(t, silentAt(recursive)), of, id, "192.0.2.53", Warn, "no answer")
		if c.Fix.Command != "mailout config set dns.servers tls://192.0.2.54:5353#dns.example" {
			t.Error(c.Fix.Command)
		}
	})
	t.Run("fail over TLS", func(t *testing.T) {
		of := resolverIdentity()
		of.Servers = []netip.AddrPort{second}
		of.TLSServers = map[netip.AddrPort]string{second: ""}
		c := examineResolver(t, resolving(t, silentAt(second)), of, id, "192.0.2.54:5353", Fail, "no answer")
		if !strings.Contains(c.Fix.Text, "TCP port 5353, with a certificate") {
			t.Error(c.Fix.Text)
		}
	})
	t.Run("fail", func(t *testing.T) {
		c := examineResolver(t, resolving(t, silentAt(recursive)), resolverIdentity(), id, "192.0.2.53", Fail, "no answer")
		if !strings.Contains(c.Fix.Text, "port 53 (UDP and TCP)") {
			t.Error(c.Fix.Text)
		}
	})
	t.Run("fail refused", func(t *testing.T) {
		examineResolver(t, resolving(t, rcode(wire.RcodeRefused)), resolverIdentity(), id, "", Fail, "REFUSED")
	})
	t.Run("fail without servers", func(t *testing.T) {
		of := resolverIdentity()
		of.Servers = nil
		examineResolver(t, resolving(t, nil), of, id, "", Fail, "none")
	})
	t.Run("unknown", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := resolving(t, func(dns.Probe) (*wire.Msg, error) {
			cancel() // the examination's time is over
			return nil, context.Canceled
		})
		r := Examine(ctx, resolverIdentity(), w.world(), Options{Only: []string{id}})
		if c := find(t, r, id, ""); c.Status != Unknown {
			t.Errorf("%+v", c)
		}
	})
	t.Run("skip", func(t *testing.T) { skippedOffline(t, id) })
}

// TestCheck_resolver_router: who delivers through a router needs DNS to find
// the router, unless a route delivers directly after all.
func TestCheck_resolver_router(t *testing.T) {
	t.Parallel()
	of := resolverIdentity()
	of.Router = Router{Host: "smart.example", Port: 25, Use: "always"}
	for id, want := range map[string]Status{"resolver.answers": Pass, "resolver.tcp": Pass, "resolver.edns": Pass,
		"resolver.external": Skip, "resolver.honest": Skip, "resolver.dnssec": Skip} {
		examineResolver(t, resolving(t, nil), of, id, "", want, "")
	}
	of.Routes = []Route{{Domains: []string{"a.example"}}}
	examineResolver(t, resolving(t, nil), of, "resolver.external", "", Pass, "www.example")
}

func skippedOffline(t *testing.T, id string) {
	t.Helper()
	w := resolving(t, nil)
	r := Examine(t.Context(), resolverIdentity(), w.world(), Options{Only: []string{id}, Offline: true})
	if c := find(t, r, id, ""); c.Status != Skip || len(w.asked) > 0 {
		t.Errorf("%+v, asked %v", c, w.asked)
	}
}

func TestCheck_resolver_external(t *testing.T) {
	t.Parallel()
	const id = "resolver.external"
	t.Run("pass", func(t *testing.T) {
		examineResolver(t, resolving(t, nil), resolverIdentity(), id, "192.0.2.53", Pass, "www.example: 203.0.113.80")
	})
	t.Run("pass with the second name", func(t *testing.T) {
		of := resolverIdentity()
		of.ExternalNames = []string{"gone.example", "www.example"}
		examineResolver(t, resolving(t, nil), of, id, "", Pass, "www.example: 203.0.113.80")
	})
	t.Run("fail unknown host", func(t *testing.T) {
		c := examineResolver(t, resolving(t, rcode(wire.RcodeNameError)), resolverIdentity(), id, "", Fail, "unknown host: it says that www.example does not exist")
		if !strings.Contains(c.Why, "unknown host") {
			t.Error(c.Why)
		}
	})
	t.Run("fail", func(t *testing.T) {
		examineResolver(t, resolving(t, rcode(wire.RcodeServerFailure)), resolverIdentity(), id, "", Fail, "SERVFAIL")
	})
	t.Run("fail referral", func(t *testing.T) {
		w := resolving(t, func(p dns.Probe) (*wire.Msg, error) {
			m := new(wire.Msg).SetQuestion(wire.Fqdn(p.Name), p.Type)
			ns, err := wire.NewRR("example. 60 NS ns.example.")
			m.Ns = []wire.RR{ns}
			return m, err
		})
		examineResolver(t, w, resolverIdentity(), id, "", Fail, "refers to other servers")
	})
	t.Run("unknown", func(t *testing.T) {
		examineResolver(t, resolving(t, silentAt(recursive)), resolverIdentity(), id, "", Unknown, "see resolver.answers")
	})
	t.Run("skip without names", func(t *testing.T) {
		of := resolverIdentity()
		of.ExternalNames = nil
		examineResolver(t, resolving(t, nil), of, id, "", Skip, "external_names")
	})
	t.Run("skip", func(t *testing.T) { skippedOffline(t, id) })
}

func TestCheck_resolver_tcp(t *testing.T) {
	t.Parallel()
	const id = "resolver.tcp"
	t.Run("pass", func(t *testing.T) {
		w := resolving(t, nil)
		examineResolver(t, w, resolverIdentity(), id, "192.0.2.53", Pass, "over TCP")
		if len(w.asked) != 1 || !w.asked[0].TCP {
			t.Errorf("%+v", w.asked)
		}
	})
	t.Run("warn", func(t *testing.T) {
		w := resolving(t, func(p dns.Probe) (*wire.Msg, error) {
			if p.TCP {
				return nil, errors.New("connection refused")
			}
			return nil, nil
		})
		examineResolver(t, w, resolverIdentity(), id, "", Warn, "connection refused")
	})
	t.Run("unknown", func(t *testing.T) {
		examineResolver(t, resolving(t, silentAt(recursive)), resolverIdentity(), id, "", Unknown, "see resolver.answers")
	})
	t.Run("skip", func(t *testing.T) { skippedOffline(t, id) })
}

func TestCheck_resolver_edns(t *testing.T) {
	t.Parallel()
	const id = "resolver.edns"
	t.Run("pass", func(t *testing.T) {
		examineResolver(t, resolving(t, nil), resolverIdentity(), id, "192.0.2.53", Pass, "1232 octets")
	})
	t.Run("warn", func(t *testing.T) {
		examineResolver(t, resolving(t, rcode(wire.RcodeSuccess)), resolverIdentity(), id, "", Warn, "without EDNS")
	})
	t.Run("warn refused", func(t *testing.T) {
		examineResolver(t, resolving(t, rcode(wire.RcodeFormatError)), resolverIdentity(), id, "", Warn, "FORMERR")
	})
	t.Run("unknown", func(t *testing.T) {
		examineResolver(t, resolving(t, silentAt(recursive)), resolverIdentity(), id, "", Unknown, "see resolver.answers")
	})
	t.Run("skip", func(t *testing.T) { skippedOffline(t, id) })
}

func TestCheck_resolver_honest(t *testing.T) {
	t.Parallel()
	const id = "resolver.honest"
	lie := func(records ...string) *fakeWorld {
		return resolving(t, func(p dns.Probe) (*wire.Msg, error) {
			m := new(wire.Msg).SetQuestion(wire.Fqdn(p.Name), p.Type)
			for _, text := range records {
				rr, err := wire.NewRR(wire.Fqdn(p.Name) + " " + text)
				if err != nil {
					return nil, err
				}
				m.Answer = append(m.Answer, rr)
			}
			return m, nil
		})
	}
	t.Run("pass", func(t *testing.T) {
		examineResolver(t, resolving(t, nil), resolverIdentity(), id, "192.0.2.53", Pass, "NXDOMAIN")
	})
	t.Run("fail", func(t *testing.T) {
		examineResolver(t, lie("60 A 203.0.113.99"), resolverIdentity(), id, "", Fail, "203.0.113.99")
	})
	t.Run("fail alias", func(t *testing.T) {
		examineResolver(t, lie("60 CNAME search.example."), resolverIdentity(), id, "", Fail, "cannot have")
	})
	t.Run("warn", func(t *testing.T) {
		examineResolver(t, lie(), resolverIdentity(), id, "", Warn, "exists")
	})
	t.Run("unknown", func(t *testing.T) {
		examineResolver(t, resolving(t, rcode(wire.RcodeServerFailure)), resolverIdentity(), id, "", Unknown, "SERVFAIL")
	})
	t.Run("unknown silent", func(t *testing.T) {
		examineResolver(t, resolving(t, silentAt(recursive)), resolverIdentity(), id, "", Unknown, "see resolver.answers")
	})
	t.Run("skip", func(t *testing.T) { skippedOffline(t, id) })
	t.Run("another name each time", func(t *testing.T) {
		if a, b := nonsense(), nonsense(); a == b {
			t.Error(a)
		}
	})
}

func TestCheck_resolver_dnssec(t *testing.T) {
	t.Parallel()
	const id = "resolver.dnssec"
	// altered is a good server whose answers go through change.
	altered := func(change func(p dns.Probe, m *wire.Msg)) *fakeWorld {
		w := resolving(t, nil)
		w.ask = func(p dns.Probe) (*wire.Msg, error) {
			m := goodServer(w, p)
			change(p, m)
			return m, nil
		}
		return w
	}
	strip := func(_ dns.Probe, m *wire.Msg) { m.AuthenticatedData = false }
	believe := func(p dns.Probe, m *wire.Msg) {
		if p.Name == "bogus.example" {
			m.Rcode = wire.RcodeSuccess
		}
	}
	t.Run("pass", func(t *testing.T) {
		examineResolver(t, resolving(t, nil), resolverIdentity(), id, "192.0.2.53", Pass, "refuses bogus.example (SERVFAIL); on the way")
	})
	t.Run("pass on this machine", func(t *testing.T) {
		of := resolverIdentity()
		of.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
		c := examineResolver(t, resolving(t, nil), of, id, "127.0.0.1", Pass, "refuses")
		if strings.Contains(c.Seen, "on the way") {
			t.Error(c.Seen)
		}
	})
	t.Run("pass without a bogus name", func(t *testing.T) {
		of := resolverIdentity()
		of.BogusName = ""
		examineResolver(t, resolving(t, nil), of, id, "", Pass, "marks the root")
	})
	t.Run("warn", func(t *testing.T) {
		w := altered(func(p dns.Probe, m *wire.Msg) { strip(p, m); believe(p, m) })
		examineResolver(t, w, resolverIdentity(), id, "", Warn, "it does not check signatures")
	})
	t.Run("warn stripped", func(t *testing.T) {
		examineResolver(t, altered(strip), resolverIdentity(), id, "", Warn, "strips it")
	})
	t.Run("fail", func(t *testing.T) {
		examineResolver(t, altered(believe), resolverIdentity(), id, "", Fail, "AD means nothing")
	})
	t.Run("unknown bogus name", func(t *testing.T) {
		of := resolverIdentity()
		of.BogusName = "gone.example"
		examineResolver(t, resolving(t, nil), of, id, "", Unknown, "does not know gone.example")
	})
	t.Run("unknown", func(t *testing.T) {
		examineResolver(t, resolving(t, silentAt(recursive)), resolverIdentity(), id, "", Unknown, "see resolver.answers")
	})
	t.Run("skip", func(t *testing.T) { skippedOffline(t, id) })
}

func TestSilenceIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	broken := &net.OpError{Op: "read", Net: "udp", Source: &net.UDPAddr{Port: 35104}, Addr: &net.UDPAddr{Port: 53}, Err: os.NewSyscallError("read", syscall.ECONNREFUSED)}
	err := error(&silenceError{netip.MustParseAddrPort("192.0.2.53:53"), broken})
	if want := "192.0.2.53:53 gave no answer: connection refused"; err.Error() != want || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%q, want %q", err, want)
	}
}
