package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

func (e *env) feed() spool.Feed {
	e.Helper()
	f, ok := e.s.(spool.Feed)
	if !ok {
		e.Fatal("the engine has no feed")
	}
	return f
}

// told is one record of the feed, and the position behind it.
type told struct {
	at  spool.Position
	rec *mta.Record
}

// follow reads the feed to its end, at most n records a call; 0 is no bound.
func (e *env) follow(after spool.Position, n int) (out []told, end spool.Position) {
	e.Helper()
	for {
		var got int
		next, err := e.feed().Follow(e.ctx, after, func(at spool.Position, r *mta.Record) bool {
			if n > 0 && got == n {
				return false
			}
			got++
			out = append(out, told{at, r})
			return true
		})
		e.must(err)
		if next == after {
			return out, next
		}
		if next.Compare(after) < 0 {
			e.Fatalf("the feed goes back from %s to %s", after, next)
		}
		after = next
	}
}

func recordsOf(list []told) (out []*mta.Record) {
	for _, t := range list {
		out = append(out, t.rec)
	}
	return out
}

func feedOrder(e *env) {
	first := e.put(1, "x", "a@one.example", "b@one.example", "c@two.example")
	e.settle(deferred(first.Deliveries[1], at(3)))
	second := e.put(2, "x", "d@one.example")
	e.settle(done(first.Deliveries[0], at(4)), done(second.Deliveries[0], at(4)))
	want := e.records(spool.RecordFilter{})
	e.equal(len(want), 8)
	all, end := e.follow(spool.Position{}, 0)
	e.same(recordsOf(all), want)
	e.equal(end, e.feed().End())
	for _, n := range []int{1, 2, 3, 7} {
		some, _ := e.follow(spool.Position{}, n)
		e.same(recordsOf(some), want)
		for i := range some {
			e.equal(some[i].at, all[i].at)
		}
	}
	e.reopen()
	for i, t := range all { // every position resumes behind its record
		rest, _ := e.follow(t.at, 2)
		e.same(recordsOf(rest), want[i+1:])
	}
	if !slices.IsSortedFunc(all, func(a, b told) int { return a.at.Compare(b.at) }) {
		e.Fatal("positions are not in order")
	}
	// A position of somebody's making: behind the last record of an entry.
	rest, _ := e.follow(spool.Position{Entry: all[0].at.Entry, Record: 3}, 0)
	e.same(recordsOf(rest), want[3:])
	rest, _ = e.follow(spool.Position{Entry: all[0].at.Entry, Record: math.MaxUint32}, 0)
	e.same(recordsOf(rest), want[3:])
	if _, err := e.feed().Follow(e.ctx, spool.Position{Entry: math.MaxUint64}, nil); !errors.Is(err, spool.ErrPosition) {
		e.Fatalf("a position beyond the end: %v", err)
	}
}

func feedWaits(e *env) {
	e.put(1, "x", "a@one.example")
	e.must(e.feed().Await(e.ctx, spool.Position{}))
	_, end := e.follow(spool.Position{}, 0)
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan error)
	go func() { ended <- e.feed().Await(ctx, end) }()
	select {
	case err := <-ended:
		e.Fatalf("there is nothing behind the end: %v", err)
	case <-time.After(time.Millisecond): // either order passes; a wrong one is seen now and then
	}
	e.put(2, "x", "a@one.example")
	e.must(<-ended)
	more, end := e.follow(end, 0)
	e.equal(len(more), 1)
	go func() { ended <- e.feed().Await(ctx, end) }()
	cancel()
	e.is(<-ended, context.Canceled)
	go func() { ended <- e.feed().Await(e.ctx, end) }()
	s := e.s
	e.must(s.Close())
	e.is(<-ended, spool.ErrClosed)
	e.s = e.open()
}

func followers(e *env) {
	e.must(e.feed().DropFollower(e.ctx, "nobody"))
	a := spool.Follower{Name: "webhook a", Floor: spool.Position{Entry: 7, Record: 2}, State: []byte(`{"x":1}`)}
	b := spool.Follower{Name: "file", Floor: spool.NoFloor, State: []byte{}}
	e.must(e.feed().SaveFollower(e.ctx, a))
	e.must(e.feed().SaveFollower(e.ctx, b))
	a.State, a.Floor.Record = []byte(strings.Repeat("s", spool.MaxFollowerState)), 3
	e.must(e.feed().SaveFollower(e.ctx, a))
	for range 2 {
		got, err := e.feed().Followers(e.ctx)
		e.must(err)
		e.equal(got, []spool.Follower{b, a})
		e.reopen()
	}
	for _, bad := range []spool.Follower{{}, {Name: strings.Repeat("n", 256)}, {Name: "n", State: make([]byte, spool.MaxFollowerState+1)}} {
		if e.feed().SaveFollower(e.ctx, bad) == nil {
			e.Fatalf("%q with %d octets of state was taken", bad.Name, len(bad.State))
		}
	}
	e.must(e.feed().DropFollower(e.ctx, "file"))
	e.reopen()
	got, err := e.feed().Followers(e.ctx)
	e.must(err)
	e.equal(got, []spool.Follower{a})
}

// pruneLeavesFollowers: what a follower waits for stays three days longer.
func pruneLeavesFollowers(e *env) {
	day := func(n int) time.Time { return epoch.Add(time.Duration(n) * 24 * time.Hour) }
	var places []spool.Position
	for i := range 10 {
		sub := e.sub(uint64(i+1), "x", "a@one.example")
		sub.Records[0].Time = day(i)
		e.must(e.s.Put(e.ctx, sub))
		e.settle(done(sub.Deliveries[0], day(i)))
		places = append(places, e.feed().End())
	}
	e.must(e.feed().SaveFollower(e.ctx, spool.Follower{Name: "off", Floor: spool.NoFloor}))
	e.must(e.feed().SaveFollower(e.ctx, spool.Follower{Name: "slow", Floor: places[3]}))
	e.must(e.s.Prune(e.ctx, day(6).Add(time.Hour)))
	e.equal(len(e.records(spool.RecordFilter{})), 2*6) // day 4 and later
	rest, _ := e.follow(places[3], 0)
	e.equal(len(rest), 2*6)
	e.must(e.s.Prune(e.ctx, day(8).Add(time.Hour))) // three days before are day 5
	e.equal(len(e.records(spool.RecordFilter{})), 2*4)
	rest, end := e.follow(places[3], 0)
	e.equal(len(rest), 2*4)
	e.equal(end, e.feed().End())
	e.must(e.feed().DropFollower(e.ctx, "slow"))
	e.must(e.s.Prune(e.ctx, day(8).Add(time.Hour)))
	e.equal(fmt.Sprint(e.records(spool.RecordFilter{})[0].Time), fmt.Sprint(day(9)))
}
