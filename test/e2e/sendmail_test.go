package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// sendmailCommand is the binary by the name of sendmail.
func sendmailCommand(t *testing.T) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "sendmail")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// sendmail runs it once and gives its status.
func (d *daemon) sendmail(command, input string, args ...string) (stderr string, status int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Env = append(os.Environ(), "MAILOUT_CONFIG="+d.config)
	cmd.Stdin = strings.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return errs.String(), cmd.ProcessState.ExitCode()
}

func TestSendmailWhileTheDaemonIsDown(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "to.example")
	d := w.daemon("").start()
	send := sendmailCommand(t)
	deliver := func(n int64, subject string) string {
		t.Helper()
		limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := mx.Wait(limit, n); err != nil {
			t.Fatalf("%v\n%s", err, d.log())
		}
		for _, m := range mx.Messages() {
			if bytes.Contains(m.Data, []byte("Subject: "+subject+"\r\n")) {
				return string(m.Data)
			}
		}
		t.Fatalf("%s is not there", subject)
		return ""
	}
	text := "To: Ann <a@to.example>,\n b@to.example (B)\nBcc: c@to.example\nSubject: %s\n\none\n..two\n.\nnever\n"
	if stderr, status := d.sendmail(send, fmt.Sprintf(text, "up"), "-t", "-oem", "-F", "The App"); status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	got := deliver(1, "up")
	if !strings.HasSuffix(got, "\r\n\r\none\r\n..two\r\n") || strings.Contains(got, "Bcc") || !strings.Contains(got, "From: The App <") || !strings.Contains(got, "@mailout.sender.example>\r\n") {
		t.Errorf("%q", got)
	}
	if m := mx.Messages()[0]; len(m.To) != 3 {
		t.Errorf("to %v", m.To)
	}
	// Killed before it is recorded, the delivery would rightly be made again.
	d.waitEvent("a@to.example", "delivered")
	d.kill()
	if stderr, status := d.sendmail(send, fmt.Sprintf(text, "down"), "-ti"); status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	waiting, err := filepath.Glob(filepath.Join(d.dir, "spool/drop/new/*"))
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%q, %v", waiting, err)
	}
	saved, err := os.ReadFile(waiting[0])
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	if got := deliver(2, "down"); !strings.HasSuffix(got, "\r\none\r\n..two\r\n.\r\nnever\r\n") {
		t.Errorf("%q", got)
	}
	id := filepath.Base(waiting[0])
	d.waitEvent(id, "delivered")
	// As if the removal of the file had not reached the disk.
	d.kill()
	if err := os.WriteFile(waiting[0], saved, 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	mtatest.Eventually(t, 30*time.Second, "the file is removed", func() bool {
		_, err := os.Stat(waiting[0])
		return os.IsNotExist(err)
	})
	accepted := 0
	for _, r := range d.trace(id) {
		if r.text("event") == "accepted" {
			accepted++
		}
	}
	if n := len(mx.Messages()); n != 2 || accepted != 3 { // one a recipient
		t.Errorf("%d messages, %d acceptances", n, accepted)
	}
	d.stop()
	if v := mx.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// TestSendmailAcrossKills: whatever the moment at which the daemon dies, each
// message that sendmail answered with 0 waits in the queue in the end, and
// once. Nothing is delivered meanwhile, so a second copy could only come from
// taking a message twice.
func TestSendmailAcrossKills(t *testing.T) {
	w := newWorld(t)
	d := w.daemon("")
	d.replace(`retry = ["1s"]`, `retry = ["1h"]`)
	d.replace("servers = [", `servers = ["127.0.0.1:1"] # [`) // no name server: all is deferred
	d.start()
	send := sendmailCommand(t)
	const senders, kills, between = 4, 6, 12
	done := make(chan string, 1000)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				to := fmt.Sprintf("s%d.n%d@to.example", s, i)
				if stderr, status := d.sendmail(send, "Subject: x\n\ntext\n", "-i", "-f", "a@from.example", "--", to); status != 0 {
					t.Errorf("%s: status %d: %s", to, status, stderr)
					continue
				}
				done <- to
			}
		})
	}
	accepted := map[string]bool{}
	collect := func(n int) {
		for range n {
			accepted[<-done] = true
		}
	}
	for range kills {
		collect(between) // by the socket, or while the daemon was away
		d.kill()
		collect(between / 2)
		if err := d.tryStart(); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	all.Wait()
	close(done)
	for to := range done {
		accepted[to] = true
	}
	mtatest.Eventually(t, 30*time.Second, "the drop folder is empty", func() bool {
		left, err := os.ReadDir(filepath.Join(d.dir, "spool/drop/new"))
		return err == nil && len(left) == 0
	})
	found := map[string]int{}
	for line := range strings.Lines(d.must("queue", "list", "--json")) {
		var item struct{ Recipients []struct{ Address string } }
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		for _, r := range item.Recipients {
			found[r.Address]++
		}
	}
	for to := range accepted {
		if found[to] != 1 {
			t.Errorf("%s: %d times", to, found[to])
		}
	}
	t.Logf("%d messages across %d kills", len(accepted), kills)
	if len(found) != len(accepted) {
		t.Errorf("%d accepted, %d in the queue", len(accepted), len(found))
	}
	d.stop()
}

// TestSendmailByAnotherUser: a user without any right to the socket or to the
// spool sends through the folder, reads nothing there, and is named as the
// message's owner.
func TestSendmailByAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "to.example")
	open, err := os.MkdirTemp("", "mo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	folder := filepath.Join(open, "drop")
	d := w.daemon(fmt.Sprintf("\n[sendmail]\ndrop = %q\n", folder)).start()
	copyTo := filepath.Join(open, "mailout")
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(open, "mailout.toml")
	for _, err := range []error{
		os.Chmod(open, 0o755), os.WriteFile(copyTo, program, 0o755), os.WriteFile(config, text, 0o644),
		os.Chmod(filepath.Join(folder, "new"), os.ModeSetgid|os.ModeSticky|0o733),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	as := func(input string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = []string{"MAILOUT_CONFIG=" + config, "PATH=" + os.Getenv("PATH")}
		cmd.Stdin = strings.NewReader(input)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := as("Subject: x\n\ntext\n", copyTo, "sendmail", "-v", "a@to.example"); err != nil || !strings.HasPrefix(out, "left for the daemon as ") {
		t.Fatalf("%v: %s", err, out)
	}
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := mx.Wait(limit, 1); err != nil {
		t.Fatalf("%v\n%s", err, d.log())
	}
	if out, err := as("", "ls", filepath.Join(folder, "new")); err == nil {
		t.Errorf("the folder can be listed: %s", out)
	}
	if out, err := as("", copyTo, "sendmail", "-bp"); err == nil || !strings.Contains(out, "no permission") {
		t.Errorf("mailq: %v: %s", err, out)
	}
	d.stop()
}
