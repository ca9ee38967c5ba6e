package daemon

import (
	"slices"
	"time"

	"mailout/internal/admin"
	"mailout/internal/mta"
)

// heeded gives the plan as the queue has it, with a route in front that may be
// used now.
func (e *explainer) heeded(plan *mta.Plan, failure *mta.Failure) (*mta.Plan, *mta.Failure) {
	if e.standing == nil || failure != nil || plan.Stop != nil {
		return plan, failure
	}
	now := time.Now()
	if plan, failure = heed(plan, e.standing, now); failure != nil {
		return nil, failure
	}
	avoided := func(r *mta.Route) int {
		switch {
		case r.Probe:
			return 2
		case now.Before(r.AvoidUntil):
			return 1
		}
		return 0
	}
	slices.SortStableFunc(plan.Routes, func(a, b *mta.Route) int { return avoided(a) - avoided(b) })
	return plan, nil
}

// stands fills in what replies taught of the plan's direct sites.
func (e *explainer) stands(out *admin.Explanation, plan *mta.Plan) {
	if e.standing == nil {
		return
	}
	var told []string
	for _, r := range plan.Routes {
		site := r.Site
		if r.Router != "" {
			site = r.Instead
		}
		if site != "" && !slices.Contains(told, site) {
			told = append(told, site)
			out.Standing = append(out.Standing, admin.StandingEntries(e.standing.Entries(site))...)
		}
	}
}
