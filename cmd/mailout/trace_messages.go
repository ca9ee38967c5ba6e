package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"mailout/internal/journal"
	"mailout/internal/mta"
)

// tracePage is how many messages are asked for at a time.
const tracePage = 200

// messages prints a line for each message, page by page.
func (c *traceCmd) messages(g *globals, q url.Values) error {
	if c.Follow || c.Event != "" {
		return fail(exitUsage, "--follow and --event are about records, not messages")
	}
	if err := c.byMessage(q); err != nil {
		return err
	}
	daemon, err := connect(g)
	if err != nil {
		return err
	}
	count := 0
	for {
		page, err := searchPage(daemon, q, c.Limit-count)
		if err != nil {
			return err
		}
		if c.Limit > 0 && len(page.Messages) > c.Limit-count {
			page.Messages = page.Messages[:c.Limit-count]
		}
		if err := c.printMessages(g.Stdout, page.Messages, count == 0); err != nil {
			return fail(exitIO, "writing the messages: %v", err)
		}
		count += len(page.Messages)
		if page.Cursor == "" || c.Limit > 0 && count >= c.Limit {
			break
		}
		q.Set("cursor", page.Cursor)
	}
	if count == 0 {
		return c.unknown()
	}
	return nil
}

// byMessage makes the parameters of a search out of those of a trace.
func (c *traceCmd) byMessage(q url.Values) error {
	if c.State != "" {
		q.Set("state", c.State)
	}
	q.Del("query")
	if _, err := mta.ParseID(c.Query); err == nil && c.Query != "" {
		return fail(exitUsage, "%s is one message: ask without --messages, or \"mailout queue show %s\"", c.Query, c.Query)
	}
	switch {
	case c.Query == "":
	case strings.HasPrefix(c.Query, "<"):
		q.Set("message_id", c.Query)
	case c.Recipient != "":
		return fail(exitUsage, "give the recipient once: %s or --recipient %s", c.Query, c.Recipient)
	default:
		q.Set("recipient", c.Query)
	}
	return nil
}

func searchPage(daemon *daemonClient, q url.Values, left int) (*journal.Page, error) {
	n := tracePage
	if left > 0 {
		n = min(n, left)
	}
	q.Set("limit", strconv.Itoa(n))
	body, err := daemon.get("/v1/messages", q)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var page journal.Page
	if err := json.NewDecoder(body).Decode(&page); err != nil {
		return nil, fail(exitTemporary, "the daemon's answer broke off: %v", err)
	}
	return &page, nil
}

func (c *traceCmd) printMessages(w io.Writer, list []journal.Message, first bool) error {
	if c.JSON {
		out := json.NewEncoder(w)
		for i := range list {
			if err := out.Encode(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if first && len(list) > 0 {
		fmt.Fprintln(table, "ACCEPTED\tID\tSTATES\tSENDER\tRECIPIENTS")
	}
	for i := range list {
		m := &list[i]
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", m.Accepted, m.ID, shownStates(m.States), shownSender(m.Sender), shownFirst(m))
	}
	return table.Flush()
}

// shownStates is "delivered", or "2 delivered, 1 failed" for several.
func shownStates(states map[string]int) string {
	var parts []string
	for s := mta.Queued; s <= mta.Cancelled; s++ {
		if n := states[s.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 1 && strings.HasPrefix(parts[0], "1 ") {
		return parts[0][2:]
	}
	return strings.Join(parts, ", ")
}

func shownFirst(m *journal.Message) string {
	if len(m.Recipients) == 0 {
		return ""
	}
	if m.Of > 1 {
		return fmt.Sprintf("%s and %d more", m.Recipients[0].Address, m.Of-1)
	}
	return m.Recipients[0].Address
}
