package conformance

import (
	"fmt"
	"slices"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// settleMany: a large call does what many small ones do, in any order, with
// what is gone, what has changed and what comes twice among the rest, and with
// or without the message in hand.
func settleMany(e *env) {
	const n = 100
	var all []*mta.Delivery
	for i := range n {
		sub := e.put(uint64(i+1), "x", fmt.Sprintf("a%d@one.example", i), fmt.Sprintf("b%d@one.example", i), fmt.Sprintf("c%d@two.example", i))
		all = append(all, sub.Deliveries...)
	}
	e.settle(done(all[0], at(200)), deferred(all[7], at(900)))
	moved := *all[9]
	var sets []*spool.Settlement
	for i, d := range all {
		var st *spool.Settlement
		switch i % 4 {
		case 0:
			st = done(d, at(210))
		default:
			next := *d
			next.State, next.HeldBy, next.Due = mta.Held, "many", d.Due
			st = &spool.Settlement{Delivery: d.Key(), Next: &next, Records: []*mta.Record{record(d, len(d.Recipients)-1, mta.EventHeld, at(210))}}
		}
		st.Was = d
		if i%3 == 0 {
			st.Message = d.Message
		}
		sets = append(sets, st)
	}
	slices.Reverse(sets)
	moved.State, moved.HeldBy = mta.Held, "many" // as the call before it leaves it
	sets = append(sets, &spool.Settlement{Delivery: moved.Key(), Was: &moved, Records: []*mta.Record{record(&moved, 0, mta.EventCancelled, at(211))}})
	gone, err := e.s.Settle(e.ctx, sets...)
	e.must(err)
	slices.SortFunc(gone, func(a, b mta.DeliveryKey) int { return a.Message.Time().Compare(b.Message.Time()) })
	e.equal(gone, []mta.DeliveryKey{all[0].Key(), all[7].Key()})
	for range 2 {
		held := mta.Held
		e.equal(len(e.list(spool.Filter{State: &held})), len(all)*3/4-2)
		e.equal(len(e.list(spool.Filter{})), len(all)*3/4-1)
		for i, d := range all {
			recs := e.records(spool.RecordFilter{ID: d.Message.ID, Recipient: d.Recipients[0].Address})
			if i%4 == 0 {
				e.equal(recs[1].Event, mta.EventDelivered)
			}
			e.equal(recs[len(recs)-1].MessageID, d.Message.MessageID)
		}
		e.checkCounts()
		e.reopen()
	}
	got, err := e.s.Get(e.ctx, all[7].Message.ID)
	e.must(err)
	e.equal(got[len(got)-1].Attempts, 1)
}
