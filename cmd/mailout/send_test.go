package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sentID = "01ARYZ6S410000000000000000"

// sender is a directory with a configuration, a message, and a daemon whose
// answer is given.
type sender struct {
	config, file string
	stdout       io.Writer
	stderr       bytes.Buffer
}

func newSender(t *testing.T, answer http.HandlerFunc) *sender {
	t.Helper()
	dir := t.TempDir()
	s := &sender{config: filepath.Join(dir, "mailout.toml"), file: filepath.Join(dir, "message"), stdout: new(bytes.Buffer)}
	if err := os.WriteFile(s.config, []byte("hostname = \"mail.example.com\"\n[http]\nsocket = \"sock\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write(t)
	listener, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answer}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return s
}

func (s *sender) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte("Subject: x\n\ntext\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *sender) send(args ...string) int {
	args = append([]string{"send", "--config", s.config, "-f", "a@example.com"}, args...)
	return run(append(args, s.file, "bcc:b@example.net"), strings.NewReader(""), s.stdout, &s.stderr)
}

func (s *sender) hasFile() bool {
	_, err := os.Stat(s.file)
	return err == nil
}

func accept(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, `{"id":"`+sentID+`","recipients":[]}`)
}

func TestSendRemovesTheFileOnceAccepted(t *testing.T) {
	t.Parallel()
	s := newSender(t, accept)
	if status := s.send("-k"); status != 0 || !s.hasFile() {
		t.Errorf("-k: status %d, file %v: %s", status, s.hasFile(), &s.stderr)
	}
	if status := s.send(); status != 0 || s.hasFile() {
		t.Errorf("status %d, file %v: %s", status, s.hasFile(), &s.stderr)
	}
	if out := s.stdout.(*bytes.Buffer).String(); out != sentID+"\n"+sentID+"\n" {
		t.Errorf("printed %q", out)
	}
}

// broken is a standard output that nobody reads.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// TestSendAcceptedIsNeverAFailure: a caller that is told of a failure, or finds
// its file still there, sends the message again.
func TestSendAcceptedIsNeverAFailure(t *testing.T) {
	t.Parallel()
	s := newSender(t, accept)
	s.stdout = broken{}
	if status := s.send(); status != 0 || s.hasFile() {
		t.Errorf("status %d, file %v", status, s.hasFile())
	}
	if !strings.Contains(s.stderr.String(), sentID) {
		t.Errorf("the ID is nowhere: %s", &s.stderr)
	}
}

// TestSendKeepsAFileThatTookThePlace: what an application wrote under the same
// name while the old message was on its way was not sent.
func TestSendKeepsAFileThatTookThePlace(t *testing.T) {
	t.Parallel()
	var s *sender
	s = newSender(t, func(w http.ResponseWriter, r *http.Request) {
		if err := os.Rename(s.file, s.file+".old"); err != nil {
			t.Error(err)
		}
		s.write(t)
		accept(w, r)
	})
	if status := s.send(); status != 0 || !s.hasFile() {
		t.Errorf("status %d, file %v: %s", status, s.hasFile(), &s.stderr)
	}
	if !strings.Contains(s.stderr.String(), "the file stays") {
		t.Errorf("it says %q", &s.stderr)
	}
}

// TestSendKnowsItsPrefixes: one that is misspelt is not made a part of the
// address.
func TestSendKnowsItsPrefixes(t *testing.T) {
	t.Parallel()
	var to []string
	s := newSender(t, func(w http.ResponseWriter, r *http.Request) {
		to = r.URL.Query()["to"]
		accept(w, r)
	})
	send := func(rcpt string) int {
		return run([]string{"send", "--config", s.config, "-k", "-f", "a@example.com", s.file, rcpt}, strings.NewReader(""), s.stdout, &s.stderr)
	}
	for arg, want := range map[string]string{"to:a@example.net": "a@example.net", "CC:a@example.net": "a@example.net", "a@[IPv6:2001:db8::1]": "a@[IPv6:2001:db8::1]", `"x:y"@example.net`: `"x:y"@example.net`} {
		if status := send(arg); status != 0 || len(to) != 1 || to[0] != want {
			t.Errorf("%s: status %d, %q: %s", arg, status, to, &s.stderr)
		}
	}
	to = nil
	if status := send("xx:a@example.net"); status != exitUsage || to != nil || !strings.Contains(s.stderr.String(), "to:, cc: or bcc:") {
		t.Errorf("status %d, %q: %s", status, to, &s.stderr)
	}
}

// TestRefusedOptionsAreNamed as they are on the command line.
func TestRefusedOptionsAreNamed(t *testing.T) {
	t.Parallel()
	for field, option := range map[string]string{"send_at": "--at: ", "expire": "--expire: ", "tag": "--tag: ", "from": ""} {
		s := newSender(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, `{"title":"x","status":422,"field":"`+field+`","reply":"554 5.6.0 not so"}`)
		})
		if status := s.send(); status != exitData || s.stderr.String() != "mailout: "+option+"554 5.6.0 not so\n" {
			t.Errorf("%s: status %d: %s", field, status, &s.stderr)
		}
	}
}

// TestSendTellsNeverFromAgain by the status, and keeps the file.
func TestSendTellsNeverFromAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code   int
		body   string
		status int
	}{
		{503, `{"title":"x","status":503,"reply":"452 4.3.1 full"}`, exitTemporary},
		{500, `<html>`, exitTemporary},
		{431, `too long`, exitData},
		{413, `{"title":"x","status":413,"field":"recipient","reply":"452 4.5.3 more than 1000 recipients"}`, exitData},
		{422, `{"title":"x","status":422,"field":"recipient","reply":"550 5.1.2 x"}`, exitNoUser},
		{422, `{"title":"x","status":422,"field":"content","reply":"554 5.6.0 x"}`, exitData},
		{202, `{"id":"01`, exitTemporary},
	} {
		s := newSender(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(c.code)
			io.WriteString(w, c.body)
		})
		if status := s.send(); status != c.status || !s.hasFile() {
			t.Errorf("%d %s: status %d, file %v: %s", c.code, c.body, status, s.hasFile(), &s.stderr)
		}
	}
}
