package queue

// Who plans next. One name server that does not answer holds every plan that
// needs it for many seconds, so plans under way are of two kinds: young, at
// most Plans, and slow, which make place for others up to plansInAll times
// Plans. And those that wait stand in lanes, so that a thousand domains that
// cannot be resolved do not stand before the one whose route ran out.

// The lanes, in the order in which they are served.
const (
	laneRenew = iota // has a route, and mail on its way
	laneFirst        // was never planned
	laneAgain        // failed the last time
	numLanes
)

// leftTurn: one plan in so many is taken from the last lane first, so that
// none waits for ever.
const leftTurn = 4

// Inside a lane the longest waiting and the newest take turns: behind a mailing
// to thousands of such domains a one-time code does not wait for all of them,
// and nobody waits for ever.

// lanes are the ways that wait for a planner.
type lanes struct {
	rings [numLanes]ring[*way]
	turns int
}

func (p *lanes) len() int {
	n := 0
	for i := range p.rings {
		n += p.rings[i].len()
	}
	return n
}

func (p *lanes) push(w *way) {
	lane := laneFirst
	switch w.plan {
	case planRouted, planStopped:
		lane = laneRenew
	case planRefused:
		lane = laneAgain
	}
	p.rings[lane].push(w)
}

// pop gives the next; there must be one.
func (p *lanes) pop() *way {
	p.turns++
	for i := range p.rings {
		if p.turns%leftTurn == 0 {
			i = numLanes - 1 - i
		}
		switch ring := &p.rings[i]; {
		case ring.len() == 0:
		case p.turns%2 == 0:
			return ring.popLast()
		default:
			return ring.pop()
		}
	}
	return nil
}

// longest gives up to n of those that wait, the longest waiting of each lane.
func (p *lanes) longest(n int) []*way {
	var list []*way
	for i := range p.rings {
		for j := range min(n, p.rings[i].len()) {
			list = append(list, p.rings[i].at(j))
		}
	}
	return list
}

// planned is a plan under way.
type planned struct {
	w  *way
	at millis
}

// servePlans starts the plans that have place.
func (l *loop) servePlans() {
	for l.plans.len() > 0 && l.planPlace() {
		l.startPlan(l.plans.pop())
	}
}

// planPlace reports whether one more plan may start.
func (l *loop) planPlace() bool {
	for l.young.len() > 0 {
		p := l.young.at(0)
		if at, ok := l.planning[p.w]; ok && at == p.at && !p.w.planSlow {
			if l.nowMS < p.at+slowPlan.Milliseconds() {
				break
			}
			p.w.planSlow = true
			l.slowPlans++
		}
		l.young.pop()
	}
	most := l.set.limits.Plans
	return len(l.planning)-l.slowPlans < most && len(l.planning) < plansInAll*most
}

// planWake is when a plan that is under way makes place for one that waits.
func (l *loop) planWake() millis {
	if l.stopping || l.plans.len() == 0 || l.young.len() == 0 || len(l.planning) >= plansInAll*l.set.limits.Plans {
		return never
	}
	return max(l.young.at(0).at+slowPlan.Milliseconds(), l.nowMS+1)
}

// endPlan takes a way's plan out of those being made.
func (l *loop) endPlan(w *way) {
	w.planning = false
	delete(l.planning, w)
	if w.planSlow {
		w.planSlow = false
		l.slowPlans--
	}
}
