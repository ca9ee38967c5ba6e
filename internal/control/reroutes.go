package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"mailout/internal/mta"
	"mailout/internal/queue"
)

// Destinations with an operator's route. As with holds, the file is written
// before the route counts. One that expires counts no more at once, also over a
// restart, and leaves the file afterwards.

// ReroutesFile is the name of the file in the spool's directory.
const ReroutesFile = "reroutes.json"

// MaxReroutes bounds how many destinations have an operator's route: what is
// meant to last belongs into the configuration.
const MaxReroutes = 1000

// ReadReroutes reads the file; none is no route. A file that cannot be read is
// an error: mail would go where an operator does not want it.
func ReadReroutes(path string) ([]queue.Reroute, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var rules []queue.Reroute
	if err == nil {
		err = json.Unmarshal(data, &rules)
	}
	if err != nil {
		return nil, fmt.Errorf("the rerouted destinations cannot be read: %w (mend or remove %s; without it their mail goes as configured)", err, path)
	}
	return rules, nil
}

// ActiveRoutes leaves the routes that have not expired: those that the queue and
// the planner are to have.
func ActiveRoutes(rules []queue.Reroute, now time.Time) []queue.Reroute {
	return slices.DeleteFunc(slices.Clone(rules), func(r queue.Reroute) bool { return !r.Expires.IsZero() && !r.Expires.After(now) })
}

// Reroutes are the destinations with an operator's route.
func (c *Controller) Reroutes() []queue.Reroute {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.reroutes)
}

// standingRoute gives an errand's destination its route, or ends it. A new one
// replaces the same; without a stream, all of the destination.
func (c *Controller) standingRoute(e *errand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	sel := &e.Select
	rules, ended := split(c.mu.reroutes, sel)
	if e.To == Default {
		if e.ended, e.result.RoutesEnded = ended, len(ended); len(ended) == 0 {
			return nil
		}
	} else {
		if len(rules) >= MaxReroutes {
			return ErrTooMany
		}
		now := e.now.UTC().Truncate(time.Millisecond)
		r := queue.Reroute{Destination: sel.Destination, Stream: sel.Stream, To: e.To, By: e.By, Reason: e.Reason, Since: now}
		if e.Expires > 0 {
			r.Expires = now.Add(e.Expires).Truncate(time.Millisecond)
		}
		rules = append(rules, r)
		e.result.Reroute, e.order.Reason = &r, r.String()
	}
	if err := keep(c.opts.RoutesFile, rules); err != nil {
		return fmt.Errorf("the rerouted destinations could not be kept: %w", err)
	}
	c.setRoutes(rules)
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return nil
}

// split parts the routes that a command replaces or ends from the others.
func split(rules []queue.Reroute, sel *Selector) (others, meant []queue.Reroute) {
	for _, r := range rules {
		if sel.All || r.Destination == sel.Destination && (sel.Stream == "" || r.Stream == sel.Stream) {
			meant = append(meant, r)
		} else {
			others = append(others, r)
		}
	}
	return others, meant
}

// loses reports whether a delivery has a route of its own, or its destination had
// one that the errand ends.
func (e *errand) loses(d *mta.Delivery) bool {
	if d.Destination.Via != "" {
		return true
	}
	_, ok := queue.RerouteOf(e.ended, d.Destination)
	return ok
}

// setRoutes makes the routes count. The caller has the lock.
func (c *Controller) setRoutes(rules []queue.Reroute) {
	c.mu.reroutes = rules
	c.opts.Queue.SetReroutes(ActiveRoutes(rules, c.opts.Now()))
}

// endRoutes ends the routes whose time is over, and says when to look again.
func (c *Controller) endRoutes() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, wait := c.opts.Now(), maxWait
	left := ActiveRoutes(c.mu.reroutes, now)
	for _, r := range left {
		if !r.Expires.IsZero() {
			wait = min(wait, r.Expires.Sub(now))
		}
	}
	if len(left) == len(c.mu.reroutes) {
		return wait
	}
	if err := keep(c.opts.RoutesFile, left); err != nil {
		c.opts.Queue.SetReroutes(left)
		c.opts.Logger.Error("an expired route could not be taken off the file; trying again", mta.KeyError, err)
		return min(wait, againAfter)
	}
	for _, r := range c.mu.reroutes {
		if !slices.Contains(left, r) {
			c.opts.Logger.Info("an operator's route has expired", mta.KeyDestination, r.Destination, mta.KeyReason, r.String())
		}
	}
	c.setRoutes(left)
	return wait
}
