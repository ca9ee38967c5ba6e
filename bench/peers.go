package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// base is where bench/inside.sh puts everything.
const base = "/run/bench"

// peer is one relay; bench/peers/NAME/start.sh runs it.
type peer struct {
	name     string
	title    string
	part     float64  // of the messages: slow ones get fewer, the rate is compared
	aliases  bool     // takes mail for aliases of the addresses (peers/chasquid/start.sh)
	onDemand bool     // only when named
	limit    bool     // not a mail server, but what bounds one
	version  []string // prints it
	needs    string   // a file without which it cannot run
}

var allPeers = []peer{
	{name: "mailout", title: "mailout", part: 1, version: []string{base + "/bin/mailout", "version"}},
	{name: "postfix", title: "Postfix", part: 0.1, version: []string{"postconf", "-dh", "mail_version"}},
	{name: "exim", title: "Exim", part: 0.04, version: []string{"sh", "-c", "exim4 -bV | sed -n 's/^Exim version \\([^ ]*\\).*/\\1/p'"}},
	{name: "opensmtpd", title: "OpenSMTPD", part: 0.1, version: []string{"sh", "-c", "smtpd -h 2>&1 | sed -n 's/^version: OpenSMTPD //p'"}},
	{name: "chasquid", title: "chasquid", part: 0.1, aliases: true, version: []string{"sh", "-c", "chasquid -version 2>&1 | grep -o '[0-9][0-9.]*[^ ]*' | head -1"}},
	{name: "haraka", title: "Haraka", part: 0.1, needs: base + "/haraka/node_modules/Haraka/package.json",
		version: []string{"sh", "-c", "echo $(node -p \"require('" + base + "/haraka/node_modules/Haraka/package.json').version\") on Node.js $(node --version)"}},
	{name: "nostore", title: "a relay that stores nothing", part: 1, limit: true},
	{name: "shaped", title: "mailout, 1,000 [[shape]] rules", part: 1, onDemand: true, version: []string{base + "/bin/mailout", "version"}},
	{name: "signed", title: "mailout, signed (Ed25519)", part: 1, onDemand: true, version: []string{base + "/bin/mailout", "version"}},
	{name: "signed-rsa", title: "mailout, signed (RSA, 2,048 bits)", part: 0.3, onDemand: true, version: []string{base + "/bin/mailout", "version"}},
	{name: "profiled", title: "mailout, profiled", part: 1, onDemand: true},
}

func (p peer) missing() bool {
	_, err := os.Stat(p.needs)
	return p.needs != "" && err != nil
}

// startLimit is how long a relay may take to greet.
const startLimit = 30 * time.Second

// process is a relay that runs: a PID namespace with all its processes, whose
// first one is start.sh. Ending that one ends them all.
type process struct {
	peer   peer
	cmd    *exec.Cmd
	ns     string // link of its PID namespace
	cgroup cgroup
}

// start cleans the relay's spool, runs it and waits for its greeting.
func (p peer) start(ctx context.Context, profile string) (*process, error) {
	spool := filepath.Join(base, "spool", p.name)
	if err := empty(spool); err != nil {
		return nil, err
	}
	r := &process{peer: p, cgroup: newCgroup()}
	script := filepath.Join(base, "conf", p.name, "start.sh")
	line := `exec bash "$1"`
	if r.cgroup.dir != "" {
		line = `echo 0 >"$2/cgroup.procs" && ` + line
	}
	r.cmd = exec.Command("bash", "-c", line, "start", script, r.cgroup.dir)
	r.cmd.Env = append(os.Environ(), "PROFILE="+profile)
	log, err := os.OpenFile(filepath.Join(base, "out", p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	if r.ns, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", r.cmd.Process.Pid)); err == nil {
		err = greeting(ctx)
	}
	if err != nil {
		p.keepLog(true)
		r.stop()
		return nil, fmt.Errorf("%s did not start: %w", p.name, err)
	}
	return r, nil
}

// greeting waits until the relay says 220.
func greeting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := greets(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
}

func greets(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", relayAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startLimit)); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "220") {
		return errors.New(strings.TrimSpace(line))
	}
	if _, err := io.WriteString(conn, "QUIT\r\n"); err != nil {
		return err
	}
	_, err = r.ReadString('\n')
	return err
}

// stop ends every process of the relay. The one that writes profiles is asked.
func (r *process) stop() {
	if r.peer.name == "profiled" {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
	} else {
		_ = r.cmd.Process.Kill() // has ended by itself, at worst
	}
	_ = r.cmd.Wait() // killed
	r.cgroup.remove()
	_ = empty(filepath.Join(base, "spool", r.peer.name)) // the next start says what is wrong
}

// keepLog saves the end of the relay's log of the last run, and of the last
// one that failed.
func (p peer) keepLog(failed bool) {
	const most = 64 << 10
	b, err := os.ReadFile(filepath.Join(base, "spool", p.name, "log"))
	if err != nil || len(b) == 0 {
		return
	}
	name := p.name + "-last.log"
	if failed {
		name = p.name + "-failed.log"
	}
	_ = os.WriteFile(filepath.Join(base, "out", name), b[max(0, len(b)-most):], 0o644) // only a help
}

// empty makes dir and removes what is in it.
func empty(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
