package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"mailout/internal/admin"
	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/queue"
)

type queueCmd struct {
	Summary queueSummaryCmd `cmd:"" help:"How much waits, and how old it is."`
	List    queueListCmd    `cmd:"" help:"Each delivery that waits, with what holds it and when it is tried next."`
	Show    queueShowCmd    `cmd:"" help:"One message that waits, with its attempts."`
	Hold    queueHoldCmd    `cmd:"" help:"Let mail wait for a release; a destination also for all mail to come."`
	Release queueReleaseCmd `cmd:"" help:"End holds: the mail is due at once."`
	Retry   queueRetryCmd   `cmd:"" help:"Try mail now that waits for its time."`
	Cancel  queueCancelCmd  `cmd:"" help:"End mail without delivery and without a report to its sender."`
	Reroute queueRerouteCmd `cmd:"" help:"Send mail by another route; a destination also for all mail to come."`

	Standing queueStandingCmd `cmd:"" help:"How we stand with receivers, learnt from their replies: suspensions, slowing, where the router stands in."`
}

type queueSummaryCmd struct {
	JSON bool `name:"json" help:"One JSON object."`
}

// Run prints the counts.
func (c *queueSummaryCmd) Run(g *globals) error {
	body, err := ask(g, "/v1/queues", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if c.JSON {
		return copyAnswer(g.Stdout, body)
	}
	var s queue.Summary
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	if s.Queued+s.Deferred+s.Held+s.Active == 0 {
		fmt.Fprintln(g.Stdout, "nothing waits")
	} else {
		fmt.Fprintf(g.Stdout, "%d queued, %d deferred, %d held; %d in flight\n", s.Queued, s.Deferred, s.Held, s.Active)
		fmt.Fprintf(g.Stdout, "%s at %s; the oldest message waits for %s\n",
			counted(s.Destinations, "destination"), counted(s.Sites, "site"), shownAge(s.OldestS))
	}
	for _, h := range s.Holds {
		fmt.Fprintln(g.Stdout, h.String())
	}
	for _, r := range s.Reroutes {
		fmt.Fprintln(g.Stdout, r.String())
	}
	if s.Uncertain > 0 {
		fmt.Fprintf(g.Stdout, "%d attempts ended uncertain since the start (duplicates are possible)\n", s.Uncertain)
	}
	return nil
}

type queueListCmd struct {
	ID          string `help:"Only this message."`
	Destination string `help:"Only this recipient domain."`
	Stream      string `help:"Only this stream."`
	Sender      string `help:"Only this return path."`
	Recipient   string `help:"Only this recipient."`
	State       string `help:"Only this state: queued, deferred or held."`
	JSON        bool   `name:"json" help:"One JSON object a line."`
}

// Run prints the deliveries in the order of arrival.
func (c *queueListCmd) Run(g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	query := url.Values{}
	for name, value := range map[string]string{
		"id": c.ID, "destination": c.Destination, "stream": c.Stream,
		"sender": c.Sender, "recipient": c.Recipient, "state": c.State,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	body, err := ask(g, "/v1/deliveries", query)
	if err != nil {
		return err
	}
	defer body.Close()
	if c.JSON {
		return copyAnswer(g.Stdout, body)
	}
	return printDeliveries(g.Stdout, body)
}

// check refuses option values that select nothing by mistake.
func (c *queueListCmd) check() error {
	if c.ID != "" {
		if _, err := mta.ParseID(c.ID); err != nil {
			return fail(exitUsage, "--id %s is %v", c.ID, err)
		}
	}
	if state, known := mta.ParseState(c.State); c.State != "" && (!known || state.Final()) {
		return fail(exitUsage, "--state %s is not a state of mail that waits (queued, deferred, held)", c.State)
	}
	return nil
}

// copyAnswer passes JSON on, and tells which side failed.
func copyAnswer(w io.Writer, body io.Reader) error {
	out := &outputWriter{w: w}
	if _, err := io.Copy(out, body); err != nil {
		return out.blame(err)
	}
	return nil
}

// outputWriter remembers that it was our own output that failed.
type outputWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (o *outputWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.err = err
	return n, err
}

// blame gives an error of copying its right name.
func (o *outputWriter) blame(err error) error {
	if o.err != nil {
		return fail(exitIO, "the answer could not be written: %v", o.err)
	}
	return fail(exitSoftware, "the daemon's answer broke off: %v", err)
}

// counted gives "1 site", "2 sites".
func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func printDeliveries(w io.Writer, body io.Reader) error {
	out := bufio.NewWriter(w)
	count := 0
	for line, err := range lines(body) {
		if err != nil {
			return fail(exitSoftware, "the daemon's answer broke off: %v", err)
		}
		var d admin.Delivery
		if err := json.Unmarshal(line, &d); err != nil {
			return fail(exitSoftware, "the daemon's answer is not understood: %v", err)
		}
		printDelivery(out, &d)
		count++
	}
	if count == 0 {
		fmt.Fprintln(out, "nothing waits")
	}
	return out.Flush()
}

func printDelivery(w io.Writer, d *admin.Delivery) {
	fmt.Fprintf(w, "%s  %-8s  %s old, %d bytes, %s → %s\n", d.ID, d.State, shownAge(d.AgeS), d.Size, shownSender(d.Sender), recipients(d.Recipients))
	fmt.Fprintf(w, "    %s\n", d.Reason)
	if d.Rerouted != "" {
		fmt.Fprintf(w, "    rerouted to %s\n", d.Rerouted)
	}
	if d.Next != "" {
		fmt.Fprintf(w, "    next try %s\n", shownNext(d.Next, time.Now()))
	}
}

// shownNext is when a delivery is tried next. Where that time has come, what
// holds it is not a time: the identity's guard, or work before it.
func shownNext(next string, now time.Time) string {
	if t, err := time.Parse(mta.TimeLayout, next); err == nil && !t.After(now) {
		return "as soon as nothing holds it (due since " + next + ")"
	}
	return next
}

// recipients names the first two and counts the rest.
func recipients(all []admin.RecipientState) string {
	names := make([]string, 0, 3)
	for i, r := range all {
		if i == 2 {
			names = append(names, fmt.Sprintf("and %d more", len(all)-2))
			break
		}
		names = append(names, r.Address)
	}
	return strings.Join(names, ", ")
}

type queueShowCmd struct {
	ID   string `arg:"" help:"Message ID."`
	JSON bool   `name:"json" help:"One JSON object."`
}

// Run prints the message, what holds it, and every attempt so far.
func (c *queueShowCmd) Run(g *globals) error {
	body, err := ask(g, "/v1/messages/"+url.PathEscape(c.ID), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if c.JSON {
		return copyAnswer(g.Stdout, body)
	}
	var m admin.Message
	if err := json.NewDecoder(body).Decode(&m); err != nil {
		return fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	return printMessage(g.Stdout, &m)
}

func printMessage(w io.Writer, m *admin.Message) error {
	deliveries := m.Deliveries
	if len(deliveries) == 0 {
		deliveries = []admin.Delivery{m.Delivery}
	}
	table := tabwriter.NewWriter(w, 0, 8, 1, ' ', 0)
	fmt.Fprintf(table, "message\t%s\nsender\t%s\nstream\t%s\nsize\t%d bytes\nage\t%s\n", m.ID, shownSender(m.Sender), m.Stream, m.Size, shownAge(m.AgeS))
	for i := range deliveries {
		d := &deliveries[i]
		fmt.Fprint(table, "\t\n")
		for _, x := range [][2]string{{"destination", d.Destination}, {"site", d.Site}, {"recipients", recipients(d.Recipients)},
			{"state", d.State + " after " + counted(int64(d.Attempts), "attempt")}, {"next", shownNext(d.Next, time.Now())}, {"reason", d.Reason},
			{"rerouted to", d.Rerouted}, {"not before", d.NotBefore}, {"expires", d.Expires}} {
			if x[1] != "" {
				fmt.Fprintf(table, "%s\t%s\n", x[0], x[1])
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	printHistory(w, m)
	return nil
}

// shownAge gives a duration in seconds as people say it: 40s, 12m, 3h5m, 2d4h.
func shownAge(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// printHistory shows the attempts made so far.
func printHistory(w io.Writer, m *admin.Message) {
	for i := range m.History {
		a := &m.History[i]
		fmt.Fprintf(w, "\n%s  attempt %d of %s at %s%s\n", a.Time, a.Number, a.Destination, shownHost(a), shownSource(a))
		if a.TLS != (mta.TLSFacts{}) {
			fmt.Fprintf(w, "    tls       %s\n", shownFacts(a.TLS))
		}
		for _, t := range a.Tries {
			fmt.Fprintf(w, "    tried     %s [%s] %s: %s (%d ms)\n", t.Host, shownIP(t), t.Stage, t.Reply, t.MS)
		}
		for _, o := range a.Results {
			printOutcome(w, &o)
		}
	}
}

func printOutcome(w io.Writer, o *journal.Outcome) {
	fmt.Fprintf(w, "    %-9s %s: %s\n", o.Event, o.Recipient, outcomeText(o.Reply, o.Reason))
	if o.Uncertain {
		fmt.Fprintln(w, "              the final reply was lost: a duplicate is possible")
	}
	if o.Next != "" {
		fmt.Fprintf(w, "              next try %s\n", o.Next)
	}
}

func shownHost(a *journal.Attempt) string {
	if a.Host == "" && !a.IP.IsValid() {
		return "no host"
	}
	return fmt.Sprintf("%s [%s]", a.Host, a.IP)
}

func shownSource(a *journal.Attempt) string {
	s := ""
	if a.Helo != "" {
		s = " as " + a.Helo
	}
	if a.Source.IsValid() {
		s += " from " + a.Source.String()
	}
	return s
}
