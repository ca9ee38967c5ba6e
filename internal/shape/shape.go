// Package shape adapts how many connections one site × source gets: a state
// machine fed with the results of deliveries and with now.
//
// It has no clock, I/O, goroutine, randomness or log, and opens nothing: it
// gives a number and can say why it is that number. The queue's loop owns every
// Controller; a Controller is not safe for concurrent use.
//
// Goal: reach what a healthy receiver takes within a few round trips, give way
// at the first complaint, stay just under what a receiver refuses beyond, do
// not hammer a dead one, and come back quickly.
//
// Method: TCP's at first. The window of connections starts at two and grows by
// one with each success (so it doubles a round) up to a threshold, beyond it by
// one a round. A failure halves it, once a round: sessions that were open
// together fail together. A whole round of failures without a success between
// means dead: no connection but one probe at growing distances, until something
// answers. A connection that is refused while others work says more: how many
// there may be (connections.go). A message that is refused for the rate says
// how many may go in a time (pace.go). docs/shaping.md has the whole law.
//
// Rejected: fixed limits (wrong for every receiver but one), gains per
// receiver to be configured (nobody can), and counting refused recipients as
// failures (a list with bad addresses would slow its good ones).
package shape

import (
	"strconv"
	"time"
)

// The defaults of Config.
const (
	DefaultLimit      = 20
	DefaultStart      = 2
	DefaultBackoffMin = 5 * time.Second
	DefaultBackoffMax = 270 * time.Second
)

const (
	// calm is how many successes after a revival make an earlier death
	// forgotten: until then the next death waits twice as long.
	calm = 10
	// roundTime bounds a round in time, for sites with few results.
	roundTime = 10 * time.Second
)

// Config bounds a Controller. Zero values mean the defaults; impossible ones
// are moved to the nearest possible.
type Config struct {
	Limit      int           // the most connections, at least 1
	Start      int           // connections before anything is known, at most Limit
	BackoffMin time.Duration // wait before the first probe of a dead site
	BackoffMax time.Duration // the longest wait between probes
}

func (c Config) filled() Config {
	if c.Limit <= 0 {
		c.Limit = DefaultLimit
	}
	if c.Start <= 0 {
		c.Start = DefaultStart
	}
	c.Start = min(c.Start, c.Limit)
	if c.BackoffMax <= 0 {
		c.BackoffMax = DefaultBackoffMax
	}
	if c.BackoffMin <= 0 {
		c.BackoffMin = DefaultBackoffMin
	}
	c.BackoffMin = min(c.BackoffMin, c.BackoffMax)
	return c
}

// Controller is the state of one site × source. Make it with New.
type Controller struct {
	cfg       Config
	window    float64 // connections allowed; at least 1
	threshold float64 // slow start up to here

	failures int    // without a success between
	cohort   int    // failures that mean dead: the window when the first came
	complain string // the latest complaint
	cutAt    time.Time
	deaf     int // results still to come of the round that was cut

	dead    bool
	since   time.Time // dead since
	probeAt time.Time
	backoff time.Duration // of the next death or failed probe
	revived int           // successes since the last revival, up to calm

	top    top    // the connections beyond which one was refused
	recent recent // what went lately
	pace   *pacer // nil: it never complained about the rate
}

// New makes the controller of a site of which nothing is known.
func New(cfg Config) *Controller {
	cfg = cfg.filled()
	return &Controller{cfg: cfg, window: float64(cfg.Start), threshold: float64(cfg.Limit), backoff: cfg.BackoffMin, revived: calm}
}

// Configure changes the bounds and keeps what was learned within them.
func (c *Controller) Configure(cfg Config) {
	old := c.cfg.Limit
	c.cfg = cfg.filled()
	limit := float64(c.cfg.Limit)
	if c.threshold >= float64(old) {
		c.threshold = limit // it had never been lowered
	}
	c.window = max(1, min(c.window, limit))
	c.top.n = min(c.top.n, c.cfg.Limit)
	c.threshold = max(1, min(c.threshold, limit))
	c.backoff = min(max(c.backoff, c.cfg.BackoffMin), c.cfg.BackoffMax)
}

// Allowed is how many connections the site may have at now: 0 while it is
// dead, 1 when a probe is due.
func (c *Controller) Allowed(now time.Time) int {
	switch {
	case !c.dead:
		return int(c.window)
	case now.Before(c.probeAt):
		return 0
	}
	return 1
}

// Dead reports whether the site is taken for unreachable.
func (c *Controller) Dead() bool { return c.dead }

// ProbeAt is when a dead site is tried again; the zero time when it is alive.
func (c *Controller) ProbeAt() time.Time {
	if !c.dead {
		return time.Time{}
	}
	return c.probeAt
}

// Success tells that the site answered at now as a site should: a delivery, or
// a reply about one recipient or message.
func (c *Controller) Success(now time.Time) {
	c.answered()
	c.recent.add(now)
	if c.pace != nil && c.pace.went(now) {
		c.pace = nil
	}
	if c.deaf > 0 {
		c.deaf--
	}
	c.grow(now)
}

// answered notes that the site is alive.
func (c *Controller) answered() {
	c.failures = 0
	if c.dead {
		c.revive()
	}
	if c.revived < calm {
		if c.revived++; c.revived == calm {
			c.backoff = c.cfg.BackoffMin
		}
	}
}

// grow widens the window by a success: up to where a connection was refused, if
// one was.
func (c *Controller) grow(now time.Time) {
	most := float64(c.cfg.Limit)
	if c.top.n > 0 {
		most = min(most, float64(c.top.lift(now, c.window, c.cfg.Limit)))
	}
	if c.window < c.threshold {
		c.window++
	} else {
		c.window += 1 / c.window
	}
	c.window = min(c.window, most)
}

// revive starts over; the slow start ends where it did, but goes on to at
// least twice the start.
func (c *Controller) revive() {
	c.dead = false
	c.revived = 0
	c.deaf = 0
	c.window = float64(c.cfg.Start) - 1 // the answer that revived adds one, if it is a success
	c.threshold = min(max(c.threshold, 2*float64(c.cfg.Start)), float64(c.cfg.Limit))
	c.window = max(c.window, 1)
}

// Failure tells of a temporary failure that blames the host, the site or our
// own network at now; complaint says it for people.
func (c *Controller) Failure(now time.Time, complaint string) {
	c.complain = complaint
	if !c.failed(now) {
		c.cut(now)
	}
}

// failed counts a failure, and reports that there is nothing more to do because
// the site was dead already.
func (c *Controller) failed(now time.Time) bool {
	if c.dead {
		if !now.Before(c.probeAt) {
			c.wait(now)
		}
		return true // else: of a session that was still open
	}
	if c.failures == 0 {
		c.cohort = int(c.window)
	}
	c.failures++
	if c.failures >= c.cohort {
		c.dead = true
		c.since = now
		c.wait(now)
	}
	return false
}

// wait plans the next probe and doubles the wait after it.
func (c *Controller) wait(now time.Time) {
	c.probeAt = now.Add(c.backoff)
	c.backoff = min(2*c.backoff, c.cfg.BackoffMax)
}

// cut halves the window, once a round.
func (c *Controller) cut(now time.Time) {
	if c.deaf > 0 && now.Sub(c.cutAt) < roundTime && !now.Before(c.cutAt) {
		c.deaf--
		return
	}
	c.cutAt = now
	c.deaf = int(c.window) - 1
	c.threshold = max(1, c.window/2)
	c.window = c.threshold
}

// Neutral tells that a session ended without saying anything about the site.
// A probe that says nothing is repeated after the same wait.
func (c *Controller) Neutral(now time.Time) {
	if c.dead && !now.Before(c.probeAt) {
		c.probeAt = now.Add(max(c.backoff/2, c.cfg.BackoffMin))
	}
	if c.pace != nil {
		c.pace.nothing(now)
	}
}

// Explain says in one sentence why Allowed and Pace are what they are at now.
func (c *Controller) Explain(now time.Time) string {
	text := c.explain(now)
	if c.pace != nil {
		if pace := c.pace.explain(now); pace != "" {
			text += "; " + pace
		}
	}
	return text
}

func (c *Controller) explain(now time.Time) string {
	limit := strconv.Itoa(c.cfg.Limit)
	window := strconv.Itoa(int(c.window))
	switch {
	case c.dead && now.Before(c.probeAt):
		return "failing since " + clock(c.since) + ", one probe at " + clock(c.probeAt) + ": " + c.complain
	case c.dead:
		return "failing since " + clock(c.since) + ", one probe now: " + c.complain
	case int(c.window) >= c.cfg.Limit:
		return "the limit of " + limit + " connections"
	case c.top.n > 0 && int(c.window) >= c.top.n:
		return window + " of " + limit + " connections, one more was refused at " + clock(c.top.found) + ": " + c.top.complain
	case !c.cutAt.IsZero():
		return window + " of " + limit + " connections, halved at " + clock(c.cutAt) + ": " + c.complain
	}
	return window + " of " + limit + " connections, one more with each success"
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }
