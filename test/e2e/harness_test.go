// Package e2e tests the built binary from outside, as an operator meets it:
// configuration file, SMTP door, socket, signals, kill -9. The world around it
// is internal/mtatest on loopback. It holds no code of its own and owns the
// processes it starts; each test ends its own, by pid.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mailout-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "mailout")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "mailout/cmd/mailout")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building mailout: %v\n%s", err, out)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// world is a DNS server and the port that every receiving server uses.
type world struct {
	t    *testing.T
	dns  *mtatest.DNS
	port int
	next byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dns: mtatest.NewDNS(), port: freePort(t), next: 2}
	if err := w.dns.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.dns.Stop)
	return w
}

// freePort finds a port that nobody uses on loopback.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := mtatest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// mx starts a receiving server on a loopback address of its own, reached by
// the MX records of the domains named.
func (w *world) mx(cfg mtatest.MXConfig, domains ...string) *mtatest.MX {
	w.t.Helper()
	ip := fmt.Sprintf("127.0.2.%d", w.next)
	w.next++
	name := fmt.Sprintf("mx%d.world.example", w.next)
	if cfg.Hostname == "" {
		cfg.Hostname = name
	}
	server := mtatest.NewMX(cfg)
	if _, err := server.Listen(net.JoinHostPort(ip, strconv.Itoa(w.port))); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(server.Stop)
	w.records(name + ". A " + ip)
	for _, d := range domains {
		w.records(d + ". MX 10 " + name + ".")
	}
	return server
}

func (w *world) records(zone string) {
	w.t.Helper()
	if err := w.dns.Add(zone); err != nil {
		w.t.Fatal(err)
	}
}

// daemon is one `mailout serve` and its configuration.
type daemon struct {
	t       *testing.T
	dir     string
	config  string
	smtp    string          // address of the SMTP door
	process *mtatest.Daemon // the latest; nil before the first start
	env     []string        // added to its environment
	onLine  func(string)    // given each line of its log; may be nil
}

// config is the smallest one that delivers into the world; extra lines go
// before the first table, tables behind it.
func (w *world) daemon(extra string) *daemon {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "mo") // short: a socket's path is bounded
	if err != nil {
		w.t.Fatal(err)
	}
	d := &daemon{t: w.t, dir: dir, config: filepath.Join(dir, "mailout.toml"), smtp: fmt.Sprintf("127.0.0.1:%d", freePort(w.t))}
	w.t.Cleanup(func() {
		d.kill()
		os.RemoveAll(dir)
	})
	d.write(fmt.Sprintf(`hostname = "mailout.sender.example"
spool = %q
postmaster = "postmaster@sender.example"

[dns]
servers = [%q]
timeout = "2s"
hosts_file = ""

[[listen]]
address = %q
trusted = ["127.0.0.0/8"]

[delivery]
port = %d
private_networks = true
retry = ["1s"]
%s`, filepath.Join(dir, "spool"), w.dns.Addr().String(), d.smtp, w.port, extra))
	return d
}

func (d *daemon) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// replace changes the configuration's text.
func (d *daemon) replace(old, new string) {
	d.t.Helper()
	text, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		d.t.Fatalf("%q is not in the configuration", old)
	}
	d.write(strings.Replace(string(text), old, new, 1))
}

// start runs the daemon and waits for its ready line.
func (d *daemon) start() *daemon {
	d.t.Helper()
	if err := d.tryStart(); err != nil {
		d.t.Fatal(err)
	}
	return d
}

func (d *daemon) tryStart() (err error) {
	p := d.program()
	p.Env, p.OnLine = d.env, d.onLine
	if d.process, err = p.Serve(); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.process.Ready(limit); err != nil {
		return fmt.Errorf("%w\n%s", err, d.log())
	}
	return nil
}

func (d *daemon) program() mtatest.Program { return mtatest.Program{Path: binary, Config: d.config} }

// log is what the latest process logged.
func (d *daemon) log() string { return d.process.Log(0) }

// stop ends the daemon in order and demands status 0.
func (d *daemon) stop() {
	d.t.Helper()
	limit, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.process.Stop(limit); err != nil {
		d.t.Fatalf("%v\n%s", err, d.log())
	}
}

// kill ends it as a power cut would.
func (d *daemon) kill() {
	if d.process != nil {
		d.process.Kill()
	}
}

// run executes a command of the binary and gives what it printed and its status.
func (d *daemon) run(args ...string) (stdout, stderr string, status int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stdout, stderr, status, err := d.program().Run(ctx, args...)
	if err != nil {
		d.t.Fatalf("mailout %s: %v", strings.Join(args, " "), err)
	}
	return stdout, stderr, status
}

// must runs a command that has to succeed.
func (d *daemon) must(args ...string) string {
	d.t.Helper()
	out, errs, status := d.run(args...)
	if status != 0 {
		d.t.Fatalf("mailout %s: status %d\n%s%s\nserve's log:\n%s", strings.Join(args, " "), status, out, errs, d.log())
	}
	return out
}

// client opens a session at the SMTP door.
func (d *daemon) client() *mtatest.Client {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := mtatest.Dial(ctx, d.smtp)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if err := c.Hello("app.sender.example"); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// submit hands one message over and gives its ID.
func (d *daemon) submit(from string, to []string, content string) string {
	d.t.Helper()
	out, err := d.client().Send(from, to, []byte(content))
	if err != nil {
		d.t.Fatal(err)
	}
	if out.Final.Code != 250 {
		d.t.Fatalf("MAIL %v, RCPT %v, DATA %v, final %v", out.Mail, out.Rcpts, out.Data, out.Final)
	}
	if len(out.ID()) != 26 {
		d.t.Fatalf("no ID in %v", out.Final)
	}
	return out.ID()
}

// record is a journal record as outsiders read it.
type record map[string]any

func (r record) text(key string) string { s, _ := r[key].(string); return s }

// trace gives the journal records of an ID or address; none is no error.
func (d *daemon) trace(query string) []record {
	d.t.Helper()
	out, errs, status := d.run("trace", query, "--json")
	if status != 0 && !(status == 1 && out == "") {
		d.t.Fatalf("trace: status %d: %s%s", status, out, errs)
	}
	var all []record
	for line := range strings.Lines(out) {
		r := record{}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			d.t.Fatalf("%v in %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// summary is `queue summary --json`.
func (d *daemon) summary() map[string]float64 {
	d.t.Helper()
	var s map[string]float64
	if err := json.Unmarshal([]byte(d.must("queue", "summary", "--json")), &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

// waitEvent waits for a journal event of a query and gives the records.
func (d *daemon) waitEvent(query, event string) []record {
	d.t.Helper()
	var all []record
	mtatest.Eventually(d.t, 30*time.Second, event+" of "+query, func() bool {
		all = d.trace(query)
		for _, r := range all {
			if r.text("event") == event {
				return true
			}
		}
		return false
	})
	return all
}

// peakMemory is the process's largest resident size so far, in bytes.
func (d *daemon) peakMemory() int64 {
	d.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Pid()))
	if err != nil {
		d.t.Skip("resident memory is read from /proc, which is not here")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return kb << 10
		}
	}
	d.t.Fatal("no VmHWM in /proc")
	return 0
}
