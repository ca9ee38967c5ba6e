package world

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/queue"
	"mailout/internal/standing"
)

// heeding has plans heed our standing with receivers, as the daemon's do.
type heeding struct {
	queue.Planner
	standing *standing.Standing
}

// Plan implements queue.Planner.
func (h heeding) Plan(ctx context.Context, d mta.Destination, variant string) (*mta.Plan, *mta.Attempt) {
	plan, refusal := h.Planner.Plan(ctx, d, variant)
	if refusal != nil {
		return nil, refusal
	}
	for _, r := range plan.Routes {
		s := h.standing.Avoid(r.Site, r.SourceKey())
		r.AvoidUntil, r.AvoidWhy = s.Until, s.Why
		for _, o := range plan.Routes {
			if o != r {
				r.Others = append(r.Others, o.SourceKey())
			}
		}
	}
	return plan, nil
}

// Learn implements queue.Planner.
func (h heeding) Learn(r *mta.Route, d *mta.Delivery, a *mta.Attempt) queue.Lesson {
	h.Planner.Learn(r, d, a)
	return queue.Lesson(h.standing.Learn(r, d, a))
}

// TestTwoSourcesOneRefused: a receiver that refuses one of two sources for good
// has all mail from the other, at once, over power cuts, and nothing is
// returned for it; it is hardly asked again; and when it has changed its mind
// both are used as before.
func TestTwoSourcesOneRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSources(t, 7, false)
		w.start = time.Now().Add(-365 * 24 * time.Hour) // both are warm
		w.around = func(h *house, p queue.Planner) queue.Planner {
			h.standing = standing.New(standing.Options{Notes: h.store, Logger: quiet})
			return heeding{p, h.standing}
		}
		w.boot()
		first, second := w.at[warmSource], w.at[youngSource]
		hours := func(n int, f func(hour int)) (one, two int) {
			one, two = len(first.Messages()), len(second.Messages())
			for hour := range n {
				f(hour)
				for range 4 {
					w.hand(10)
					<-time.After(15 * time.Minute)
				}
			}
			return len(first.Messages()) - one, len(second.Messages()) - two
		}
		share := func(when string, one, two int) {
			if all := one + two; one < all/3 || two < all/3 {
				t.Errorf("%s: %d and %d by the two sources", when, one, two)
			}
		}
		one, two := hours(4, func(int) {})
		share("before", one, two)
		first.SetRules(mtatest.Rule{Stage: mtatest.StageMail, Action: mtatest.Action{Reply: "554 5.7.1 192.0.2.10 is blocked, see https://postmaster.far.example"}})
		asked := first.Stats().Sessions
		one, two = hours(12, func(hour int) {
			if hour == 5 {
				w.powerCut()
			}
		})
		if one != 0 || two < 480 || len(w.reached()) != w.handed {
			t.Errorf("while it was refused: %d and %d by the two sources; %d of %d have their mail", one, two, len(w.reached()), w.handed)
		}
		if n := first.Stats().Sessions - asked; n == 0 || n > 30 {
			t.Errorf("%d sessions with a receiver that refuses", n)
		}
		first.SetRules()
		<-time.After(48 * time.Hour)
		one, two = hours(4, func(int) {})
		share("after", one, two)
		<-time.After(time.Hour)
		if n := len(w.reached()); n != w.handed {
			t.Errorf("%d of %d have their mail", n, w.handed)
		}
		for e, n := range w.house.store.Tally().Events {
			if e.Event == mta.EventFailed {
				t.Errorf("%d were returned", n)
			}
		}
		w.end(w.house)
	})
}
