package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestReceiversOfTheDocs runs the receivers that docs/events.md shows: they
// verify what the daemon sends, and refuse what somebody else does.
func TestReceiversOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ fence, file, program string }{{"js", "receiver.mjs", "node"}, {"python", "receiver.py", "python3"}} {
		t.Run(c.program, func(t *testing.T) {
			program, err := exec.LookPath(c.program)
			if err != nil {
				t.Skip(c.program + " is not installed")
			}
			m := regexp.MustCompile("(?s)```" + c.fence + "\n(.*?)```").FindSubmatch(page)
			if m == nil {
				t.Fatal("no receiver on the page")
			}
			file := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(file, m[1], 0o600); err != nil {
				t.Fatal(err)
			}
			runReceiver(t, program, file)
		})
	}
}

func runReceiver(t *testing.T, program, file string) {
	cmd := exec.CommandContext(t.Context(), program, file)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+webhookSecret, "PORT=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the receiver did not start")
	}
	port, ok := strings.CutPrefix(lines.Text(), "ready ")
	if !ok {
		t.Fatalf("%q", lines.Text())
	}
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "near.example")
	d := w.daemon(fmt.Sprintf("\n[[webhook]]\nname = \"docs\"\nurl = \"http://127.0.0.1:%s/\"\nsecret = %q\nwait = \"0s\"\nevents = [\"accepted\", \"delivered\"]\n", port, webhookSecret)).start()
	d.submit("app@sender.example", []string{"ann@near.example"}, "Subject: x\r\n\r\nx\r\n")
	for _, want := range []string{"message.accepted ann@near.example", "message.delivered ann@near.example"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the receiver printed %q, want %q", lines.Text(), want)
		}
	}
	d.replace(webhookSecret, "whsec_"+strings.Repeat("A", 43)+"=") // another's
	d.must("config", "reload")
	d.submit("app@sender.example", []string{"bob@near.example"}, "Subject: x\r\n\r\nx\r\n")
	mtatest.Eventually(t, 30*time.Second, "the receiver refuses a signature of another secret", func() bool {
		return strings.Contains(d.log(), "401 Unauthorized")
	})
	d.stop()
}
