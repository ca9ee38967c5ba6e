package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
)

// daemonClient asks the running daemon over its socket.
type daemonClient struct {
	socket string
	http   *http.Client
}

// connect finds the socket by the configuration; nothing is sent yet.
func connect(g *globals) (*daemonClient, error) {
	socket, err := config.Socket(config.Path(g.Config))
	if err != nil {
		return nil, configError(err)
	}
	return &daemonClient{socket: socket, http: socketClient(socket)}, nil
}

func (d *daemonClient) url(path string, query url.Values) string {
	return socketHost + path + "?" + query.Encode()
}

// ask is connect and get in one.
func ask(g *globals, path string, query url.Values) (io.ReadCloser, error) {
	d, err := connect(g)
	if err != nil {
		return nil, err
	}
	return d.get(path, query)
}

func (d *daemonClient) get(path string, query url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, d.url(path, query), nil)
	if err != nil {
		return nil, err
	}
	return d.do(req)
}

// do sends a request and gives the body of a good answer; the caller closes it.
func (d *daemonClient) do(req *http.Request) (io.ReadCloser, error) {
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, d.unreachable(err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, refused(resp)
}

// unreachable tells a daemon that does not run from one that may not be asked.
func (d *daemonClient) unreachable(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fail(exitNoPermission, "no permission to use %s: run this as the daemon's user, or move [http] socket to a directory that your group may enter (the socket itself is open to its group)", d.socket)
	case errors.Is(err, os.ErrNotExist), strings.Contains(err.Error(), "connection refused"):
		return fail(exitTemporary, "no daemon answers on %s: start it with \"mailout serve\" (after a change of spool or http.socket, restart it)", d.socket)
	}
	return fail(exitTemporary, "the daemon on %s: %v", d.socket, err)
}

// maxProblem bounds what is read of a refusal, in octets.
const maxProblem = 1 << 20

// refused turns a problem (RFC 9457) into an error with its exit status: 75
// when trying again helps.
func refused(resp *http.Response) error {
	var p admin.Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&p); err != nil {
		status := exitTemporary
		if resp.StatusCode < 500 { // the same request would fare no better
			status = exitData
		}
		return fail(status, "the daemon answered %s", resp.Status)
	}
	status := exitData
	switch {
	case resp.StatusCode >= 500:
		status = exitTemporary
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
	case resp.StatusCode == http.StatusNotFound:
		status = exitFailure
	case len(p.Errors) > 0: // of the configuration file
		status = exitConfig
	case p.Field == "recipient", strings.HasPrefix(p.Field, "to["):
		status = exitNoUser
	}
	if status == exitConfig {
		return &exitError{Status: status, Err: errors.New(strings.Join(p.Errors, "\n"))}
	}
	text := p.Error()
	if p.Reply != "" && status != exitNoUser { // its detail names the address
		text = p.Reply
	}
	return &exitError{Status: status, Err: errors.New("mailout: " + text), Field: p.Field}
}

// maxLine bounds one line of a listing; a delivery of a thousand recipients
// fits several times.
const maxLine = 16 << 20

// lines gives the lines of a streamed answer. A stream that the daemon broke
// off ends with an error, never as if it were whole.
func lines(body io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		in := bufio.NewScanner(body)
		in.Buffer(make([]byte, 64<<10), maxLine)
		for in.Scan() {
			if !yield(in.Bytes(), nil) {
				return
			}
		}
		if err := in.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// parseSince reads a time (RFC 3339), a day, or a span back from now.
func parseSince(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && n >= 0 && fmt.Sprint(n) == days {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if span, err := time.ParseDuration(text); err == nil && span >= 0 {
		return now.Add(-span), nil
	}
	return time.Time{}, fail(exitUsage, "%s is neither a time (2026-01-10T12:00:00Z, 2026-01-10) nor a span (2h, 3d)", text)
}
