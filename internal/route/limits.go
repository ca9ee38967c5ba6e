package route

import (
	"time"

	"mailout/internal/mta"
	"mailout/internal/shape"
)

// Slowed tells what is left of the limits of a source at a site, over 0 and at
// most 1, and why.
type Slowed func(site, source string) (share float64, why string)

// slowedLife is how long a route is good whose limits come back by and by.
const slowedLife = 5 * time.Minute

// shape sets the limits of a route whose source is decided: those of [delivery]
// (or its router's own), lowered to what is known of the provider, or as the
// first [[shape]] says; and a share of them where the receiver was found to be
// strained.
func (p *Planner) shape(r *mta.Route, stream string) {
	c := p.settings.Load()
	l, own := &r.Limits, r.Limits
	if r.Router == "" && !c.NoProviderLimits {
		shape.ApplyDefaults(l, r.Provider)
	}
	c.shape.Apply(l, shape.Query{Route: r, Stream: stream})
	keep := func(n *int, from *string, had int, whose string) {
		if whose != "" {
			*n, *from = had, whose
		}
	}
	keep(&l.Connections, &l.From.Connections, own.Connections, own.From.Connections)
	keep(&l.MessagesPerConnection, &l.From.MessagesPerConnection, own.MessagesPerConnection, own.From.MessagesPerConnection)
	if p.slowed == nil {
		return
	}
	if share, why := p.slowed(r.Site, r.SourceKey()); share < 1 {
		shape.Slow(l, share, why)
		if until := time.Now().Add(slowedLife); r.Expires.After(until) {
			r.Expires = until
		}
	}
}
