package queue

import (
	"bytes"
	"math"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Times inside the loop are milliseconds since 1970: half the size of a
// time.Time, and the spool's precision.
type millis = int64

const never millis = math.MaxInt64

func ms(t time.Time) millis {
	if t.IsZero() {
		return never
	}
	return t.UnixMilli()
}

// phase is where an entry stands.
type phase uint8

const (
	phaseDue    phase = iota // in its way's heap, due or not
	phaseReady               // at a berth of its way, may start
	phaseFlight              // taken by a worker or a clerk, until it is settled
)

// entry is one delivery in memory.
type entry struct {
	d     *mta.Delivery
	way   *way
	berth *berth // while it is ready
	due   millis // when it may start: the delivery's due time, earlier when released, later when paced
	since millis // of its phase
	index int32  // in the heap of its phase
	phase phase
	// announced says that intake's Add was seen, so none is to come.
	announced bool
	settling  bool    // in flight, attempted, waiting for the disk
	routed    bool    // in flight, by a router
	guest     bool    // in flight for an order, as it was read from outside memory
	paced     bool    // was put back: for a rate of its sender, or because all routes are avoided
	rate      *bucket // what it was put back for; nil: routes that are avoided
	// doing is the order being stored; order and reroute those that wait for the
	// end of the flight.
	doing, order, reroute *Order
}

func (e *entry) before(f *entry) bool {
	if e.due != f.due {
		return e.due < f.due
	}
	if c := bytes.Compare(e.d.Message.ID[:], f.d.Message.ID[:]); c != 0 {
		return c < 0
	}
	return e.d.N < f.d.N
}

func (e *entry) place() *int32 { return &e.index }

// alarm wakes a destination or a site.
type alarm struct {
	at    millis
	index int32
	dest  *dest // one of the two
	site  *site
}

func (a *alarm) before(b *alarm) bool { return a.at < b.at }
func (a *alarm) place() *int32        { return &a.index }

// dest is one destination with open deliveries, or an idle one that keeps its
// routes. Only the loop touches it.
type dest struct {
	key   mta.Destination
	alarm alarm
	first way // nearly always the only one

	still  int // entries that have not started: due or ready
	ready  int // of these, ready
	paced  int // of those that are due, such as were put back
	flying int // entries in flight. All in memory are still + flying.

	// Outside memory. Every open delivery of the destination that is not in
	// memory lies strictly after cursor; without more there is none.
	more bool
	// vague says that more stands for what nobody has looked for: the destination
	// came while a horizon bounded what is known, and nothing before that is outside.
	vague   bool
	paging  bool
	wanted  bool // waits for a pager
	cursor  spool.Cursor
	nextDue millis // nothing outside is due before this
	retryAt millis // no page before this, after one that failed
	page    int    // how many are read at a time; 0 before the first page
	pagedAt millis // when the last page came
	dropped millis // earliest due time that went outside during the page; else never
	touched map[mta.DeliveryKey]struct{}
	sweep   *sweep // a walk over everything outside; nil when none
	sweptAt millis

	check   millis // no delivery in memory owes a notice or expires before this
	idle    bool   // has nothing in memory, keeps its routes
	owing   bool   // idle, and has something outside
	inIdle  bool   // in the ring of idle destinations
	removed bool   // no longer in the loop's map
}

func (d *dest) inMemory() int { return d.still + d.flying }

// active counts the entries that are past waiting for their time.
func (d *dest) active() int { return d.ready + d.flying }

// touch notes that a key leaves memory, for the page that is under way.
func (d *dest) touch(key mta.DeliveryKey) {
	if !d.paging {
		return
	}
	if d.touched == nil {
		d.touched = make(map[mta.DeliveryKey]struct{})
	}
	d.touched[key] = struct{}{}
}

// outside notes that an open delivery with this due time is not in memory.
func (d *dest) outside(due time.Time) {
	at := due.UnixMilli()
	if !d.more || at <= d.cursor.Due.UnixMilli() {
		d.cursor = spool.Cursor{Due: time.UnixMilli(at).UTC()}
	}
	if !d.more || at < d.nextDue {
		d.nextDue = at
	}
	d.more, d.vague = true, false
	if d.paging {
		d.dropped = min(d.dropped, at)
	}
}
