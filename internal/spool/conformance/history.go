package conformance

import (
	"fmt"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

func (e *env) history() spool.History {
	e.Helper()
	h, ok := e.s.(spool.History)
	if !ok {
		e.Fatal("the engine has no history")
	}
	return h
}

// arrivals reads all that a query selects, a page of n at a time, and gives the
// number of each message, and how many records it came with, in the order told.
func (e *env) arrivals(q spool.ArrivalQuery, n int) string {
	e.Helper()
	if q.Look == 0 {
		q.Look = 1 << 20
	}
	var out []string
	for calls := 0; ; calls++ {
		got := 0
		next, more, err := e.history().Arrivals(e.ctx, q, func(at spool.Position, records []*mta.Record) bool {
			if n > 0 && got == n {
				return false
			}
			if q.Before.Entry > 0 && at.Compare(q.Before) >= 0 {
				e.Fatalf("%s is not before %s", at, q.Before)
			}
			for _, r := range records {
				if r.Event != mta.EventAccepted || r.ID != records[0].ID {
					e.Fatalf("%+v is not of the arrival", r)
				}
			}
			got++
			out = append(out, fmt.Sprintf("%d:%d", int(records[0].ID.Time().Sub(epoch)/time.Second), len(records)))
			return true
		})
		e.must(err)
		if !more {
			return strings.Join(out, " ")
		}
		if calls > 1000 {
			e.Fatal("the reading does not end")
		}
		q.Before = next
	}
}

func arrivalsAreTold(e *env) {
	for i := range 9 {
		to := []string{fmt.Sprintf("u%d@one.example", i)}
		if i%3 == 0 {
			to = append(to, "Ann@one.example", "ann@two.example")
		}
		sub := e.sub(uint64(i+1), "x", to...)
		sub.Message.MessageID = "<" + sub.Message.ID.String() + "@here.example>"
		if i == 4 || i == 5 {
			sub.Message.MessageID = "<same@there.example>"
		}
		for _, r := range sub.Records {
			r.Time, r.MessageID = at(10*(i+1)), sub.Message.MessageID
		}
		e.must(e.s.Put(e.ctx, sub))
		if i%2 == 0 {
			e.settle(done(sub.Deliveries[0], at(10*(i+1)+5)))
		}
	}
	for _, v := range []struct {
		q    spool.ArrivalQuery
		want string
	}{
		{spool.ArrivalQuery{}, "9:1 8:1 7:3 6:1 5:1 4:3 3:1 2:1 1:3"},
		{spool.ArrivalQuery{Recipient: "ann@ONE.example"}, "7:3 4:3 1:3"},
		{spool.ArrivalQuery{Recipient: "nobody@one.example"}, ""},
		{spool.ArrivalQuery{MessageID: "<same@there.example>"}, "6:1 5:1"},
		{spool.ArrivalQuery{MessageID: "<Same@there.example>"}, ""},
		{spool.ArrivalQuery{Since: at(30), Until: at(60)}, "5:1 4:3 3:1"},
		{spool.ArrivalQuery{Recipient: "ann@one.example", Since: at(11)}, "7:3 4:3"},
		{spool.ArrivalQuery{Until: at(10)}, ""},
		{spool.ArrivalQuery{Since: at(1000)}, ""},
		{spool.ArrivalQuery{Look: 1}, "9:1 8:1 7:3 6:1 5:1 4:3 3:1 2:1 1:3"},
		{spool.ArrivalQuery{Recipient: "ann@one.example", Look: 1}, "7:3 4:3 1:3"},
	} {
		for n := range 4 {
			if got := e.arrivals(v.q, n); got != v.want {
				e.Errorf("%+v, %d a page: %q, want %q", v.q, n, got, v.want)
			}
		}
	}
	e.reopen()
	e.equal(e.arrivals(spool.ArrivalQuery{MessageID: "<same@there.example>"}, 0), "6:1 5:1")
	e.equal(len(e.records(spool.RecordFilter{MessageID: "<same@there.example>"})), 3)
	e.must(e.s.Prune(e.ctx, at(1000)))
	e.equal(e.arrivals(spool.ArrivalQuery{}, 2), "8:1 7:3 6:1 4:3 2:1 1:3")
	e.equal(e.arrivals(spool.ArrivalQuery{Recipient: "ann@one.example"}, 0), "7:3 4:3 1:3")
}

// journalIsMeasured: a bound that is met is told with a time that leaves less.
func journalIsMeasured(e *env) {
	if _, over, err := e.history().JournalOver(e.ctx, 1); err != nil || over {
		e.Errorf("an empty journal is over: %t, %v", over, err)
	}
	for i := range 200 {
		sub := e.sub(uint64(i+1), "x", "a@one.example")
		sub.Records[0].Time = at(i)
		e.must(e.s.Put(e.ctx, sub))
		e.settle(done(sub.Deliveries[0], at(i)))
	}
	e.reopen() // what is in memory only counts nothing
	_, over, err := e.history().JournalOver(e.ctx, 1<<40)
	e.must(err)
	e.equal(over, false)
	_, over, err = e.history().JournalOver(e.ctx, 0)
	e.must(err)
	e.equal(over, false) // no bound
	before, over, err := e.history().JournalOver(e.ctx, 1)
	e.must(err)
	e.equal(over, true)
	e.must(e.s.Prune(e.ctx, before.Add(time.Millisecond)))
	if n := len(e.records(spool.RecordFilter{})); n > 20 {
		e.Errorf("%d records are left for one octet", n)
	}
}

// arrivalsCommittedLate: two commits at once may stand in the other order than
// their times; no stretch of time loses one of them.
func arrivalsCommittedLate(e *env) {
	e.put(20, "x", "a@one.example")
	e.put(19, "x", "a@one.example")
	for _, recipient := range []string{"", "a@one.example"} {
		e.equal(e.arrivals(spool.ArrivalQuery{Recipient: recipient, Until: at(20)}, 0), "19:1")
		e.equal(e.arrivals(spool.ArrivalQuery{Recipient: recipient, Since: at(20)}, 0), "20:1")
	}
}
