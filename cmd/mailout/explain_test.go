package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/mtatest"
)

// explained is a small world to ask about: near.example has a server with
// STARTTLS, slow.example one that refuses for now, gone.example none.
type explained struct {
	t      *testing.T
	config string
	near   *mtatest.MX

	mu       sync.Mutex
	commands []string // that near.example's server got
}

// newExplained makes the world; net is the third octet of its loopback addresses.
func newExplained(t *testing.T, third int) *explained {
	t.Helper()
	w := &explained{t: t}
	names := mtatest.NewDNS()
	if err := names.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Stop)
	port, err := mtatest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Certificate(true, "mx.near.example")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(last int, cfg mtatest.MXConfig) *mtatest.MX {
		m := mtatest.NewMX(cfg)
		if _, err := m.Listen(net.JoinHostPort(fmt.Sprintf("127.0.%d.%d", third, last), strconv.Itoa(port))); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Stop)
		return m
	}
	w.near = serve(2, mtatest.MXConfig{Hostname: "mx.near.example", Certificate: cert, Users: []string{"known@near.example"}, OnEvent: w.note, With: []string{"REQUIRETLS"}})
	serve(4, mtatest.MXConfig{Hostname: "mx.bare.example", Certificate: cert})
	serve(3, mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "451 4.7.1 not now"}}}})
	zone := fmt.Sprintf("near.example. MX 10 mx.near.example.\nnear.example. MX 20 dead.near.example.\nmx.near.example. A 127.0.%[1]d.2\n"+
		"dead.near.example. A 127.0.%[1]d.9\nsealed.example. MX 10 mx.sealed.example.\nsealed.example. MX 20 dead.sealed.example.\n"+
		"mx.sealed.example. A 127.0.%[1]d.2\ndead.sealed.example. A 127.0.%[1]d.9\n_%[2]d._tcp.mx.sealed.example. TLSA 3 1 1 %[3]x\n_%[2]d._tcp.dead.sealed.example. TLSA 9 9 9 01\n"+
		"far.example. MX 10 mx.sealed.example.\nslow.example. MX 10 mx.slow.example.\nmx.slow.example. A 127.0.%[1]d.3\nnull.example. MX 0 .\n"+
		"bare.example. MX 10 mx.bare.example.\nmx.bare.example. A 127.0.%[1]d.4\n_%[2]d._tcp.mx.bare.example. TLSA 3 1 1 %[3]x\n", third, port, keyDigest(t, cert))
	if err := names.Add(zone); err != nil {
		t.Fatal(err)
	}
	names.Secure("near.example", "sealed.example", "bare.example")
	w.config = configFile(t, fmt.Sprintf("[dns]\nservers = [%q]\nhosts_file = \"\"\n[delivery]\nport = %d\nprivate_networks = true\nipv6 = false\n"+
		"[[route]]\ndomains = [\"routed.example\"]\nhost = \"127.0.%d.2\"\nport = %d\ntls = \"none\"\n[[route]]\ndomains = [\"plain.example\"]\nhost = \"127.0.%d.2\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n", names.Addr(), port, third, port, third))
	return w
}

// keyDigest is the association of usage 3, selector 1, matching type 1.
func keyDigest(t *testing.T, pair *tls.Certificate) []byte {
	t.Helper()
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return sum[:]
}

// TestExplainTLS: the demand of each host, what the domain publishes, and a probe
// that obeys.
func TestExplainTLS(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 47)
	e, _, _, status := w.explain("known@sealed.example", "--probe")
	if status != 0 || e.TLS.Requirement != "dane" || e.TLS.Origin != "dane" || !strings.HasSuffix(e.TLS.Why, "._tcp.mx.sealed.example") || e.Site != "mx.sealed.example,dead.sealed.example/dane" {
		t.Errorf("status %d, %+v", status, e)
	}
	if len(e.Hosts) != 2 || *e.Hosts[0].TLS != e.TLS || e.Hosts[1].TLS.Requirement != "encrypted" || e.Hosts[1].TLS.Origin != "dane" {
		t.Errorf("%+v", e.Hosts)
	}
	if len(e.Policies) != 2 || e.Policies[0].Type != "tlsa" || e.Policies[0].Domain != "mx.sealed.example" || e.Policies[1].Trouble != "tlsa-invalid" {
		t.Errorf("%+v", e.Policies)
	}
	verified := false
	for _, s := range e.Probe.Steps {
		verified = verified || strings.Contains(s.TLS, "verified (dane)")
	}
	if !verified {
		t.Errorf("%+v", e.Probe)
	}
	if e, _, _, _ = w.explain("a@far.example"); e.TLS.Requirement != "opportunistic" || len(e.Policies) != 1 || e.Policies[0].Type != "no-policy-found" {
		t.Errorf("%+v", e)
	}
	var out, errs bytes.Buffer
	run([]string{"explain", "--config", w.config, "known@sealed.example"}, nil, &out, &errs)
	for _, want := range []string{"(DNSSEC: secure; TLS: dane)", "\nTLS          dane, by dane: the TLSA records of _", "\npolicy       tlsa of mx.sealed.example: 3 1 1 "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
}

// TestExplainOfTheMessage: what the mail itself says of TLS decides too, and a
// probe looks for what it needs.
func TestExplainOfTheMessage(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 49)
	e, _, _, status := w.explain("--require-tls", "--probe", "known@sealed.example")
	if status != 0 || e.TLS.Requirement != "dane" || e.Failure != "" || e.Probe.Failure != "" || e.Hosts[1].TLS.Requirement != "required" || e.Hosts[1].TLS.Origin != "requiretls" {
		t.Errorf("status %d, %+v", status, e)
	}
	e, _, _, status = w.explain("--require-tls", "--probe", "a@bare.example")
	if status != exitFailure || e.Failure != "" || !strings.Contains(e.Probe.Failure, "does not offer REQUIRETLS") {
		t.Errorf("status %d, %+v", status, e)
	}
	if e, _, _, status = w.explain("--probe", "a@bare.example"); status != 0 || e.Probe.Failure != "" {
		t.Errorf("status %d, %+v", status, e)
	}
	e, _, _, status = w.explain("--require-tls", "--probe", "a@far.example")
	if status != exitFailure || !strings.Contains(e.Failure, "neither signed DNS nor an MTA-STS policy") || !strings.Contains(e.Failure, "5.7.30: mail is returned") ||
		len(e.Hosts) != 1 || e.Hosts[0].Failure == "" || len(e.Hosts[0].Addresses) != 0 || e.Probe != nil {
		t.Errorf("status %d, %+v", status, e)
	}
	if e, _, _, status = w.explain("--require-tls", "a@routed.example"); status != 0 || e.TLS.Requirement != "required" || e.TLS.Origin != "requiretls" {
		t.Errorf("status %d, %+v", status, e)
	}
	if e, _, _, status = w.explain("--tls-required-no", "known@sealed.example"); status != 0 || e.TLS.Requirement != "opportunistic" || len(e.Policies) != 0 {
		t.Errorf("status %d, %+v", status, e)
	}
	if _, _, message, status := w.explain("--tls-required-no", "--require-tls", "known@sealed.example"); status != exitUsage || !strings.Contains(message, "RFC 8689") {
		t.Errorf("status %d, %s", status, message)
	}
}

// TestExplainWithoutPolicies: where both kinds are turned off nobody looks, and
// nothing is said of what the domain publishes.
func TestExplainWithoutPolicies(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 48)
	f, err := os.OpenFile(w.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("[tls]\ndane = false\nmta_sts = false\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if e, _, _, status := w.explain("known@sealed.example"); status != 0 || e.TLS.Requirement != "opportunistic" || len(e.Policies) != 0 {
		t.Errorf("%d %+v", status, e)
	}
}

func (w *explained) note(e mtatest.Event) {
	if verb, _, _ := strings.Cut(e.Line, " "); verb != "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.commands = append(w.commands, strings.ToUpper(verb))
	}
}

// got gives what the server got since the last time.
func (w *explained) got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.commands
	w.commands = nil
	return out
}

// start runs a daemon in this process.
func (w *explained) start() {
	w.t.Helper()
	c, err := config.Load(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	d := daemon.New(daemon.Options{ConfigPath: w.config, Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err := d.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
}

// explain runs the command with --json and, for people, without.
func (w *explained) explain(args ...string) (e admin.Explanation, keys map[string]any, stderr string, status int) {
	w.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"explain", "--config", w.config, "--json"}, args...)
	status = run(args, nil, &out, &errs)
	if out.Len() == 0 {
		return e, nil, errs.String(), status
	}
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		w.t.Fatalf("%v: %s", err, out.String())
	}
	if err := json.Unmarshal(out.Bytes(), &keys); err != nil {
		w.t.Fatal(err)
	}
	return e, keys, errs.String(), status
}

func TestExplain(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 41)
	w.start()
	e, keys, _, status := w.explain("Known@NEAR.example")
	for _, k := range []string{"recipient", "destination", "route", "matched", "passed_over", "site", "hosts", "tls", "source", "helo", "limits", "held_by", "next"} {
		if _, ok := keys[k]; !ok {
			t.Errorf("%s is missing", k)
		}
	}
	if status != 0 || e.Recipient != "Known@near.example" || e.Destination != "near.example" || e.Route != "direct" || e.Matched != "direct (default)" ||
		e.Site != "mx.near.example,dead.near.example" || e.Helo != "a.example" || e.HeldBy != "" || e.Next != "" || !e.Daemon {
		t.Errorf("status %d, %+v", status, e)
	}
	if len(e.Hosts) != 2 || e.Hosts[0].Name != "mx.near.example" || e.Hosts[0].Preference != 10 || !slices.Equal(e.Hosts[0].Addresses, []string{"127.0.41.2"}) || e.Hosts[0].DNSSEC != "secure" {
		t.Errorf("%+v", e.Hosts)
	}
	if e.TLS != (admin.ExplainedTLS{Requirement: "opportunistic", Origin: "tls.outbound (default)"}) {
		t.Errorf("%+v", e.TLS)
	}
	if len(e.Limits) < 3 || e.Limits[0].Name != "connections" || e.Limits[0].Value == 0 || !strings.Contains(e.Limits[0].Origin, "nothing is learnt") {
		t.Errorf("%+v", e.Limits)
	}
	if got := w.got(); len(got) > 0 {
		t.Errorf("the server was asked %v", got)
	}
	var out, errs bytes.Buffer
	if status := run([]string{"suppress", "add", "--config", w.config, "gone@near.example", "--reason", "dead"}, nil, &out, &errs); status != 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	if e, _, _, status = w.explain("gone@near.example"); status != 0 || !strings.Contains(e.Suppressed, "suppression list") || e.Route != "direct" {
		t.Errorf("status %d, %+v", status, e)
	}
	out.Reset()
	if run([]string{"explain", "--config", w.config, "gone@near.example"}, nil, &out, &errs); !strings.Contains(out.String(), "\nsuppressed ") {
		t.Error(out.String())
	}

	e, _, _, status = w.explain("a@routed.example")
	if status != 0 || e.Route != "127.0.41.2" || !strings.HasPrefix(e.Matched, "[[route]] 1 (line ") || e.TLS.Requirement != "none" || e.TLS.Origin != "route.1.tls" || e.Hosts[0].DNSSEC != "none" {
		t.Errorf("status %d, %+v", status, e)
	}
	if e, _, _, _ = w.explain("a@plain.example"); e.TLS != (admin.ExplainedTLS{Requirement: "opportunistic", Origin: "route.2.tls (default)"}) {
		t.Errorf("%+v", e.TLS)
	}
	e, _, _, status = w.explain("a@null.example")
	if status != exitFailure || !strings.Contains(e.Failure, "null MX") || !strings.Contains(e.Failure, "5.1.10") || len(e.Hosts) != 0 {
		t.Errorf("status %d, %+v", status, e)
	}
	if _, _, message, status := w.explain("nobody"); status != exitNoUser || message == "" {
		t.Errorf("status %d, %q", status, message)
	}
}

// TestExplainProbe holds that a probe goes no further than it is told.
func TestExplainProbe(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 42)
	w.start()
	e, _, _, status := w.explain("--probe", "known@near.example")
	if got := w.got(); !slices.Equal(got, []string{"EHLO", "STARTTLS", "EHLO", "QUIT"}) || status != 0 {
		t.Errorf("status %d, the server got %v", status, got)
	}
	var stages []string
	for _, s := range e.Probe.Steps {
		stages = append(stages, s.Stage)
	}
	if want := []string{"connect", "banner", "ehlo", "starttls", "starttls", "ehlo", "quit"}; !slices.Equal(stages, want) || e.Probe.Failure != "" || e.Probe.IP != "127.0.42.2" || !strings.HasPrefix(e.Probe.Steps[4].TLS, "TLS1.") {
		t.Errorf("%v, %+v", stages, e.Probe)
	}

	if _, _, _, status = w.explain("--probe", "--rcpt", "known@near.example"); status != 0 {
		t.Errorf("status %d", status)
	}
	if got := w.got(); !slices.Equal(got, []string{"EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "RSET", "QUIT"}) {
		t.Errorf("the server got %v", got)
	}
	e, _, _, status = w.explain("--probe", "--rcpt", "unknown@near.example")
	if got := w.got(); status != exitFailure || !strings.Contains(e.Probe.Failure, "550 5.1.1") || got[len(got)-2] != "RSET" {
		t.Errorf("status %d, %+v, %v", status, e.Probe, got)
	}
	if s := w.near.Stats(); s.Messages != 0 || s.Violations != 0 {
		t.Errorf("%+v", s)
	}
	if _, _, _, status = w.explain("--rcpt", "known@near.example"); status != exitUsage {
		t.Errorf("--rcpt alone: status %d", status)
	}
}

// TestExplainTellsWhatHolds: what waits is named with its time.
func TestExplainTellsWhatHolds(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 43)
	w.start()
	var out, errs bytes.Buffer
	message := "Subject: x\r\n\r\ntext\r\n"
	if status := run([]string{"send", "--config", w.config, "-f", "me@a.example", "--stream", "own", "-", "you@slow.example"}, strings.NewReader(message), &out, &errs); status != 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	var e admin.Explanation
	mtatest.Eventually(t, 30*time.Second, "the delivery is deferred", func() bool {
		e, _, _, _ = w.explain("you@slow.example")
		return e.Next != ""
	})
	if !strings.Contains(e.HeldBy, "451 4.7.1 not now") || !strings.HasPrefix(e.Limits[0].Origin, "learnt: ") {
		t.Errorf("%+v", e)
	}
	out.Reset()
	if status := run([]string{"explain", "--config", w.config, "you@slow.example"}, nil, &out, &errs); status != 0 || !strings.Contains(out.String(), "held by      deferred: ") || !strings.Contains(out.String(), "10 mx.slow.example [127.0.43.3]") {
		t.Errorf("status %d\n%s", status, out.String())
	}
}

func TestExplainWithoutADaemon(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 44)
	e, _, message, status := w.explain("--probe", "known@near.example")
	if status != 0 || e.Daemon || e.Site != "mx.near.example,dead.near.example" || !strings.Contains(message, "no daemon runs") || e.Probe == nil || e.Probe.Failure != "" {
		t.Errorf("status %d, %q, %+v", status, message, e)
	}
	// The first host does not answer: the next is probed.
	w.near.Stop()
	e, _, _, status = w.explain("--probe", "known@near.example")
	if status != exitFailure || e.Probe.Host != "dead.near.example" || len(e.Probe.Steps) != 2 || !strings.Contains(e.Probe.Failure, "refused") {
		t.Errorf("status %d, %+v", status, e.Probe)
	}
}

// TestPrintUnmetPolicy: where a policy leaves mail no host, its lines are shown:
// they tell which hosts it names.
func TestPrintUnmetPolicy(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	printExplanation(&out, &admin.Explanation{Recipient: "eve@example.net", Destination: "example.net", Failure: "not named (4.7.0: mail waits and is tried again)",
		Policies: []admin.ExplainedPolicy{{Type: "sts", Domain: "example.net", ID: "7", Mode: "enforce", Age: 5, Expires: "2026-12-01T08:00:00.000Z", Lines: []string{"version: STSv1", "mx: mail.example.net"}}}})
	if want := "policy\tsts of example.net: mode enforce, id 7, read 5s ago, until 2026-12-01T08:00:00.000Z (version: STSv1; mx: mail.example.net)\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%q", out.String())
	}
}
