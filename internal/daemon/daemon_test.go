package daemon

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/config"
)

// The library of ACME keeps its lock files fresh, and sees within 5 s that they
// are gone.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// started gives a running daemon with two SMTP doors.
func started(t *testing.T) *Daemon {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "mailout.toml")
	text := fmt.Sprintf("hostname = \"mail.example.com\"\nspool = %q\n[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\nhosts_file = \"\"\n"+
		"[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n", filepath.Join(dir, "spool"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d := New(Options{ConfigPath: path, Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// client is an SMTP client of one door.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, d *Daemon, door int) *client {
	t.Helper()
	conn, err := net.Dial("tcp", d.doors[door].server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t, conn, bufio.NewReader(conn)}
	c.want("220")
	return c
}

func (c *client) want(code string) string {
	c.t.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, code) {
		c.t.Fatalf("%q, %v instead of %s", line, err, code)
	}
	return line
}

func (c *client) say(text, code string) string {
	c.t.Helper()
	fmt.Fprint(c.conn, text+"\r\n")
	return c.want(code)
}

// inData is a session in the middle of a message.
func inData(t *testing.T, d *Daemon) *client {
	t.Helper()
	c := dial(t, d, 0)
	c.say("HELO pc", "250")
	c.say("MAIL FROM:<a@example.com>", "250")
	c.say("RCPT TO:<b@example.net>", "250")
	c.say("DATA", "354")
	fmt.Fprint(c.conn, "Subject: x\r\n\r\n")
	return c
}

// TestTrap43_StopWhileAMessageComesIn: the message is taken, and meanwhile no
// door takes a new connection, nor does the queue wait for the client.
func TestTrap43_StopWhileAMessageComesIn(t *testing.T) {
	t.Parallel()
	d := started(t)
	c := inData(t, d)
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(context.Background()) }()

	other := d.doors[1].server.Addr().String()
	until := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", other)
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(until) {
			t.Fatal("the other door stays open while a client dawdles")
		}
	}
	for {
		if _, err := d.queue.Summary(context.Background()); err != nil {
			break // the queue has ended
		}
		if time.Now().After(until) {
			t.Fatal("the queue is not stopped while a client dawdles")
		}
	}
	c.say("text\r\n.", "250 2.0.0 queued as ")
	c.want("421")
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// TestStopAtItsLimitIsInOrder: clients that never end are cut off; that is
// what the limit is for, and no failure of the daemon.
func TestStopAtItsLimitIsInOrder(t *testing.T) {
	t.Parallel()
	d := started(t)
	inData(t, d)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestStartFailsAndLeavesNothing: the store is free again when a door cannot
// be opened, and nothing goes on running.
func TestStartFailsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	text := fmt.Sprintf("hostname = \"mail.example.com\"\nspool = %q\n[dns]\nhosts_file = \"\"\n[[listen]]\naddress = %q\n", dir, taken.Addr())
	c, err := config.Parse("mailout.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
		if err := d.Start(t.Context()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Fatalf("started with %v", err)
		}
	}
}
