package mtatest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// daemonLogLines is how much of its log a Daemon keeps; OnLine sees all of it.
const daemonLogLines = 10_000

// Program is a mailout binary and the configuration file that it is run with.
type Program struct {
	Path   string
	Config string
	// OnLine is given each line that the daemon logs, without its end, from one
	// goroutine. It may be nil.
	OnLine func(line string)
	// Env is added to the daemon's environment: "GODEBUG=gctrace=1".
	Env []string
}

// Daemon is one `mailout serve` as a process of its own. On Linux it is killed
// when the process that started it dies.
type Daemon struct {
	// Began is when the process was started.
	Began time.Time

	cmd   *exec.Cmd
	ready chan struct{} // closed at the line with msg=ready
	ended chan struct{} // closed when the process is gone
	took  time.Duration // from the start to readiness; set before ready is closed
	err   error         // how it ended; set before ended is closed
	mu    struct {
		sync.Mutex
		lines []string
	}
}

// Serve starts the daemon; Ready waits until it works. The caller ends it with
// Stop or Kill.
func (p Program) Serve() (*Daemon, error) {
	d := &Daemon{cmd: exec.Command(p.Path, "serve", "--config", p.Config), ready: make(chan struct{}), ended: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), p.Env...)
	EndTogether(d.cmd)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	d.Began = time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.ended)
		d.follow(stderr, p.OnLine)
		d.err = d.cmd.Wait() // only now: it closes the pipe
	}()
	return d, nil
}

// Run executes another command with the configuration in its environment. The
// error tells why it could not be run, or that ctx ended; how the command
// itself fared is in its status.
func (p Program) Run(ctx context.Context, args ...string) (stdout, stderr string, status int, err error) {
	cmd := exec.CommandContext(ctx, p.Path, args...)
	cmd.Env = append(os.Environ(), "MAILOUT_CONFIG="+p.Config)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); cmd.ProcessState != nil {
		err = ctx.Err()
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode(), err
}

// follow reads the log to its end.
func (d *Daemon) follow(log io.Reader, onLine func(string)) {
	in := bufio.NewReader(log)
	for said := false; ; {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			d.keep(line)
			if onLine != nil {
				onLine(line)
			}
		}
		if !said && strings.Contains(line, "msg=ready") {
			said = true
			d.took = time.Since(d.Began)
			close(d.ready)
		}
		if err != nil {
			return
		}
	}
}

func (d *Daemon) keep(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.mu.lines) == daemonLogLines {
		d.mu.lines = append(d.mu.lines[:0], d.mu.lines[daemonLogLines/2:]...)
	}
	d.mu.lines = append(d.mu.lines, line)
}

// Ready waits until the daemon says that it is ready. It fails when the daemon
// ended before (Log tells why), or when ctx ends; then the daemon still runs.
func (d *Daemon) Ready(ctx context.Context) error {
	select {
	case <-d.ready:
		return nil
	case <-d.ended:
		return fmt.Errorf("the daemon ended before it was ready: %s", d.cmd.ProcessState)
	case <-ctx.Done():
		return fmt.Errorf("the daemon is not ready after %s: %w", time.Since(d.Began).Round(time.Millisecond), ctx.Err())
	}
}

// Startup is the time from the start to readiness. Call it behind Ready.
func (d *Daemon) Startup() time.Duration { return d.took }

// Pid is the process's number.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Signal sends it a signal.
func (d *Daemon) Signal(s os.Signal) error { return d.cmd.Process.Signal(s) }

// Ended is closed when the process is gone and its log is read.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// State tells how it ended. Call it behind Ended.
func (d *Daemon) State() *os.ProcessState { return d.cmd.ProcessState }

// Stop asks the daemon to end in order and waits. When ctx ends first it is
// killed. The error is nil only if it ended by itself and with status 0; one
// that had ended before is no exception.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := d.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.Kill() // a system without SIGTERM
	}
	select {
	case <-d.ended:
	case <-ctx.Done():
		d.Kill()
		return fmt.Errorf("the daemon did not end after SIGTERM and was killed: %w", ctx.Err())
	}
	if d.err != nil {
		return fmt.Errorf("the daemon ended with %w", d.err)
	}
	return nil
}

// Kill ends the daemon as a power cut would, and waits until it is gone.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill() // fails only for one that is gone
	<-d.ended
}

// Log gives the last n lines of its log; 0 means all that are kept.
func (d *Daemon) Log(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := 0
	if n > 0 {
		from = max(0, len(d.mu.lines)-n)
	}
	return strings.Join(d.mu.lines[from:], "\n")
}

// FreePort finds a TCP port that nobody uses on 127.0.0.1 now. It is for those
// who must write it into a configuration before somebody listens.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Failer is what Eventually needs of a *testing.T.
type Failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// pollEvery is the pause between the questions of Eventually.
const pollEvery = 50 * time.Millisecond

// Eventually asks until the answer is yes, and fails the test after the limit
// with what was waited for and the details. It is the one place that waits by
// asking: another process gives no signal to wait on.
func Eventually(t Failer, limit time.Duration, what string, yes func() bool, details ...func() string) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !yes() {
		select {
		case <-deadline.C:
			for _, d := range details {
				what += "\n" + d()
			}
			t.Fatalf("not within %v: %s", limit, what)
			return
		case <-tick.C:
		}
	}
}
