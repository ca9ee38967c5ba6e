package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/doctor"
)

// labResolver is unbound, which checks signatures against the lab's own root.
const labResolver = "127.0.1.53:53"

// examine runs "mailout doctor --json" of the built binary with these lines in
// its configuration, and gives its report.
func examine(t *testing.T, lines, only string) *doctor.Report {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mailout.toml")
	text := fmt.Sprintf("hostname = %q\nspool = \"spool\"\n%s\n", mailoutName, lines)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), os.Getenv("LAB_MAILOUT"), "doctor", "--config", file, "--json", "--only", only).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 2) {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	var r doctor.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return &r
}

// expect finds one check and compares its status and a part of what was seen.
func expect(t *testing.T, r *doctor.Report, id, subject string, want doctor.Status, seen string) {
	t.Helper()
	for _, c := range r.Checks {
		if c.ID == id && c.Subject == subject {
			if c.Status != want || !strings.Contains(c.Seen, seen) {
				t.Errorf("%s of %s: %s (%s), want %s with %q", id, subject, c.Status, c.Seen, want, seen)
			}
			return
		}
	}
	t.Errorf("no %s of %s in %+v", id, subject, r.Checks)
}

// withServer is the configuration of one DNS server, and the lab's names.
func withServer(server string) string {
	return fmt.Sprintf("[dns]\nservers = [%q]\n[identity]\nexternal_names = [\"mx.pf.test\"]\nbogus_name = \"bogus.test\"\nprobes = []\nreflectors = []\nblocklists = []\n", server)
}

// forwarder passes questions on to unbound, changed, and its answers back,
// changed.
func forwarder(t *testing.T, ask, answer func(m *wire.Msg)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.1.61:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	handle := wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		if ask != nil {
			ask(q)
		}
		m, err := wire.ExchangeContext(context.Background(), q, labResolver)
		if err != nil {
			m = new(wire.Msg).SetRcode(q, wire.RcodeServerFailure)
		}
		if answer != nil {
			answer(m)
		}
		w.WriteMsg(m)
	})
	for _, s := range []*wire.Server{{PacketConn: conn, Handler: handle}, {Listener: listener, Handler: handle}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go s.ActivateAndServe()
		<-ready
		t.Cleanup(func() { s.Shutdown() })
	}
	return conn.LocalAddr().String()
}

// TestDoctorJudgesResolvers: unbound over the signed tree is right in
// everything; what strips, ignores or invents is found out.
func TestDoctorJudgesResolvers(t *testing.T) {
	needLab(t)
	stripped := func(m *wire.Msg) { m.AuthenticatedData = false }
	unchecked := func(m *wire.Msg) { m.CheckingDisabled = true }
	t.Run("unbound", func(t *testing.T) {
		r := examine(t, withServer(labResolver), "resolver")
		expect(t, r, "resolver.answers", "127.0.1.53", doctor.Pass, "")
		expect(t, r, "resolver.external", "127.0.1.53", doctor.Pass, "mx.pf.test: 127.0.1.1")
		expect(t, r, "resolver.tcp", "127.0.1.53", doctor.Pass, "")
		expect(t, r, "resolver.edns", "127.0.1.53", doctor.Pass, "")
		expect(t, r, "resolver.honest", "127.0.1.53", doctor.Pass, "NXDOMAIN")
		expect(t, r, "resolver.dnssec", "127.0.1.53", doctor.Pass, "refuses bogus.test")
		if r.Status != doctor.Pass {
			t.Errorf("%+v", r)
		}
	})
	t.Run("expired signatures", func(t *testing.T) {
		lines := strings.Replace(withServer(labResolver), "bogus.test", "expired.test", 1)
		expect(t, examine(t, lines, "resolver.dnssec"), "resolver.dnssec", "127.0.1.53", doctor.Pass, "refuses expired.test")
	})
	t.Run("AD stripped", func(t *testing.T) {
		server := forwarder(t, nil, stripped)
		expect(t, examine(t, withServer(server), "resolver.dnssec"), "resolver.dnssec", server, doctor.Warn, "strips it")
	})
	t.Run("not validating", func(t *testing.T) {
		server := forwarder(t, unchecked, stripped)
		expect(t, examine(t, withServer(server), "resolver.dnssec"), "resolver.dnssec", server, doctor.Warn, "does not check signatures")
	})
	t.Run("AD claimed", func(t *testing.T) {
		server := forwarder(t, unchecked, func(m *wire.Msg) { m.AuthenticatedData = true })
		expect(t, examine(t, withServer(server), "resolver.dnssec"), "resolver.dnssec", server, doctor.Fail, "AD means nothing")
	})
	t.Run("the authoritative server", func(t *testing.T) {
		r := examine(t, withServer("127.0.2.53"), "resolver")
		expect(t, r, "resolver.answers", "127.0.2.53", doctor.Pass, "")
		expect(t, r, "resolver.dnssec", "127.0.2.53", doctor.Warn, "no AD")
	})
	t.Run("invented answers", func(t *testing.T) {
		server := forwarder(t, nil, func(m *wire.Msg) {
			if m.Rcode == wire.RcodeNameError {
				rr, _ := wire.NewRR(m.Question[0].Name + " 60 A 203.0.113.99")
				m.Rcode, m.Answer, m.Ns = wire.RcodeSuccess, []wire.RR{rr}, nil
			}
		})
		expect(t, examine(t, withServer(server), "resolver.honest"), "resolver.honest", server, doctor.Fail, "203.0.113.99")
	})
	t.Run("nobody", func(t *testing.T) {
		r := examine(t, withServer("127.0.1.90"), "resolver")
		expect(t, r, "resolver.answers", "127.0.1.90", doctor.Fail, "no answer")
		expect(t, r, "resolver.dnssec", "127.0.1.90", doctor.Unknown, "see resolver.answers")
	})
}

// TestDoctorJudgesRouters: Postfix and OpenSMTPD as routers.
func TestDoctorJudgesRouters(t *testing.T) {
	needLab(t)
	router := func(lines string) string {
		return "[tls]\nca_file = \"" + state("pki", "ca.pem") + "\"\n" + withServer(labResolver) + "[router]\n" + lines
	}
	r := examine(t, router("host = \"mx.pf.test\"\ntls = \"required\"\n"), "router")
	expect(t, r, "router", "mx.pf.test", doctor.Pass, "all mail goes to the router mx.pf.test:25 (line ")
	expect(t, r, "router.name", "mx.pf.test", doctor.Pass, "127.0.1.1")
	expect(t, r, "router.tls", "mx.pf.test:25", doctor.Pass, "certificate that fits mx.pf.test")
	expect(t, r, "router.auth", "mx.pf.test:25", doctor.Skip, "no user name")

	r = examine(t, router("host = \"127.0.1.1\"\ntls = \"required\"\n"), "router.tls")
	expect(t, r, "router.tls", "127.0.1.1:25", doctor.Fail, "certificate")
	r = examine(t, router("host = \"mx.osmtpd.test\"\n"), "router.tls")
	expect(t, r, "router.tls", "mx.osmtpd.test:25", doctor.Warn, "STARTTLS is not offered")
	r = examine(t, router("host = \"mx.tlsbroken.test\"\n"), "router.tls")
	expect(t, r, "router.tls", "mx.tlsbroken.test:25", doctor.Warn, "in clear text")
	r = examine(t, router("host = \"gone.test\"\n"), "router")
	expect(t, r, "router.name", "gone.test", doctor.Fail, "unknown host")
}
