package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"mime"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/lint"
	"mailout/internal/mtatest"
)

// clientsDir has the real clients: scripts, and the versions of their packages.
const clientsDir = "../clients"

// npmModules installs the packages of test/clients into the user's cache, once
// for a lock file, and gives their node_modules. A test is skipped where node,
// npm or the registry cannot be had.
func npmModules(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	in, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	if in.skip != "" {
		t.Skip(in.skip)
	}
	return in.modules
}

// registryFailure is what npm says when nobody answers, or nobody is let in.
var registryFailure = regexp.MustCompile(`E401|E403|E5\d\d|EAI_AGAIN|ECONN|ENETUNREACH|ENOTFOUND|ETIMEDOUT|ERR_SOCKET|ENOTCACHED|network`)

// installation is where the packages are, or why they are not.
type installation struct{ modules, skip string }

var installed = sync.OnceValues(install)

func install() (installation, error) {
	lock, err := os.ReadFile(filepath.Join(clientsDir, "package-lock.json"))
	if err != nil {
		return installation{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return installation{}, err
	}
	dir := filepath.Join(cache, "mailout-test-clients", fmt.Sprintf("%x", sha256.Sum256(lock))[:16])
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return installation{modules: modules}, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return installation{}, err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return installation{}, err
	}
	defer os.RemoveAll(fresh)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(clientsDir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, name), text, 0o600)
		}
		if err != nil {
			return installation{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		if ctx.Err() != nil || registryFailure.Match(out) {
			return installation{skip: "npm cannot fetch the clients' packages: " + string(out)}, nil
		}
		return installation{}, fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	// Whoever was first has installed the same.
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(modules); there != nil {
			return installation{}, err
		}
	}
	return installation{modules: modules}, nil
}

// runClient runs a client and gives what it printed.
func runClient(t *testing.T, modules, name string, args ...string) map[string]json.RawMessage {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(clientsDir, name))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
	}
	if err == nil {
		err = os.Symlink(modules, filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{name}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", name, err, out, &stderr)
	}
	var results map[string]json.RawMessage
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("node %s: %v\n%s", name, err, out)
	}
	return results
}

// says fails unless a result has all the pieces.
func says(t *testing.T, results map[string]json.RawMessage, name string, pieces ...string) {
	t.Helper()
	for _, piece := range pieces {
		if !strings.Contains(string(results[name]), piece) {
			t.Errorf("%s: %q is not in %s", name, piece, results[name])
		}
	}
}

// shop is a daemon with a user who may send as sender.example, over HTTP too.
type shop struct {
	*daemon
	mx    *mtatest.MX
	base  string // URL of the API
	token string
}

func newShop(t *testing.T, extra string) *shop {
	t.Helper()
	w := newWorld(t)
	s := &shop{mx: w.mx(mtatest.MXConfig{}, "example.net", "other.example"), token: "SG.a-token-of-the-tests"}
	port := freePort(t)
	s.base = fmt.Sprintf("http://127.0.0.1:%d", port)
	s.daemon = w.daemon(fmt.Sprintf(`
[http]
address = "127.0.0.1:%d"

[[user]]
name = "shop"
key = "sha256:%x"
from = ["*@sender.example"]
%s`, port, sha256.Sum256([]byte(s.token)), extra))
	s.start()
	return s
}

// arrived waits for n messages, and gives them by subject.
func (s *shop) arrived(n int64) map[string][]*mtatest.Message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.mx.Wait(ctx, n); err != nil {
		s.t.Fatalf("%v: %d of %d messages arrived\n%s", err, len(s.mx.Messages()), n, s.log())
	}
	all := map[string][]*mtatest.Message{}
	for _, m := range s.mx.Messages() {
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header("Subject"))
		if err != nil {
			s.t.Error(err)
		}
		all[subject] = append(all[subject], m)
	}
	for subject := range all {
		if strings.Contains(subject, "never") {
			s.t.Errorf("%q was sent", subject)
		}
	}
	return all
}

// theLetter checks the message that every client sends in its own way.
func (s *shop) theLetter(m *mtatest.Message) {
	s.t.Helper()
	var to []string
	for _, r := range m.To {
		to = append(to, r.Address)
	}
	slices.Sort(to)
	if got := strings.Join(to, " "); got != "ann@example.net bob@example.net carl@example.net hidden@example.net" || m.From != "shop@sender.example" {
		s.t.Errorf("the envelope is %s → %s", m.From, got)
	}
	for name, want := range map[string]string{
		"From": "Läden & Söhne <shop@sender.example>", "Cc": "carl@example.net", "Bcc": "", "Reply-To": "help@sender.example", "X-Entity-Ref-ID": "4711",
	} {
		got, err := new(mime.WordDecoder).DecodeHeader(m.Header(name))
		if got = strings.ReplaceAll(got, `"`, ""); err != nil || got != want {
			s.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, piece := range []string{"multipart/mixed", "multipart/related", "multipart/alternative", "Content-I", "<logo>", "aGVsbG8=", "AQL/", "%C3%9Cbersicht.txt"} {
		if !strings.Contains(string(m.Data), piece) {
			s.t.Errorf("%q is not in the message", piece)
		}
	}
	for _, f := range lint.Check(m.Data, lint.Options{From: m.From, Now: time.Now()}) {
		s.t.Errorf("lint: line %d: %s: %s", f.Line, f.ID, f.Text)
	}
	if s.t.Failed() {
		s.t.Logf("%s", m.Data)
	}
}

// accepted gives the accepted record of a message.
func (s *shop) accepted(id string) record {
	s.t.Helper()
	for _, r := range s.trace(id) {
		if r.text("event") == "accepted" {
			return r
		}
	}
	s.t.Fatalf("no record of %s", id)
	return nil
}

// TestResendClient: the npm package, with nothing changed but the base URL.
func TestResendClient(t *testing.T) {
	t.Parallel()
	modules := npmModules(t)
	s := newShop(t, "")
	got := runClient(t, modules, "resend.mjs", s.base, s.token)
	var sent struct{ Data struct{ ID string } }
	if err := json.Unmarshal(got["sent"], &sent); err != nil || len(sent.Data.ID) != 26 {
		t.Fatalf("sent: %s", got["sent"])
	}
	says(t, got, "again", `"data":null`, `"name":"invalid_idempotent_request"`)
	says(t, got, "batch", `"error":null`)
	says(t, got, "permissive", `"error":null`, `"index":1`)
	says(t, got, "status", `"object":"email"`, `"id":"`+sent.Data.ID+`"`, `"last_event":"`)
	says(t, got, "unknown", `"name":"not_found"`)
	says(t, got, "foreign", `"statusCode":403`, "eve@other.example")
	says(t, got, "injected", `"statusCode":422`, "subject: it holds a carriage return")
	says(t, got, "template", `"name":"validation_error"`, "template: ")
	says(t, got, "stranger", `"statusCode":401`, `"message":"the token is wrong"`)
	var once []struct{ Data struct{ ID string } }
	if err := json.Unmarshal(got["once"], &once); err != nil || once[0].Data.ID != once[1].Data.ID || once[0].Data.ID == "" {
		t.Errorf("once: %s", got["once"])
	}
	all := s.arrived(5)
	if len(all["Resend: once"]) != 1 || len(all["Resend: batch 1"]) != 1 || len(all["Resend: batch 2"]) != 1 || len(all["Resend: batch 3"]) != 1 || len(s.mx.Messages()) != 5 {
		t.Errorf("%d messages arrived: %v", len(s.mx.Messages()), all)
	}
	s.theLetter(all["Resend: Grüße 👋"][0])
	if r := s.accepted(sent.Data.ID); fmt.Sprint(r["metadata"]) != "map[category:welcome]" || r.text("user") != "shop" {
		t.Errorf("the record is %v", r)
	}
}

// TestSendGridClient: the npm package @sendgrid/mail.
func TestSendGridClient(t *testing.T) {
	t.Parallel()
	modules := npmModules(t)
	s := newShop(t, "")
	got := runClient(t, modules, "sendgrid.mjs", s.base, s.token)
	var sent struct {
		Status   int
		ID, Note string
	}
	if err := json.Unmarshal(got["sent"], &sent); err != nil || sent.Status != 202 || len(sent.ID) != 26 || !strings.Contains(sent.Note, "click_tracking") {
		t.Fatalf("sent: %s", got["sent"])
	}
	says(t, got, "many", `"status":202`, `"ids":["`)
	says(t, got, "personal", `"status":202`)
	says(t, got, "foreign", `"code":403`, `"field":"from"`, "eve@other.example")
	says(t, got, "injected", `"code":400`, `"field":"headers[0].value"`)
	says(t, got, "template", `"code":400`, `"field":"template_id"`)
	says(t, got, "sandbox", `"status":200`)
	says(t, got, "stranger", `"code":401`, `"message":"the token is wrong"`)
	all := s.arrived(5)
	if len(all["SendGrid: many"]) != 2 || len(all["SendGrid: Hi Ann"]) != 1 || len(all["SendGrid: Hi Bob"]) != 1 || len(s.mx.Messages()) != 5 {
		t.Errorf("%d messages arrived: %v", len(s.mx.Messages()), all)
	}
	if m := all["SendGrid: Hi Bob"]; len(m) == 1 && !strings.Contains(string(m[0].Data), "Dear Bob, {{name}}") {
		t.Errorf("Bob gets\n%s", m[0].Data)
	}
	s.theLetter(all["SendGrid: Grüße 👋"][0])
	if r := s.accepted(sent.ID); fmt.Sprint(r["metadata"]) != "map[order:4711]" || fmt.Sprint(r["tags"]) != "[welcome]" {
		t.Errorf("the record is %v", r)
	}
}

// TestPostmarkClient: the npm package postmark.
func TestPostmarkClient(t *testing.T) {
	t.Parallel()
	modules := npmModules(t)
	s := newShop(t, "")
	got := runClient(t, modules, "postmark.mjs", s.base, s.token)
	var sent struct {
		MessageID string
		ErrorCode int
		Message   string
	}
	if err := json.Unmarshal(got["sent"], &sent); err != nil || sent.ErrorCode != 0 || len(sent.MessageID) != 26 || sent.Message != "OK" {
		t.Fatalf("sent: %s", got["sent"])
	}
	says(t, got, "batch", `"ErrorCode":0`, `"ErrorCode":400`, "eve@other.example")
	says(t, got, "foreign", `"error":"ApiInputError"`, `"code":400`, "eve@other.example")
	says(t, got, "injected", `"error":"InvalidEmailRequestError"`, `"code":300`, "subject: it holds a carriage return")
	says(t, got, "template", `"status":404`)
	says(t, got, "stranger", `"error":"InvalidAPIKeyError"`, `"code":10`)
	all := s.arrived(3)
	if len(all["Postmark: batch 1"]) != 1 || len(all["Postmark: batch 3"]) != 1 || len(s.mx.Messages()) != 3 {
		t.Errorf("%d messages arrived: %v", len(s.mx.Messages()), all)
	}
	s.theLetter(all["Postmark: Grüße 👋"][0])
	if r := s.accepted(sent.MessageID); fmt.Sprint(r["metadata"]) != "map[order:4711]" || fmt.Sprint(r["tags"]) != "[welcome]" {
		t.Errorf("the record is %v", r)
	}
}

// TestNodemailerClient: SMTP with STARTTLS and AUTH.
func TestNodemailerClient(t *testing.T) {
	t.Parallel()
	modules := npmModules(t)
	w := newWorld(t)
	s := &shop{mx: w.mx(mtatest.MXConfig{}, "example.net")}
	port := freePort(t)
	s.daemon = w.daemon("")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, ca, s.dir, true, "mailout.sender.example")
	s.write(string(text) + fmt.Sprintf("\n[[listen]]\naddress = \"127.0.0.1:%d\"\ntrusted = []\ntls = \"required\"\ncert = %q\nkey = %q\n\n[[user]]\nname = \"shop\"\npassword = %q\nfrom = [\"*@sender.example\"]\n",
		port, filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem"), s.hashOf("secret")))
	s.start()
	got := runClient(t, modules, "nodemailer.mjs", "127.0.0.1", fmt.Sprint(port), "shop", "secret")
	says(t, got, "sent", `250 2.0.0 queued as `, `"rejected":[]`)
	says(t, got, "login", `250 2.0.0 queued as `)
	says(t, got, "foreign", `"responseCode":550`, "5.7.1")
	says(t, got, "stranger", `"code":"EAUTH"`, `"responseCode":535`)
	all := s.arrived(2)
	m := all["nodemailer: Grüße 👋"]
	if len(m) != 1 || len(all["nodemailer: LOGIN"]) != 1 {
		t.Fatalf("%v", all)
	}
	if len(m[0].To) != 4 || m[0].Header("Bcc") != "" || !strings.Contains(string(m[0].Data), "aGVsbG8=") {
		t.Errorf("%v\n%s", m[0].To, m[0].Data)
	}
}
