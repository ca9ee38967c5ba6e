package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// authority starts a real ACME server, and gives the roots of what it issues.
func (w *world) authority(program, dir string, port int) (*mtatest.Pebble, *x509.CertPool) {
	w.t.Helper()
	w.records("mailout.sender.example. A 127.0.0.1")
	pebble, err := mtatest.StartPebble(program, mtatest.PebbleConfig{Dir: dir, DNS: w.dns.Addr().String(), HTTPPort: port, TLSPort: port, Validity: 90 * 24 * time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { pebble.Stop() })
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	roots, err := pebble.Roots(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return pebble, roots
}

// TestACMEOfTheAPI: the listener that wants the certificate answers the
// authority's challenge itself.
func TestACMEOfTheAPI(t *testing.T) {
	t.Parallel()
	program, err := mtatest.FindPebble()
	if err != nil {
		t.Skip(err)
	}
	w := newWorld(t)
	port := freePort(t)
	d := w.daemon("")
	pebble, roots := w.authority(program, d.dir, port)
	d.replace("[delivery]", fmt.Sprintf("[http]\naddress = \"127.0.0.1:%[1]d\"\nacme = true\n[acme]\nagree = true\nchallenge = \"tls-alpn-01\"\ndirectory = %[2]q\naddress = \"127.0.0.1:%[1]d\"\nca_file = %[3]q\n\n[delivery]",
		port, pebble.Directory, pebble.CAFile))
	d.start()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "mailout.sender.example"}}}
	mtatest.Eventually(t, time.Minute, "the API has a certificate", func() bool {
		r, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/healthz", port))
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, d.log)
	d.stop()
}

// TestACME: from a start without a certificate to mail over TLS that a client
// verifies, with a real authority; a restart shows the certificate at once.
func TestACME(t *testing.T) {
	t.Parallel()
	program, err := mtatest.FindPebble()
	if err != nil {
		t.Skip(err)
	}
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "b.example")
	d := w.daemon("\n")
	port := freePort(t)
	pebble, roots := w.authority(program, d.dir, port)
	d.replace(`trusted = ["127.0.0.0/8"]`, "trusted = [\"127.0.0.0/8\"]\ntls = \"required\"\nacme = true")
	d.replace("[delivery]", fmt.Sprintf("[acme]\nagree = true\ndirectory = %q\naddress = \"127.0.0.1:%d\"\nca_file = %q\n\n[delivery]", pebble.Directory, port, filepath.Base(pebble.CAFile)))
	d.start()
	rules := &tls.Config{RootCAs: roots, ServerName: "mailout.sender.example"}
	mtatest.Eventually(t, time.Minute, "STARTTLS is offered", func() bool {
		c := d.client()
		if _, there := c.Extensions["STARTTLS"]; there {
			return true
		}
		r, err := c.Cmd("MAIL FROM:<a@sender.example>")
		if err != nil || r.Code != 454 && r.Code != 530 { // 530: it came in this very moment
			t.Fatalf("MAIL before there is a certificate: %v %v", r, err)
		}
		return false
	}, d.log)
	send := func() {
		t.Helper()
		c := d.client()
		if err := c.StartTLS(rules); err != nil {
			t.Fatal(err)
		}
		if err := c.Hello("app.sender.example"); err != nil {
			t.Fatal(err)
		}
		out, err := c.Send("a@sender.example", []string{"a@b.example"}, []byte("Subject: x\r\n\r\nx\r\n"))
		if err != nil || !out.Accepted() {
			t.Fatal(err, out.Err())
		}
		d.waitEvent(out.ID(), "delivered")
	}
	send()
	d.stop()
	pebble.Stop()
	d.start()
	send()
	d.stop()
	if info, err := os.Stat(filepath.Join(d.dir, "spool", "acme")); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info, err)
	}
}
