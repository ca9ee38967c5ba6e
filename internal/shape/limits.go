package shape

import (
	"math"
	"slices"
	"time"

	"mailout/internal/mta"
)

// What holds where mta.Limits say nothing, but for connections.
const (
	defaultMessages   = 100
	defaultRecipients = 100
)

// ApplyDefaults lowers l to what the shipped table says of a provider, with the
// origins of what it lowers. It never raises a number.
func ApplyDefaults(l *mta.Limits, provider string) {
	p := providers.byName[provider]
	if p == nil {
		return
	}
	origin := "provider default " + provider + " (" + providers.version + ")"
	lower := func(n *int, from *string, to, otherwise int) {
		now := *n
		if now <= 0 {
			now = otherwise
		}
		if to > 0 && to < now {
			*n, *from = to, origin
		}
	}
	lower(&l.Connections, &l.From.Connections, p.Limits.Connections, DefaultLimit)
	lower(&l.MessagesPerConnection, &l.From.MessagesPerConnection, p.Limits.MessagesPerConnection, defaultMessages)
	lower(&l.RecipientsPerMessage, &l.From.RecipientsPerMessage, p.Limits.RecipientsPerMessage, defaultRecipients)
}

// Slow leaves a share of connections and rates, between 0 and 1; why says for
// people what for. One connection, and one message a time, are always left.
func Slow(l *mta.Limits, share float64, why string) {
	if share >= 1 || share <= 0 {
		return
	}
	if l.Connections <= 0 {
		l.Connections = DefaultLimit
	}
	l.Connections = max(int(math.Round(float64(l.Connections)*share)), 1)
	l.From.Connections = why
	l.Rates = slices.Clone(l.Rates)
	for i := range l.Rates {
		r := &l.Rates[i]
		n := float64(r.Count) * share
		r.Count = max(int(n), 1)
		if n < 1 {
			r.Per = time.Duration(min(float64(r.Per)/n, math.MaxInt64/4))
		}
		r.Origin = why
	}
}
