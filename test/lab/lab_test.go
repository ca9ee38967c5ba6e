// Package lab tests the built binary against real peers: Postfix, Exim,
// OpenSMTPD, chasquid and smtp-sink as receivers, unbound over a signed DNS
// tree, Postfix and swaks as senders. See README for what runs where.
//
// The tests run inside the lab's namespaces: TestMain brings the lab up in a
// network of its own, runs this test binary again inside, and takes it down.
// It needs Linux, root and apt; where it lacks one, every test is skipped with
// the reason.
package lab

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// insideEnv marks the run inside the lab's namespaces.
const insideEnv = "MAILOUT_LAB_INSIDE"

// missing says why the lab cannot run; empty inside the lab.
var missing string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	if missing = obstacle(); missing != "" {
		os.Exit(m.Run())
	}
	os.Exit(runInside())
}

// obstacle gives the first thing that the lab needs and this machine lacks.
func obstacle() string {
	if runtime.GOOS != "linux" {
		return "the lab of real peers needs Linux namespaces"
	}
	if os.Getuid() != 0 {
		return "the lab of real peers needs root (namespaces, port 25)"
	}
	for _, tool := range []string{"apt-get", "dpkg-deb", "unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "the lab of real peers needs " + tool
		}
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--net", "--fork", "true").CombinedOutput(); err != nil {
		return "the lab of real peers needs namespaces, which are refused here: " + strings.TrimSpace(string(out))
	}
	return ""
}

// runInside brings the lab up, runs the tests in it, and takes it down.
func runInside() int {
	dir, err := os.Getwd()
	if err != nil {
		return complain(err)
	}
	state, err := os.MkdirTemp("", "lab-") // short: Unix sockets live below
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(state)
	if err := os.Chmod(state, 0o755); err != nil { // the peers run as users of their own
		return complain(err)
	}
	bin := filepath.Join(state, "mailout")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "mailout/cmd/mailout")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return complain(fmt.Errorf("building mailout: %w\n%s", err, out))
	}
	lab := filepath.Join(state, "s")
	env := append(os.Environ(), "STATE="+lab, "LAB_NET=private")
	defer script(env, filepath.Join(dir, "down.sh"))
	if out, err := script(env, filepath.Join(dir, "up.sh")); err != nil {
		return complain(fmt.Errorf("the lab does not come up: %w\n%s", err, out))
	}
	self, err := os.Executable()
	if err != nil {
		return complain(err)
	}
	inside := exec.Command(filepath.Join(dir, "enter.sh"), append([]string{self}, os.Args[1:]...)...)
	inside.Env = append(env, insideEnv+"=1", "LAB_DIR="+dir, "LAB_MAILOUT="+bin)
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	if err := inside.Run(); err != nil {
		if inside.ProcessState == nil {
			return complain(err)
		}
		return inside.ProcessState.ExitCode()
	}
	return 0
}

func script(env []string, path string) ([]byte, error) {
	cmd := exec.Command(path)
	cmd.Env = env
	return cmd.CombinedOutput()
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "lab:", err)
	return 1
}

// needLab skips a test where there is no lab.
func needLab(t *testing.T) {
	t.Helper()
	if missing != "" {
		t.Skip(missing)
	}
}
