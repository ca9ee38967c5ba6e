package queue

// waitsAlone reports that a delivery that found too little of a quota waits for
// more of it by itself: it has several recipients, for fewer there may be enough,
// and no other route is open. Mail behind it in its destination passes it by.
func (l *loop) waitsAlone(e *entry) bool {
	if len(e.d.Recipients) < 2 || e.berth.route.Probe {
		return false
	}
	for b := &e.way.berth; b != nil; b = b.next {
		if b != e.berth && l.open(b) {
			return false
		}
	}
	return true
}
