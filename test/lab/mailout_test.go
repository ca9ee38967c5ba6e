package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// The MTA under test: an address, name and PTR record of its own.
const (
	mailoutName = "mailout.origin.test"
	mailoutIP   = "127.0.1.8"
	door        = "127.0.1.8:2526"
)

// mailout is the daemon under test, shared by the tests of one run.
type mailout struct {
	program mtatest.Program
	spool   string
	process *mtatest.Daemon
}

// shared is the daemon that the tests share; it starts with the first one.
var shared = sync.OnceValues(func() (*mailout, error) { return startMailout("shared", door, "") })

// lab gives the running daemon, or skips.
func lab(t *testing.T) *mailout {
	t.Helper()
	needLab(t)
	m, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("serve's log:\n%s", m.process.Log(40))
		}
	})
	return m
}

// state is the lab's state folder, or a file below it.
func state(parts ...string) string {
	return filepath.Join(append([]string{os.Getenv("STATE")}, parts...)...)
}

// startMailout starts a daemon. Pairs of old and new replace parts of its
// configuration.
func startMailout(name, listen, extra string, pairs ...string) (*mailout, error) {
	dir := state("mailout-" + name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &mailout{
		program: mtatest.Program{Path: os.Getenv("LAB_MAILOUT"), Config: filepath.Join(dir, "mailout.toml")},
		spool:   filepath.Join(dir, "spool"),
	}
	text := fmt.Sprintf(`hostname = %q
spool = %q
postmaster = "postmaster@origin.test"

[dns]
servers = ["127.0.1.53"]
hosts_file = ""
timeout = "3s"

[[listen]]
address = %q
trusted = ["127.0.0.0/8"]

[[source]]
ip = %q
hostname = %q

[delivery]
private_networks = true
retry = ["2s"]
connect_timeout = "5s"
reply_timeout = "8s"
%s`, mailoutName, m.spool, listen, mailoutIP, mailoutName, extra)
	if err := os.WriteFile(m.program.Config, []byte(strings.NewReplacer(pairs...).Replace(text)), 0o600); err != nil {
		return nil, err
	}
	return m, m.start()
}

func (m *mailout) start() (err error) {
	if m.process, err = m.program.Serve(); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := m.process.Ready(limit); err != nil {
		return fmt.Errorf("%w\n%s", err, m.process.Log(40))
	}
	return nil
}

// run executes a command of the binary.
func (m *mailout) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stdout, stderr, status, err := m.program.Run(ctx, args...)
	if err != nil {
		t.Fatalf("mailout %s: %v", strings.Join(args, " "), err)
	}
	if stderr != "" {
		t.Logf("mailout %s: %s", strings.Join(args, " "), stderr)
	}
	return stdout, status
}

// send hands content over with `mailout send` and gives the ID.
func (m *mailout) send(t *testing.T, from, content string, to ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "note.eml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	out, status := m.run(t, append([]string{"send", "-f", from, file}, to...)...)
	id := strings.TrimSpace(out)
	if status != 0 || len(id) != 26 {
		t.Fatalf("send: status %d, printed %q", status, out)
	}
	return id
}

// record is a journal record as outsiders read it.
type record map[string]any

func (r record) text(key string) string { s, _ := r[key].(string); return s }

func (r record) String() string {
	b, _ := json.Marshal(map[string]any(r)) //nolint:errcheck // came from JSON
	return string(b)
}

// trace gives the journal records of an ID or address, oldest first.
func (m *mailout) trace(t *testing.T, query string) []record {
	t.Helper()
	out, _ := m.run(t, "trace", query, "--json")
	var all []record
	for line := range strings.Lines(out) {
		r := record{}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// await waits for an event of a recipient of a message.
func (m *mailout) await(t *testing.T, id, recipient, event string) record {
	t.Helper()
	var found record
	var all []record
	mtatest.Eventually(t, 40*time.Second, event+" of "+recipient, func() bool {
		all = m.trace(t, id)
		for _, r := range all {
			if r.text("event") == event && (recipient == "" || r.text("recipient") == recipient) {
				found = r
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("journal: %v", all) })
	return found
}

// mailbox waits for the message with a Message-ID in a maildir below the
// state's mail folder, and gives it with CRLF line ends.
func mailbox(t *testing.T, dir, messageID string) []byte {
	t.Helper()
	var found []byte
	mtatest.Eventually(t, 40*time.Second, messageID+" in "+dir, func() bool {
		files, err := filepath.Glob(state("mail", dir, "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err == nil && bytes.Contains(b, []byte(messageID)) {
				found = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
				return true
			}
		}
		return false
	})
	return found
}
