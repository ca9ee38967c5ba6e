package queue

import (
	"context"

	"mailout/internal/mta"
)

// Recall carries a release out on what is in flight with a hold that is not
// durable yet: one that waits for the end of an attempt, or is being stored. The
// spool does not show these as held, so whoever goes by the spool misses them.
// wants says whether the release is about a delivery, shown as it is going to
// be, at the given site. What is released later has left the hold behind; it is
// told as in flight. Call it before the spool is read.
func (q *Queue) Recall(ctx context.Context, o Order, wants func(d *mta.Delivery, site string) bool) (t Tally, err error) {
	c := &command{order: &o}
	err = q.ask(ctx, func(l *loop) {
		for _, e := range l.entries {
			if e.phase == phaseFlight {
				l.recall(c, e, wants)
			}
		}
	})
	if err != nil {
		return Tally{}, err
	}
	return c.tally, nil
}

func (l *loop) recall(c *command, e *entry, wants func(*mta.Delivery, string) bool) {
	waits, stored := holds(e.order), holds(e.doing)
	if !waits && (!stored || e.order != nil) {
		return
	}
	d, site := *e.d, e.d.Last.Site
	d.State, d.HeldBy = mta.Held, ""
	if waits {
		d.HeldBy = e.order.Reason
	} else {
		d.HeldBy = e.doing.Reason
	}
	if s := e.way.berth.site; s != nil {
		site = s.name
	}
	switch {
	case !wants(&d, site):
	case l.standing(d.Destination) != nil:
		c.tally.Kept++
	case stored:
		e.order = c.order
		c.tally.Flight++
	default:
		e.order = nil
		c.tally.Changed++
	}
}

// holds reports whether an order is a hold.
func holds(o *Order) bool { return o != nil && o.Verb == VerbHold }
