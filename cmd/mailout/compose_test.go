package main

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// composer runs the command against a daemon whose answer is given, and keeps
// what the daemon got.
type composer struct {
	*sender
	stdin   string
	query   url.Values
	content []byte
}

func newComposer(t *testing.T) *composer {
	t.Helper()
	c := &composer{}
	c.sender = newSender(t, func(w http.ResponseWriter, r *http.Request) {
		c.query = r.URL.Query()
		c.content, _ = io.ReadAll(r.Body)
		accept(w, r)
	})
	return c
}

func (c *composer) compose(args ...string) int {
	args = append([]string{"compose", "--config", c.config, "--from", "Ann Müller <ann@example.com>"}, args...)
	return run(args, strings.NewReader(c.stdin), c.stdout, &c.stderr)
}

func (c *composer) path(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(c.config), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestComposeHandsOverWhatItMade(t *testing.T) {
	t.Parallel()
	c := newComposer(t)
	c.stdin = "Grüße\n"
	report := c.path(t, "a;b.txt", "figures")
	status := c.compose("-t", "bob@example.net, \"Dee, C\" <cd@example.org>", "-c", "e@bücher.example", "-b", "secret@example.org", "--reply-to", "help@example.com",
		"-s", "Bericht für März", "--text", "-", "-a", report+";name=März.txt;type=text/plain;charset=utf-8", "--header", "X-Ref: 7",
		"--importance", "high", "--sensitivity", "confidential", "--receipt", "--stream", "reports",
		"--at", "2026-03-01T12:00:00+01:00", "--expire", "2d", "--require-tls", "--tag", "q1", "--tag", "a,b", "--meta", "k=v=w")
	if status != 0 {
		t.Fatalf("status %d: %s", status, &c.stderr)
	}
	if out := c.stdout.(*bytes.Buffer).String(); out != sentID+"\n" {
		t.Errorf("printed %q", out)
	}
	want := url.Values{"from": {"ann@example.com"}, "stream": {"reports"}, "send_at": {"2026-03-01T11:00:00Z"}, "expire": {"2d"}, "require_tls": {"true"}, "tag": {"q1", "a,b"}, "meta": {"k=v=w"}, "to": {"bob@example.net", "cd@example.org", "e@xn--bcher-kva.example", "secret@example.org"}}
	if c.query.Encode() != want.Encode() {
		t.Errorf("the envelope is %v", c.query)
	}
	m, err := mail.ReadMessage(bytes.NewReader(c.content))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"From": "Ann Müller <ann@example.com>", "To": `bob@example.net, "Dee, C" <cd@example.org>`, "Cc": "e@xn--bcher-kva.example", "Reply-To": "help@example.com",
		"Subject": "Bericht für März", "X-Ref": "7", "Importance": "high", "Sensitivity": "Company-Confidential", "Disposition-Notification-To": "<ann@example.com>", "Bcc": "",
	} {
		got, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get(name))
		if err != nil || got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if bytes.Contains(c.content, []byte("secret@")) {
		t.Error("the bcc stands in the message")
	}
	for _, piece := range []string{"filename*=utf-8''M%C3%A4rz.txt", "R3LDvMOfZQ0K", "ZmlndXJlcw=="} {
		if !bytes.Contains(c.content, []byte(piece)) {
			t.Errorf("%q is not in the message\n%s", piece, c.content)
		}
	}
}

func TestComposeDryRunSendsNothing(t *testing.T) {
	t.Parallel()
	c := newComposer(t)
	if status := c.compose("-t", "bob@example.net", "--html", "@"+c.path(t, "p.html", "<p>Hi <b>you</b></p>"), "-n"); status != 0 {
		t.Fatalf("status %d: %s", status, &c.stderr)
	}
	out := c.stdout.(*bytes.Buffer).String()
	if c.content != nil || !strings.Contains(out, "multipart/alternative") || !strings.Contains(out, "\r\nHi you\r\n") {
		t.Errorf("sent %q, printed %s", c.content, out)
	}
}

func TestComposeReadsOtherCharacterSets(t *testing.T) {
	t.Parallel()
	for _, set := range []struct{ name, text string }{
		{"ISO-8859-1", "Gr\xfc\xdfe\n"}, {"windows-1252", "Gr\xfc\xdfe\n"}, {"IBM037", "\xc7\x99\xdc\x59\x85\x15"}, {"utf-8", "\ufeffGrüße\n"},
	} {
		c := newComposer(t)
		c.stdin = set.text
		if status := c.compose("-t", "bob@example.net", "--text", "-", "--charset", set.name, "-n"); status != 0 {
			t.Errorf("%s: status %d: %s", set.name, status, &c.stderr)
		}
		if out := c.stdout.(*bytes.Buffer).String(); !strings.Contains(out, "\r\n\r\nR3LDvMOfZQ0K\r\n") {
			t.Errorf("%s: %q", set.name, out)
		}
	}
}

// TestComposeRefuses holds the status, and that the option at fault is named.
func TestComposeRefuses(t *testing.T) {
	t.Parallel()
	c := newComposer(t)
	missing := filepath.Join(filepath.Dir(c.config), "missing")
	latin := c.path(t, "latin", "\xfc")
	for _, k := range []struct {
		status int
		says   string
		args   []string
	}{
		{exitUsage, "no recipients", []string{"--text", "x"}},
		{exitUsage, "nothing to send", []string{"-t", "b@example.net"}},
		{exitUsage, "--to", []string{"-t", "nobody", "--text", "x"}},
		{exitUsage, "line feed", []string{"-t", "b@example.net\nBcc: e@example.org", "--text", "x"}},
		{exitUsage, "one address", []string{"-f", "a@example.com, b@example.com", "-t", "b@example.net", "--text", "x"}},
		{exitUsage, "standard input", []string{"-t", "b@example.net", "--text", "-", "--html", "-"}},
		{exitUsage, "Name: value", []string{"-t", "b@example.net", "--text", "x", "--header", "X-Y"}},
		{exitUsage, "--charset", []string{"-t", "b@example.net", "--text", "-", "--charset", "klingon"}},
		{exitUsage, "--charset", []string{"-t", "b@example.net", "--text", "x", "--charset", "nix"}},
		{exitUsage, "give the file a name", []string{"-t", "b@example.net", "--attach", "-"}},
		{exitUsage, "--at", []string{"-t", "b@example.net", "--text", "x", "--at", "tomorrow"}},
		{exitUsage, "--meta", []string{"-t", "b@example.net", "--text", "x", "--meta", "alone"}},
		{exitUsage, "importance", []string{"-t", "b@example.net", "--text", "x", "--importance", "huge"}},
		{exitNoInput, "missing does not exist", []string{"-t", "b@example.net", "--text", "@" + missing}},
		{exitNoInput, "--attach", []string{"-t", "b@example.net", "--attach", missing}},
		{exitNoInput, "directory", []string{"-t", "b@example.net", "--attach", filepath.Dir(c.config)}},
		{exitData, "not UTF-8", []string{"-t", "b@example.net", "--text", "@" + latin}},
		{exitData, "--subject", []string{"-t", "b@example.net", "--text", "x", "-s", "a\nBcc: e@example.org"}},
		{exitData, "--header Bcc", []string{"-t", "b@example.net", "--text", "x", "--header", "Bcc: e@example.org"}},
		{exitData, "--attach", []string{"-t", "b@example.net", "--attach", latin + ";name=../x"}},
		{exitData, "--inline", []string{"-t", "b@example.net", "--html", "x", "--inline", latin + ";cid=a b"}},
		{exitData, "--attach", []string{"-t", "b@example.net", "--attach", latin + ";type=multipart/mixed"}},
	} {
		c.stderr.Reset()
		if status := c.compose(k.args...); status != k.status || !strings.Contains(c.stderr.String(), k.says) {
			t.Errorf("%v: status %d, want %d; %s", k.args, status, k.status, &c.stderr)
		}
		if c.content != nil {
			t.Fatalf("%v was sent", k.args)
		}
	}
}

func TestComposeIsFromTheAccountUnlessTold(t *testing.T) {
	t.Parallel()
	c := newComposer(t)
	args := []string{"compose", "--config", c.config, "-t", "bob@example.net", "--text", "x", "--return-path", ""}
	if status := run(args, strings.NewReader(""), c.stdout, &c.stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &c.stderr)
	}
	m, err := mail.ReadMessage(bytes.NewReader(c.content))
	if err != nil {
		t.Fatal(err)
	}
	want := currentUser().login + "@mail.example.com"
	if list, err := m.Header.AddressList("From"); err != nil || list[0].Address != want || c.query.Get("from") != "" || !c.query.Has("from") {
		t.Errorf("From %v, return path %q", list, c.query["from"])
	}
}
