package conformance

import (
	"fmt"
	"net/netip"
	"sort"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

func settleReplaces(e *env) {
	sub := e.put(1, "x", "a@one.example", "b@one.example", "c@one.example")
	d := sub.Deliveries[0]
	next := *d
	next.Recipients = []mta.Recipient{d.Recipients[2], d.Recipients[1]}
	next.State, next.Due, next.Attempts, next.DelaySent = mta.Deferred, at(90), 1, true
	next.Last = mta.Last{Time: at(2), Host: "mx.one.example", IP: netip.MustParseAddr("192.0.2.9"), Result: mta.Result{Reply: mta.Reply{Code: 450, Text: "greylisted"}}}
	e.settle(&spool.Settlement{Delivery: d.Key(), Next: &next, Records: []*mta.Record{
		record(d, 0, mta.EventDelivered, at(2)), record(d, 1, mta.EventDeferred, at(2)), record(d, 2, mta.EventDeferred, at(2)),
	}})
	for range 2 {
		got := e.page("one.example", spool.Cursor{}, 10)
		if len(got) != 1 {
			e.Fatalf("%d deliveries", len(got))
		}
		want := next
		want.Message = got[0].Message
		e.equal(*got[0], want)
		e.checkCounts()
		e.reopen()
	}
	// The same due time again, and another state at the same due time.
	for _, st := range []mta.State{mta.Deferred, mta.Queued, mta.Deferred} {
		next.State = st
		next.Attempts++
		e.settle(&spool.Settlement{Delivery: d.Key(), Next: &next})
		e.equal(e.page("one.example", spool.Cursor{}, 10)[0].State, st)
		e.checkCounts()
	}
	var names []string
	for _, r := range e.records(spool.RecordFilter{ID: sub.Message.ID}) {
		names = append(names, r.Event.String()+" "+r.Recipient)
	}
	e.equal(names, []string{
		"accepted a@one.example", "accepted b@one.example", "accepted c@one.example",
		"delivered a@one.example", "deferred b@one.example", "deferred c@one.example",
	})
	e.settle(done(&next, at(99)))
	e.checkCounts()
}

func settleRemoves(e *env) {
	sub := e.put(1, "x", "a@one.example")
	e.settle(done(sub.Deliveries[0], at(2)))
	_, err := e.s.Get(e.ctx, sub.Message.ID)
	e.is(err, spool.ErrNotFound)
	e.equal(len(e.page("one.example", spool.Cursor{}, 10)), 0)
	e.equal(len(e.destinations()), 0)
	e.checkCounts()
}

func settleGone(e *env) {
	a, b := e.put(1, "x", "a@one.example"), e.put(2, "x", "b@one.example")
	e.settle(done(a.Deliveries[0], at(3)))
	late := done(a.Deliveries[0], at(4))
	report := e.sub(3, "report", "sender@app.example")
	late.Reports = []*spool.Submission{report}
	gone, err := e.s.Settle(e.ctx, late, done(b.Deliveries[0], at(4)))
	e.must(err)
	e.equal(gone, []mta.DeliveryKey{a.Deliveries[0].Key()})
	_, err = e.s.Get(e.ctx, report.Message.ID)
	e.is(err, spool.ErrNotFound)
	e.equal(len(e.records(spool.RecordFilter{ID: a.Message.ID})), 2)
	e.equal(len(e.records(spool.RecordFilter{ID: b.Message.ID})), 2)
	gone, err = e.s.Settle(e.ctx, deferred(b.Deliveries[0], at(50)))
	e.must(err)
	e.equal(gone, []mta.DeliveryKey{b.Deliveries[0].Key()})
	e.checkCounts()
}

func settleAsItWas(e *env) {
	sub := e.put(1, "x", "a@one.example", "b@one.example")
	d := sub.Deliveries[0]
	now := *d
	for name, change := range map[string]func(n *mta.Delivery){
		"attempts": func(n *mta.Delivery) { n.Attempts++ },
		"due":      func(n *mta.Delivery) { n.Due = n.Due.Add(time.Millisecond) },
		"state":    func(n *mta.Delivery) { n.State = mta.Held },
		"notice":   func(n *mta.Delivery) { n.DelaySent = true },
		"fewer":    func(n *mta.Delivery) { n.Recipients = n.Recipients[:1] },
		"route":    func(n *mta.Delivery) { n.Destination.Via = "relay.example:26" },
	} {
		was := now
		change(&now)
		after := now
		e.settle(&spool.Settlement{Delivery: d.Key(), Was: &was, Next: &after})
		stale := &spool.Settlement{Delivery: d.Key(), Was: &was, Records: []*mta.Record{record(d, 0, mta.EventCancelled, at(5))}}
		gone, err := e.s.Settle(e.ctx, stale)
		e.must(err)
		if len(gone) != 1 || gone[0] != d.Key() {
			e.Errorf("%s: a delivery that has changed was settled (%v)", name, gone)
		}
		e.checkCounts()
	}
	got, err := e.s.Get(e.ctx, sub.Message.ID)
	e.must(err)
	e.equal(len(got), 1)
	e.equal(len(e.records(spool.RecordFilter{ID: sub.Message.ID})), 2)
	e.settle(&spool.Settlement{Delivery: d.Key(), Was: got[0]})
	e.equal(len(e.list(spool.Filter{})), 0)
	e.checkCounts()
}

func settleTwice(e *env) {
	sub := e.put(1, "x", "a@one.example", "b@two.example")
	d := sub.Deliveries[0]
	put := deferred(d, at(70))
	e.settle(put, deferred(put.Next, at(80)))
	e.equal(e.page("one.example", spool.Cursor{}, 9)[0].Attempts, 2)
	gone, err := e.s.Settle(e.ctx, done(d, at(81)), done(d, at(82)))
	e.must(err)
	e.equal(gone, []mta.DeliveryKey{d.Key()})
	e.equal(len(e.list(spool.Filter{})), 1)
	e.checkCounts()
}

func lastDelivery(e *env) {
	sub := e.put(1, "content", "a@one.example", "b@two.example", "c@three.example")
	e.settle(deferred(sub.Deliveries[2], at(50)))
	for i, d := range sub.Deliveries {
		e.equal(e.content(sub.Message.ID), "content")
		e.equal(len(e.list(spool.Filter{})), 3-i)
		e.checkCounts()
		e.reopen()
		e.settle(done(d, at(60)))
	}
	_, err := e.s.Open(e.ctx, sub.Message.ID)
	e.is(err, spool.ErrNotFound)
	// Several in one call.
	sub = e.put(2, "content", "a@one.example", "b@two.example", "c@three.example")
	e.settle(done(sub.Deliveries[1], at(61)), done(sub.Deliveries[0], at(61)), done(sub.Deliveries[2], at(61)))
	_, err = e.s.Open(e.ctx, sub.Message.ID)
	e.is(err, spool.ErrNotFound)
	e.checkCounts()
}

func reports(e *env) {
	for i, size := range []int{10, 100000} {
		sub := e.put(uint64(10*i+1), "x", "a@one.example")
		d := sub.Deliveries[0]
		report := e.sub(uint64(10*i+2), string(make([]byte, size)), "sender@app.example")
		report.Message.Kind, report.Message.Envelope.Sender = mta.KindBounce, ""
		report.Records[0].Sender, report.Records[0].Report = "", sub.Message.ID
		st := done(d, at(3))
		st.Records[0].Event, st.Records[0].Report = mta.EventFailed, report.Message.ID
		st.Reports = []*spool.Submission{report}
		e.settle(st)
		_, err := e.s.Get(e.ctx, sub.Message.ID)
		e.is(err, spool.ErrNotFound)
		for range 2 {
			got, err := e.s.Get(e.ctx, report.Message.ID)
			e.must(err)
			e.equal(got[0].Message.Kind, mta.KindBounce)
			e.equal(len(e.content(report.Message.ID)), size)
			e.equal(e.records(spool.RecordFilter{ID: report.Message.ID})[0].Report, sub.Message.ID)
			e.equal(e.records(spool.RecordFilter{ID: sub.Message.ID})[1].Report, report.Message.ID)
			e.checkCounts()
			e.reopen()
		}
		e.settle(done(report.Deliveries[0], at(9)))
	}
	// A settlement that cannot be applied leaves no report behind.
	sub := e.put(50, "x", "a@one.example")
	bad := e.sub(51, "r", "sender@app.example")
	bad.Message.ID = sub.Message.ID
	st := done(sub.Deliveries[0], at(3))
	st.Reports = []*spool.Submission{bad}
	if _, err := e.s.Settle(e.ctx, st); err == nil {
		e.Fatal("a report with the ID of another message was taken")
	}
	e.equal(len(e.page("one.example", spool.Cursor{}, 9)), 1)
	e.checkCounts()
}

func held(e *env) {
	sub := e.sub(1, "x", "a@one.example")
	sub.Deliveries[0].State, sub.Deliveries[0].HeldBy = mta.Held, "held by the operator"
	e.must(e.s.Put(e.ctx, sub))
	e.equal(len(e.page("one.example", spool.Cursor{}, 10)), 0)
	dest := mta.Destination{Domain: "one.example", Stream: mta.DefaultStream}
	e.equal(e.destinations(), []spool.Pending{{Destination: dest}})
	other := e.put(2, "x", "b@one.example")
	e.equal(e.destinations(), []spool.Pending{{Destination: dest, Due: other.Deliveries[0].Due}})
	e.checkCounts()
	got, err := e.s.Get(e.ctx, sub.Message.ID)
	e.must(err)
	e.equal(got[0].HeldBy, "held by the operator")
	// Release, and hold again.
	next := *got[0]
	next.State, next.HeldBy = mta.Queued, ""
	e.settle(&spool.Settlement{Delivery: next.Key(), Next: &next, Records: []*mta.Record{record(&next, 0, mta.EventReleased, at(9))}})
	e.equal(len(e.page("one.example", spool.Cursor{}, 10)), 2)
	e.checkCounts()
	next.State, next.HeldBy = mta.Held, "again"
	e.settle(&spool.Settlement{Delivery: next.Key(), Next: &next, Records: []*mta.Record{record(&next, 0, mta.EventHeld, at(10))}})
	e.equal(len(e.page("one.example", spool.Cursor{}, 10)), 1)
	e.reopen()
	e.checkCounts()
	e.settle(done(&next, at(11)))
	e.checkCounts()
}

func begin(e *env) {
	sub := e.put(1, "x", "a@one.example", "b@one.example")
	d := sub.Deliveries[0]
	e.must(e.s.Begin(e.ctx, d.Key(), at(300)))
	e.must(e.s.Begin(e.ctx, d.Key(), at(600)))
	e.reopen()
	got := e.page("one.example", spool.Cursor{}, 9)
	e.equal(got[0].Attempts, 2)
	e.equal(got[0].Due, at(600))
	e.equal(got[0].State, mta.Queued)
	e.equal(got[0].Recipients, d.Recipients)
	e.checkCounts()
	e.settle(done(got[0], at(601)))
	e.equal(e.records(spool.RecordFilter{ID: sub.Message.ID})[3].Recipient, "b@one.example")
	e.is(e.s.Begin(e.ctx, d.Key(), at(900)), spool.ErrNotFound)
}

func streak(e *env) {
	e.equal(e.s.Streak(), 0)
	e.reopen()
	e.equal(e.s.Streak(), 0)
}

func destinations(e *env) {
	e.equal(len(e.destinations()), 0)
	var want []spool.Pending
	for i := range 20 {
		domain := fmt.Sprintf("d%02d.example", i%10)
		sub := e.sub(uint64(i+1), "x", "a@"+domain)
		stream := []string{mta.DefaultStream, "alerts"}[i/10]
		sub.Deliveries[0].Destination.Stream = stream
		sub.Deliveries[0].Due = at(1000 - i)
		e.must(e.s.Put(e.ctx, sub))
		later := e.sub(uint64(i+101), "x", "b@"+domain)
		later.Deliveries[0].Destination.Stream = stream
		later.Deliveries[0].Due = at(2000)
		e.must(e.s.Put(e.ctx, later))
		want = append(want, spool.Pending{Destination: sub.Deliveries[0].Destination, Due: at(1000 - i)})
	}
	sort.Slice(want, func(i, j int) bool { return want[i].Destination.String() < want[j].Destination.String() })
	e.equal(e.destinations(), want)
	n := 0
	e.must(e.s.Destinations(e.ctx, func(spool.Pending) bool { n++; return n < 3 }))
	e.equal(n, 3)
}

func page(e *env) {
	var want []mta.DeliveryKey
	for i := range 40 {
		sub := e.sub(uint64(i+1), "x", "a@one.example")
		sub.Deliveries[0].Due = at(1000 + (i*7)%10).Add(3 * time.Millisecond)
		e.must(e.s.Put(e.ctx, sub))
		want = append(want, sub.Deliveries[0].Key())
	}
	sort.SliceStable(want, func(i, j int) bool {
		return (int(want[i].Message.Time().Sub(epoch).Seconds())-1)*7%10 < (int(want[j].Message.Time().Sub(epoch).Seconds())-1)*7%10
	})
	for _, size := range []int{1, 7, 40, 100} {
		var got []mta.DeliveryKey
		var c spool.Cursor
		for {
			p := e.page("one.example", c, size)
			if len(p) == 0 {
				break
			}
			for _, d := range p {
				if d.Due.Before(c.Due) {
					e.Fatal("not in due order")
				}
				c = spool.Cursor{Due: d.Due, Key: d.Key()}
				got = append(got, d.Key())
			}
		}
		e.equal(got, want)
	}
	e.equal(len(e.page("one.example", spool.Cursor{}, 0)), 0)
	// What was removed behind and before a cursor changes nothing else.
	first := e.page("one.example", spool.Cursor{}, 10)
	c := spool.Cursor{Due: first[9].Due, Key: first[9].Key()}
	e.settle(done(first[9], at(3)), done(first[0], at(3)))
	e.equal(e.page("one.example", c, 1)[0].Key(), want[10])
}

func pageOfOne(e *env) {
	e.put(1, "x", "a@one.example")
	e.put(2, "x", "a@one.example.org")
	sub := e.sub(3, "x", "a@one.example")
	sub.Deliveries[0].Destination.Stream = "alerts"
	e.must(e.s.Put(e.ctx, sub))
	e.equal(len(e.page("one.example", spool.Cursor{}, 9)), 1)
	e.equal(len(e.page("one", spool.Cursor{}, 9)), 0)
	got, err := e.s.Page(e.ctx, mta.Destination{Domain: "one.example", Stream: "alerts"}, spool.Cursor{}, 9)
	e.must(err)
	e.equal(got[0].Key(), sub.Deliveries[0].Key())
	rerouted(e)
}

// rerouted: a delivery with an operator's route is of a destination of its own
// in every order and count, and of its domain in a list.
func rerouted(e *env) {
	plain := mta.Destination{Domain: "via.example", Stream: mta.DefaultStream}
	other := plain
	other.Via = "relay.example:587"
	sub := e.put(50, "x", "a@via.example")
	e.put(51, "x", "b@via.example")
	next := *sub.Deliveries[0]
	next.Destination = other
	moved := &spool.Settlement{Delivery: next.Key(), Was: sub.Deliveries[0], Next: &next, Records: []*mta.Record{record(&next, 0, mta.EventRerouted, at(60))}}
	e.settle(moved)
	for range 2 {
		for dest, n := range map[mta.Destination]int64{plain: 1, other: 1} {
			list, err := e.s.Page(e.ctx, dest, spool.Cursor{}, 9)
			e.must(err)
			e.equal(len(list), 1)
			e.equal(list[0].Destination, dest)
			st, err := e.s.CountByDestination(e.ctx, dest)
			e.must(err)
			e.equal(st.Messages, n)
		}
		e.equal(len(e.list(spool.Filter{Destination: "via.example", Stream: mta.DefaultStream})), 2)
		e.checkCounts()
		e.reopen()
	}
	var told []string
	for _, p := range e.destinations() {
		if p.Destination.Domain == "via.example" {
			told = append(told, p.Destination.Via)
		}
	}
	e.equal(len(told), 2)
	e.must(e.s.Begin(e.ctx, next.Key(), at(99)))
	got, err := e.s.Get(e.ctx, next.Message.ID)
	e.must(err)
	e.equal(got[0].Destination, other)
	back := *got[0]
	back.Destination = plain
	e.settle(&spool.Settlement{Delivery: back.Key(), Was: got[0], Next: &back})
	list, err := e.s.Page(e.ctx, other, spool.Cursor{}, 9)
	e.must(err)
	e.equal(len(list), 0)
	e.equal(len(e.page("via.example", spool.Cursor{}, 9)), 2)
	e.checkCounts()
}

func getOne(e *env) {
	sub := e.put(1, "x", "a@one.example", "b@two.example")
	e.put(2, "x", "a@one.example")
	got, err := e.s.Get(e.ctx, sub.Message.ID)
	e.must(err)
	e.equal(len(got), 2)
	e.equal(got[1].Key(), sub.Deliveries[1].Key())
	_, err = e.s.Get(e.ctx, mta.ID{1})
	e.is(err, spool.ErrNotFound)
}

func listFilters(e *env) {
	a := e.put(1, "x", "Ann@one.example", "b@two.example")
	b := e.sub(2, "x", "ann@one.example")
	b.Message.Stream, b.Deliveries[0].Destination.Stream = "alerts", "alerts"
	b.Message.Envelope.Sender = "Other@app.example"
	b.Deliveries[0].State = mta.Deferred
	e.must(e.s.Put(e.ctx, b))
	a0, a1, b0 := a.Deliveries[0].Key(), a.Deliveries[1].Key(), b.Deliveries[0].Key()
	c := e.sub(3, "x", "c@one.example")
	c.Deliveries[0].State = mta.Held
	e.must(e.s.Put(e.ctx, c))
	h0 := c.Deliveries[0].Key()
	state, held := mta.Deferred, mta.Held
	for _, c := range []struct {
		f    spool.Filter
		want []mta.DeliveryKey
	}{
		{spool.Filter{}, []mta.DeliveryKey{a0, a1, b0, h0}},
		{spool.Filter{ID: a.Message.ID}, []mta.DeliveryKey{a0, a1}},
		{spool.Filter{Destination: "one.example"}, []mta.DeliveryKey{a0, b0, h0}},
		{spool.Filter{Stream: "alerts"}, []mta.DeliveryKey{b0}},
		{spool.Filter{Sender: "other@APP.example"}, []mta.DeliveryKey{b0}},
		{spool.Filter{Recipient: "ANN@one.example"}, []mta.DeliveryKey{a0, b0}},
		{spool.Filter{State: &state}, []mta.DeliveryKey{b0}},
		{spool.Filter{Destination: "two.example", Stream: "alerts"}, nil},
		{spool.Filter{Destination: "one.exampl"}, nil},
		{spool.Filter{Destination: "ONE.example", Stream: "alerts"}, []mta.DeliveryKey{b0}},
		{spool.Filter{Destination: "one.example", Stream: mta.DefaultStream}, []mta.DeliveryKey{a0, h0}},
		{spool.Filter{Destination: "one.example", State: &state}, []mta.DeliveryKey{b0}},
		{spool.Filter{Destination: "one.example", State: &held}, []mta.DeliveryKey{h0}},
		{spool.Filter{Destination: "one.example", Sender: "other@app.example"}, []mta.DeliveryKey{b0}},
		{spool.Filter{Destination: "one.example", Recipient: "c@one.example"}, []mta.DeliveryKey{h0}},
		{spool.Filter{State: &held}, []mta.DeliveryKey{h0}},
		{spool.Filter{State: &held, Stream: "alerts"}, nil},
	} {
		e.equal(e.list(c.f), c.want)
	}
	n := 0
	e.must(e.s.List(e.ctx, spool.Filter{}, func(*mta.Delivery) bool { n++; return n < 2 }))
	e.equal(n, 2)
}

func listSnapshot(e *env) {
	a, b := e.put(1, "x", "a@one.example"), e.put(2, "x", "b@one.example")
	var got []mta.DeliveryKey
	e.must(e.s.List(e.ctx, spool.Filter{}, func(d *mta.Delivery) bool {
		if len(got) == 0 {
			e.settle(done(b.Deliveries[0], at(9)))
			e.put(3, "x", "c@one.example")
		}
		got = append(got, d.Key())
		return true
	}))
	e.equal(got, []mta.DeliveryKey{a.Deliveries[0].Key(), b.Deliveries[0].Key()})
}

func statsExact(e *env) {
	for i := range 30 {
		sub := e.sub(uint64(i+1), "0123456789"[:1+i%10], "a@one.example", "b@two.example")
		if i%3 == 0 {
			sub.Deliveries[1].State = mta.Held
		}
		e.must(e.s.Put(e.ctx, sub))
		switch i % 5 {
		case 0:
			e.settle(deferred(sub.Deliveries[0], at(500)))
		case 1:
			e.settle(done(sub.Deliveries[0], at(2)), done(sub.Deliveries[1], at(2)))
		}
		if i%10 == 9 {
			e.checkCounts()
			e.reopen()
			e.checkCounts()
		}
	}
	st, err := e.s.Stats(e.ctx)
	e.must(err)
	e.equal(st.Oldest, at(1))
	e.equal([]int64{st.Queued, st.Deferred, st.Held, st.Messages}, []int64{34, 6, 8, 24})
}

func countByDestination(e *env) {
	dest := mta.Destination{Domain: "one.example", Stream: mta.DefaultStream}
	got, err := e.s.CountByDestination(e.ctx, dest)
	e.must(err)
	e.equal(got, spool.Stats{})
	sub := e.put(1, "12345", "a@one.example", "b@two.example")
	e.settle(deferred(sub.Deliveries[0], at(9)))
	got, err = e.s.CountByDestination(e.ctx, dest)
	e.must(err)
	e.equal(got, spool.Stats{Deferred: 1, Messages: 1, Bytes: 5})
	e.settle(done(sub.Deliveries[0], at(9)))
	got, err = e.s.CountByDestination(e.ctx, dest)
	e.must(err)
	e.equal(got, spool.Stats{})
}
