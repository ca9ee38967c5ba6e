package queue

import (
	"context"
	"time"

	"mailout/internal/mta"
)

// Site tells how the scheduler sees the site of a route; false when it does
// not know the site, because nothing goes there and nothing was learnt lately.
func (q *Queue) Site(ctx context.Context, route *mta.Route) (SiteState, bool, error) {
	var out SiteState
	var known bool
	err := q.ask(ctx, func(l *loop) {
		s := l.sites[siteKey(route)]
		if s == nil {
			return
		}
		known = true
		out = l.state(s)
	})
	if err != nil {
		return SiteState{}, false, err // the loop may still write to out
	}
	return out, known, nil
}

// RateState is one rate that holds at a site.
type RateState struct {
	Count  int       `json:"count"`
	Per    string    `json:"per"`    // "a minute"
	Counts string    `json:"counts"` // what is counted by itself: "site", "stream", "sender", or the mail that a "rule" is for
	Origin string    `json:"origin"` // the configuration line
	Again  time.Time `json:"again,omitzero"`
}

// state is a site as it is now.
func (l *loop) state(s *site) SiteState {
	out := SiteState{
		Site: s.name, Connections: s.workers, Idle: len(s.idle), Allowed: s.ctl.Allowed(l.now),
		Limit: s.limit, Pace: s.ctl.Pace(), Ready: s.ready, Probe: s.ctl.ProbeAt(), Reason: s.ctl.Explain(l.now),
	}
	if s.avoided.until > l.nowMS {
		out.Avoided, out.AvoidWhy = time.UnixMilli(s.avoided.until).UTC(), s.avoided.why
	}
	if s.quota.until > l.nowMS {
		out.Quota, out.QuotaWhy = time.UnixMilli(s.quota.until).UTC(), s.quota.why
	}
	for i := range s.rates {
		r := &s.rates[i]
		x := RateState{Count: r.Count, Per: perWords(r.Per), Counts: counted(r), Origin: r.Origin}
		if s.rate.until > l.nowMS && s.rate.rate == *r {
			x.Again = time.UnixMilli(s.rate.until).UTC()
		}
		out.Rates = append(out.Rates, x)
	}
	return out
}

func counted(r *mta.Rate) string {
	switch {
	case r.BySender:
		return "sender"
	case r.ByStream:
		return "stream"
	case r.Apart:
		return "rule"
	}
	return "site"
}
