package conformance

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// fullRecord gives every field of a record a value of its own.
func fullRecord(d *mta.Delivery, i int) *mta.Record {
	r := record(d, i%len(d.Recipients), mta.EventDeferred, at(10+i).Add(123*time.Millisecond))
	r.Site = "mx1.one.example,mx2.one.example"
	r.Host, r.IP, r.Source = "mx2.one.example", netip.MustParseAddr("2001:db8::25"), netip.MustParseAddr("198.51.100.7")
	r.Helo = "mailout.example"
	r.TLS = mta.TLSFacts{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256", Verified: "dane", Origin: mta.TLSByDANE}
	r.Code, r.Enhanced, r.Reply = 450, "4.7.1", "try again\nin 5 minutes é"
	r.Class, r.Scope, r.Reason, r.Uncertain = "uncertain", "site", "the final reply was lost", true
	r.Next = at(400 + i)
	r.Tries = []mta.Try{
		{Host: "mx1.one.example", IP: netip.MustParseAddr("192.0.2.1"), Stage: mta.StageConnect, Reply: "connection refused", MS: 12},
		{Host: "mx2.one.example", Stage: mta.StageFinal, Reply: "lost"},
	}
	r.Report = mta.ID{1, 2, 3}
	_, domain, _ := strings.Cut(r.Sender, "@")
	r.DKIM = mta.KeyNames("m2026._domainkey." + domain + " m2026-ed25519._domainkey.other.example")
	r.Durations = mta.Durations{Route: 1, Connect: 2, TLS: 3, Mail: 4, Data: 5, Total: 6}
	return r
}

// same compares records, and times by the instant.
func (e *env) same(got, want []*mta.Record) {
	e.Helper()
	if len(got) != len(want) {
		e.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, err := got[i].MarshalJSON()
		e.must(err)
		w, err := want[i].MarshalJSON()
		e.must(err)
		e.equal(string(g), string(w))
	}
}

func recordsRoundTrip(e *env) {
	sub := e.put(1, "x", "a@one.example", "b@one.example", "c@two.example")
	d := sub.Deliveries[0]
	want := append([]*mta.Record{}, sub.Records...)
	add := func(recs ...*mta.Record) {
		next := *d
		next.State = mta.Deferred
		e.settle(&spool.Settlement{Delivery: d.Key(), Next: &next, Records: recs})
		want = append(want, recs...)
	}
	add(fullRecord(d, 0), fullRecord(d, 1))
	bare := record(d, 1, mta.EventHeld, at(20))
	add(fullRecord(d, 1), bare) // fields that end again
	single := fullRecord(d, 0)
	single.Site, single.Host = "mx.one.example", "mx.one.example"
	host := fullRecord(d, 0)
	host.Host, host.Destination = "elsewhere.example", "odd"
	add(single, host)
	changed := record(d, 0, mta.EventFailed, at(30))
	changed.MessageID, changed.Sender, changed.Stream, changed.Size = "<other@x>", "", "other", 99
	changed.Recipient, changed.Destination = "forwarded@three.example", ""
	add(changed)
	e.same(e.records(spool.RecordFilter{ID: sub.Message.ID}), want)
	e.reopen()
	e.same(e.records(spool.RecordFilter{ID: sub.Message.ID}), want)
	e.same(e.records(spool.RecordFilter{}), want)
	recordsTellFacts(e)
}

func recordsOutlive(e *env) {
	subs := make([]*spool.Submission, 5)
	var want []*mta.Record
	for i := range subs {
		subs[i] = e.put(uint64(i+1), "x", "a@one.example", "b@two.example")
		want = append(want, subs[i].Records...)
	}
	for _, sub := range subs {
		for _, d := range sub.Deliveries {
			st := done(d, at(50))
			e.settle(st)
			want = append(want, st.Records...)
		}
	}
	e.equal(len(e.list(spool.Filter{})), 0)
	e.same(e.records(spool.RecordFilter{}), want)
	e.reopen()
	e.same(e.records(spool.RecordFilter{}), want)
}

func recordsFilters(e *env) {
	a, b := e.put(1, "x", "Ann@one.example", "b@one.example"), e.put(2, "y", "ann@one.example")
	e.settle(done(b.Deliveries[0], at(10)))
	e.settle(done(a.Deliveries[0], at(20)))
	names := func(f spool.RecordFilter) (out []string) {
		for _, r := range e.records(f) {
			out = append(out, r.Event.String()+" "+r.Recipient)
		}
		return out
	}
	for _, c := range []struct {
		f    spool.RecordFilter
		want []string
	}{
		{spool.RecordFilter{ID: b.Message.ID}, []string{"accepted ann@one.example", "delivered ann@one.example"}},
		{spool.RecordFilter{Recipient: "ANN@ONE.example"}, []string{"accepted Ann@one.example", "accepted ann@one.example", "delivered ann@one.example", "delivered Ann@one.example"}},
		{spool.RecordFilter{Recipient: "ann@one.example", Since: at(10)}, []string{"delivered ann@one.example", "delivered Ann@one.example"}},
		{spool.RecordFilter{ID: a.Message.ID, Recipient: "b@one.example"}, []string{"accepted b@one.example", "delivered b@one.example"}},
		{spool.RecordFilter{Since: at(2)}, []string{"accepted ann@one.example", "delivered ann@one.example", "delivered Ann@one.example", "delivered b@one.example"}},
		{spool.RecordFilter{Since: at(11)}, []string{"delivered Ann@one.example", "delivered b@one.example"}},
		{spool.RecordFilter{Since: at(21)}, nil},
		{spool.RecordFilter{Recipient: "nobody@one.example"}, nil},
		{spool.RecordFilter{ID: mta.ID{9}}, nil},
	} {
		e.equal(names(c.f), c.want)
	}
	n := 0
	e.must(e.s.Records(e.ctx, spool.RecordFilter{}, func(*mta.Record) bool { n++; return n < 2 }))
	e.equal(n, 2)
	// A clock that was set back hides nothing.
	old := e.sub(3, "z", "late@one.example")
	old.Records[0].Time = at(-5000)
	e.must(e.s.Put(e.ctx, old))
	e.equal(names(spool.RecordFilter{Since: at(-6000)})[5:], []string{"delivered b@one.example", "accepted late@one.example"})
	e.equal(len(names(spool.RecordFilter{Since: at(1)})), 6)
}

func recordsOfMany(e *env) {
	var rcpts []string
	for i := range 300 {
		rcpts = append(rcpts, fmt.Sprintf("user%d@d%d.example", i, i%3))
	}
	sub := e.put(1, "x", rcpts...)
	for _, d := range sub.Deliveries {
		// Half now, in reverse order, the rest later.
		next := *d
		next.Recipients, next.State = d.Recipients[50:], mta.Deferred
		st := &spool.Settlement{Delivery: d.Key(), Next: &next}
		for i := 49; i >= 0; i-- {
			st.Records = append(st.Records, record(d, i, mta.EventDelivered, at(5)))
		}
		e.settle(st)
		e.reopen()
		e.settle(done(&next, at(6)))
	}
	seen := map[string]int{}
	for _, r := range e.records(spool.RecordFilter{ID: sub.Message.ID}) {
		seen[r.Recipient+" "+r.Event.String()]++
		e.equal(r.Destination, domainOf(r.Recipient))
	}
	e.equal(len(seen), 600)
	for _, r := range rcpts[:10] {
		got := e.records(spool.RecordFilter{Recipient: r})
		e.equal(len(got), 2)
		e.equal(got[1].Recipient, r)
		e.equal(got[1].Event, mta.EventDelivered)
	}
}

func prune(e *env) {
	var gone, waiting, straddling []mta.ID
	for i := range 60 {
		sub := e.put(uint64(i+1), "x", "a@one.example", "b@two.example")
		switch i % 3 {
		case 0:
			e.settle(done(sub.Deliveries[0], at(i+1)), done(sub.Deliveries[1], at(i+1)))
			gone = append(gone, sub.Message.ID)
		case 1:
			e.settle(done(sub.Deliveries[0], at(i+1)))
			waiting = append(waiting, sub.Message.ID)
		case 2:
			e.settle(done(sub.Deliveries[0], at(i+1)))
			straddling = append(straddling, sub.Message.ID)
		}
	}
	young := e.put(100, "x", "a@one.example")
	e.settle(done(young.Deliveries[0], at(200)))
	for _, id := range straddling {
		d, err := e.s.Get(e.ctx, id)
		e.must(err)
		e.settle(done(d[0], at(210)))
	}
	before := len(e.records(spool.RecordFilter{}))
	e.must(e.s.Prune(e.ctx, epoch))
	e.equal(len(e.records(spool.RecordFilter{})), before)
	for range 2 { // the second time there is nothing to do
		e.must(e.s.Prune(e.ctx, at(150)))
		e.equal(len(e.records(spool.RecordFilter{})), before-4*len(gone))
		for _, id := range gone {
			e.equal(len(e.records(spool.RecordFilter{ID: id})), 0)
		}
		for _, id := range append(append([]mta.ID{}, waiting...), straddling...) {
			for _, r := range e.records(spool.RecordFilter{ID: id}) {
				if r.Recipient == "" || r.Sender == "" {
					e.Fatalf("%s lost what its accepted record says", r.Event)
				}
			}
		}
		e.equal(len(e.records(spool.RecordFilter{ID: waiting[0]})), 3)
		e.equal(len(e.records(spool.RecordFilter{ID: straddling[0]})), 4)
		e.equal(len(e.records(spool.RecordFilter{Recipient: "a@one.example"})), 2*(len(waiting)+len(straddling)+1))
		e.checkCounts()
		e.reopen()
	}
	for _, id := range waiting {
		d, err := e.s.Get(e.ctx, id)
		e.must(err)
		e.settle(done(d[0], at(220)))
	}
	e.must(e.s.Prune(e.ctx, at(1000)))
	e.equal(len(e.records(spool.RecordFilter{})), 0)
	e.reopen()
	again := e.put(300, "x", "a@one.example")
	e.settle(done(again.Deliveries[0], at(301)))
	e.same(e.records(spool.RecordFilter{Recipient: "a@one.example"}), e.records(spool.RecordFilter{ID: again.Message.ID}))
	e.equal(len(e.records(spool.RecordFilter{})), 2)
	e.checkCounts()
}
