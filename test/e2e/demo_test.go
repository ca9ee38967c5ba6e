package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runDemo runs `mailout demo` with a folder of its own for temporary files. It
// calls atLine for each line of stdout, and gives all of it with the status.
func runDemo(t *testing.T, atLine func(*exec.Cmd, string), args ...string) (out, errors string, status int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(binary, append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	in := bufio.NewScanner(stdout)
	for in.Scan() {
		out += in.Text() + "\n"
		atLine(cmd, in.Text())
	}
	_ = cmd.Wait() // the status tells
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return out, stderr.String(), cmd.ProcessState.ExitCode()
}

func TestDemoEndsWell(t *testing.T) {
	t.Parallel()
	out, errors, status := runDemo(t, func(*exec.Cmd, string) {})
	if status != 0 || errors != "" {
		t.Fatalf("status %d\n%s%s", status, out, errors)
	}
	for _, want := range []string{
		"look-up: fine.example MX → 20 mx.fine.example\n",
		"EHLO mailout.demo.example → 250 mx.fine.example",
		"TLS handshake: TLS 1.3",
		"carla@grey.example deferred in attempt 1: 451 4.7.1",
		"at connect: connect to 127.0.0.9:",
		"Final-Recipient: rfc822; nobody@users.example · Action: failed · Status: 5.1.1",
		"Every recipient ended as it should.",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours although stdout is no terminal")
	}
}

// TestDemoTellsWhatIsMissing gives it no time for the second try of the
// greylisted recipient.
func TestDemoTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	out, errors, status := runDemo(t, func(*exec.Cmd, string) {}, "--timeout", "1s")
	if status == 0 || !strings.Contains(errors, "carla@grey.example") || !strings.Contains(out, "DIFFERS") && !strings.Contains(errors, "only ") {
		t.Errorf("status %d\n%s%s", status, out, errors)
	}
}

func TestDemoKeepsUntilInterrupted(t *testing.T) {
	t.Parallel()
	out, errors, status := runDemo(t, func(cmd *exec.Cmd, line string) {
		if strings.Contains(line, "What the servers see is shown here") {
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
	}, "--keep")
	if status != 0 || !strings.Contains(out, "It keeps running") {
		t.Errorf("status %d\n%s%s", status, out, errors)
	}
}

func TestDemoInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	_, errors, status := runDemo(t, func(cmd *exec.Cmd, line string) {
		if strings.Contains(line, "queued as") {
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
	})
	if status != 1 || !strings.Contains(errors, "interrupted") {
		t.Errorf("status %d: %s", status, errors)
	}
}
