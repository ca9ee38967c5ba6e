package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/config"
)

// TestReloadThatFailsKeepsTheAuthority: a file that cannot be used leaves the
// certificates to who renews them, whichever step finds the fault.
func TestReloadThatFailsKeepsTheAuthority(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailout.toml")
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("hostname = \"mail.example.com\"\nspool = %q\n[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\nhosts_file = \"\"\n"+
		"[[listen]]\naddress = \"127.0.0.1:0\"\nacme = true\n[acme]\nagree = true\ndirectory = \"https://127.0.0.1:1/dir\"\nemail = \"a@example.com\"\n", filepath.Join(dir, "spool"))
	write := func(text string) *config.Config {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	d := New(Options{ConfigPath: path, Config: write(text), Logger: slog.New(slog.DiscardHandler)})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stopped, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Stop(stopped); err != nil {
			t.Error(err)
		}
	}()
	first := d.authority
	same := func(what string) {
		t.Helper()
		if d.authority.now != first.now || d.authority.made.Email != "a@example.com" || d.doors[0].certificate.authority.Load() != first.now {
			t.Errorf("%s: another authority than before: %+v", what, d.authority)
		}
	}
	other := strings.Replace(text, "a@", "b@", 1)
	write(other + fmt.Sprintf("[[pickup]]\ndirectory = %q\n", open))
	if _, err := d.Reload(t.Context()); err == nil {
		t.Error("a directory where one user could remove another's mail is used")
	}
	same("directory")
	c := write(other)
	c.Listen = append(c.Listen[:1:1], c.Listen[0])
	c.Listen[1].ACME, c.Listen[1].Cert, c.Listen[1].Key = false, filepath.Join(dir, "none"), filepath.Join(dir, "none")
	d.mu.Lock()
	d.doors = append(d.doors, door{listener: c.Listen[1], certificate: &certificate{}})
	c.Listen[1].Address = config.Listener{}.Address
	d.doors[1].listener.Address = c.Listen[1].Address
	err := d.apply(c)
	d.doors = d.doors[:1]
	d.mu.Unlock()
	if err == nil {
		t.Error("a certificate that is not there is used")
	}
	same("certificate")
	write(other)
	if _, err := d.Reload(t.Context()); err != nil || d.authority.now == first.now || d.authority.made.Email != "b@example.com" {
		t.Errorf("%v, %+v", err, d.authority)
	}
}

// TestReloadHoldsNoRequestUp: what a reload waits for keeps no request waiting
// that sends.
func TestReloadHoldsNoRequestUp(t *testing.T) {
	d := started(t)
	d.mu.Lock() // as a reload does
	before := d.sendingLimits()
	c := *d.mu.config
	c.Limits.Recipients = 3
	err := d.apply(&c)
	d.mu.Unlock()
	if after := d.sendingLimits(); err != nil || before.Recipients == 3 || after.Recipients != 3 || after.MessageSize != before.MessageSize {
		t.Errorf("%+v, %+v, %v", before, after, err)
	}
	stopped, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.Stop(stopped); err != nil {
		t.Error(err)
	}
}
