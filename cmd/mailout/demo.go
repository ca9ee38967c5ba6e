package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// demoCmd shows the whole road of a message on this machine alone: a small
// world on loopback, the real daemon as a process of its own, and real
// messages. What it prints is what the world's servers saw and what the
// daemon's journal says.
type demoCmd struct {
	Keep    bool          `help:"Leave everything running afterwards, to play with, until Ctrl-C."`
	Timeout time.Duration `default:"30s" help:"Bound on the whole demonstration." hidden:""`
}

// demo is one run: the world, the daemon and what is shown of them.
type demo struct {
	show   *demoPrinter
	dir    string
	world  *demoWorld
	daemon *demoDaemon
	mail   []*demoMessage
}

// Run gives status 0 only if every recipient ended as expected.
func (c *demoCmd) Run(g *globals) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	d := &demo{show: newDemoPrinter(g.Stdout)}
	defer d.clear()
	if err := d.setUp(ctx); err != nil {
		return d.failed(ctx, err)
	}
	bounded, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := d.play(bounded)
	if ctx.Err() != nil {
		return fail(exitFailure, "demo: interrupted")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the table says what is missing
	}
	if err == nil {
		err = d.verdict()
	}
	if err != nil {
		return d.failed(ctx, err)
	}
	if c.Keep {
		d.instructions()
		select {
		case <-ctx.Done():
			d.show.line("demo", "stopping")
		case <-d.daemon.process.Ended():
			return d.failed(ctx, fail(exitFailure, "demo: the daemon ended: %s", d.daemon.process.State()))
		}
	}
	return nil
}

// setUp makes the folder, the world and the daemon.
func (d *demo) setUp(ctx context.Context) error {
	d.show.title("A small world on loopback", "Nothing leaves this machine. The domains exist only here.")
	var err error
	if d.dir, err = demoDir(); err != nil {
		return err
	}
	if d.world, err = newDemoWorld(d.show); err != nil {
		return err
	}
	for _, s := range d.world.servers {
		d.show.line(s.domain, fmt.Sprintf("%s at %s: %s", s.host, s.addr, s.about))
	}
	d.show.line("DNS", fmt.Sprintf("at %s, with the records of these domains", d.world.dns.Addr()))
	d.daemon, err = startDemoDaemon(ctx, d.dir, d.world)
	if err != nil {
		return err
	}
	d.show.line("mailout", fmt.Sprintf("the daemon runs as process %d and takes mail at %s; its name towards other servers is %s", d.daemon.process.Pid(), d.daemon.door, demoHostname))
	return nil
}

// maxSocketPath is what a Unix socket's path may have on every system.
const maxSocketPath = 100

// demoDir makes the folder of this run, with room for the socket's path.
func demoDir() (string, error) {
	dir, err := os.MkdirTemp("", "mailout-demo-")
	if err != nil {
		return "", fail(exitUnavailable, "demo: %v", err)
	}
	if len(filepath.Join(dir, "spool", "mailout.sock")) <= maxSocketPath {
		return dir, nil
	}
	long := dir
	dir, err = os.MkdirTemp("/tmp", "mailout-demo-")
	if err = errors.Join(err, os.Remove(long)); err != nil {
		return "", fail(exitUnavailable, "demo: the folder for temporary files has too long a name for a socket (%s): %v", long, err)
	}
	return dir, nil
}

// failed shows the end of the daemon's log behind an error.
func (d *demo) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fail(exitFailure, "demo: interrupted")
	}
	if d.daemon != nil {
		d.show.title("The end of the daemon's log", "")
		for _, line := range d.daemon.logTail() {
			d.show.plain("  " + line)
		}
	}
	return err
}

// clear ends what runs and removes the folder.
func (d *demo) clear() {
	if d.daemon != nil {
		d.daemon.stop()
	}
	if d.world != nil {
		d.world.stop()
	}
	if d.dir != "" {
		if err := os.RemoveAll(d.dir); err != nil {
			d.show.line("demo", "left behind: "+err.Error())
		}
	}
}

// instructions tell how to go on with --keep.
func (d *demo) instructions() {
	program, config := d.daemon.program.Path, d.daemon.program.Config
	d.show.title("It keeps running", "Press Ctrl-C to end it and remove everything. Until then, in another terminal:")
	letter := filepath.Join(d.dir, "letter.eml")
	for _, line := range []string{
		"export MAILOUT_CONFIG=" + config,
		fmt.Sprintf(`printf 'Subject: hello\n\nHello.\n' > %s`, letter),
		fmt.Sprintf("%s send -f %s %s to:anna@fine.example cc:nobody@users.example", program, demoSender, letter),
		program + " trace anna@fine.example",
		program + " queue list",
		program + " config show",
		"tail -f " + d.daemon.log.Name(),
	} {
		d.show.plain("  " + line)
	}
	d.show.plain("")
	d.show.plain(fmt.Sprintf("  SMTP clients find it at %s. Every recipient exists at the domains above,", d.daemon.door))
	d.show.plain("  but at users.example only dora. What the servers see is shown here as it happens.")
}
