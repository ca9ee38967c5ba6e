package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds on the daemon as a child process.
const (
	demoReadyWait = 15 * time.Second
	demoStopWait  = 10 * time.Second
	demoTailLines = 30
)

// demoDaemon is the real daemon, `mailout serve`, as a child process, and the
// other commands run against it.
type demoDaemon struct {
	program, config, logPath string
	door                     string // where it takes mail by SMTP
	cmd                      *exec.Cmd
	ended                    chan struct{} // closed when the process is gone
	mu                       sync.Mutex
	tail                     []string // the last lines of the log
}

// demoConfig is the configuration file of the demonstration: nothing but
// ordinary settings.
func demoConfig(dir, door string, w *demoWorld) string {
	return fmt.Sprintf(`# Configuration of "mailout demo". The times are short so that the road can be
# watched; private_networks allows mail servers on loopback.
hostname   = %q
spool      = %q
postmaster = "postmaster@widget.example"

[dns]
servers    = [%q]
timeout    = "2s"
hosts_file = ""

[[listen]]
address = %q
trusted = ["127.0.0.0/8"]

[delivery]
port             = %d
ipv6             = false
private_networks = true
retry            = ["3s"]
delay_notice     = "10m"
expire           = "10m"
`, demoHostname, filepath.Join(dir, "spool"), w.dns.Addr(), door, w.port)
}

// startDemoDaemon writes the configuration, starts the daemon and waits until
// it says that it is ready.
func startDemoDaemon(ctx context.Context, dir string, w *demoWorld) (*demoDaemon, error) {
	d := &demoDaemon{config: filepath.Join(dir, "mailout.toml"), logPath: filepath.Join(dir, "mailout.log"), ended: make(chan struct{})}
	var err error
	if d.program, err = os.Executable(); err != nil {
		return nil, fail(exitSoftware, "demo: %v", err)
	}
	if d.door, err = freeAddress(); err != nil {
		return nil, fail(exitUnavailable, "demo: %v", err)
	}
	if err := os.WriteFile(d.config, []byte(demoConfig(dir, d.door, w)), 0o600); err != nil {
		return nil, fail(exitUnavailable, "demo: %v", err)
	}
	ready, err := d.start()
	if err != nil {
		return nil, fail(exitUnavailable, "demo: start %s serve: %v", d.program, err)
	}
	t := time.NewTimer(demoReadyWait)
	defer t.Stop()
	select {
	case <-ready:
		return d, nil
	case <-d.ended:
		err = fail(exitUnavailable, "demo: the daemon ended before it was ready: %s", d.cmd.ProcessState)
	case <-t.C:
		err = fail(exitUnavailable, "demo: the daemon was not ready within %s", demoReadyWait)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return d, err
}

// freeAddress finds a port on 127.0.0.1 that is free now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start runs the process; ready is closed at its line with msg=ready.
func (d *demoDaemon) start() (ready <-chan struct{}, err error) {
	file, err := os.Create(d.logPath)
	if err != nil {
		return nil, err
	}
	d.cmd = exec.Command(d.program, "serve", "--config", d.config)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	seen := make(chan struct{})
	go func() {
		defer close(d.ended)
		defer file.Close()
		d.follow(stderr, file, seen)
		_ = d.cmd.Wait() // how it ended is in ProcessState
	}()
	return seen, nil
}

// follow copies the log to a file, keeps its end and looks for readiness.
func (d *demoDaemon) follow(log io.Reader, file io.Writer, ready chan struct{}) {
	in := bufio.NewReader(log)
	for said := false; ; {
		line, err := in.ReadString('\n')
		if line != "" {
			_, _ = io.WriteString(file, line) // a help for people; the tail is kept anyway
			d.keep(strings.TrimRight(line, "\n"))
		}
		if !said && strings.Contains(line, "msg=ready") {
			said = true
			close(ready)
		}
		if err != nil {
			return
		}
	}
}

func (d *demoDaemon) keep(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tail = append(d.tail, line)
	if len(d.tail) > demoTailLines {
		d.tail = append(d.tail[:0], d.tail[1:]...)
	}
}

func (d *demoDaemon) logTail() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.tail...)
}

func (d *demoDaemon) pid() int { return d.cmd.Process.Pid }

// stop asks the daemon to end, and makes it end when it does not.
func (d *demoDaemon) stop() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		_ = d.cmd.Process.Kill() // already gone, or a system without SIGTERM
	}
	t := time.NewTimer(demoStopWait)
	defer t.Stop()
	select {
	case <-d.ended:
	case <-t.C:
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

// command runs another mailout command against the daemon and gives what it
// printed.
func (d *demoDaemon) command(ctx context.Context, args ...string) (string, error) {
	args = append([]string{args[0], "--config", d.config}, args[1:]...)
	cmd := exec.CommandContext(ctx, d.program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return string(out), ctx.Err()
	}
	if err != nil {
		return string(out), fmt.Errorf("mailout %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// demoRecord is what the demonstration reads of a journal record.
type demoRecord struct {
	Event     string    `json:"event"`
	Recipient string    `json:"recipient"`
	Host      string    `json:"host"`
	IP        string    `json:"ip"`
	Helo      string    `json:"helo"`
	TLS       demoTLS   `json:"tls"`
	Attempt   int       `json:"attempt"`
	Code      int       `json:"code"`
	Enhanced  string    `json:"enhanced"`
	Reply     string    `json:"reply"`
	Reason    string    `json:"reason"`
	Next      string    `json:"next"`
	Report    string    `json:"report"`
	Tries     []demoTry `json:"tries"`
	Total     int64     `json:"total_ms"`
}

type demoTLS struct {
	Version string `json:"version"`
	Cipher  string `json:"cipher"`
}

type demoTry struct {
	Host  string `json:"host"`
	IP    string `json:"ip"`
	Stage string `json:"stage"`
	Reply string `json:"reply"`
}

// trace asks the daemon's journal about a message; no record is no error.
func (d *demoDaemon) trace(ctx context.Context, id string) ([]demoRecord, error) {
	out, err := d.command(ctx, "trace", id, "--json")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && out == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []demoRecord
	dec := json.NewDecoder(strings.NewReader(out))
	for {
		var r demoRecord
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return records, nil
		} else if err != nil {
			return nil, fmt.Errorf("mailout trace %s --json: %w", id, err)
		}
		records = append(records, r)
	}
}
