package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mailout/internal/mta"
)

// traceCmd prints journal records: what happened, attempt by attempt.
type traceCmd struct {
	Query     string `arg:"" optional:"" name:"id|address" help:"Message ID, recipient address, or Message-ID."`
	Sender    string `help:"Only this return path; <> is the null one." placeholder:"ADDRESS"`
	Recipient string `help:"Only this recipient." placeholder:"ADDRESS"`
	Stream    string `help:"Only this stream." placeholder:"NAME"`
	Tag       string `help:"Only messages with this tag." placeholder:"TAG"`
	Event     string `help:"Only these records, separated by commas: accepted, deferred, delivered, failed, …" placeholder:"EVENT,…"`
	Since     string `help:"Only records at or after this: a time (RFC 3339) or a span back from now (2h, 3d)." placeholder:"TIME"`
	Until     string `help:"Only records before this." placeholder:"TIME"`
	Limit     int    `help:"So many at most." placeholder:"N"`
	Follow    bool   `short:"F" help:"Go on with what happens; for a message, until its last recipient is done."`
	Messages  bool   `short:"m" help:"A line for each message, the youngest first, instead of its records."`
	State     string `help:"Only messages with a recipient in this state (implies --messages)." placeholder:"STATE"`
	JSON      bool   `name:"json" help:"One JSON object a line."`
}

// Run prints the records, oldest first, or the messages, youngest first; status
// 1 when there is none.
func (c *traceCmd) Run(g *globals) error {
	query, err := c.query(time.Now())
	if err != nil {
		return err
	}
	if c.Messages || c.State != "" {
		return c.messages(g, query)
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
	if count == 0 && !c.Follow {
		return c.unknown()
	}
	return nil
}

// query gives the parameters of the request.
func (c *traceCmd) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	for _, p := range [][2]string{
		{"query", c.Query}, {"sender", c.Sender}, {"recipient", c.Recipient}, {"stream", c.Stream}, {"tag", c.Tag}, {"event", c.Event},
	} {
		if p[1] != "" {
			q.Set(p[0], p[1])
		}
	}
	for _, p := range [][2]string{{"since", c.Since}, {"until", c.Until}} {
		if p[1] == "" {
			continue
		}
		t, err := parseSince(p[1], now)
		if err != nil {
			return nil, err
		}
		q.Set(p[0], t.UTC().Format(time.RFC3339Nano))
	}
	if c.Limit < 0 {
		return nil, fail(exitUsage, "--limit %d: give a number of 1 or more", c.Limit)
	}
	if c.Limit > 0 {
		q.Set("limit", strconv.Itoa(c.Limit))
	}
	if c.Follow {
		q.Set("follow", "true")
	}
	return q, nil
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
		if err := c.print(out, line); err != nil {
			return count, checked.blame(err)
		}
		if !c.Follow {
			continue
		}
		if err := out.Flush(); err != nil {
			return count, checked.blame(err)
		}
	}
	if err := out.Flush(); err != nil {
		return count, checked.blame(err)
	}
	return count, nil
}

func (c *traceCmd) print(out *bufio.Writer, line []byte) error {
	if c.JSON {
		out.Write(line)
		return out.WriteByte('\n')
	}
	var r mta.Record
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	printRecord(out, &r)
	return nil
}

// unknown says what may be the matter when there is no record.
func (c *traceCmd) unknown() error {
	if c.Query == "" {
		return fail(exitFailure, "nothing in the journal fits (records are kept for [journal] keep)")
	}
	if c.Since != "" {
		return fail(exitFailure, "nothing is known of %s since %s", c.Query, c.Since)
	}
	if c.Query == mta.TLSReportRecipient {
		return fail(exitFailure, "nothing is known of TLS reports yet: the first goes in the night after mail went to a domain that asks for reports (docs/tls-reports.md)")
	}
	if _, err := mta.ParseID(c.Query); err != nil && !strings.Contains(c.Query, "@") {
		return fail(exitFailure, "nothing is known of %s: it is neither a message ID (26 characters) nor a recipient's address", c.Query)
	}
	return fail(exitFailure, "nothing is known of %s (as a message or a recipient; records are kept for [journal] keep)", c.Query)
}

// printRecord shows one record to a person: one line, and the details below.
func printRecord(w io.Writer, r *mta.Record) {
	detail := func(name, format string, args ...any) {
		fmt.Fprintf(w, "    %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	if !r.Event.OfMessage() {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s  %-9s  %s  %s", mta.FormatTime(r.Time), r.Event, r.ID, cmp.Or(r.Host, r.Site, r.Destination)), " "))
		if text := outcomeText(r.Reply, r.Reason); text != "" {
			detail("outcome", "%s", text)
		}
		return
	}
	fmt.Fprintf(w, "%s  %-9s  %s  %s → %s\n", mta.FormatTime(r.Time), r.Event, r.ID, shownSender(r.Sender), r.Recipient)
	if r.Event == mta.EventAccepted {
		detail("stream", "%s, %d bytes, Message-ID %s", r.Stream, r.Size, r.MessageID)
		if r.TLS.Origin == mta.TLSByMessage {
			detail("tls", "the message asks for REQUIRETLS")
		}
		return
	}
	if r.Host != "" || r.IP.IsValid() {
		detail("attempt", "%d at %s [%s], site %s", r.Attempt, r.Host, r.IP, r.Site)
		detail("as", "%s%s", r.Helo, fromSource(r))
		if r.TLS != (mta.TLSFacts{}) || r.Code != 0 && !refusedAuth(r) { // else there was no session to protect
			detail("tls", "%s", shownFacts(r.TLS))
		}
	}
	if r.DKIM != "" {
		detail("signed", "by %s", strings.ReplaceAll(string(r.DKIM), " ", ", "))
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

// refusedAuth reports an attempt that ended at AUTH, of whose TLS nothing is
// recorded; credentials are never sent without.
func refusedAuth(r *mta.Record) bool {
	return len(r.Tries) > 0 && r.Tries[len(r.Tries)-1].Stage == mta.StageAuth
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

func demandedBy(f mta.TLSFacts) string {
	if f.Origin == "" {
		return ""
	}
	return ", demanded by " + string(f.Origin)
}

func shownFacts(f mta.TLSFacts) string {
	if f.Version == "" {
		if f.Origin != "" { // and so nothing was sent
			return "none" + demandedBy(f)
		}
		return "none (clear text)"
	}
	verified := "certificate not verified"
	if f.Verified != "" {
		verified = "verified by " + f.Verified
	}
	return f.Version + " " + f.Cipher + ", " + verified + demandedBy(f)
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
