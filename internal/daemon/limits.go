package daemon

import (
	"fmt"
	"math"
	"strings"

	"mailout/internal/admin"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/shape"
)

// limits are those of a route, each with what says so; site is what the
// scheduler knows of it.
func (e *explainer) limits(r *mta.Route, site *queue.SiteState) []admin.ExplainedLimit {
	l := &r.Limits
	most := or(l.Connections, shape.DefaultLimit)
	bound := e.limitOrigin(l.From.Connections, "delivery.connections")
	now := admin.ExplainedLimit{Name: "connections", Value: most, Origin: bound}
	switch {
	case site != nil:
		now.Value, now.Origin = site.Allowed, "learnt: "+site.Reason
	case e.queue == nil:
		now.Origin += "; what was learnt is known to the daemon alone"
	default:
		now.Origin += "; nothing is learnt of this site yet, it begins with fewer"
	}
	out := []admin.ExplainedLimit{
		now,
		{Name: "delivery.connections", Value: most, Origin: bound},
		{Name: "delivery.messages_per_connection", Value: or(l.MessagesPerConnection, 100), Origin: e.limitOrigin(l.From.MessagesPerConnection, "delivery.messages_per_connection")},
		{Name: "recipients_per_message", Value: or(l.RecipientsPerMessage, 100), Origin: "RFC 5321 4.5.3.1.10"},
	}
	if from := l.From.RecipientsPerMessage; from != "" {
		out[3].Origin = from
	}
	for i := range l.Rates {
		out = append(out, rateLimit(&l.Rates[i]))
	}
	if site != nil && site.Pace > 0 {
		out = append(out, admin.ExplainedLimit{Name: "pace", Value: int(math.Round(site.Pace * 60)), Origin: "learnt, messages a minute: " + site.Reason})
	}
	return append(out, e.warmups(r)...)
}

// limitOrigin is where a number comes from: the key when nothing narrower says
// it.
func (e *explainer) limitOrigin(from, key string) string {
	if from != "" {
		return from
	}
	return e.origin(key)
}

// rateLimit tells a rate: its count, and in the origin its time and what it is
// counted by.
func rateLimit(r *mta.Rate) admin.ExplainedLimit {
	by := strings.Split(r.Bucket, "|")[1:] // as package shape names buckets
	if r.ByStream {
		by = append(by, "each stream")
	}
	if r.BySender {
		by = append(by, "each sender")
	}
	text := fmt.Sprintf("%s: messages in %s", r.Origin, perTime(r))
	if len(by) > 0 {
		text += ", counted for " + strings.Join(by, ", ")
	}
	return admin.ExplainedLimit{Name: "rate", Value: r.Count, Origin: text}
}

func perTime(r *mta.Rate) string {
	switch r.Per.Seconds() {
	case 1:
		return "a second"
	case 60:
		return "a minute"
	case 3600:
		return "an hour"
	case 86400:
		return "a day"
	}
	return r.Per.String()
}
