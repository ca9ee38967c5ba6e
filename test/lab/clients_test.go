package lab

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// The doors of the daemon that real programs send through, and the server that
// gets what they send.
const (
	clientDoor     = "127.0.1.8:2600" // trusted, clear text
	clientSTARTTLS = "2587"
	clientImplicit = "2465"
	clientHTTP     = "8443"
	clientMX       = "127.0.1.50"
	clientUser     = "erp"
	clientPassword = "s3cret"
)

// office is a daemon with users and TLS, and a fake server for to.example.
type office struct {
	*mailout
	mx   *mtatest.MX
	ca   string // PEM file
	key  string // of the user, for HTTP
	home string
}

var sharedOffice = sync.OnceValues(openOffice)

func openOffice() (*office, error) {
	dir := state("office")
	if err := os.MkdirAll(filepath.Join(dir, "home"), 0o755); err != nil {
		return nil, err
	}
	o := &office{mx: mtatest.NewMX(mtatest.MXConfig{Hostname: "mx.to.example"}), ca: filepath.Join(dir, "ca.pem"), home: filepath.Join(dir, "home")}
	if _, err := o.mx.Listen(clientMX + ":2525"); err != nil {
		return nil, err
	}
	if err := o.certificates(dir); err != nil {
		return nil, err
	}
	hash := exec.Command(os.Getenv("LAB_MAILOUT"), "config", "password", "--scram")
	hash.Stdin = strings.NewReader(clientPassword + "\n")
	verifier, err := hash.Output()
	if err != nil {
		return nil, err
	}
	keys, err := exec.Command(os.Getenv("LAB_MAILOUT"), "config", "key").Output()
	if err != nil {
		return nil, err
	}
	key, line, _ := strings.Cut(string(keys), "\n")
	o.key = key
	text := fmt.Sprintf(`
[[route]]
domains = ["to.example"]
host = %q
port = 2525
tls = "none"

[[user]]
name = %q
password = %q
from = ["*@origin.test", "*@mailout.origin.test"]
%s
[http]
address = "127.0.1.8:%s"
cert = %q
key = %q
`, clientMX, clientUser, strings.TrimSpace(string(verifier)), line, clientHTTP, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	for port, tls := range map[string]string{clientSTARTTLS: "required", clientImplicit: "implicit"} {
		text += fmt.Sprintf("\n[[listen]]\naddress = \"127.0.1.8:%s\"\ntrusted = []\ntls = %q\ncert = %q\nkey = %q\n", port, tls, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	}
	if o.mailout, err = startMailout("office", clientDoor, text); err != nil {
		return nil, err
	}
	// Where programs look for it without being told.
	if err := os.MkdirAll("/etc/mailout", 0o755); err != nil {
		return nil, err
	}
	return o, os.Symlink(o.program.Config, "/etc/mailout/mailout.toml")
}

// certificates writes an authority's certificate, and one for the daemon's name.
func (o *office) certificates(dir string) error {
	ca, err := mtatest.NewAuthority()
	if err != nil {
		return err
	}
	pair, err := ca.Certificate(true, mailoutName)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for file, data := range map[string][]byte{
		"cert.pem": chain, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "ca.pem": ca.PEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			return err
		}
	}
	return os.Chmod(o.ca, 0o644)
}

// program is one that sends, and what is to arrive of it.
type program struct {
	name  string
	args  []string
	stdin string
	env   []string
	from  string   // return path; empty: root at the daemon's name
	to    []string // sorted; nil: ann and bob
	text  string   // a part of the body, decoded; empty: greeting
	with  string   // what the Received field says; empty: LOCAL
}

// greeting has what goes wrong on the way: octets over 127, a dot that begins a
// line, and one that is a line.
const greeting = "Grüße aus Zürich – 1 €\n.dot\n.\nend"

// run sends by a program, in a mount namespace in which /usr/sbin/sendmail is
// mailout, and checks what arrives.
func (o *office) run(t *testing.T, p program) *mtatest.Message {
	t.Helper()
	if _, err := exec.LookPath(p.args[0]); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const inside = `mount --bind "$LAB_MAILOUT" /usr/sbin/sendmail && exec "$@"`
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "sh", "-c", inside, "sh"}, p.args...)...)
	cmd.Env = append(os.Environ(), "HOME="+o.home, "LC_ALL=C.UTF-8", "EMAIL=", "SSL_CERT_FILE="+o.ca)
	cmd.Env = append(cmd.Env, p.env...)
	cmd.Dir = o.home
	cmd.Stdin = strings.NewReader(p.stdin)
	before := len(o.mx.Messages())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, o.process.Log(20))
	}
	return o.arrived(t, before, p)
}

func (o *office) arrived(t *testing.T, before int, p program) *mtatest.Message {
	t.Helper()
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := o.mx.Wait(limit, int64(before+1)); err != nil {
		t.Fatalf("%v\n%s", err, o.process.Log(20))
	}
	m := o.mx.Messages()[before]
	want, to, text, with := p.from, p.to, p.text, p.with
	if want == "" {
		want = "root@" + mailoutName
	}
	if to == nil {
		to = []string{"ann@to.example", "bob@to.example"}
	}
	if text == "" {
		text = greeting
	}
	if with == "" {
		with = "LOCAL"
	}
	var got []string
	for _, r := range m.To {
		got = append(got, r.Address)
	}
	slices.Sort(got)
	if m.From != want || !slices.Equal(got, to) {
		t.Errorf("from %q to %q, not %q %q", m.From, got, want, to)
	}
	if body := bodyText(t, m.Data); !strings.Contains(body, text) {
		t.Errorf("the body is %q, without %q; as it came:\n%s", body, text, m.Data)
	}
	if received := m.Header("Received"); !strings.Contains(received, " with "+with+" id ") {
		t.Errorf("Received: %s", received)
	}
	if bytes.Contains(m.Data, []byte("\r\nBcc:")) {
		t.Errorf("Bcc is there:\n%s", m.Data)
	}
	if bare := bytes.ReplaceAll(m.Data, []byte("\r\n"), nil); bytes.ContainsAny(bare, "\r\n") {
		t.Errorf("bare CR or LF: %q", m.Data)
	}
	return m
}

// subject gives the decoded Subject.
func subject(t *testing.T, m *mtatest.Message) string {
	t.Helper()
	s, err := new(mime.WordDecoder).DecodeHeader(m.Header("Subject"))
	if err != nil {
		t.Error(err)
	}
	return s
}

// bodyText gives the first text of a message, decoded, with LF ends.
func bodyText(t *testing.T, data []byte) string {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return partText(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
}

func partText(t *testing.T, contentType, encoding string, body io.Reader) string {
	t.Helper()
	media, params, err := mime.ParseMediaType(contentType)
	if err == nil && strings.HasPrefix(media, "multipart/") {
		p, err := multipart.NewReader(body, params["boundary"]).NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		return partText(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p)
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// needOffice gives the daemon and the server for real programs, or skips.
func needOffice(t *testing.T) *office {
	t.Helper()
	needLab(t)
	o, err := sharedOffice()
	if err != nil {
		t.Fatal(err)
	}
	return o
}
