package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/mtatest"
)

// Bounds on the daemon as a child process.
const (
	demoReadyWait = 15 * time.Second
	demoStopWait  = 10 * time.Second
	demoLookWait  = 5 * time.Second       // for its examination of itself
	demoLookEvery = 20 * time.Millisecond // how often it is asked for it
	demoTailLines = 30
)

// demoDaemon is the real daemon, `mailout serve`, as a child process, and the
// other commands run against it.
type demoDaemon struct {
	program mtatest.Program
	process *mtatest.Daemon // nil when it could not be started
	log     *os.File        // a copy of the log, for people
	door    string          // where it takes mail by SMTP
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
// it says that it is ready. What it gives is to be stopped in any case.
func startDemoDaemon(ctx context.Context, dir string, w *demoWorld) (*demoDaemon, error) {
	d := &demoDaemon{}
	var err error
	if d.program.Path, err = os.Executable(); err != nil {
		return d, fail(exitSoftware, "demo: %v", err)
	}
	port, err := mtatest.FreePort()
	if err != nil {
		return d, fail(exitUnavailable, "demo: %v", err)
	}
	d.door = fmt.Sprintf("127.0.0.1:%d", port)
	d.program.Config = filepath.Join(dir, "mailout.toml")
	if err := os.WriteFile(d.program.Config, []byte(demoConfig(dir, d.door, w)), 0o600); err != nil {
		return d, fail(exitUnavailable, "demo: %v", err)
	}
	if d.log, err = os.Create(filepath.Join(dir, "mailout.log")); err != nil {
		return d, fail(exitUnavailable, "demo: %v", err)
	}
	d.program.OnLine = func(line string) { fmt.Fprintln(d.log, line) } // the daemon keeps the end anyway
	if d.process, err = d.program.Serve(); err != nil {
		return d, fail(exitUnavailable, "demo: start %s serve: %v", d.program.Path, err)
	}
	limit, cancel := context.WithTimeout(ctx, demoReadyWait)
	defer cancel()
	if err := d.process.Ready(limit); err != nil {
		return d, fail(exitUnavailable, "demo: %v", err)
	}
	awaitExamination(ctx, filepath.Join(dir, "spool", "mailout.sock"))
	w.begun.Store(true)
	return d, nil
}

// awaitExamination waits until the daemon has examined its identity, which is
// not part of the story. Without an answer the story is only less tidy.
func awaitExamination(ctx context.Context, socket string) {
	ctx, cancel := context.WithTimeout(ctx, demoLookWait)
	defer cancel()
	again := time.NewTicker(demoLookEvery)
	defer again.Stop()
	for {
		var e admin.Examination
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, socketHost+"/v1/doctor", nil)
		if err != nil {
			return
		}
		resp, err := socketClient(socket).Do(req)
		if err != nil {
			return
		}
		err = json.NewDecoder(resp.Body).Decode(&e)
		resp.Body.Close()
		if err != nil || e.Examined != "" {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// logTail is the end of the daemon's log.
func (d *demoDaemon) logTail() []string {
	if d.process == nil {
		return nil
	}
	return strings.Split(d.process.Log(demoTailLines), "\n")
}

// stop asks the daemon to end, and makes it end when it does not.
func (d *demoDaemon) stop() {
	if d.process != nil {
		limit, cancel := context.WithTimeout(context.Background(), demoStopWait)
		defer cancel()
		_ = d.process.Stop(limit) // the verdict is about mail
	}
	if d.log != nil {
		_ = d.log.Close() // a help for people, about to be removed
	}
}

// command runs another mailout command against the daemon and gives what it
// printed; it fails unless the status is 0.
func (d *demoDaemon) command(ctx context.Context, args ...string) (out string, status int, err error) {
	out, errs, status, err := d.program.Run(ctx, args...)
	if err == nil && status != 0 {
		err = fmt.Errorf("mailout %s: status %d: %s", args[0], status, strings.TrimSpace(errs))
	}
	return out, status, err
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
	out, status, err := d.command(ctx, "trace", id, "--json")
	if status == 1 && out == "" {
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
