package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// serveOnce runs serve with a configuration that must not start it.
func serveOnce(t *testing.T, config string) (stderr string, status int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mailout.toml")
	if config != "" {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "serve", "--config", path)
	var errs strings.Builder
	cmd.Stderr = &errs
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err == nil {
		t.Fatal("serve ended with status 0")
	}
	return errs.String(), cmd.ProcessState.ExitCode()
}

func TestServeRefusesImpossibleHostnames(t *testing.T) {
	for _, name := range []string{"", "mail", "localhost", "a.localhost", "my_host.example.com", "192.0.2.1"} {
		stderr, status := serveOnce(t, "hostname = \""+name+"\"\nspool = \""+t.TempDir()+"\"\n")
		if status != 78 {
			t.Errorf("hostname %q: status %d", name, status)
		}
		if !strings.Contains(stderr, ":1:") || !strings.Contains(stderr, "hostname") {
			t.Errorf("hostname %q: the error has no position: %s", name, stderr)
		}
	}
}

func TestServeWithoutHostnameSaysWhatToWrite(t *testing.T) {
	stderr, status := serveOnce(t, "spool = \""+t.TempDir()+"\"\n")
	if status != 78 || !strings.Contains(stderr, "hostname = \"") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestServeListsAllErrorsWithPositions(t *testing.T) {
	stderr, status := serveOnce(t, `hostname = "mailout.example.com"
postmasters = "a@example.com"

[delivery]
expire = "5 days"
port = 70000
`)
	if status != 78 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{":2:1: ", "postmaster", ":5:10: ", `write "5d"`, ":6:8: "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
}

func TestServeWithoutConfigurationSaysWhatToWrite(t *testing.T) {
	stderr, status := serveOnce(t, "")
	if status != 78 || !strings.Contains(stderr, "hostname") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	d := newWorld(t).daemon("").start()
	second := &daemon{t: t, dir: d.dir, config: d.config, smtp: d.smtp}
	err := second.tryStart()
	if err == nil {
		second.kill()
		t.Fatal("a second instance started on the same spool")
	}
	if second.process.State().ExitCode() != 75 || !strings.Contains(second.log(), "another") {
		t.Errorf("status %d: %s", second.process.State().ExitCode(), second.log())
	}
	if d.summary()["queued"] != 0 { // the first one lives on, socket and all
		t.Error("the first instance is disturbed")
	}
	d.stop()
}

func TestTermEndsWithStatusZeroAndFreesTheSpool(t *testing.T) {
	d := newWorld(t).daemon("").start()
	d.stop()
	d.start()
	d.stop()
}

func TestReloadBySignalAndCommand(t *testing.T) {
	w := newWorld(t)
	d := w.daemon("").start()
	out := d.must("config", "set", "delivery.expire", "3d")
	_ = out
	if answer := d.must("config", "reload"); !strings.Contains(answer, "delivery.expire") {
		t.Errorf("reload says: %s", answer)
	}
	d.must("config", "set", "hostname", "other.sender.example")
	if err := d.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	mtatest.Eventually(t, 10*time.Second, "the new hostname greets", func() bool {
		return strings.Contains(d.client().Greeting.String(), "other.sender.example")
	})
	// A broken file changes nothing.
	good, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	d.write(string(good) + "\n[delivery]\nexpire = 5\n")
	if _, stderr, status := d.run("config", "reload"); status == 0 || !strings.Contains(stderr, d.config) {
		t.Errorf("reload of a broken file: status %d: %s", status, stderr)
	}
	d.submit("a@sender.example", []string{"x@nowhere.example"}, "Subject: still here\r\n\r\n")
	d.stop()
}

func TestCommandsSayThatNoDaemonRuns(t *testing.T) {
	d := newWorld(t).daemon("")
	for _, args := range [][]string{{"queue", "summary"}, {"trace", "a@b.example"}, {"config", "reload"}} {
		_, stderr, status := d.run(args...)
		if status == 0 || !strings.Contains(stderr, "mailout serve") {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}
