package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mailout/internal/mtatest"
)

// doctorFile is a configuration whose DNS server is the world's.
func doctorFile(t *testing.T, w *world, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mailout.toml")
	text := fmt.Sprintf("hostname = \"mailout.widget.com\"\nspool = \"spool\"\n[dns]\nservers = [%q]\nhosts_file = \"\"\n%s", w.dns.Addr(), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDoctorWatchReportsChanges: a line when a record vanishes or comes, and
// an orderly end by SIGINT.
func TestDoctorWatchReportsChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := doctorFile(t, w, "[identity]\nexternal_names = [\"outside.example\"]\ninterval = \"1s\"\n")
	cmd := exec.Command(binary, "doctor", "--config", file, "--watch", "--only", "resolver.external")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("%q, want %q\n%s", lines.Text(), want, errs.String())
		}
	}
	next("FAIL  resolver.external  names outside (" + w.dns.Addr().String() + "): unknown host")
	w.records("outside.example. 60 A 203.0.113.1")
	next("ok (was FAIL)  resolver.external")
	w.dns.Remove("outside.example.")
	next("FAIL (was ok)  resolver.external")
	w.records("outside.example. 60 A 203.0.113.1")
	next("ok (was FAIL)")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Error("more was said:", lines.Text())
	}
	if err := cmd.Wait(); err != nil || errs.Len() > 0 {
		t.Errorf("%v %s", err, errs.String())
	}
}

// TestDoctorSpeaksToTheRouter: it hears what delivery would say first, and not
// a word of mail.
func TestDoctorSpeaksToTheRouter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.mx(mtatest.MXConfig{Hostname: "smart.example"}, "domain.example")
	file := doctorFile(t, w, fmt.Sprintf("[router]\nhost = \"127.0.2.2\"\nport = %d\ntls = \"none\"\n", w.port))
	out, err := exec.Command(binary, "doctor", "--config", file, "--only", "router").CombinedOutput()
	text := strings.Join(strings.Fields(string(out)), " ")
	if err != nil || !strings.Contains(text, "ok router and TLS ("+net.JoinHostPort("127.0.2.2", fmt.Sprint(w.port))+"): it takes us, in clear text as configured") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := len(server.Messages()); n > 0 {
		t.Errorf("%d messages", n)
	}
	if v := server.Violations(); len(v) > 0 {
		t.Error(v)
	}
}
