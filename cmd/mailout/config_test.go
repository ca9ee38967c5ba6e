package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// runConfig executes one "mailout config" line and gives what it prints and
// its exit status.
func runConfig(t *testing.T, file string, args ...string) (stdout, message string, status int) {
	t.Helper()
	var c struct {
		Config configCmd `cmd:""`
	}
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := parser.Parse(append([]string{"config"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = ctx.Run(&globals{Config: file, Stdout: &out, Stderr: &out})
	if err == nil {
		return out.String(), "", 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v has no exit status", err)
	}
	return out.String(), exit.Error(), exit.Status
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mailout") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "f.toml")
	if err := os.WriteFile(file, []byte("hostname = \"a.example\"\nspool = \"spool\"\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigCommands(t *testing.T) {
	t.Parallel()
	file := configFile(t, "# ours\n")
	steps := []struct {
		args        []string
		out, errors string
		status      int
	}{
		{[]string{"check"}, "", "", 0},
		{[]string{"get", "delivery.expire"}, "5d\n", "", 0},
		{[]string{"get", "delivery.expier"}, "", "delivery.expier: unknown key (did you mean \"delivery.expire\"?)", exitUsage},
		{[]string{"set", "router", "none"}, "", "", 0},
		{[]string{"set", "router", "smart.example:26", "delivery.expire", "6d"}, "", "", 0},
		{[]string{"get", "router.port"}, "26\n", "", 0},
		{[]string{"set", "router", "none"}, "", "", 0},
		{[]string{"get", "router.host"}, "none\n", "", 0},
		{[]string{"set", "--unset", "router", "delivery"}, "", "", 0},
		{[]string{"get", "delivery.expire"}, "5d\n", "", 0},
		{[]string{"set", "spool"}, "", "mailout: spool has no value (give KEY VALUE)", exitUsage},
		{[]string{"set", "delivery.expire", "5 days"}, "", "delivery.expire: \"5 days\" is not a duration (write \"5d\")", exitConfig},
		{[]string{"set", "--unset", "hostname"}, "", file + ":1:1: hostname: is missing (write hostname = \"mailout.example.com\")", exitConfig},
	}
	for _, s := range steps {
		out, message, status := runConfig(t, file, s.args...)
		if out != s.out || message != s.errors || status != s.status {
			t.Errorf("%q: printed %q, said %q, status %d", s.args, out, message, status)
		}
	}
	out, _, status := runConfig(t, file, "show")
	if status != 0 || !strings.Contains(out, "\nexpire = \"5d\"  # default\n") {
		t.Error(status, out)
	}
}

func TestConfigCheckPrintsEveryError(t *testing.T) {
	t.Parallel()
	file := configFile(t, "[delivery]\nexpire = \"5 days\"\nhots = 3\n")
	want := file + ":4:10: [delivery] expire: \"5 days\" is not a duration (write \"5d\")\n" +
		file + ":5:1: [delivery] hots: unknown key (did you mean \"hosts\"?)"
	for _, command := range []string{"check", "show", "reload"} {
		if out, message, status := runConfig(t, file, command); out != "" || message != want || status != exitConfig {
			t.Errorf("%s: printed %q, said\n%s\nstatus %d", command, out, message, status)
		}
	}
}

// TestConfigCheckWarnsOfKeys: a key that nothing can be signed with is no error,
// for mail goes on, but check says so.
func TestConfigCheckWarnsOfKeys(t *testing.T) {
	t.Parallel()
	file := configFile(t, "[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"gone.pem\"\n")
	if out, message, status := runConfig(t, file, "check"); message != "" || status != 0 || !strings.HasPrefix(out, "warning: ") || !strings.Contains(out, "f.toml:3:1: [[dkim]] key: nothing is signed with it: ") || !strings.Contains(out, "gone.pem") {
		t.Error(out, message, status)
	}
}

func TestConfigReload(t *testing.T) {
	t.Parallel()
	file := configFile(t, "[http]\nsocket = \"sock\"\n")
	if _, message, status := runConfig(t, file, "reload"); status != exitTemporary || !strings.HasPrefix(message, "mailout: no daemon answers on ") {
		t.Error(status, message)
	}
	answers := []struct {
		code         int
		body         string
		args         []string
		out, message string
		status       int
	}{
		{200, `{"applied":["hostname","route"],"needs_restart":["spool"]}`, nil, "applied: hostname\napplied: route\nneeds a restart: spool\n", "", 0},
		{200, `{"applied":[],"needs_restart":[]}`, nil, "nothing has changed\n", "", 0},
		{200, `{"applied":[],"needs_restart":["spool"]}`, []string{"--json"}, "{\"applied\":[],\"needs_restart\":[\"spool\"]}\n", "", 0},
		{422, `{"title":"x","status":422,"field":"config","errors":["f:1:1: a: b","f:2:1: c: d"]}`, nil, "", "f:1:1: a: b\nf:2:1: c: d", exitConfig},
		{500, `{"title":"Internal Server Error","detail":"no idea"}`, nil, "", "mailout: no idea", exitTemporary},
		{502, `<html>`, nil, "", "mailout: the daemon answered 502 Bad Gateway", exitTemporary},
	}
	next := make(chan int, 1)
	listener, err := net.Listen("unix", filepath.Join(filepath.Dir(file), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answers[<-next]
		if r.Method != http.MethodPost || r.URL.Path != "/v1/config/reload" {
			t.Error(r.Method, r.URL.Path)
		}
		w.WriteHeader(a.code)
		w.Write([]byte(a.body))
	})}
	go server.Serve(listener)
	defer server.Close()
	for i, a := range answers {
		next <- i
		out, message, status := runConfig(t, file, append([]string{"reload"}, a.args...)...)
		if out != a.out || message != a.message || status != a.status {
			t.Errorf("%s: printed %q, said %q, status %d", a.body, out, message, status)
		}
	}
}
