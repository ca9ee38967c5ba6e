package queue

// slots shares the connections that all sites have together. A tenth is kept
// for sites that have lately been quick, so that slow ones cannot take them
// all.
type slots struct {
	used    int
	slow    int // of these, of sites that are not quick
	leaving int // workers told to leave, not yet gone

	// The sites that wait, in the order in which they are served. Whoever gives
	// a connection up for a site without one stands behind it afterwards, or
	// the two would pass it to and fro.
	quickFirst ring[*site] // quick sites without a connection
	slowFirst  ring[*site] // others without one
	quickMore  ring[*site] // quick sites that want another
	slowMore   ring[*site]

	spare ring[*site] // may have idle workers
}

// free reports whether s may have one more connection.
func (p *slots) free(s *site, limit int) bool {
	return p.used < limit && (s.quick || p.slow < slowLimit(limit))
}

func slowLimit(limit int) int { return limit - limit/10 }

// starved is how many sites wait that have no connection.
func (p *slots) starved() int { return p.quickFirst.len() + p.slowFirst.len() }

// want notes that s waits for a connection.
func (p *slots) want(s *site) {
	switch {
	case s.hungry:
		return
	case s.workers == 0 && s.quick:
		p.quickFirst.push(s)
	case s.workers == 0:
		p.slowFirst.push(s)
	case s.quick:
		p.quickMore.push(s)
	default:
		p.slowMore.push(s)
	}
	s.hungry = true
}

// pop gives the site that comes next, nil when none may have a connection.
func (p *slots) pop(limit int) *site {
	if p.used >= limit {
		return nil
	}
	slowMay := p.slow < slowLimit(limit)
	var s *site
	switch {
	case p.quickFirst.len() > 0:
		s = p.quickFirst.pop()
	case slowMay && p.slowFirst.len() > 0:
		s = p.slowFirst.pop()
	case p.quickMore.len() > 0:
		s = p.quickMore.pop()
	case slowMay && p.slowMore.len() > 0:
		s = p.slowMore.pop()
	default:
		return nil
	}
	s.hungry = false
	return s
}

// count follows a worker that starts (+1) or has gone (-1).
func (p *slots) count(s *site, step int) {
	p.used += step
	s.workers += step
	if !s.quick {
		p.slow += step
	}
}

// classify notes whether a site is quick.
func (p *slots) classify(s *site, isQuick bool) {
	if s.quick == isQuick {
		return
	}
	s.quick = isQuick
	if isQuick {
		p.slow -= s.workers
	} else {
		p.slow += s.workers
	}
}

// serveHungry gives free connections to those that wait.
func (l *loop) serveHungry() {
	for !l.stopping && !l.storeDown() {
		s := l.slots.pop(l.set.limits.Connections)
		if s == nil {
			return
		}
		l.rotating = true // one each, then the next
		l.dispatch(s)
		l.rotating = false
	}
}

// spareIdle sends one idle worker home because somebody waits for its
// connection.
func (l *loop) spareIdle() {
	for l.slots.leaving < l.slots.starved() && l.slots.spare.len() > 0 {
		s := l.slots.spare.pop()
		s.inSpare = false
		if len(s.idle) == 0 {
			continue
		}
		w := s.idle[0] // the longest idle
		s.idle = append(s.idle[:0], s.idle[1:]...)
		l.dismiss(w)
		l.keepSpare(s)
	}
}

func (l *loop) keepSpare(s *site) {
	if len(s.idle) > 0 && !s.inSpare {
		s.inSpare = true
		l.slots.spare.push(s)
	}
}

// wanted reports whether a connection of s would serve somebody who has none.
func (l *loop) wanted(s *site) bool {
	limit := l.set.limits.Connections
	full := l.slots.used >= limit || !s.quick && l.slots.slow >= slowLimit(limit)
	return full && l.slots.leaving < l.slots.starved()
}

// yields reports whether a worker that asks for more should leave because
// others have no connection at all. A quick site keeps its workers unless the
// quick ones together hold more than half.
func (l *loop) yields(w *worker) bool {
	s, limit := w.site, l.set.limits.Connections
	if !l.wanted(s) {
		return false
	}
	staying := s.workers - s.leaving
	if s.quick {
		quickOnes := l.slots.used - l.slots.slow
		return staying > 1 && quickOnes > limit/2
	}
	return staying > 1 || w.carried >= slowShare || l.nowMS-w.began >= slowTurn.Milliseconds()
}
