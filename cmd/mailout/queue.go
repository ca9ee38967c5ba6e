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
	"mailout/internal/queue"
)

type queueCmd struct {
	Summary queueSummaryCmd `cmd:"" help:"How much waits, and how old it is."`
	List    queueListCmd    `cmd:"" help:"A line a delivery, with what holds it."`
	Show    queueShowCmd    `cmd:"" help:"One message that waits, with its attempts."`
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
		_, err := io.Copy(g.Stdout, body)
		return err
	}
	var s queue.Summary
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	fmt.Fprintf(g.Stdout, "%d queued, %d deferred, %d held; %d in flight\n", s.Queued, s.Deferred, s.Held, s.Active)
	fmt.Fprintf(g.Stdout, "%d destinations at %d sites; the oldest message waits for %s\n", s.Destinations, s.Sites, shownAge(s.OldestS))
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
		if _, err := io.Copy(g.Stdout, body); err != nil {
			return fail(exitSoftware, "the daemon's answer broke off: %v", err)
		}
		return nil
	}
	return printDeliveries(g.Stdout, body)
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
		_, err := io.Copy(g.Stdout, body)
		return err
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
		fmt.Fprintf(table, "\t\ndestination\t%s\nsite\t%s\nrecipients\t%s\nstate\t%s after %d attempts\nnext\t%s\nreason\t%s\n",
			d.Destination, d.Site, recipients(d.Recipients), d.State, d.Attempts, d.Next, d.Reason)
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
		fmt.Fprintf(w, "    tls       %s\n", shownFacts(a.TLS))
		for _, t := range a.Tries {
			fmt.Fprintf(w, "    tried     %s [%s] %s: %s (%d ms)\n", t.Host, shownIP(t), t.Stage, t.Reply, t.MS)
		}
		for _, o := range a.Results {
			printOutcome(w, &o)
		}
	}
}

func printOutcome(w io.Writer, o *journal.Outcome) {
	fmt.Fprintf(w, "    %-9s %s: %s\n", o.Event, o.Recipient, strings.ReplaceAll(o.Reply, "\n", " "))
	if o.Reason != "" {
		fmt.Fprintf(w, "              %s\n", o.Reason)
	}
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
