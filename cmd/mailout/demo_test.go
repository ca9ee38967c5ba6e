package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailout/internal/config"
	"mailout/internal/mtatest"
)

// smallWorld is a world whose servers are not started.
func smallWorld(t *testing.T) *demoWorld {
	t.Helper()
	servers, err := demoServers()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		s.mx = mtatest.NewMX(s.cfg)
		t.Cleanup(s.mx.Stop)
	}
	return &demoWorld{dns: mtatest.NewDNS(), servers: servers, port: 2525}
}

// hand gives a message to a server of the world as mailout would.
func hand(t *testing.T, w *demoWorld, host, from, rcpt, content string) {
	t.Helper()
	conn, err := w.server(host).mx.Dial(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	c, err := mtatest.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Hello(demoHostname); err != nil {
		t.Fatal(err)
	}
	if o, err := c.Send(from, []string{rcpt}, []byte(content)); err != nil || !o.Accepted() {
		t.Fatal(o, err)
	}
}

func TestDemoConfigIsOrdinary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := smallWorld(t)
	if err := w.dns.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.dns.Stop)
	file := filepath.Join(dir, "mailout.toml")
	if err := os.WriteFile(file, []byte(demoConfig(dir, "127.0.0.1:2526", w)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Hostname != demoHostname || cfg.Delivery.Port != 2525 || !cfg.Delivery.PrivateNetworks || cfg.DNS.HostsFile != "" || cfg.DNS.Servers[0].AddrPort != w.dns.Addr() {
		t.Errorf("%+v", cfg)
	}
}

func TestDemoWorldStandsAlone(t *testing.T) {
	t.Parallel()
	w, err := newDemoWorld(newDemoPrinter(&bytes.Buffer{}))
	if err != nil {
		t.Skip(err)
	}
	defer w.stop()
	for _, s := range w.servers {
		c, err := mtatest.Dial(t.Context(), netip.AddrPortFrom(s.addr, w.port).String())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(c.Greeting.String(), s.host) {
			t.Errorf("%s greets %s", s.addr, c.Greeting)
		}
		c.Close()
	}
	dead := netip.AddrPortFrom(netip.MustParseAddr(demoDeadIP), w.port).String()
	if conn, err := net.Dial("tcp", dead); err == nil {
		conn.Close()
		t.Errorf("something listens at %s", dead)
	}
}

// TestDemoSeesDifferences changes one fact at a time of a recipient that ended
// as expected; each change must be noticed.
func TestDemoSeesDifferences(t *testing.T) {
	t.Parallel()
	record := func() []demoRecord {
		return []demoRecord{
			{Event: "accepted", Recipient: "u@fine.example"},
			{Event: "deferred", Recipient: "u@fine.example", Attempt: 1, Code: 451},
			{Event: "delivered", Recipient: "u@fine.example", Host: "mx.fine.example", Helo: demoHostname, Attempt: 2, Code: 250,
				Tries: []demoTry{{Host: "dead.example"}, {Host: "mx.fine.example"}}},
		}
	}
	expect := demoExpect{recipient: "u@fine.example", final: "delivered", host: "mx.fine.example", attempts: 2, deferred: 451, code: 250, tried: "dead.example"}
	check := func(change func(m *demoMessage, e *demoExpect), copies int, body func(*demoMessage) string) []string {
		w := smallWorld(t)
		m, e := &demoMessage{subject: "Order 1", records: record()}, expect
		m.expect = []demoExpect{e}
		for range copies {
			hand(t, w, "mx.fine.example", demoSender, "u@fine.example", body(m))
		}
		change(m, &e)
		return e.differences(m, w)
	}
	nothing := func(*demoMessage, *demoExpect) {}
	if diff := check(nothing, 1, letter); len(diff) != 0 {
		t.Errorf("differences where none are: %q", diff)
	}
	for want, got := range map[string][]string{
		"not finished":       check(func(m *demoMessage, _ *demoExpect) { m.records = m.records[:2] }, 1, letter),
		"expected delivered": check(func(m *demoMessage, _ *demoExpect) { m.records[2].Event = "relayed" }, 1, letter),
		"at host":            check(func(m *demoMessage, _ *demoExpect) { m.records[2].Host = "other" }, 1, letter),
		"expected mailout":   check(func(m *demoMessage, _ *demoExpect) { m.records[2].Helo = "localhost" }, 1, letter),
		"attempts":           check(func(m *demoMessage, _ *demoExpect) { m.records[2].Attempt = 1 }, 1, letter),
		"TLS \"TLS1.3\"":     check(func(m *demoMessage, _ *demoExpect) { m.records[2].TLS.Version = "TLS1.3" }, 1, letter),
		"receiver saw TLS":   check(func(_ *demoMessage, e *demoExpect) { e.tls = true }, 1, letter),
		"reply 251":          check(func(m *demoMessage, _ *demoExpect) { m.records[2].Code = 251 }, 1, letter),
		"never deferred":     check(func(m *demoMessage, _ *demoExpect) { m.records[1].Recipient = "v" }, 1, letter),
		"deferred with 421":  check(func(m *demoMessage, _ *demoExpect) { m.records[1].Code = 421 }, 1, letter),
		"was tried":          check(func(m *demoMessage, _ *demoExpect) { m.records[2].Tries = nil }, 1, letter),
		"holds 0 messages":   check(nothing, 0, letter),
		"holds 2 messages":   check(nothing, 2, letter),
		"changed on the way": check(nothing, 1, func(m *demoMessage) string { return strings.Replace(letter(m), "\r\n..", "\r\n.", 1) }),
		"complains":          check(nothing, 1, func(m *demoMessage) string { return letter(m)[:10] + "\x00" + letter(m)[10:] }),
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("want a difference with %q, got %q", want, got)
		}
	}
}

const sampleBounce = "Subject: Undelivered\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nNo such=20user.\r\n" +
	"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; m.example\r\n\r\n" +
	"Final-Recipient: rfc822;nobody@users.example\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp;\r\n 550 5.1.1 no\r\n" +
	"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n--b--\r\n"

func TestDemoReadsTheBounce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, content, want string }{
		{"", sampleBounce, ""},
		{"mailer@x.example", sampleBounce, "return path"},
		{"", strings.Replace(sampleBounce, "auto-replied", "no", 1), "Auto-Submitted"},
		{"", strings.Replace(sampleBounce, "nobody@", "dora@", 1), "Final-Recipient"},
		{"", strings.Replace(sampleBounce, "failed", "delayed", 1), "Action"},
		{"", strings.Replace(sampleBounce, "Status: 5.1.1", "Status: 5.0.0", 1), "Status"},
		{"", strings.Replace(sampleBounce, "multipart/report", "multipart/mixed", 1), "not multipart/report"},
	} {
		d := &demo{world: smallWorld(t)}
		hand(t, d.world, "mx.widget.example", c.from, demoSender, c.content)
		b, err := d.bounce()
		switch {
		case c.want == "" && (err != nil || !strings.Contains(b.human, "No such user.") || b.status["diagnostic-code"] != "smtp; 550 5.1.1 no"):
			t.Errorf("%+v %v", b, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	if _, err := (&demo{world: smallWorld(t)}).bounce(); err == nil {
		t.Error("no bounce is no error")
	}
}

// TestDemoVerdictNeedsEveryRecipient has the demonstration end before all
// messages were handed over.
func TestDemoVerdictNeedsEveryRecipient(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &demo{world: smallWorld(t), show: newDemoPrinter(&out)}
	if err := d.verdict(); err == nil || !strings.Contains(err.Error(), "only 0 of 7") {
		t.Errorf("%v", err)
	}
}

func TestDemoPrintsWithoutColourOffATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newDemoPrinter(&out)
	p.title("Title", "about")
	p.server("mx", mtatest.Event{Stage: mtatest.StageRcpt, Line: "RCPT TO:<u\x1b@x>", Reply: "550-no"})
	p.journal(demoRecord{Event: "failed", Recipient: "u", Attempt: 1, Reason: "why", Tries: []demoTry{{Host: "h", IP: "1.2.3.4", Stage: "connect", Reply: "refused"}}})
	if got := out.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, "RCPT TO:<u?@x> → 550 no") || !strings.Contains(got, "h [1.2.3.4] at connect: refused") {
		t.Errorf("%q", got)
	}
}
