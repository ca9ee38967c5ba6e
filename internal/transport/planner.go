package transport

import (
	"context"
	"time"

	"mailout/internal/mta"
	"mailout/internal/queue"
)

// Router answers where a destination's mail goes: internal/route.
type Router interface {
	// Variant is as queue.Planner has it.
	Variant(m *mta.Message, d mta.Destination) string
	// PlanFor gives the plan, or why there is none.
	PlanFor(ctx context.Context, d mta.Destination, variant string) (*mta.Plan, *mta.Failure)
}

// NewPlanner makes the queue's Planner of a Router. A failure to route becomes
// an attempt with one result, which holds for every recipient of the
// destination.
func NewPlanner(r Router) queue.Planner { return planner{r} }

type planner struct{ router Router }

// noRouter is the site of a router that cannot be found.
const noRouter = "router"

// Variant implements queue.Planner.
func (p planner) Variant(m *mta.Message, d mta.Destination) string { return p.router.Variant(m, d) }

// Learn implements queue.Planner.
func (p planner) Learn(*mta.Route, *mta.Delivery, *mta.Attempt) queue.Lesson { return queue.Lesson{} }

// Plan implements queue.Planner.
func (p planner) Plan(ctx context.Context, dest mta.Destination, variant string) (*mta.Plan, *mta.Attempt) {
	start := time.Now()
	plan, f := p.router.PlanFor(ctx, dest, variant)
	if f == nil {
		return plan, nil
	}
	a := JudgeRoute(f, 1)
	if f.Cause == mta.CauseRouter {
		a.Site = noRouter // so that the queue looks for it, and releases the mail
	}
	a.Start, a.End = start, time.Now()
	ms := a.End.Sub(start).Milliseconds()
	a.Durations.Route, a.Durations.Total = ms, ms
	return nil, a
}
