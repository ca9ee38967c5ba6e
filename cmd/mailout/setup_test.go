package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mailout/internal/config"
	"mailout/internal/setup"
)

// TestSetupFlagsAreDocumented: each flag stands in docs/setup.md.
func TestSetupFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/setup.md")
	if err != nil {
		t.Fatal(err)
	}
	value := "x"
	cmd := &setupCmd{}
	fields := reflect.ValueOf(cmd).Elem()
	for i := range fields.NumField() {
		if f := fields.Field(i); f.Kind() == reflect.Pointer {
			f.Set(reflect.ValueOf(&value))
		}
	}
	answers := cmd.answers()
	if want := fields.NumField() - 2; len(answers) != want { // --yes and --offline are no answers
		t.Errorf("%d answers, want %d: %v", len(answers), want, answers)
	}
	for flag := range answers {
		if !strings.Contains(string(doc), "`--"+flag) {
			t.Errorf("--%s is not in docs/setup.md", flag)
		}
	}
}

// TestSetupFlagsHaveTheirNames: an error names the flag as it is typed.
func TestSetupFlagsHaveTheirNames(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{
		setup.Router, setup.RouterUse, setup.RouterTLS, setup.Servers, setup.OutsideNames, setup.Hostname, setup.PublicIP, setup.Reflectors,
		setup.Probes, setup.DKIMDomain, setup.DKIMSelector, setup.DKIMKind, setup.Postmaster, setup.Listen, setup.Trusted, setup.Spool,
	} {
		var out, errs strings.Builder
		status := run([]string{"setup", "--yes", "--offline", "--config", filepath.Join(t.TempDir(), "mailout.toml"), "--" + flag, ""}, strings.NewReader(""), &out, &errs)
		if status != exitUsage || errs.String() != "mailout: --"+flag+": is empty\n" && flag != setup.DKIMKind {
			t.Errorf("--%s: %d %q", flag, status, errs.String())
		}
	}
}

// TestSetupSpoolIsMeantFromHere: a relative directory on the command line is one
// of the working directory, as the shell completes it.
func TestSetupSpoolIsMeantFromHere(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{"var/spool": filepath.Join(here, "var", "spool"), filepath.Join(here, "x"): filepath.Join(here, "x"), "": "", "postgres://db/x": "postgres://db/x"} {
		if got := (&setupCmd{Spool: &given}).answers()[setup.Spool]; got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

// TestSetupNeedsATerminalOrYes: nobody is asked through a pipe.
func TestSetupNeedsATerminalOrYes(t *testing.T) {
	t.Parallel()
	var out, errs strings.Builder
	path := filepath.Join(t.TempDir(), "mailout.toml")
	if status := run([]string{"setup", "--config", path}, strings.NewReader("\n\n\n"), &out, &errs); status != exitUsage || !strings.Contains(errs.String(), "--yes") {
		t.Errorf("%d %q", status, errs.String())
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestSetupExitStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
	}{
		{setup.ErrStopped, exitTemporary},
		{fmt.Errorf("x: %w", &setup.AnswerError{Flag: "hostname", Err: errors.New("is empty")}), exitUsage},
		{fmt.Errorf("/etc/mailout: %w", fs.ErrPermission), exitNoPermission},
		{config.Errors{{File: "f", Message: "cannot be changed", Err: fs.ErrPermission}}, exitNoPermission},
		{config.Errors{{File: "f", Message: "is wrong"}}, exitConfig},
		{errors.New("no space left on device"), exitIO},
	} {
		var exit *exitError
		if !errors.As(setupError(c.err), &exit) || exit.Status != c.status {
			t.Errorf("%v: %v, want %d", c.err, setupError(c.err), c.status)
		}
	}
}

func TestNamesBeside(t *testing.T) {
	t.Parallel()
	hosts := "127.0.0.1 localhost\n127.0.1.1 host.widget.com host # us\n#192.0.2.1 other.widget.com host\n192.0.2.2 third.widget.com\n192.0.2.3\n"
	if got := namesBeside(hosts, "HOST"); !slices.Equal(got, []string{"host.widget.com"}) {
		t.Errorf("%q", got)
	}
}
