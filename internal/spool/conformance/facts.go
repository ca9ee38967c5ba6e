package conformance

import (
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// recordsTellFacts: tags and metadata of a message come back on each of its
// records, whatever the record said when it was stored, and on no other's.
func recordsTellFacts(e *env) {
	tagged, plain, loose := e.sub(71, "x", "a@tagged.example", "b@tagged.example", "c@other.example"), e.sub(72, "x", "a@tagged.example"), e.sub(73, "x", "a@tagged.example")
	tell := func(sub *spool.Submission) {
		sub.Message.Tags, sub.Message.Metadata = []string{"welcome"}, map[string]string{"order": "17"}
		for _, r := range sub.Records {
			r.Tags, r.Metadata = sub.Message.Tags, sub.Message.Metadata
		}
	}
	tell(tagged)
	tell(loose)
	loose.Records[0].Size = 99 // says another thing than the message: later records stand alone
	e.must(e.s.Put(e.ctx, tagged, plain, loose))
	e.settle(deferred(tagged.Deliveries[0], at(80)), done(tagged.Deliveries[1], at(80)), done(plain.Deliveries[0], at(80)), done(loose.Deliveries[0], at(80)))
	e.reopen()
	e.settle(done(tagged.Deliveries[0], at(90)))
	told, untold := 0, 0
	e.must(e.s.Records(e.ctx, spool.RecordFilter{Since: at(71)}, func(r *mta.Record) bool {
		switch {
		case r.ID == plain.Message.ID && (r.Tags != nil || r.Metadata != nil):
			e.Errorf("the %s record of a message without tags has %v %v", r.Event, r.Tags, r.Metadata)
		case r.ID == plain.Message.ID:
			untold++
		case r.ID == tagged.Message.ID || r.ID == loose.Message.ID:
			e.equal(r.Tags, tagged.Message.Tags)
			e.equal(r.Metadata, tagged.Message.Metadata)
			told++
		}
		return true
	}))
	e.equal([]int{told, untold}, []int{3 + 1 + 1 + 2 + 2, 2})
}
