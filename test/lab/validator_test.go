package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/dnssec"
	"mailout/internal/mtatest"
)

// judged is what unbound and our validator say of the same question; ours is
// built on what unbound gives when told not to check (CD).
type judged struct {
	t         *testing.T
	server    netip.AddrPort
	validator *dnssec.Validator
	counts    map[dnssec.Status]int
}

func newJudged(t *testing.T, server netip.AddrPort, anchor string) *judged {
	t.Helper()
	anchors, err := dnssec.ParseAnchors(strings.NewReader(anchor))
	if err != nil {
		t.Fatal(err)
	}
	j := &judged{t: t, server: server, counts: map[dnssec.Status]int{}}
	j.validator = dnssec.New(dnssec.Options{Anchors: anchors, Source: func(ctx context.Context, name string, qtype uint16, good func(*wire.Msg) bool) error {
		m, err := j.ask(ctx, name, qtype, true)
		if err == nil {
			good(m)
		}
		return err
	}})
	return j
}

func (j *judged) ask(ctx context.Context, name string, qtype uint16, unchecked bool) (*wire.Msg, error) {
	r, err := dns.Ask(ctx, nil, dns.Probe{Server: j.server, Name: name, Type: qtype, CheckingDisabled: unchecked, Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// agree compares the verdicts on one question. What unbound cannot answer even
// unchecked is passed over: then it is false.
func (j *judged) agree(name string, qtype uint16) bool {
	j.t.Helper()
	ctx := j.t.Context()
	raw, err := j.ask(ctx, name, qtype, true)
	if err != nil || raw.Rcode != wire.RcodeSuccess && raw.Rcode != wire.RcodeNameError {
		return false
	}
	checked, err := j.ask(ctx, name, qtype, false)
	if err != nil {
		j.t.Errorf("%s: %v", name, err)
		return false
	}
	theirs := dnssec.Insecure
	switch {
	case checked.Rcode == wire.RcodeServerFailure:
		theirs = dnssec.Bogus
	case checked.AuthenticatedData:
		theirs = dnssec.Secure
	}
	ours := j.validator.Validate(ctx, raw, wire.CanonicalName(name), qtype)
	j.counts[ours.Status]++
	if ours.Status != theirs {
		j.t.Errorf("%s %s: unbound says %s, mailout %s (%s)\n%v", name, wire.TypeToString[qtype], theirs, ours.Status, ours.Why, raw)
	}
	return true
}

var judgedTypes = []uint16{wire.TypeA, wire.TypeAAAA, wire.TypeMX, wire.TypeTXT, wire.TypeTLSA, wire.TypeDS, wire.TypeDNSKEY, wire.TypeSOA}

// TestValidatorAgreesWithUnbound: for every name of every zone of the lab, and
// for names that are not there, the verdict is unbound's.
func TestValidatorAgreesWithUnbound(t *testing.T) {
	needLab(t)
	anchor, err := os.ReadFile(state("trust-anchor.key"))
	if err != nil {
		t.Fatal(err)
	}
	j := newJudged(t, netip.MustParseAddrPort(labResolver), string(anchor))
	if err := j.validator.Test(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(state("zones", "*.zone"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d zones, %v", len(files), err)
	}
	for _, file := range files {
		for _, name := range zoneNames(t, file) {
			for _, qtype := range judgedTypes {
				if !j.agree(name, qtype) {
					break // a name server that is not there: each question takes its time
				}
			}
		}
	}
	t.Logf("%v", j.counts)
	if j.counts[dnssec.Secure] < 200 || j.counts[dnssec.Insecure] < 50 || j.counts[dnssec.Bogus] < 5 {
		t.Errorf("too few of a kind: %v", j.counts)
	}
}

// zoneNames gives the names of a zone file, and two that it lacks.
func zoneNames(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := wire.NewZoneParser(f, "", file)
	seen := map[string]bool{}
	var names []string
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := wire.CanonicalName(rr.Header().Name)
		if seen[name] {
			continue
		}
		if len(names) == 0 && name != "." {
			names = append(names, "nothing."+name, "a.b.nothing."+name)
		}
		seen[name] = true
		names = append(names, name)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// TestValidatorAgreesWithUnboundOnFaults: a tree with every algorithm, NSEC and
// NSEC3, opt-out, wildcards and aliases, and each fault, behind another unbound.
func TestValidatorAgreesWithUnboundOnFaults(t *testing.T) {
	needLab(t)
	now := time.Now()
	records := "@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx TLSA 3 1 1 00ff\nalias CNAME mx\nchain CNAME alias\n*.wild TXT any\n*.wildalias CNAME mx\n" +
		"deep.er.wild A 192.0.2.9\nmoved DNAME target\nx.target A 192.0.2.3\nunsigned NS ns.invalid.\na.b.c.d A 192.0.2.4\n"
	zones := []mtatest.SignedZone{
		{Name: "."}, {Name: "top.", TwoKeys: true, Algorithm: wire.RSASHA256},
		{Name: "ec.top."}, {Name: "rsa.top.", Algorithm: wire.RSASHA512, TwoKeys: true}, {Name: "ed.top.", Algorithm: wire.ED25519, Digest: wire.SHA384}, {Name: "p384.top.", Algorithm: wire.ECDSAP384SHA384},
		{Name: "hash.top.", NSEC3: true, Iterations: 5, Salt: "aabb"}, {Name: "optout.top.", NSEC3: true, OptOut: true}, {Name: "child.optout.top."}, {Name: "free.optout.top.", Unsigned: true},
		{Name: "many.top.", NSEC3: true, Iterations: 151}, {Name: "free.top.", Unsigned: true}, {Name: "below.free.top."}, {Name: "island.top.", NoDS: true}, {Name: "wrong.top.", WrongDS: true},
		{Name: "expired.top.", Inception: now.Add(-96 * time.Hour), Expiration: now.Add(-48 * time.Hour)}, {Name: "early.top.", Inception: now.Add(48 * time.Hour), Expiration: now.Add(96 * time.Hour)},
		{Name: "unknown.top.", Digest: 77},
	}
	for i := range zones {
		if i > 1 {
			zones[i].Records = records
		}
	}
	tree, err := mtatest.NewTree(now, zones...)
	if err != nil {
		t.Fatal(err)
	}
	strip := func(m *wire.Msg) {
		if name := m.Question[0].Name; strings.HasPrefix(name, "stripped") {
			m.Ns = nil
			m.Answer = nil
		}
	}
	upstream := mtatest.NewDNS()
	upstream.Tree, upstream.Alter = tree, strip
	if err := upstream.Start("127.0.1.99:5399"); err != nil {
		t.Fatal(err)
	}
	defer upstream.Stop()
	server := startUnbound(t, "127.0.1.99@5399", tree.Anchor("."))
	j := newJudged(t, server, tree.Anchor("."))
	if err := j.validator.Test(t.Context()); err != nil {
		t.Fatal(err)
	}
	labels := []string{"", "mx.", "_25._tcp.mx.", "alias.", "chain.", "any.wild.", "a.b.wild.", "any.wildalias.", "deep.er.wild.", "er.wild.", "x.er.wild.", "x.moved.", "gone.moved.", "mx.unsigned.", "c.d.", "gone.", "a.gone.", "stripped."}
	for _, z := range zones[1:] {
		for _, label := range labels {
			if z.OptOut && label == "mx.unsigned." {
				continue // the tree's answer is wrong: it is the delegation that should answer
			}
			for _, qtype := range []uint16{wire.TypeA, wire.TypeMX, wire.TypeTXT, wire.TypeDS} {
				j.agree(label+z.Name, qtype)
			}
		}
	}
	t.Logf("%v", j.counts)
}

// startUnbound runs another unbound that forwards everything, until the test
// ends.
func startUnbound(t *testing.T, forward, anchor string) netip.AddrPort {
	t.Helper()
	dir := t.TempDir()
	at := netip.MustParseAddrPort("127.0.1.98:5398")
	config := fmt.Sprintf(`server:
  interface: %s@%d
  access-control: 127.0.0.0/8 allow
  do-daemonize: no
  do-ip6: no
  use-syslog: no
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  do-not-query-localhost: no
  trust-anchor-file: "anchor"
  module-config: "validator iterator"
  cache-max-ttl: 20
  val-sig-skew-max: 300
  val-sig-skew-min: 300
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: %s
`, at.Addr(), at.Port(), dir, forward)
	for name, text := range map[string]string{"unbound.conf": config, "anchor": anchor} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("unbound", "-d", "-c", filepath.Join(dir, "unbound.conf"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := dns.Ask(t.Context(), nil, dns.Probe{Server: at, Name: ".", Type: wire.TypeSOA, Timeout: time.Second})
		if err == nil {
			return at
		}
		if time.Now().After(deadline) {
			t.Fatalf("unbound does not answer: %v", err)
		}
	}
}

// TestResolverValidatesInTheLab: the whole resolver, checking here what a server
// passes on; what unbound refuses is temporary.
func TestResolverValidatesInTheLab(t *testing.T) {
	needLab(t)
	r := dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(labResolver)}, DNSSEC: dns.DNSSECValidate, TrustAnchors: state("trust-anchor.key")})
	defer r.Close()
	if st := r.DNSSEC(t.Context()); st.Status != dns.SecureHere {
		t.Fatalf("%+v", st)
	}
	if a, err := r.TLSA(t.Context(), "_25._tcp.mx.pf.test"); err != nil || !a.Secure {
		t.Errorf("%+v %v", a, err)
	}
	if a, err := r.MX(t.Context(), "osmtpd.test"); err != nil || a.Secure {
		t.Errorf("%+v %v", a, err)
	}
	for _, name := range []string{"bogus.test", "expired.test"} {
		if _, err := r.MX(t.Context(), name); err == nil || !dns.AsError(err).Temporary() {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(labResolver)}, DNSSEC: dns.DNSSECValidate})
	defer wrong.Close()
	if a, err := wrong.MX(t.Context(), "pf.test"); err != nil || a.Secure || wrong.DNSSEC(t.Context()).On() {
		t.Errorf("another root: %+v %v", a, err)
	}
}
