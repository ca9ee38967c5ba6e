package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// beginner is a machine without a configuration, whose DNS is the world's.
type beginner struct {
	t       *testing.T
	dir     string
	program mtatest.Program
	smtp    string
	args    []string // flags that keep a set-up inside the world
}

func (w *world) beginner() *beginner {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "mo") // short: a socket's path is bounded
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.RemoveAll(dir) })
	w.records("outside.example. A 192.0.2.80\nwidget.example. SOA ns.widget.example. hostmaster.widget.example. 1 7200 3600 604800 300\nwidget.example. NS ns.widget.example.\nns.widget.example. A 127.0.0.1")
	b := &beginner{t: w.t, dir: dir, program: mtatest.Program{Path: binary, Config: filepath.Join(dir, "etc", "mailout.toml")},
		smtp: fmt.Sprintf("127.0.0.1:%d", freePort(w.t))}
	b.args = []string{"setup", "--dns", w.dns.Addr().String(), "--outside-names", "outside.example", "--reflectors", "none",
		"--probes", "none", "--dkim-algorithm", "ed25519"}
	return b
}

// files are all there are.
func (b *beginner) files() string {
	b.t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && path != b.dir {
			info, bad := d.Info()
			if bad != nil {
				return bad
			}
			fmt.Fprintf(&out, "%s %s\n", info.Mode(), strings.TrimPrefix(path, b.dir))
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

// TestSetupMakesWhatServeStartsWith: without any configuration and without
// anybody to ask, and mail is taken then.
func TestSetupMakesWhatServeStartsWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.beginner()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(args ...string) (string, string, int) {
		t.Helper()
		out, errs, status, err := b.program.Run(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out, errs, status
	}
	if out, errs, status := run(append(b.args, "--yes", "--hostname", "mail_out.widget.example")...); status != 64 ||
		strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "--hostname: ") || out != "" || b.files() != "" {
		t.Fatalf("%d %q %q\n%s", status, out, errs, b.files())
	}
	if _, errs, status := run(b.args...); status != 64 || !strings.Contains(errs, "--yes") || b.files() != "" {
		t.Fatalf("no terminal: %d %q\n%s", status, errs, b.files())
	}
	out, errs, status := run(append(b.args, "--yes", "--hostname", "mailout.widget.example", "--listen", b.smtp, "--spool", filepath.Join(b.dir, "spool"))...)
	if status != 0 || !strings.Contains(out, "What mailout doctor says") || !strings.Contains(out, "mailout serve --config "+b.program.Config) {
		t.Fatalf("%d %q\n%s", status, errs, out)
	}
	d, err := b.program.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Kill()
	if err := d.Ready(ctx); err != nil {
		t.Fatalf("%v\n%s", err, d.Log(0))
	}
	c, err := mtatest.Dial(ctx, b.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Hello("client.example"); err != nil {
		t.Fatal(err)
	}
	if o, err := c.Send("a@widget.example", []string{"b@outside.example"}, []byte("Subject: first\r\n\r\nhello\r\n")); err != nil || o.Final.Code != 250 {
		t.Errorf("%+v %v", o, err)
	}
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(b.program.Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, errs, status := run("setup", "--yes"); status != 0 {
		t.Errorf("again: %d %s", status, errs)
	}
	if again, err := os.ReadFile(b.program.Config); err != nil || string(again) != string(text) {
		t.Errorf("a second set-up changed\n%s\nto\n%s", text, again)
	}
}
