package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"mailout/internal/mtatest"
	"mailout/internal/spool/pebble"
)

// counted are the counts of a domain that an earlier process kept, as a note of
// the spool.
const counted = `{"type":"sts","domain":"far.example","lines":["version: STSv1","mode: enforce","mx: mx.far.example","max_age: 86400"],"hosts":["mx.far.example"],"success":41,"failure":1,` +
	`"details":[{"result":"certificate-expired","host":"mx.far.example","ip":"198.51.100.25","from":"203.0.113.5","reason":"expired","count":1}]}`

// TestTLSReportByMail: a daemon that finds the counts of a day that is over sends
// the report by mail, signed, and by HTTPS; it stands in the journal and is sent
// once, also by the next start.
func TestTLSReportByMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "reports.example")
	w.mx(mtatest.MXConfig{}, "far.example")
	w.records(`_smtp._tls.reports.example. TXT "v=TLSRPTv1; rua=mailto:tls@reports.example"`)
	posts, at, roots := w.reportServer("collector.example")
	w.records(`_smtp._tls.far.example. TXT "v=TLSRPTv1; rua=mailto:tls@reports.example,` + at + `"`)
	d := w.daemon("")
	key, record := ed25519Key(t, d.dir)
	w.records(`m1._domainkey.sender.example. TXT "` + record + `"`)
	rootFile := filepath.Join(d.dir, "roots.pem")
	if err := os.WriteFile(rootFile, roots, 0o600); err != nil {
		t.Fatal(err)
	}
	d.write(d.text() + fmt.Sprintf("\n[tls]\nca_file = %q\n\n[tlsrpt]\nfrom = \"tls@sender.example\"\norganization = \"Sender Ltd\"\n\n[[dkim]]\ndomain = \"sender.example\"\nselector = \"m1\"\nkey = %q\n", rootFile, key))
	day := time.Now().UTC().AddDate(0, 0, -2).Format(time.DateOnly)
	keepCounts(t, d, day)
	d.start()
	mtatest.Eventually(t, 90*time.Second, "the report by mail and by HTTPS", func() bool { return len(mx.Messages()) == 1 && posts.Load() == 1 }, d.log)
	m := mx.Messages()[0]
	got, err := msgauth.VerifyWithOptions(bytes.NewReader(m.Data), &msgauth.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{record}, nil }})
	if err != nil || len(got) != 1 || got[0].Err != nil || got[0].Domain != "sender.example" {
		t.Fatalf("the signature: %v, %+v\n%s", err, got, m.Data)
	}
	for _, f := range []string{"From", "Subject", "TLS-Report-Domain", "TLS-Report-Submitter", "TLS-Required"} {
		if !slices.Contains(got[0].HeaderKeys, f) {
			t.Errorf("the signature does not cover %s: %v", f, got[0].HeaderKeys)
		}
	}
	if text := string(m.Data); strings.Contains(text, "; l=") {
		t.Error("the signature limits the length of the body")
	}
	report := reportIn(t, m.Data)
	if !strings.Contains(report, `"total-successful-session-count": 41`) || !strings.Contains(report, `"start-datetime": "`+day+`T00:00:00Z"`) || !strings.Contains(report, `"organization-name": "Sender Ltd"`) {
		t.Errorf("the report says\n%s", report)
	}
	mtatest.Eventually(t, 30*time.Second, "the journal", func() bool { return len(d.trace("tlsrpt")) == 2 })
	ids := 0
	for _, r := range d.trace("tlsrpt") {
		if r.text("event") != "tlsrpt" || r.text("destination") != "far.example" || !strings.Contains(r.text("reason"), "about far.example on "+day+" (41 sessions as demanded, 1 failed)") {
			t.Errorf("journal: %v", r)
		}
		if id := r.text("report"); id != "" {
			ids++
			d.waitEvent(id, "delivered")
		}
	}
	if ids != 1 {
		t.Errorf("%d records name a message", ids)
	}
	d.submit("app@sender.example", []string{"a@far.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent("a@far.example", "delivered")
	d.stop()
	// What this process counted is kept: the session in clear text, and not that of
	// the report.
	kept := keptCounts(t, d)
	for name, value := range kept {
		if !strings.HasSuffix(name, "/far.example/00") || !strings.Contains(value, `"failure":1,"details":[{"result":"starttls-not-supported"`) {
			t.Errorf("kept: %s: %s", name, value)
		}
	}
	if len(kept) != 1 {
		t.Errorf("%d notes are kept", len(kept))
	}
	keepCounts(t, d, day) // as if the end had not been written
	d.start()
	mtatest.Eventually(t, 90*time.Second, "the second report by HTTPS", func() bool { return posts.Load() == 2 }, d.log)
	mtatest.Eventually(t, 30*time.Second, "the journal", func() bool { return len(d.trace("tlsrpt")) == 4 })
	if n := len(mx.Messages()); n != 1 {
		t.Errorf("%d mails, for one report", n)
	}
}

// reportServer takes reports by HTTPS under a name.
func (w *world) reportServer(name string) (posts *atomic.Int64, at string, roots []byte) {
	w.t.Helper()
	authority, err := mtatest.NewAuthority()
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := authority.Certificate(true, name)
	if err != nil {
		w.t.Fatal(err)
	}
	posts = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if z, err := gzip.NewReader(r.Body); err == nil && r.Method == http.MethodPost && r.Header.Get("Content-Type") == "application/tlsrpt+gzip" {
			if text, err := io.ReadAll(z); err == nil && json.Valid(text) {
				posts.Add(1)
			}
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	w.records(name + ". A 127.0.0.1")
	return posts, "https://" + name + ":" + u.Port() + "/v1", authority.PEM()
}

// ed25519Key makes a signing key, and its record.
func ed25519Key(t *testing.T, dir string) (path, record string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "m1.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
}

// keepCounts puts counts into the spool of a daemon that does not run.
func keepCounts(t *testing.T, d *daemon, day string) {
	t.Helper()
	store, err := pebble.Open(context.Background(), pebble.Options{Dir: filepath.Join(d.dir, "spool"), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SetNotes(context.Background(), map[string][]byte{"tlsrpt/day/" + day + "/far.example/00": []byte(counted)}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// keptCounts are the notes of a daemon that does not run.
func keptCounts(t *testing.T, d *daemon) map[string]string {
	t.Helper()
	store, err := pebble.Open(context.Background(), pebble.Options{Dir: filepath.Join(d.dir, "spool"), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kept := map[string]string{}
	if err := store.Notes(context.Background(), "tlsrpt/", "", func(name string, value []byte) bool {
		kept[name] = string(value)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return kept
}

// reportIn reads the report out of a message.
func reportIn(t *testing.T, content []byte) string {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("no report in\n%s", content)
		}
		if p.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
			continue
		}
		z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, p))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}
