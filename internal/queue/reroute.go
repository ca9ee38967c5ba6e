package queue

import (
	"encoding/json"
	"time"

	"mailout/internal/mta"
)

// Routes that an operator gives instead of the configuration's.
//
// A single delivery has its own in its destination (mta.Destination.Via), so
// that everything that belongs to a destination - the due order in the spool,
// the plan, site, limits and back-off - is that route's, and the loop needs to
// know nothing more. A whole destination's is a rule of the planner, as [[route]]
// is: the queue keeps it to show it, and plans the destination anew when it
// changes. Rejected: writing the rule to each delivery, which would miss mail
// that is on its way in, and would have to be undone for each when it ends.

// Reroute is a destination whose mail takes an operator's route, also what
// comes later; not that of deliveries with a route of their own.
type Reroute struct {
	Destination string // recipient domain
	Stream      string // empty: every stream
	To          string // as mta.Destination.Via, never empty
	By          string // who ordered it
	Reason      string
	Since       time.Time
	Expires     time.Time // zero: never. Ending it is the owner's business, not the queue's
}

// String is the sentence that explains the route.
func (r Reroute) String() string {
	h := Hold{Destination: r.Destination, Stream: r.Stream, By: r.By, Reason: r.Reason, Since: r.Since, Expires: r.Expires}
	return h.sentence("rerouted to " + r.To)
}

// Covers reports whether a destination's mail takes the route.
func (r Reroute) Covers(d mta.Destination) bool {
	return d.Via == "" && r.Destination == d.Domain && (r.Stream == "" || r.Stream == d.Stream)
}

type shownReroute struct {
	shownHold
	To string `json:"to"`
}

// MarshalJSON writes the times with exactly three decimals.
func (r Reroute) MarshalJSON() ([]byte, error) {
	return json.Marshal(shownReroute{Hold{r.Destination, r.Stream, r.By, r.Reason, r.Since, r.Expires}.shown(), r.To})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Reroute) UnmarshalJSON(b []byte) error {
	var x shownReroute
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	h, err := x.hold()
	*r = Reroute{h.Destination, h.Stream, x.To, h.By, h.Reason, h.Since, h.Expires}
	return err
}

// RerouteOf finds the rule for a destination: the one for its stream before the
// one for all streams.
func RerouteOf(rules []Reroute, d mta.Destination) (found Reroute, ok bool) {
	for _, r := range rules {
		if r.Covers(d) && (!ok || r.Stream != "") {
			found, ok = r, true
		}
	}
	return found, ok
}

// SetReroutes replaces the destinations that take an operator's route, which the
// planner must know already. It returns when those that changed are to be
// planned anew, and at once when the queue does not run.
func (q *Queue) SetReroutes(rules []Reroute) {
	done := make(chan struct{})
	if q.send(event{kind: evCall, call: func(l *loop) { l.setReroutes(rules); close(done) }}) {
		select {
		case <-done:
		case <-q.done:
		}
	}
}

// Reroutes are the destinations that take an operator's route.
func (q *Queue) Reroutes() []Reroute { return *q.reroutes.Load() }

// via is the operator's route of a destination.
func (q *Queue) via(d mta.Destination) string {
	if d.Via != "" {
		return d.Via
	}
	r, _ := RerouteOf(q.Reroutes(), d)
	return r.To
}

func (l *loop) setReroutes(rules []Reroute) {
	before := l.q.Reroutes()
	l.q.reroutes.Store(&rules)
	l.epoch++ // what is being planned is planned again
	domains := make(map[string]bool, len(before)+len(rules))
	for _, list := range [][]Reroute{before, rules} {
		for _, r := range list {
			domains[r.Destination] = true
		}
	}
	for key, d := range l.dests {
		if !domains[key.Domain] {
			continue
		}
		was, _ := RerouteOf(before, key)
		if now, _ := RerouteOf(rules, key); was != now {
			for w := &d.first; w != nil; w = w.next {
				l.unplan(w)
			}
			l.sort(d)
			l.advance(d)
		}
	}
}
