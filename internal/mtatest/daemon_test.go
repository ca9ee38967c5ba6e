package mtatest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary stand for mailout when it is called like it.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		os.Exit(standIn(os.Args[3]))
	}
	if len(os.Args) == 3 && os.Args[1] == "say" {
		fmt.Println(os.Args[2], os.Getenv("MAILOUT_CONFIG"))
		fmt.Fprintln(os.Stderr, "said")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// standIn behaves like a daemon of the kind that its configuration names.
func standIn(kind string) int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Fprintln(os.Stderr, "level=INFO msg=starting")
	switch kind {
	case "broken":
		fmt.Fprint(os.Stderr, "level=ERROR msg=\"no such spool\"")
		return 78
	case "slow":
	default:
		fmt.Fprintln(os.Stderr, "level=INFO msg=ready")
	}
	for <-term; kind == "deaf"; <-term {
	}
	fmt.Fprintln(os.Stderr, "level=INFO msg=stopping")
	if kind == "sick" {
		return 1
	}
	return 0
}

func self(t *testing.T, kind string) Program {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Program{Path: path, Config: kind}
}

func serve(t *testing.T, p Program) *Daemon {
	t.Helper()
	d, err := p.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	return d
}

// soon is a bound for what happens at once.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// over is a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestDaemonStartsAndStops(t *testing.T) {
	t.Parallel()
	p := self(t, "fine")
	var seen []string
	p.OnLine = func(line string) { seen = append(seen, line) }
	d := serve(t, p)
	if err := d.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	if d.Startup() <= 0 {
		t.Errorf("startup took %v", d.Startup())
	}
	if err := d.Stop(soon(t)); err != nil {
		t.Error(err)
	}
	want := []string{"level=INFO msg=starting", "level=INFO msg=ready", "level=INFO msg=stopping"}
	if !slices.Equal(seen, want) || d.Log(0) != strings.Join(want, "\n") || d.Log(1) != want[2] {
		t.Errorf("the log: %q, %q, %q", seen, d.Log(0), d.Log(1))
	}
	if err := d.Stop(soon(t)); err != nil { // again
		t.Error(err)
	}
}

func TestDaemonThatDoesNotGetReady(t *testing.T) {
	t.Parallel()
	d := serve(t, self(t, "broken"))
	if err := d.Ready(soon(t)); err == nil || !strings.Contains(err.Error(), "exit status 78") {
		t.Errorf("broken: %v", err)
	}
	<-d.Ended()
	if d.State().ExitCode() != 78 || !strings.Contains(d.Log(0), "no such spool") {
		t.Errorf("broken: %v, %s", d.State(), d.Log(0))
	}
	if err := d.Stop(soon(t)); err == nil {
		t.Error("stopping what had failed is no success")
	}
	d = serve(t, self(t, "slow"))
	if err := d.Ready(over()); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("slow: %v", err)
	}
	if _, err := (Program{Path: "/nonexistent/mailout"}).Serve(); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestDaemonThatDoesNotEndWell(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"deaf": "was killed", "sick": "exit status 1"} {
		d := serve(t, self(t, kind))
		if err := d.Ready(soon(t)); err != nil {
			t.Fatal(err)
		}
		ctx := soon(t)
		if kind == "deaf" {
			ctx = over()
		}
		if err := d.Stop(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", kind, err)
		}
		select {
		case <-d.Ended():
		default:
			t.Errorf("%s: still there", kind)
		}
	}
}

func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	d := serve(t, self(t, "deaf"))
	if err := d.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(d.Kill)
	}
	wg.Wait()
	if d.State().Success() {
		t.Error("a daemon that was killed ended well")
	}
}

func TestDaemonKeepsTheEndOfALongLog(t *testing.T) {
	t.Parallel()
	d := &Daemon{}
	const lines = 3*daemonLogLines + 7
	for n := range lines {
		d.keep(fmt.Sprint(n))
		if len(d.mu.lines) > daemonLogLines {
			t.Fatalf("%d lines are kept", len(d.mu.lines))
		}
	}
	if got, want := d.Log(2), fmt.Sprintf("%d\n%d", lines-2, lines-1); got != want {
		t.Errorf("the end of the log is %q, want %q", got, want)
	}
}

func TestProgramRun(t *testing.T) {
	t.Parallel()
	p := self(t, "/etc/mailout.toml")
	out, errs, status, err := p.Run(soon(t), "say", "hello")
	if out != "hello /etc/mailout.toml\n" || errs != "said\n" || status != 3 || err != nil {
		t.Errorf("%q, %q, %d, %v", out, errs, status, err)
	}
	if _, _, status, err := p.Run(over(), "say", "hello"); err == nil || status == 0 {
		t.Errorf("after its end: %d, %v", status, err)
	}
	if _, _, status, err := (Program{Path: "/nonexistent/mailout"}).Run(soon(t), "say"); err == nil || status == 0 {
		t.Errorf("a program that is not there: %d, %v", status, err)
	}
}

// failer notes what a test would fail with.
type failer struct{ said string }

func (*failer) Helper()                             {}
func (f *failer) Fatalf(format string, args ...any) { f.said = fmt.Sprintf(format, args...) }

func TestEventually(t *testing.T) {
	t.Parallel()
	var f failer
	asked := 0
	Eventually(&f, time.Minute, "the third time", func() bool { asked++; return asked == 3 })
	if f.said != "" || asked != 3 {
		t.Errorf("asked %d times, said %q", asked, f.said)
	}
	Eventually(&f, time.Millisecond, "never", func() bool { return false }, func() string { return "why" })
	if f.said != "not within 1ms: never\nwhy" {
		t.Errorf("said %q", f.said)
	}
}

func TestFreePort(t *testing.T) {
	t.Parallel()
	port, err := FreePort()
	if err != nil || port <= 0 {
		t.Error(port, err)
	}
}
