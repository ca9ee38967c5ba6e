package suppress

import "sync/atomic"

// Place is where a listed address was stopped.
type Place uint8

// The places.
const (
	AtIntake  Place = iota // when the message came
	AtAttempt              // before an attempt
	places_
)

// String gives the place's word.
func (p Place) String() string { return [...]string{"intake", "attempt"}[p] }

// counters count since the start.
type counters struct {
	stopped [places_][4]atomic.Int64 // by the place of the reason in Reasons
	learnt  [4]atomic.Int64
	entries [4]atomic.Int64
	added   atomic.Int64
	removed atomic.Int64
	errors  atomic.Int64
	dropped atomic.Int64
}

// Stopped counts a recipient that got no mail for an entry.
func (l *List) Stopped(at Place, e *Entry) { l.counts.stopped[at][number(e.Reason)].Add(1) }

func (c *counters) learned(r Reason) {
	c.learnt[number(r)].Add(1)
	c.entries[number(r)].Add(1)
}

func (c *counters) listed(by map[Reason]int64) {
	for i, r := range Reasons {
		c.entries[i].Store(by[r])
	}
}

func number(r Reason) int {
	for i, one := range Reasons {
		if one == r {
			return i
		}
	}
	return len(Reasons) - 1
}

// Counts are the list's numbers. All but Entries are totals since the start.
type Counts struct {
	Entries map[Reason]int64           // put right each hour, when the list is read
	Stopped map[Place]map[Reason]int64 // recipients
	Learned map[Reason]int64           // entries made of replies and of what came back
	Added   int64                      // by command
	Removed int64                      // by command
	Errors  int64                      // look-ups and changes that failed
	Dropped int64                      // replies that were not looked at, because there were too many
}

// Counts gives the numbers.
func (l *List) Counts() Counts {
	c := &l.counts
	out := Counts{
		Entries: map[Reason]int64{}, Learned: map[Reason]int64{}, Stopped: map[Place]map[Reason]int64{},
		Added: c.added.Load(), Removed: c.removed.Load(), Errors: c.errors.Load(), Dropped: c.dropped.Load(),
	}
	for p := range places_ {
		out.Stopped[p] = map[Reason]int64{}
	}
	for i, r := range Reasons {
		out.Entries[r], out.Learned[r] = c.entries[i].Load(), c.learnt[i].Load()
		for p := range places_ {
			out.Stopped[p][r] = c.stopped[p][i].Load()
		}
	}
	return out
}
