package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"mailout/internal/mta"
)

// traceCmd prints journal records: what happened, attempt by attempt.
type traceCmd struct {
	Query string `arg:"" name:"id|address" help:"Message ID or recipient address."`
	Since string `help:"Only records at or after this: a time (RFC 3339) or a span back from now (2h, 3d)." placeholder:"TIME"`
	JSON  bool   `name:"json" help:"One JSON object a line."`
}

// Run prints the records, oldest first; status 1 when there is none.
func (c *traceCmd) Run(g *globals) error {
	query := url.Values{"query": {c.Query}}
	if c.Since != "" {
		since, err := parseSince(c.Since, time.Now())
		if err != nil {
			return err
		}
		query.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	daemon, err := connect(g)
	if err != nil {
		return err
	}
	body, err := daemon.get("/v1/trace", query)
	if err != nil {
		return err
	}
	defer body.Close()
	count, err := c.copy(g.Stdout, body)
	if err != nil {
		return err
	}
	if count == 0 {
		return c.unknown()
	}
	return nil
}

func (c *traceCmd) copy(w io.Writer, body io.Reader) (int, error) {
	checked := &outputWriter{w: w}
	out := bufio.NewWriter(checked)
	count := 0
	for line, err := range lines(body) {
		if err != nil {
			return count, checked.blame(err)
		}
		count++
		if c.JSON {
			out.Write(line)
			out.WriteByte('\n')
			continue
		}
		var r mta.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return count, checked.blame(err)
		}
		printRecord(out, &r)
	}
	if err := out.Flush(); err != nil {
		return count, checked.blame(err)
	}
	return count, nil
}

// unknown says what may be the matter when there is no record.
func (c *traceCmd) unknown() error {
	if c.Since != "" {
		return fail(exitFailure, "nothing is known of %s since %s", c.Query, c.Since)
	}
	if _, err := mta.ParseID(c.Query); err != nil && !strings.Contains(c.Query, "@") {
		return fail(exitFailure, "nothing is known of %s: it is neither a message ID (26 characters) nor a recipient's address", c.Query)
	}
	return fail(exitFailure, "nothing is known of %s (as a message or a recipient; records are kept for [journal] keep)", c.Query)
}

// printRecord shows one record to a person: one line, and the details below.
func printRecord(w io.Writer, r *mta.Record) {
	fmt.Fprintf(w, "%s  %-9s  %s  %s → %s\n", mta.FormatTime(r.Time), r.Event, r.ID, shownSender(r.Sender), r.Recipient)
	detail := func(name, format string, args ...any) {
		fmt.Fprintf(w, "    %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	if r.Event == mta.EventAccepted {
		detail("stream", "%s, %d bytes, Message-ID %s", r.Stream, r.Size, r.MessageID)
		return
	}
	if r.Host != "" || r.IP.IsValid() {
		detail("attempt", "%d at %s [%s], site %s", r.Attempt, r.Host, r.IP, r.Site)
		detail("as", "%s%s", r.Helo, fromSource(r))
		if r.Code != 0 || r.TLS.Version != "" { // else there was no session to protect
			detail("tls", "%s", shownFacts(r.TLS))
		}
	}
	if len(r.Tries) > 1 { // a single one is told below
		for _, t := range r.Tries {
			detail("tried", "%s [%s] %s: %s (%d ms)", t.Host, shownIP(t), t.Stage, t.Reply, t.MS)
		}
	}
	if text := outcomeText(r.Reply, r.Reason); text != "" {
		detail("outcome", "%s", text)
	}
	if r.Uncertain {
		detail("uncertain", "the final reply was lost: it may have been delivered, and a duplicate is possible")
	}
	if !r.Next.IsZero() {
		detail("next", "%s", mta.FormatTime(r.Next))
	}
	if !r.Report.IsZero() {
		detail("report", "%s", r.Report)
	}
	if r.Total > 0 {
		detail("times", "%s", shownTimes(r.Durations))
	}
}

func shownSender(s string) string {
	if s == "" {
		return "<>"
	}
	return s
}

func fromSource(r *mta.Record) string {
	if !r.Source.IsValid() {
		return ""
	}
	return " from " + r.Source.String()
}

func shownIP(t mta.Try) string {
	if !t.IP.IsValid() {
		return "no address"
	}
	return t.IP.String()
}

func shownFacts(f mta.TLSFacts) string {
	if f.Version == "" {
		return "none (clear text)"
	}
	verified := "certificate not verified"
	if f.Verified != "" {
		verified = "verified by " + f.Verified
	}
	return f.Version + " " + f.Cipher + ", " + verified
}

// outcomeText is the reply and the reason, each once: a reason mostly quotes
// the reply.
func outcomeText(reply, reason string) string {
	reply = strings.ReplaceAll(reply, "\n", " ")
	switch {
	case reason == "" || reply == "":
		return reply + reason
	case strings.Contains(reason, reply):
		return reason
	}
	return reply + " (" + reason + ")"
}

func shownTimes(d mta.Durations) string {
	var parts []string
	for _, p := range []struct {
		name string
		ms   int64
	}{{"route", d.Route}, {"connect", d.Connect}, {"tls", d.TLS}, {"mail", d.Mail}, {"data", d.Data}, {"total", d.Total}} {
		if p.ms > 0 {
			parts = append(parts, fmt.Sprintf("%s %d ms", p.name, p.ms))
		}
	}
	return strings.Join(parts, ", ")
}
