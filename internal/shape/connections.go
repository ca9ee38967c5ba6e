package shape

import "time"

// The connections that a site takes and no more.
//
// Goal: use as many as it takes, and have hardly any refused; a site that
// refuses one now and then, however many there are, keeps its window.
//
// Method: a connection that is refused while others work is one too many, so
// the window becomes the number of those that work, and that is the top. One
// more is tried when a hundred messages went well for each refusal, and after a
// hold that doubles while the tries fail. When one more is taken, the next
// tries follow at once, by growing steps. At the top a single refusal among
// fifty results is let pass.
//
// Rejected: halving, as for failures: at a receiver that takes five it uses
// four on average and has one in ten refused.
const (
	topHold     = 30 * time.Second
	longTopHold = 16 * time.Minute
	topRefusals = 0.03 // share of refusals beyond which the top is too high
)

// top is what is known of the connections that a site takes. The zero top:
// none was ever refused.
type top struct {
	n        int // 0: not known
	trying   bool
	step     int
	calm     int // successes since the last refusal or step
	cost     int // refusals of the last try
	until    time.Time
	hold     time.Duration
	share    float64 // of refusals among results
	found    time.Time
	complain string
}

// Crowded tells that a connection was refused at now before it carried
// anything, while open others are there; complaint says it for people. When all
// are refused, the site is dead as with Failure.
func (c *Controller) Crowded(now time.Time, open int, complaint string) {
	c.complain = complaint
	if c.failed(now) {
		return
	}
	if c.top.refused(now, complaint) {
		return
	}
	c.window = max(1, min(c.window-1, float64(open)))
	c.threshold = max(1, min(c.threshold, c.window))
	c.top.n = int(c.window)
}

// refused takes a refusal in, and reports that it is let pass.
func (t *top) refused(now time.Time, complaint string) bool {
	t.share += (1 - t.share) / 50
	if t.n > 0 && !t.trying && t.calm > 0 && t.share < topRefusals {
		return true
	}
	if t.trying {
		t.hold = min(2*t.hold, longTopHold)
		t.cost = 0
	} else if t.n == 0 || t.calm > 0 {
		t.hold = topHold
	}
	t.cost++
	t.trying, t.step, t.calm = false, 1, 0
	t.found, t.complain = now, complaint
	t.until = now.Add(t.hold)
	return false
}

// lift counts a success with so many connections allowed, and gives how many
// there may be.
func (t *top) lift(now time.Time, window float64, limit int) int {
	t.calm++
	t.share -= t.share / 50
	switch {
	case int(window) < t.n || t.n >= limit: // on the way up to it
	case t.trying:
		if t.calm > 3*t.n { // they were taken
			t.hold, t.cost = topHold, 0
			t.step *= 2
			t.n, t.calm = min(t.n+t.step, limit), 0
		}
	case t.calm >= perRefusal*max(t.cost, 1) && !now.Before(t.until):
		t.trying, t.calm = true, 0
		t.n = min(t.n+t.step, limit)
	}
	return t.n
}
