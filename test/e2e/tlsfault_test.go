package e2e

// A fault of our own never returns mail (docs/tls.md). What fails here, and what
// mail does then:
//
//	the resolver is down           TestResolverDownDefers        it waits, and goes when the resolver is back
//	the resolver stops on the way  TestResolverGoneDefers        the same, with what it said before forgotten
//	a self-test has no answer      TestSilentSelfTestKeepsDANE   it goes by DANE from the first message on
//	TLSA look-ups alone fail       TestTLSALookupFails           it waits where the domain is signed, and goes where not
//	the clock, or the other's      TestWrongClockDefers          it waits where the certificate counts, and goes where not
//	a kept MTA-STS policy is torn  TestTornPolicyDefers          it waits, and is never sent in clear text
//	the policy's host is down      TestPolicyHostDown            it goes if the policy was never had
//	any of them until the end      TestFaultsEndByExpiryAlone    it expires, and was never refused

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
	"mailout/internal/spool/pebble"
)

// tlsWorld is a world with an authority, hosts with certificates, TLSA records
// and MTA-STS policies.
type tlsWorld struct {
	*world
	authority *mtatest.Authority
	stsPort   int
	dir       string
}

func newTLSWorld(t *testing.T) *tlsWorld {
	t.Helper()
	a, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	w := &tlsWorld{world: newWorld(t), authority: a, stsPort: freePort(t), dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(w.dir, "ca.pem"), a.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// tables is the configuration of a daemon in this world.
func (w *tlsWorld) tables() string {
	return fmt.Sprintf("\n[tls]\nca_file = %q\nsts_port = %d\n", filepath.Join(w.dir, "ca.pem"), w.stsPort)
}

// host starts the mail server of a domain, mx.DOMAIN, whose certificate is good
// from some time on.
func (w *tlsWorld) host(domain string, from time.Time) (*mtatest.MX, *x509.Certificate) {
	w.t.Helper()
	cert, leaf := w.certificate("mx."+domain, from)
	ip := fmt.Sprintf("127.0.2.%d", w.next)
	w.next++
	server := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx." + domain, Certificate: cert})
	if _, err := server.Listen(fmt.Sprintf("%s:%d", ip, w.port)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(server.Stop)
	w.records(fmt.Sprintf("%[1]s. 1 MX 10 mx.%[1]s.\nmx.%[1]s. 1 A %[2]s", domain, ip))
	return server, leaf
}

// certificate makes one that the authority signs.
func (w *tlsWorld) certificate(name string, from time.Time) (*tls.Certificate, *x509.Certificate) {
	w.t.Helper()
	if from.IsZero() {
		cert, err := w.authority.Certificate(true, name)
		if err != nil {
			w.t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			w.t.Fatal(err)
		}
		return cert, leaf
	}
	// One that its own key signs is all that DANE wants.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: from, NotAfter: from.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}

// tlsaName is where the TLSA records of a host of this world are.
func (w *tlsWorld) tlsaName(domain string) string {
	return fmt.Sprintf("_%d._tcp.mx.%s.", w.port, domain)
}

// dane signs a domain and publishes a TLSA record of its host.
func (w *tlsWorld) dane(domain string, usage int, cert *x509.Certificate) {
	w.t.Helper()
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	w.dns.Secure(domain)
	w.records(fmt.Sprintf("%s 1 TLSA %d 1 1 %x", w.tlsaName(domain), usage, sum))
}

// sts publishes an enforced MTA-STS policy for domains, and gives what serves it.
func (w *tlsWorld) sts(domains ...string) *httptest.Server {
	w.t.Helper()
	for _, d := range domains {
		w.records(fmt.Sprintf("_mta-sts.%[1]s. 1 TXT \"v=STSv1; id=1\"\nmta-sts.%[1]s. 1 A 127.0.0.1", d))
	}
	return w.policyHost(domains...)
}

// policyHost serves the policies of domains.
func (w *tlsWorld) policyHost(domains ...string) *httptest.Server {
	w.t.Helper()
	var names []string
	for _, d := range domains {
		names = append(names, "mta-sts."+d)
	}
	cert, err := w.authority.Certificate(true, names...)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.stsPort))
	if err != nil {
		w.t.Fatal(err)
	}
	serve := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		host, _, _ := strings.Cut(strings.TrimPrefix(r.Host, "mta-sts."), ":")
		_, _ = fmt.Fprintf(rw, "version: STSv1\r\nmode: enforce\r\nmx: mx.%s\r\nmax_age: 86400\r\n", host)
	}
	server := &httptest.Server{
		Listener: l, TLS: &tls.Config{Certificates: []tls.Certificate{*cert}},
		Config: &http.Server{Handler: http.HandlerFunc(serve), ErrorLog: log.New(io.Discard, "", 0)},
	}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	return server
}

// notReturned fails when mail to an address was returned or given up.
func (d *daemon) notReturned(to string) {
	d.t.Helper()
	if got := d.events(to); slices.Contains(got, "failed") || slices.Contains(got, "bounced") || slices.Contains(got, "expired") {
		d.t.Errorf("%s was returned: %v", to, d.trace(to))
	}
}

// waits demands that mail to an address is put off for a reason with all these
// words, and gives the record.
func (d *daemon) waits(to string, words ...string) record {
	d.t.Helper()
	var rec record
	for _, r := range d.waitEvent(to, "deferred") {
		if rec == nil && r.text("event") == "deferred" {
			rec = r
		}
	}
	for _, word := range words {
		if !strings.Contains(rec.text("reason"), word) {
			d.t.Errorf("%s: the reason does not name %q: %v", to, word, rec)
		}
	}
	if rec.text("class") != "temporary" {
		d.t.Errorf("%s: %v", to, rec)
	}
	d.notReturned(to)
	return rec
}

// goes demands that mail to an address is delivered, and how.
func (d *daemon) goes(to, verified, demanded string) {
	d.t.Helper()
	for _, r := range d.waitEvent(to, "delivered") {
		if r.text("event") != "delivered" {
			continue
		}
		facts, _ := r["tls"].(map[string]any)
		if got := record(facts); got.text("verified_by") != verified || got.text("demanded_by") != demanded {
			d.t.Errorf("%s: verified by %q, demanded by %q: %v", to, got.text("verified_by"), got.text("demanded_by"), r)
		}
	}
	d.notReturned(to)
}

const faultMail = "Subject: fault\r\n\r\nx\r\n"

// TestResolverDownDefers: a resolver that is not there, and that does not answer.
func TestResolverDownDefers(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	_, leaf := w.host("dane.example", time.Time{})
	w.dane("dane.example", 3, leaf)
	d := w.daemon(w.tables())
	addr := w.dns.Addr().String()
	d.replace(fmt.Sprintf("servers = [%q]", addr), `servers = ["127.0.0.1:1"]`)
	d.replace(`timeout = "2s"`, `timeout = "200ms"`)
	d.start()
	d.submit("s@sender.example", []string{"a@dane.example"}, faultMail)
	d.waits("a@dane.example", "DNS")
	d.replace(`servers = ["127.0.0.1:1"]`, fmt.Sprintf("servers = [%q]", addr))
	d.must("config", "reload")
	d.goes("a@dane.example", "dane", "dane")
}

// TestResolverGoneDefers: a resolver that stops answering, some questions or all,
// when the first mail has gone.
func TestResolverGoneDefers(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	_, leaf := w.host("dane.example", time.Time{})
	w.dane("dane.example", 3, leaf)
	w.host("other.example", time.Time{})
	d := w.daemon(w.tables())
	d.replace(`timeout = "2s"`, `timeout = "200ms"`)
	d.start()
	d.submit("s@sender.example", []string{"a@dane.example"}, faultMail)
	d.goes("a@dane.example", "dane", "dane")
	w.dns.Script("*", 0, mtatest.Script{Silent: true})
	d.submit("s@sender.example", []string{"b@other.example"}, faultMail)
	d.waits("b@other.example", "DNS")
	w.dns.Unscript()
	d.goes("b@other.example", "", "")
}

// TestSilentSelfTestKeepsDANE: nobody answers for the name whose signatures are
// wrong on purpose while the daemon starts; mail goes by DANE all the same.
func TestSilentSelfTestKeepsDANE(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	_, leaf := w.host("right.example", time.Time{})
	w.dane("right.example", 3, leaf)
	mx, _ := w.host("wrong.example", time.Time{})
	w.dane("wrong.example", 3, leaf)
	w.dns.Script("bogus.example", 0, mtatest.Script{Silent: true})
	d := w.daemon(w.tables() + "\n[identity]\nbogus_name = \"bogus.example\"\n").start()
	d.submit("s@sender.example", []string{"a@right.example", "a@wrong.example"}, faultMail)
	d.goes("a@right.example", "dane", "dane")
	d.waits("a@wrong.example", "TLSA", "mx.wrong.example")
	if n := mx.Stats().Messages; n != 0 {
		t.Errorf("the wrong server has %d messages", n)
	}
}

// TestTLSALookupFails: only questions for TLSA records fail. Where everything that
// leads to the host is signed that may be an attack, and mail waits; where not,
// nobody asks (RFC 7672 2.1.2, 2.2; TRAPS 35).
func TestTLSALookupFails(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	for i, domain := range []string{"signed.example", "silent.example"} {
		_, leaf := w.host(domain, time.Time{})
		w.dane(domain, 3, leaf)
		w.dns.Script(w.tlsaName(domain), wire.TypeTLSA, []mtatest.Script{{Rcode: wire.RcodeServerFailure}, {Silent: true}}[i])
	}
	w.host("unsigned.example", time.Time{})
	w.dns.Script(w.tlsaName("unsigned.example"), wire.TypeTLSA, mtatest.Script{Rcode: wire.RcodeServerFailure})
	d := w.daemon(w.tables())
	d.replace(`timeout = "2s"`, `timeout = "200ms"`)
	d.start()
	to := []string{"a@signed.example", "a@silent.example", "a@unsigned.example"}
	d.submit("s@sender.example", to, faultMail)
	d.waits(to[0], "TLSA", "mx.signed.example")
	d.waits(to[1], "TLSA", "mx.silent.example")
	d.goes(to[2], "", "")
	if n := w.dns.Count(w.tlsaName("unsigned.example"), "TLSA"); n != 0 {
		t.Errorf("TLSA records of an unsigned host were asked for %d times", n)
	}
	w.dns.Unscript()
	d.goes(to[0], "dane", "dane")
	d.goes(to[1], "dane", "dane")
}

// TestWrongClockDefers: certificates that are good only from tomorrow on: our
// clock is behind, or theirs is ahead.
func TestWrongClockDefers(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	_, ee := w.host("ee.example", tomorrow)
	w.dane("ee.example", 3, ee) // dates mean nothing here (RFC 7671 5.1)
	_, ta := w.host("ta.example", tomorrow)
	w.dane("ta.example", 2, ta)
	w.host("sts.example", tomorrow)
	w.sts("sts.example")
	w.host("plain.example", tomorrow)
	d := w.daemon(w.tables()).start()
	to := []string{"a@ee.example", "a@ta.example", "a@sts.example", "a@plain.example"}
	d.submit("s@sender.example", to, faultMail)
	d.goes(to[0], "dane", "dane")
	d.waits(to[1], "TLSA", "mx.ta.example")
	d.waits(to[2], "MTA-STS", "mx.sts.example")
	d.goes(to[3], "", "")
}

// TestPolicyHostDown: the host of an MTA-STS policy is away. Mail goes, unless the
// policy was had before.
func TestPolicyHostDown(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	w.host("known.example", time.Time{})
	w.host("new.example", time.Time{})
	server := w.sts("known.example", "new.example")
	d := w.daemon(w.tables()).start()
	d.submit("s@sender.example", []string{"a@known.example"}, faultMail)
	d.goes("a@known.example", "pkix", "mta-sts")
	server.Close()
	d.stop()
	d.start()
	d.submit("s@sender.example", []string{"b@known.example", "b@new.example"}, faultMail)
	d.goes("b@known.example", "pkix", "mta-sts")
	d.goes("b@new.example", "", "")
}

// TestFaultsEndByExpiryAlone: what none of the faults lets through ends when its
// time is over, and not before.
func TestFaultsEndByExpiryAlone(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	_, leaf := w.host("tlsa.example", time.Time{})
	w.dane("tlsa.example", 3, leaf)
	w.dns.Script(w.tlsaName("tlsa.example"), wire.TypeTLSA, mtatest.Script{Rcode: wire.RcodeServerFailure})
	_, ta := w.host("clock.example", time.Now().Add(24*time.Hour))
	w.dane("clock.example", 2, ta)
	w.dns.Script("dns.example.", 0, mtatest.Script{Rcode: wire.RcodeServerFailure})
	d := w.daemon("expire = \"4s\"\n" + w.tables()).start()
	to := []string{"a@tlsa.example", "a@clock.example", "a@dns.example"}
	d.submit("s@sender.example", to, faultMail)
	for _, one := range to {
		all := d.waitEvent(one, "expired")
		for _, r := range all {
			if e := r.text("event"); e == "failed" || e == "deferred" && r.text("class") != "temporary" {
				t.Errorf("%s: %v", one, r)
			}
		}
		if e := d.events(one); slices.Index(e, "deferred") < 0 {
			t.Errorf("%s was never put off: %v", one, e)
		}
	}
}

// TestTornPolicyDefers: the policy that is kept cannot be read, and its host is
// down: that is not the same as no policy (TRAPS 36). It is mended by the next
// fetch.
func TestTornPolicyDefers(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	mx, _ := w.host("torn.example", time.Time{})
	server := w.sts("torn.example")
	d := w.daemon(w.tables()).start()
	d.submit("s@sender.example", []string{"a@torn.example"}, faultMail)
	d.goes("a@torn.example", "pkix", "mta-sts")
	server.Close()
	d.stop()
	if torn := tear(t, filepath.Join(d.dir, "spool"), "sts/"); torn == 0 {
		t.Fatal("no policy is kept")
	}
	d.start()
	d.submit("s@sender.example", []string{"b@torn.example"}, faultMail)
	d.waits("b@torn.example", "MTA-STS", "torn.example")
	again := func() (n int) {
		for _, e := range d.events("b@torn.example") {
			if e == "deferred" {
				n++
			}
		}
		return n
	}
	mtatest.Eventually(t, 30*time.Second, "a second and a third attempt", func() bool { return again() >= 3 })
	d.kill() // nor does a restart forget that there was one
	d.start()
	before := again()
	mtatest.Eventually(t, 30*time.Second, "an attempt after the restart", func() bool { return again() > before })
	if n := mx.Stats().Messages; n != 1 {
		t.Errorf("the server has %d messages", n)
	}
	w.policyHost("torn.example")
	d.goes("b@torn.example", "pkix", "mta-sts")
}

// tear overwrites the notes of a spool that begin so, and counts them.
func tear(t *testing.T, dir, prefix string) int {
	t.Helper()
	s, err := pebble.Open(t.Context(), pebble.Options{Dir: dir, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	changes := map[string][]byte{}
	err = s.Notes(t.Context(), prefix, "", func(name string, value []byte) bool {
		changes[name] = value[:len(value)/2]
		return true
	})
	if err == nil {
		err = s.SetNotes(t.Context(), changes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(changes)
}
