package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mailout/internal/mtatest"
)

// daemon is one `mailout serve` on a spool.
type daemon struct {
	dir, spool, smtp string
	process          *mtatest.Daemon
	http             *http.Client
}

// serve starts the daemon on a spool and waits until it is ready.
func (w *world) serve(o options, spool, extra string) (*daemon, error) {
	dir, err := os.MkdirTemp("", "mo") // short: a socket's path is bounded
	if err != nil {
		return nil, err
	}
	port, err := mtatest.FreePort()
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, spool: spool, smtp: fmt.Sprintf("127.0.0.1:%d", port)}
	socket := filepath.Join(dir, "sock")
	config := filepath.Join(dir, "mailout.toml")
	text := fmt.Sprintf(`hostname = "mailout.sender.example"
spool = %q
postmaster = "postmaster@sender.example"

[http]
socket = %q

[dns]
servers = [%q]
hosts_file = ""

[[listen]]
address = %q
trusted = ["127.0.0.0/8"]

[delivery]
port = %d
private_networks = true
%s`, spool, socket, w.dns.Addr().String(), d.smtp, w.port, extra)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d.http = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return d, d.start(mtatest.Program{Path: o.binary, Config: config, OnLine: showErrors})
}

// startLimit bounds a start; the goal is 2 s for ten million messages.
const startLimit = 10 * time.Minute

// start runs the daemon until it is ready.
func (d *daemon) start(p mtatest.Program) (err error) {
	if d.process, err = p.Serve(); err != nil {
		os.RemoveAll(d.dir)
		return err
	}
	limit, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := d.process.Ready(limit); err != nil {
		d.kill()
		return err
	}
	return nil
}

// showErrors prints what the daemon complains about.
func showErrors(line string) {
	if strings.Contains(line, "level=ERROR") {
		fmt.Fprintln(os.Stderr, line)
	}
}

// stop ends the daemon in order and tells how long that took.
func (d *daemon) stop() (time.Duration, error) {
	defer os.RemoveAll(d.dir)
	limit, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	err := d.process.Stop(limit)
	return time.Since(began), err
}

// kill ends the daemon at once, if it still runs: tar pits and a mailing would
// hold an orderly stop up.
func (d *daemon) kill() {
	d.process.Kill()
	os.RemoveAll(d.dir)
}

// memory gives the resident size now and its peak, in octets.
func (d *daemon) memory() (now, peak int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Pid()))
	field := func(name string) int64 {
		_, rest, _ := bytes.Cut(text, []byte(name))
		words := strings.Fields(string(rest[:min(len(rest), 100)]))
		if len(words) == 0 {
			return 0
		}
		kb, _ := strconv.ParseInt(words[0], 10, 64)
		return kb << 10
	}
	return field("VmRSS:"), field("VmHWM:")
}

// cpu is the processor time used so far.
func (d *daemon) cpu() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.process.Pid()))
	_, rest, _ := bytes.Cut(text, []byte(") "))
	words := strings.Fields(string(rest))
	if len(words) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(words[11], 10, 64)
	system, _ := strconv.ParseInt(words[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // clock ticks: 100 a second on Linux
}

// post hands a message over as `mailout send` does.
func (d *daemon) post(ctx context.Context, stream, to string, content []byte) error {
	query := url.Values{"from": {"app@sender.example"}, "to": {to}}
	if stream != "" {
		query.Set("stream", stream)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mailout/v1/messages?"+query.Encode(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "message/rfc822")
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// summary is what `queue summary --json` prints, and how long it took the daemon.
func (d *daemon) summary() (map[string]float64, time.Duration, error) {
	began := time.Now()
	resp, err := d.http.Get("http://mailout/v1/queues")
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	var s map[string]float64
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s, time.Since(began), err
}
