//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/admin"
	"mailout/internal/dns"
	"mailout/internal/mtatest"
)

// TestSystemdResolved: behind systemd-resolved as it is installed, which checks no
// signatures and gives them only to those who say that they do, mailout checks them
// itself; one that is told to check them it believes.
func TestSystemdResolved(t *testing.T) {
	needLab(t)
	network := newStub(t)
	for _, c := range []struct{ checks, on string }{
		{"no", "mailout checks the signatures itself"},
		{"yes", "trusted to check signatures: 127.0.0.53 (this machine)"},
	} {
		t.Run(c.checks, func(t *testing.T) {
			network.resolved(t, c.checks)
			e := network.explain(t, "alice@pf.test")
			if !strings.HasPrefix(e.DNSSEC, "on: ") || !strings.Contains(e.DNSSEC, c.on) {
				t.Errorf("dnssec: %s", e.DNSSEC)
			}
			if e.TLS.Requirement != "dane" || len(e.Hosts) != 1 || e.Hosts[0].DNSSEC != "secure" {
				t.Errorf("%+v", e)
			}
			if e = network.explain(t, "alice@osmtpd.test"); e.Failure != "" || e.Hosts[0].DNSSEC != "insecure" {
				t.Errorf("an unsigned domain: %+v", e)
			}
			if e = network.explain(t, "alice@bogus.test"); !strings.Contains(e.Failure, "waits") {
				t.Errorf("a forged one: %+v", e)
			}
		})
	}
}

// stub is a network of its own, whose only way out is a name server at stubUp: what
// is asked there goes to the lab's unbound.
type stub struct{ dir string }

const stubNet, stubUp = "stub", "192.0.2.53"

func newStub(t *testing.T) *stub {
	t.Helper()
	mustRun(t, "", "ip", "netns", "add", stubNet)
	t.Cleanup(func() { mustRun(t, "", "ip", "netns", "delete", stubNet) })
	for _, line := range []string{
		"link set lo up", "link add up0 type veth peer name up1", "address add " + stubUp + "/24 dev up0",
		"link set up0 up", "link set up1 up", "route add default via 192.0.2.1",
	} {
		mustRun(t, "", "ip", append([]string{"-n", stubNet}, strings.Fields(line)...)...)
	}
	pass := wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		c := wire.Client{Net: w.LocalAddr().Network(), UDPSize: wire.MaxMsgSize, Timeout: 5 * time.Second}
		m, _, err := c.Exchange(q, "127.0.1.53:53")
		if err != nil {
			m = new(wire.Msg).SetRcode(q, wire.RcodeServerFailure)
		}
		_ = w.WriteMsg(m) // who asked asks again
	})
	within(t, stubNet, func() error {
		packets, err := net.ListenPacket("udp", stubUp+":53")
		if err != nil {
			return err
		}
		streams, err := net.Listen("tcp", stubUp+":53")
		if err != nil {
			return err
		}
		for _, s := range []*wire.Server{{PacketConn: packets, Handler: pass}, {Listener: streams, Handler: pass}} {
			go s.ActivateAndServe()
			t.Cleanup(func() { _ = s.Shutdown() })
		}
		return nil
	})
	return &stub{dir: t.TempDir()}
}

// resolved starts systemd-resolved there; checks is its DNSSEC=.
func (s *stub) resolved(t *testing.T, checks string) {
	t.Helper()
	const run, account = "/run/systemd/resolve", "systemd-resolve"
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("/etc/systemd/resolved.conf", "[Resolve]\nDNS="+stubUp+"\nFallbackDNS=\nDNSSEC="+checks+"\nLLMNR=no\nMulticastDNS=no\n")
	anchor, err := os.ReadFile(state("trust-anchor.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := wire.NewRR(string(anchor))
	if err != nil {
		t.Fatal(err)
	}
	ds := key.(*wire.DNSKEY).ToDS(wire.SHA256) // as those that are built in; it takes no TTL
	write("/etc/dnssec-trust-anchors.d/lab.positive", fmt.Sprintf(". IN DS %d %d %d %s\n", ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest))
	write("/etc/dnssec-trust-anchors.d/lab.negative", "home.arpa\n") // of its own it checks nothing below test
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "", "chown", account+":"+account, run)
	cmd := exec.Command("ip", "netns", "exec", stubNet, "/usr/lib/systemd/systemd-resolved")
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_TARGET=console")
	log := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = log, log
	mtatest.EndTogether(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	probe := dns.Probe{Server: netip.MustParseAddrPort("127.0.0.53:53"), Name: "pf.test", Type: wire.TypeMX, Timeout: time.Second}
	mtatest.Eventually(t, 30*time.Second, "systemd-resolved", func() (up bool) {
		within(t, stubNet, func() error {
			r, err := dns.Ask(context.Background(), nil, probe)
			up = err == nil && r.Msg.Rcode == wire.RcodeSuccess && len(r.Msg.Answer) > 0
			return nil
		})
		return up
	})
}

// explain asks mailout there, without a daemon.
func (s *stub) explain(t *testing.T, address string) (e admin.Explanation) {
	t.Helper()
	file := filepath.Join(s.dir, "mailout.toml")
	text := fmt.Sprintf("hostname = \"out.origin.test\"\nspool = %q\n[dns]\nservers = [\"127.0.0.53\"]\nhosts_file = \"\"\ntrust_anchors = %q\n[delivery]\nprivate_networks = true\n[tls]\nmta_sts = false\n",
		filepath.Join(s.dir, "spool"), state("trust-anchor.key"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "netns", "exec", stubNet, os.Getenv("LAB_MAILOUT"), "explain", "--json", "--config", file, address).Output()
	if len(out) == 0 {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return e
}
