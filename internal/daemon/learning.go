package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"time"

	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/route"
	"mailout/internal/smtp"
	"mailout/internal/spool"
	"mailout/internal/standing"
	"mailout/internal/transport"
)

// Learning: what attempts come to goes to those who learn from it, and what they
// know goes into the plans.

// router is the planner of routes with what holds at each site and source.
type router struct {
	transport.Router
	standing *standing.Standing
	unmet    func(f *mta.Failure) // told why there is no plan
}

// PlanFor implements transport.Router.
func (r router) PlanFor(ctx context.Context, d mta.Destination, variant string) (*mta.Plan, *mta.Failure) {
	plan, failure := r.Router.PlanFor(ctx, d, variant)
	if failure != nil {
		r.unmet(failure)
		return nil, failure
	}
	return heed(plan, r.standing, time.Now())
}

// heed notes on the routes of a plan, which is fresh and ours, what the receivers
// said of their sources. With nothing left that may be used it gives the failure.
func heed(plan *mta.Plan, s *standing.Standing, now time.Time) (*mta.Plan, *mta.Failure) {
	list := plan.Routes[:0:0]
	var stopped standing.Suspension // the one that ends first
	for _, r := range plan.Routes {
		if r.Router != "" {
			list = append(list, r)
			continue
		}
		rest := s.Avoid(r.Site, r.SourceKey())
		switch {
		case rest.Until.IsZero():
		case rest.Hard:
			if stopped.Until.IsZero() || rest.Until.Before(stopped.Until) {
				stopped = rest
			}
			continue
		case !r.Probe && len(plan.Routes) > 1:
			r.AvoidUntil, r.AvoidWhy = rest.Until, rest.Why
		}
		list = append(list, r)
	}
	if stopped.Until.IsZero() {
		setOthers(list)
		return plan, nil
	}
	if len(list) == 0 {
		return nil, &mta.Failure{
			Stage: mta.StageRoute, Cause: mta.CauseSuspended,
			Text:       "until " + mta.FormatTime(stopped.Until) + ": " + stopped.Why,
			RetryAfter: int(stopped.Until.Sub(now)/time.Second) + 1,
		}
	}
	plan.Routes = list
	if stopped.Until.Before(plan.Expires) {
		plan.Expires = stopped.Until
	}
	setOthers(list)
	return plan, nil
}

// setOthers names on each direct route those that mail may take instead.
func setOthers(routes []*mta.Route) {
	if len(routes) < 2 {
		return
	}
	for _, r := range routes {
		if r.Router != "" || r.Probe {
			continue
		}
		for _, o := range routes {
			if o != r && o.Router == "" && !o.Probe && o.HeldBy == "" {
				r.Others = append(r.Others, o.SourceKey())
			}
		}
	}
}

// learning is the queue's planner.
type learning struct {
	queue.Planner
	standing *standing.Standing
}

// Learn implements queue.Planner.
func (l learning) Learn(r *mta.Route, d *mta.Delivery, a *mta.Attempt) queue.Lesson {
	return queue.Lesson(l.standing.Learn(r, d, a))
}

// quotas joins the probes of ways that a router stands in for and the ceilings
// of sources that are being warmed up.
type quotas struct {
	standing *standing.Standing
	warmup   queue.Quota
}

// Take implements queue.Quota.
func (q quotas) Take(r *mta.Route, d *mta.Delivery, now time.Time) (again time.Time, ok bool) {
	if r.Probe {
		if again, ok := q.standing.Take(r, now); !ok {
			return again, false
		}
		if r.Warming.Origin == route.ProbeOrigin {
			return time.Time{}, true
		}
	}
	if again, ok = q.warmup.Take(r, d, now); !ok && r.Probe {
		q.standing.GiveBack(r)
	}
	return again, ok
}

// learning makes the queue's planner of what knows our standing.
func (d *Daemon) learning() queue.Planner {
	return learning{Planner: transport.NewPlanner(router{d.planner, d.standing, d.unmet}), standing: d.standing}
}

// newStanding makes what remembers our standing; the store is open.
func (d *Daemon) newStanding(c *config.Config) *standing.Standing {
	return standing.New(standing.Options{Notes: d.store, Settings: c.Standing(), Logger: d.log, Changed: d.standingChanged})
}

// fallback answers the planner: whether the router stands in for a site.
func (d *Daemon) fallback(site string) route.Fallback {
	on, why, _ := d.standing.Fallback(site)
	return route.Fallback{On: on, Why: why, Probe: on}
}

// standingChanged tells what holds newly or no more, in the log and the journal.
func (d *Daemon) standingChanged(changes []standing.Change) {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails
	at := changes[len(changes)-1].Time
	sub := &spool.Submission{Message: &mta.Message{ID: mta.NewID(at, entropy), Arrived: at, Stream: mta.DefaultStream}}
	for _, c := range changes {
		words := smtp.Harmless(c.Words)
		tell := d.log.Info
		if c.Worse {
			tell = d.log.Warn
		}
		tell("standing", mta.KeySite, c.Site, mta.KeySource, c.Source, mta.KeyReason, words)
		r := &mta.Record{
			Time: c.Time.UTC().Truncate(time.Millisecond), Event: mta.EventStanding, ID: sub.Message.ID,
			Recipient: mta.StandingRecipient, Site: c.Site, Reason: words,
		}
		first, _, _ := strings.Cut(c.Source, ",")
		if ip, err := netip.ParseAddr(first); err == nil {
			r.Source = ip
		} else {
			r.Helo = first
		}
		sub.Records = append(sub.Records, r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	if err := d.store.Put(ctx, sub); err != nil && !errors.Is(err, spool.ErrClosed) {
		d.log.Warn("changes of our standing could not be written to the journal", mta.KeyCount, len(changes), mta.KeyError, err)
	}
}

// StandingCounts counts what was learnt.
func (d *Daemon) StandingCounts() standing.Counts { return d.standing.Counts() }

// Standing lists what holds for a site, or for all.
func (d *Daemon) Standing(site string) []standing.Entry { return d.standing.Entries(site) }

// ClearStanding forgets what was learnt of a site, or of all, and has mail
// planned anew.
func (d *Daemon) ClearStanding(site, by string) int {
	n := d.standing.Clear(site, by)
	if n > 0 {
		d.queue.Replan()
	}
	return n
}
