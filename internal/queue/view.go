package queue

import (
	"context"

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
		out = SiteState{
			Site: s.name, Connections: s.workers, Idle: len(s.idle), Allowed: s.ctl.Allowed(l.now),
			Limit: s.limit, Ready: s.ready, Probe: s.ctl.ProbeAt(), Reason: s.ctl.Explain(l.now),
		}
	})
	if err != nil {
		return SiteState{}, false, err // the loop may still write to out
	}
	return out, known, nil
}
