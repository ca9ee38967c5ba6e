package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// writePair writes a certificate of an authority with its key.
func writePair(t *testing.T, ca *mtatest.Authority, dir string, valid bool, name string) *tls.Certificate {
	t.Helper()
	pair, err := ca.Certificate(valid, name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for file, data := range map[string][]byte{"cert.pem": chain, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}

// hashOf asks the command for the hash of a password.
func (d *daemon) hashOf(password string, flags ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"config", "password"}, flags...)...)
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestSubmission: from `config password` to the journal. A stranger signs in
// over STARTTLS, sends what is allowed and no more; a renewed certificate and a
// removed user are taken by a reload.
func TestSubmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.mx(mtatest.MXConfig{}, "b.example")
	d := w.daemon("\n")
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, ca, d.dir, false, "old.example")
	user := fmt.Sprintf("[[user]]\nname = \"erp\"\npassword = %q\nfrom = [\"*@sender.example\"]\nrate = \"3/d\"\nstream = \"invoices\"\n", d.hashOf("s3cret", "--scram"))
	d.replace("[delivery]", user+"\n[delivery]")
	d.replace(`trusted = ["127.0.0.0/8"]`, "trusted = []\ntls = \"required\"\ncert = \"cert.pem\"\nkey = \"key.pem\"")
	if out, errs, status := d.run("config", "check"); status != 0 || out != "" {
		t.Fatal(out, errs)
	}
	if out := d.must("config", "show"); strings.Contains(out, "scram-sha-256") {
		t.Error("show tells the hash")
	}
	d.start()
	for _, want := range []string{"the certificate has expired", "the certificate does not cover the host name"} {
		if !strings.Contains(d.log(), want) {
			t.Errorf("the log does not warn: %s\n%s", want, d.log())
		}
	}
	writePair(t, ca, d.dir, true, "mailout.sender.example")
	d.must("config", "reload")

	rules := &tls.Config{RootCAs: ca.Pool(), ServerName: "mailout.sender.example"}
	c := d.client()
	if r, _ := c.Cmd("MAIL FROM:<erp@sender.example>"); r.Code != 530 {
		t.Fatal(r)
	}
	if err := c.StartTLS(rules); err != nil {
		t.Fatal(err)
	}
	if err := c.Hello("app.sender.example"); err != nil || c.Extensions["AUTH"] != "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" {
		t.Fatal(err, c.Extensions)
	}
	if r, _ := c.Cmd("AUTH PLAIN AGVycABzM2NyZXQ="); r.Code != 235 {
		t.Fatal(r)
	}
	out, err := c.Send("erp@sender.example", []string{"a@b.example"}, []byte("From: Boss <boss@other.example>\r\n\r\nx\r\n"))
	if err != nil || out.Final.Code != 550 || !strings.Contains(out.Final.String(), "5.7.1 erp may not send from the From field boss@other.example (allowed: *@sender.example)") {
		t.Fatal(err, out.Final)
	}
	out, err = c.Send("erp@sender.example", []string{"a@b.example"}, []byte("From: erp@sender.example\r\n\r\nx\r\n"))
	if err != nil || !out.Accepted() {
		t.Fatal(err, out.Err())
	}
	records := d.waitEvent(out.ID(), "delivered")
	if r := records[0]; r.text("user") != "erp" || r.text("stream") != "invoices" {
		t.Errorf("%v", r)
	}
	if m := server.Messages(); len(m) != 1 || !strings.Contains(string(m[0].Data), " with ESMTPSA id ") {
		t.Errorf("%d messages: %+v", len(m), m)
	}
	d.replace(user, "")
	d.must("config", "reload")
	if r, _ := c.Cmd("MAIL FROM:<erp@sender.example>"); r.Code != 530 {
		t.Errorf("after the user is gone: %v", r)
	}
	d.stop()
}
