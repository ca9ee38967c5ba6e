package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/queue"
)

// TestExplainedLimits: every limit says where it comes from.
func TestExplainedLimits(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte("hostname = \"out.example.com\"\n[delivery]\nmessages_per_connection = 50\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := explainer{config: c, queue: &queue.Queue{}, warmup: nil}
	route := &mta.Route{Router: "r.example", Limits: mta.Limits{
		Connections: 5, RecipientsPerMessage: 7, MessagesPerConnection: 50,
		Rates: []mta.Rate{
			{Count: 1000, Per: time.Hour, Bucket: "shape 1.1|192.0.2.1|mx.example", Origin: "[[shape]] 1 (line 4)"},
			{Count: 3, Per: time.Second, Bucket: "shape 1.2", ByStream: true, BySender: true, Origin: "[[shape]] 1 (line 4)"},
		},
		From: mta.LimitOrigins{Connections: "provider default yahoo (1)", RecipientsPerMessage: "[[shape]] 1 (line 4)"},
	}}
	show := func(site *queue.SiteState) string {
		var b strings.Builder
		for _, l := range e.limits(route, site) {
			fmt.Fprintf(&b, "%s = %d: %s\n", l.Name, l.Value, l.Origin)
		}
		return b.String()
	}
	const rest = `delivery.connections = 5: provider default yahoo (1)
delivery.messages_per_connection = 50: delivery.messages_per_connection
recipients_per_message = 7: [[shape]] 1 (line 4)
rate = 1000: [[shape]] 1 (line 4): messages in an hour, counted for 192.0.2.1, mx.example
rate = 3: [[shape]] 1 (line 4): messages in a second, counted for each stream, each sender
`
	if got, want := show(nil), "connections = 5: provider default yahoo (1); nothing is learnt of this site yet, it begins with fewer\n"+rest; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got := show(&queue.SiteState{Allowed: 3, Pace: 9.6, Reason: "3 of 5 connections"})
	if want := "connections = 3: learnt: 3 of 5 connections\n" + rest + "pace = 576: learnt, messages a minute: 3 of 5 connections\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
