package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestServeOutlivesItsLogReader: a log reader that ends, or is restarted,
// costs lines and not the daemon.
func TestServeOutlivesItsLogReader(t *testing.T) {
	d := newWorld(t).daemon("")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", d.config)
	cmd.Stderr = in
	mtatest.EndTogether(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	in.Close()
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "msg=ready"); {
	}
	out.Close()
	// A reload and the stop write log lines.
	if _, stderr, status := d.run("config", "reload"); status != 0 {
		t.Errorf("reload: status %d: %s", status, stderr)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
}
