package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestSendmailForRealPrograms: programs that run sendmail send without a
// change. Those that are not on this machine are skipped by name.
func TestSendmailForRealPrograms(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "to.example")
	d := w.daemon("").start()
	send := sendmailCommand(t)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".mailrc"), []byte("set sendmail="+send+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	python := fmt.Sprintf(`import subprocess, email.message
m = email.message.EmailMessage()
m["To"], m["Bcc"], m["Subject"] = "a@to.example", "b@to.example", "from python3"
m.set_content("text\n.\nmore")
subprocess.run([%q, "-t", "-oi"], input=m.as_bytes(), check=True)`, send)
	n := int64(0)
	for _, p := range []struct {
		name, input string
		args        []string
	}{
		{"python3", "", []string{"-c", python}},
		{"bsd-mailx", "text\n\nmore\n", []string{"-s", "from bsd-mailx", "-b", "b@to.example", "-r", "app@from.example", "a@to.example"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			path, err := exec.LookPath(p.name)
			if err != nil {
				t.Skip(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, p.args...)
			cmd.Env = append(os.Environ(), "MAILOUT_CONFIG="+d.config)
			if p.name == "bsd-mailx" { // its settings; python3 may need the real one
				cmd.Env = append(cmd.Env, "HOME="+home)
			}
			cmd.Stdin = strings.NewReader(p.input)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			n++
			if err := mx.Wait(ctx, n); err != nil {
				t.Fatalf("%v\n%s", err, d.log())
			}
			all := mx.Messages()
			m := all[len(all)-1]
			if len(m.To) != 2 || !bytes.Contains(m.Data, []byte("\r\nSubject: from "+p.name+"\r\n")) || bytes.Contains(m.Data, []byte("Bcc")) || !bytes.HasSuffix(m.Data, []byte("\r\nmore\r\n")) {
				t.Errorf("to %v: %q", m.To, m.Data)
			}
		})
	}
	d.stop()
}
