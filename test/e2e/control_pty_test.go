//go:build linux || darwin || freebsd

package e2e

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// atTerminal runs a command on a terminal, gives it an answer, and what it
// said with its status.
func (d *daemon) atTerminal(answer string, args ...string) (said string, status int) {
	d.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "MAILOUT_CONFIG="+d.config)
	tty, err := pty.Start(cmd)
	if err != nil {
		d.t.Skip("no pseudo-terminal:", err)
	}
	defer tty.Close()
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	if _, err := io.WriteString(tty, answer+"\n"); err != nil {
		d.t.Fatal(err)
	}
	text, _ := io.ReadAll(tty) // ends with an error when the program does
	_ = cmd.Wait()
	return string(text), cmd.ProcessState.ExitCode()
}

// TestQueueCommandsAsk: on a terminal the command shows and asks, and takes
// nothing but yes for yes.
func TestQueueCommandsAsk(t *testing.T) {
	_, d, _ := waitingWorld(t)
	id := d.submit("a@sender.example", []string{"x@later.example"}, letter)
	d.waitEvent(id, "deferred")
	for _, answer := range []string{"", "n", "cancel"} {
		if said, status := d.atTerminal(answer, "queue", "cancel", id); status != 1 || !strings.Contains(said, "1 delivery to cancel") ||
			!strings.Contains(said, id) || !strings.Contains(said, "nothing was done") {
			t.Errorf("%q: status %d, %s", answer, status, said)
		}
	}
	if s := d.summary(); s["deferred"] != 1 {
		t.Errorf("%v", s)
	}
	if said, status := d.atTerminal("yes", "queue", "cancel", id); status != 0 || !strings.Contains(said, "1 delivery cancelled") {
		t.Errorf("status %d, %s", status, said)
	}
	if s := d.summary(); s["deferred"] != 0 {
		t.Errorf("%v", s)
	}
	d.stop()
}
