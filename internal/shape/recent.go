package shape

import "time"

// slots and slotTime make recent's minute.
const (
	slots    = 7
	slotTime = 10 * time.Second
)

// recent counts what went in the last minute, and up to ten seconds more.
type recent struct {
	counts [slots]int32
	slot   int64 // of the latest, in slotTimes since 1970
	since  int64 // Unix nanoseconds: the first without a minute's break
}

func (r *recent) add(at time.Time) {
	r.turn(at)
	r.counts[r.slot%slots]++
}

// turn empties the slots that are over.
func (r *recent) turn(at time.Time) {
	slot := at.UnixNano() / int64(slotTime)
	if slot < r.slot || slot-r.slot >= slots {
		*r = recent{slot: slot, since: at.UnixNano()}
		return
	}
	for ; r.slot < slot; r.slot++ {
		r.counts[(r.slot+1)%slots] = 0
	}
}

// count gives how many went, and since when.
func (r *recent) count(at time.Time) (n int, since time.Time) {
	r.turn(at)
	for _, c := range r.counts {
		n += int(c)
	}
	return n, time.Unix(0, max(r.since, (r.slot-slots+1)*int64(slotTime))).UTC()
}
