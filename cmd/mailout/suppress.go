package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mailout/internal/smtp"
	"mailout/internal/suppress"
)

// suppressCmd is the list of addresses that get no mail. Its commands ask the
// running daemon.
type suppressCmd struct {
	List   suppressListCmd   `cmd:"" help:"Addresses that get no mail, and why."`
	Add    suppressAddCmd    `cmd:"" help:"Put addresses on the list."`
	Remove suppressRemoveCmd `cmd:"" help:"Take addresses off the list."`
	Import suppressImportCmd `cmd:"" help:"Put the addresses of a file on the list: CSV, JSON lines, or an address a line."`
	Export suppressExportCmd `cmd:"" help:"Write the list, for an import elsewhere."`
}

// suppressionsPath is where the daemon serves the list.
const suppressionsPath = "/v1/suppressions"

// suppressFilter selects entries.
type suppressFilter struct {
	Address string  `help:"Only this address."`
	Domain  string  `help:"Only addresses of this domain."`
	Stream  *string `help:"Only entries of this stream; empty: those for all mail."`
	Reason  string  `help:"Only entries with this reason: dead, complained, unsubscribed or manual."`
}

func (f *suppressFilter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"address": f.Address, "domain": f.Domain, "reason": f.Reason} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Stream != nil {
		q.Set("stream", *f.Stream)
	}
	return q
}

// pages asks for page after page, and calls f for each, with the cursor behind
// it.
func (d *daemonClient) pages(q url.Values, f func(page []suppress.Suppression, cursor string) (more bool, err error)) error {
	for {
		body, err := d.get(suppressionsPath, q)
		if err != nil {
			return controlUsage(err)
		}
		var l suppress.Listing
		err = json.NewDecoder(body).Decode(&l)
		body.Close()
		if err != nil {
			return fail(exitSoftware, "the daemon's answer broke off: %v", err)
		}
		more, err := f(l.Suppressions, l.Cursor)
		if err != nil || !more || l.Cursor == "" {
			return err
		}
		q.Set("cursor", l.Cursor)
	}
}

type suppressListCmd struct {
	suppressFilter
	Limit int  `help:"So many entries at most; 0: all." default:"0"`
	JSON  bool `name:"json" help:"One JSON object a line."`
}

// Run prints the entries in the order of their addresses.
func (c *suppressListCmd) Run(g *globals) error {
	d, err := connect(g)
	if err != nil {
		return err
	}
	q := c.query()
	q.Set("limit", strconv.Itoa(suppress.MaxPage))
	out := &outputWriter{w: g.Stdout}
	left, found := c.Limit, false
	err = d.pages(q, func(page []suppress.Suppression, _ string) (bool, error) {
		for i := range page {
			found = true
			if c.Limit > 0 {
				if left == 0 {
					return false, nil
				}
				left--
			}
			if err := c.print(out, &page[i]); err != nil {
				return false, out.blame(err)
			}
		}
		return true, nil
	})
	if err == nil && !found && !c.JSON {
		fmt.Fprintln(out, "nothing is listed")
	}
	return err
}

func (c *suppressListCmd) print(w io.Writer, s *suppress.Suppression) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(s)
	}
	line := s.Address + "  " + s.Reason
	if s.Stream != "" {
		line += " (stream " + s.Stream + ")"
	}
	since, until := s.Since[:min(len(s.Since), len(time.DateOnly))], s.Expires[:min(len(s.Expires), len(time.DateOnly))]
	if since == until {
		since, until = s.Since, s.Expires // within a day the time matters
	}
	line += "  since " + since
	if until != "" {
		line += " until " + until
	}
	if s.Reply != "" {
		line += "  " + smtp.Harmless(s.Reply)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

type suppressAddCmd struct {
	Address []string `arg:"" help:"Addresses."`
	Stream  string   `help:"Only mail of this stream."`
	Reason  string   `help:"dead, complained, unsubscribed or manual." default:"manual"`
	Expires string   `help:"Until when: a time (2026-01-10), or a span from now (30d)." placeholder:"WHEN"`
	Note    string   `help:"A note for whoever looks at the entry."`
	JSON    bool     `name:"json" help:"One JSON object."`
}

// Run adds the addresses, all or none.
func (c *suppressAddCmd) Run(g *globals) error {
	expires, err := expiry(c.Expires, time.Now())
	if err != nil {
		return err
	}
	if len(c.Address) > suppress.MaxBatch {
		return fail(exitUsage, "%d addresses are too many for a command line: import them from a file", len(c.Address))
	}
	d, err := connect(g)
	if err != nil {
		return err
	}
	batch := make([]suppress.Suppression, len(c.Address))
	for i, a := range c.Address {
		batch[i] = suppress.Suppression{Address: a, Stream: c.Stream, Reason: c.Reason, Reply: c.Note, Expires: expires}
	}
	added, err := d.suppress(batch)
	if err != nil {
		return controlUsage(err)
	}
	if c.JSON {
		return json.NewEncoder(g.Stdout).Encode(added)
	}
	fmt.Fprintln(g.Stdout, addedWords(added))
	return nil
}

func addedWords(a suppress.Added) string {
	text := counted(int64(a.Added), "address")
	if a.Added != 1 {
		text = fmt.Sprintf("%d addresses", a.Added)
	}
	text += " added"
	if a.Changed > 0 {
		text += fmt.Sprintf(", %d were there", a.Changed)
	}
	return text
}

// expiry reads an option for a time to come.
func expiry(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	t, err := parseAhead(text, now)
	if err != nil {
		return "", fail(exitUsage, "--expires %s is neither a time (2026-01-10T12:00:00Z, 2026-01-10) nor a span (2h, 30d)", smtp.Harmless(text))
	}
	return t.UTC().Format(time.RFC3339), nil
}

// suppress sends one batch.
func (d *daemonClient) suppress(batch []suppress.Suppression) (a suppress.Added, err error) {
	body, err := json.Marshal(struct {
		Suppressions []suppress.Suppression `json:"suppressions"`
	}{batch})
	if err != nil {
		return a, fail(exitSoftware, "%v", err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.url(suppressionsPath, nil), bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := d.do(req)
	if err != nil {
		return a, err
	}
	defer answer.Close()
	if err := json.NewDecoder(answer).Decode(&a); err != nil {
		return a, fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	return a, nil
}

type suppressRemoveCmd struct {
	Address []string `arg:"" help:"Addresses."`
	Stream  *string  `help:"Only the entry of this stream; empty: the one for all mail."`
	JSON    bool     `name:"json" help:"One JSON object."`
}

// Run removes the addresses; status 1 when none was listed.
func (c *suppressRemoveCmd) Run(g *globals) error {
	d, err := connect(g)
	if err != nil {
		return err
	}
	removed := 0
	for _, a := range c.Address {
		q := url.Values{"address": {a}}
		if c.Stream != nil {
			q.Set("stream", *c.Stream)
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodDelete, d.url(suppressionsPath, q), nil)
		if err != nil {
			return err
		}
		body, err := d.do(req)
		if err != nil {
			return controlUsage(err)
		}
		var r suppress.Removed
		err = json.NewDecoder(body).Decode(&r)
		body.Close()
		if err != nil {
			return fail(exitSoftware, "the daemon's answer broke off: %v", err)
		}
		removed += r.Removed
	}
	if c.JSON {
		err = json.NewEncoder(g.Stdout).Encode(suppress.Removed{Removed: removed})
	} else if removed == 1 {
		_, err = fmt.Fprintln(g.Stdout, "1 entry removed")
	} else {
		_, err = fmt.Fprintf(g.Stdout, "%d entries removed\n", removed)
	}
	if err == nil && removed == 0 {
		return &exitError{Status: exitFailure}
	}
	return err
}

type suppressExportCmd struct {
	suppressFilter
	Format string `help:"csv, or json: an object a line." enum:"csv,json" default:"csv"`
	Cursor string `help:"Go on where an export broke off, with the cursor that it told."`
}

// Run writes the entries to standard output.
func (c *suppressExportCmd) Run(g *globals) error {
	d, err := connect(g)
	if err != nil {
		return err
	}
	q := c.query()
	q.Set("limit", strconv.Itoa(suppress.MaxPage))
	if c.Cursor != "" {
		q.Set("cursor", c.Cursor)
	}
	out := &outputWriter{w: g.Stdout}
	write, err := c.writer(out)
	if err != nil {
		return out.blame(err)
	}
	cursor := c.Cursor
	err = d.pages(q, func(page []suppress.Suppression, next string) (bool, error) {
		if err := write(page); err != nil {
			return false, out.blame(err)
		}
		cursor = next
		return true, nil
	})
	if err != nil && cursor != "" {
		fmt.Fprintf(g.Stderr, "mailout: the export broke off; go on behind what was written with --cursor %s\n", cursor)
	}
	return err
}

// writer gives what writes a page. A page is written whole before the next is
// asked for, so that its cursor is where to go on. An export that goes on has no
// line of columns.
func (c *suppressExportCmd) writer(out io.Writer) (func([]suppress.Suppression) error, error) {
	if c.Format == "json" {
		return func(page []suppress.Suppression) error {
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			for i := range page {
				if err := e.Encode(&page[i]); err != nil {
					return err
				}
			}
			_, err := out.Write(b.Bytes())
			return err
		}, nil
	}
	if c.Cursor == "" {
		if _, err := io.WriteString(out, strings.Join(suppress.Columns, ",")+"\n"); err != nil {
			return nil, err
		}
	}
	return func(page []suppress.Suppression) error {
		w := csv.NewWriter(out)
		for i := range page {
			if err := w.Write(page[i].Row()); err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	}, nil
}
