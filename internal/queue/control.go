package queue

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Control: what an operator orders of deliveries that wait, and destinations
// that are held for all mail to come (docs/queue-control.md).
//
// The spool is the truth and the loop decides who may write to it: an order
// takes its delivery as a session would (phaseFlight), so that nothing else can
// start, and a settler stores the outcome with its journal records. What is
// really in flight keeps its attempt, and the order is applied to what the
// attempt left open. A delivery outside memory is taken as it was read
// (Settlement.Was): when it has changed since, the caller reads it again.
//
// A held destination (Hold) is a rule of the loop, not a state of its
// deliveries: whatever comes due there is stored as held instead of being
// planned. So mail that arrives in any way and at any moment is caught, and
// the accepting side knows nothing of it.

// Verb is what is ordered.
type Verb uint8

// The verbs.
const (
	VerbHold    Verb = iota // wait for a release, however long
	VerbRelease             // end a hold: due at once, or when it may be sent
	VerbRetry               // due at once, unless it is not to be sent yet
	VerbCancel              // end without a report
	VerbReroute             // another route, and due at once unless it is held
)

var (
	verbNames  = [...]string{"hold", "release", "retry", "cancel", "reroute"}
	verbEvents = [...]mta.Event{mta.EventHeld, mta.EventReleased, mta.EventRetried, mta.EventCancelled, mta.EventRerouted}
)

// String gives the verb's word.
func (v Verb) String() string { return verbNames[v] }

// ParseVerb reads a verb's word.
func ParseVerb(word string) (Verb, bool) {
	i := slices.Index(verbNames[:], word)
	return Verb(max(i, 0)), i >= 0
}

// Order is an operator's word about deliveries.
type Order struct {
	Verb   Verb
	Reason string // who and why: of the journal's records, and shown for what is held
	// Via is the route of VerbReroute: of mta.Destination; empty: as configured.
	Via string
	// rule says that not an operator but a rule of the configuration holds it.
	rule bool
	// Anew makes VerbReroute apply also to what has that route: its destination's
	// rule has changed.
	Anew bool
}

// Applies reports whether there is anything to do for a delivery as it is.
func (o *Order) Applies(d *mta.Delivery, now time.Time) bool {
	switch o.Verb {
	case VerbHold:
		return d.State != mta.Held
	case VerbRelease:
		return d.State == mta.Held
	case VerbRetry:
		return d.State != mta.Held && d.Due.After(now) && !d.Message.NotBefore.After(now)
	case VerbReroute:
		return o.Anew || d.Destination.Via != o.Via
	}
	return true
}

// settlement is what an order makes of a delivery that it applies to.
func (o *Order) settlement(d *mta.Delivery, now time.Time) *spool.Settlement {
	now = now.UTC().Truncate(time.Millisecond)
	s := &spool.Settlement{Delivery: d.Key(), Message: d.Message, Records: make([]*mta.Record, 0, len(d.Recipients))}
	if o.Verb != VerbCancel {
		next := *d // Message is shared and never changed
		o.change(&next, now)
		s.Next = &next
	}
	m := d.Message
	for _, rcpt := range d.Recipients {
		r := &mta.Record{
			Time: now, Event: verbEvents[o.Verb], ID: m.ID, MessageID: m.MessageID, Stream: m.Stream,
			Sender: m.Envelope.Sender, Recipient: rcpt.Address, Destination: d.Destination.Domain,
			Attempt: d.Attempts, Reason: o.Reason, Size: m.Size,
		}
		if s.Next != nil && s.Next.State != mta.Held {
			r.Next = s.Next.Due
		}
		s.Records = append(s.Records, r)
	}
	return s
}

func (o *Order) change(next *mta.Delivery, now time.Time) {
	switch o.Verb {
	case VerbHold:
		next.State, next.HeldBy, next.ByRule = mta.Held, o.Reason, o.rule
	case VerbRelease:
		next.State, next.HeldBy, next.Due = mta.Queued, "", soonest(next, now)
		next.Released, next.ByRule = next.Released || next.ByRule, false
		if next.Attempts > 0 {
			next.State = mta.Deferred
		}
	case VerbRetry:
		next.Due = now
	case VerbReroute:
		next.Destination.Via = o.Via
		if next.State != mta.Held {
			next.Due = soonest(next, now)
		}
	}
}

// soonest is when a delivery may be attempted.
func soonest(d *mta.Delivery, now time.Time) time.Time {
	if at := d.Message.NotBefore; at.After(now) {
		return at
	}
	return now
}

// Hold is a destination whose mail is held, also what comes later.
type Hold struct {
	Destination string // recipient domain
	Stream      string // empty: every stream
	By          string // who ordered it
	Reason      string
	Since       time.Time
	Expires     time.Time // zero: never. Ending it is the owner's business, not the queue's
}

// String is the sentence that its mail shows. It tells one hold from another.
func (h Hold) String() string { return h.sentence("held") }

// sentence tells what was done to the destination.
func (h Hold) sentence(done string) string {
	s := "destination " + mta.Destination{Domain: h.Destination, Stream: h.stream()}.String() + " " + done
	if h.By != "" {
		s += " by " + h.By
	}
	s += " since " + mta.FormatTime(h.Since)
	if !h.Expires.IsZero() {
		s += " until " + mta.FormatTime(h.Expires)
	}
	if h.Reason != "" {
		s += ": " + h.Reason
	}
	return s
}

func (h Hold) stream() string {
	if h.Stream == "" {
		return mta.DefaultStream // shown as nothing
	}
	return h.Stream
}

// Covers reports whether a destination is held by it.
func (h Hold) Covers(d mta.Destination) bool {
	return h.Destination == d.Domain && (h.Stream == "" || h.Stream == d.Stream)
}

type shownHold struct {
	Destination string `json:"destination"`
	Stream      string `json:"stream,omitempty"`
	By          string `json:"by,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Since       string `json:"since"`
	Expires     string `json:"expires,omitempty"`
}

// MarshalJSON writes the times with exactly three decimals.
func (h Hold) MarshalJSON() ([]byte, error) { return json.Marshal(h.shown()) }

func (h Hold) shown() shownHold {
	x := shownHold{h.Destination, h.Stream, h.By, h.Reason, mta.FormatTime(h.Since), ""}
	if !h.Expires.IsZero() {
		x.Expires = mta.FormatTime(h.Expires)
	}
	return x
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Hold) UnmarshalJSON(b []byte) error {
	var x shownHold
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var err error
	*h, err = x.hold()
	return err
}

func (x *shownHold) hold() (h Hold, err error) {
	h = Hold{Destination: x.Destination, Stream: x.Stream, By: x.By, Reason: x.Reason}
	if h.Since, err = time.Parse(mta.TimeLayout, x.Since); err != nil {
		return h, err
	}
	if x.Expires != "" {
		h.Expires, err = time.Parse(mta.TimeLayout, x.Expires)
	}
	return h, err
}

// Tally counts what became of the deliveries of an order.
type Tally struct {
	Changed int64 `json:"changed"`   // done, and durable
	Flight  int64 `json:"in_flight"` // an attempt is under way; the order is applied to what it leaves open
	Skipped int64 `json:"skipped"`   // nothing to do: held already, not held, due already
	Kept    int64 `json:"kept"`      // not released: their destination is held
}

// Add sums.
func (t *Tally) Add(o Tally) {
	t.Changed += o.Changed
	t.Flight += o.Flight
	t.Skipped += o.Skipped
	t.Kept += o.Kept
}

// command is one call of Command. The loop owns it until done is closed.
type command struct {
	order *Order
	tally Tally
	again []mta.DeliveryKey // they have changed since they were read, or are gone
	left  int
	done  chan struct{}
}

// MaxOrder is how many deliveries one Command may be about.
const MaxOrder = 256

// Command carries an order out on deliveries as the spool showed them, at most
// MaxOrder, and returns when the result is durable. Again names those that have
// changed since they were read, or are gone: read them again. After an error
// some may be done; when ctx ends the rest goes on. Waits while the store
// fails.
func (q *Queue) Command(ctx context.Context, o Order, list []*mta.Delivery) (t Tally, again []mta.DeliveryKey, err error) {
	if err := ctx.Err(); err != nil {
		return t, nil, err
	}
	c := &command{order: &o, done: make(chan struct{})}
	var taken []*entry
	stopping := false
	// Not to be broken off: what the loop has taken must be settled.
	err = q.ask(context.WithoutCancel(ctx), func(l *loop) {
		if stopping = l.stopping; !stopping {
			taken = l.order(c, list)
		}
	})
	if err != nil || stopping {
		return t, nil, ErrStopped
	}
	for _, e := range taken {
		q.settle(q.ordered(e, c))
	}
	select {
	case <-c.done:
		return c.tally, c.again, nil
	case <-q.done:
		return t, nil, ErrStopped
	case <-ctx.Done():
		return t, nil, ctx.Err()
	}
}

// order takes the deliveries that an order applies to.
func (l *loop) order(c *command, list []*mta.Delivery) (taken []*entry) {
	for _, d := range list {
		e := l.entries[d.Key()]
		switch {
		case c.order.Verb == VerbRelease && l.standing(d.Destination) != nil:
			c.tally.Kept++
		case e != nil && e.phase == phaseFlight:
			l.orderFlying(c, e)
		case e != nil && c.order.Applies(e.d, l.now):
			l.take(e)
			taken = append(taken, e)
		case e == nil && c.order.Applies(d, l.now):
			at := l.destination(d.Destination)
			e = &entry{d: d, way: l.wayOf(at, d), index: -1, guest: true}
			l.setIdle(at, false, false) // or it would be let go under the entry
			l.entries[d.Key()] = e
			l.fly(e)
			taken = append(taken, e)
		default:
			c.tally.Skipped++
		}
	}
	for _, e := range taken {
		e.doing = c.order
	}
	l.ordering += len(taken)
	if c.left = len(taken); c.left == 0 {
		close(c.done)
	}
	return taken
}

// orderFlying leaves word for when a delivery in flight comes back. The latest
// order counts.
func (l *loop) orderFlying(c *command, e *entry) {
	switch verb := c.order.Verb; {
	case verb == VerbReroute && (e.order == nil || e.order.Verb != VerbCancel):
		e.reroute = c.order // behind a hold, not instead of it
		c.tally.Flight++
	case e.doing != nil && e.doing.Verb == verb && e.order == nil:
		c.tally.Changed++ // somebody else's order, being stored
	case verb == VerbRelease && e.order != nil && e.order.Verb == VerbHold:
		e.order = nil
		c.tally.Changed++
	case verb == VerbRetry, verb == VerbReroute, verb == VerbRelease && (e.doing == nil || e.doing.Verb != VerbHold):
		c.tally.Skipped++ // it is being tried, or cancelled
	default:
		e.order = c.order
		c.tally.Flight++
	}
}

// ordered is the outcome of an order for a delivery that was taken; c is nil
// for one that came back from flight.
func (q *Queue) ordered(e *entry, c *command) *outcome {
	s := e.doing.settlement(e.d, q.opts.Now())
	if e.guest {
		s.Was = e.d
	}
	return &outcome{e: e, out: concluded{settlement: s}, records: len(s.Records), built: true, command: c}
}

// comesBack looks for an order for a delivery that leaves flight in the given
// state, and begins to carry it out: then it stays in flight.
func (l *loop) comesBack(e *entry, d *mta.Delivery) bool {
	if e.doing != nil {
		e.doing = nil
		l.ordering--
	}
	order := e.order
	e.order = nil
	if order == nil && d.State != mta.Held {
		order = l.standing(d.Destination)
	}
	if order == nil || !order.Applies(d, l.now) {
		if order, e.reroute = e.reroute, nil; order == nil || !order.Applies(d, l.now) {
			return false
		}
	}
	e.d, e.settling, e.guest = d, false, false
	l.carryOut(order, []*entry{e}, false)
	return true
}

// carryOut hands entries in flight to a clerk.
func (l *loop) carryOut(order *Order, list []*entry, batch bool) {
	l.ordering += len(list)
	for _, e := range list {
		e.doing = order
	}
	l.clerkWork.push(func() {
		for _, e := range list {
			o := l.q.ordered(e, nil)
			o.holdBatch = batch
			l.q.settle(o)
		}
	})
	l.serveHelpers()
}

// onOrdered tells a command of one of its deliveries.
func (l *loop) onOrdered(o *outcome) {
	e, c := o.e, o.command
	if o.gone && e.guest {
		// It may be there all the same, with another due time that a page has
		// passed over meanwhile.
		e.way.dest.outside(time.UnixMilli(0))
	}
	if w := e.way; !o.gone && e.doing != nil && e.doing.Verb == VerbRetry && w.plan == planRefused {
		w.plan, w.routeUntil = planNone, 0 // the next try is to look anew
	}
	if c == nil {
		return
	}
	if o.gone {
		c.again = append(c.again, e.d.Key())
	} else {
		c.tally.Changed++
	}
	if c.left--; c.left == 0 {
		close(c.done)
	}
}

// SetHolds replaces the destinations that are held. It returns when nothing
// more is started to them, and at once when the queue does not run.
func (q *Queue) SetHolds(holds []Hold) {
	done := make(chan struct{})
	if q.send(event{kind: evCall, call: func(l *loop) { l.setHolds(holds); close(done) }}) {
		select {
		case <-done:
		case <-q.done:
		}
	}
}

// Holds are the destinations that are held.
func (q *Queue) Holds() []Hold { return *q.holds.Load() }

func (l *loop) setHolds(holds []Hold) {
	before := l.holds
	l.hold(holds)
	l.q.holds.Store(&holds)
	for key, d := range l.dests {
		if (before.of(key) == nil) == (l.holds.of(key) == nil) {
			continue
		}
		for w := &d.first; w != nil; w = w.next {
			l.unreadyWay(w)
		}
		d.check = 0 // what may expire has changed
		l.advance(d)
	}
}

func (l *loop) hold(holds []Hold) {
	l.holds = make(standing, len(holds))
	for _, h := range holds {
		l.holds[mta.Destination{Domain: h.Destination, Stream: h.Stream}] = &Order{Verb: VerbHold, Reason: h.String()}
	}
}

// standing are the orders for all mail of destinations; one without a stream is
// for all of them.
type standing map[mta.Destination]*Order

func (s standing) of(key mta.Destination) *Order {
	if len(s) == 0 {
		return nil
	}
	if o := s[mta.Destination{Domain: key.Domain}]; o != nil {
		return o
	}
	return s[key.Plain()]
}

func (l *loop) standing(key mta.Destination) *Order { return l.holds.of(key) }

// holdDue carries an order out on what has come due of a way whose mail is not to
// be sent, a batch at a time.
func (l *loop) holdDue(w *way, order *Order) {
	if w.holding > 0 {
		return
	}
	batch := l.dueBatch(w)
	w.holding = len(batch)
	l.carryOut(order, batch, true)
}

// stopOrder is what a rule orders of mail that it does not send.
func stopOrder(s *mta.Stop) *Order {
	o := &Order{Verb: VerbHold, Reason: s.Reason, rule: true}
	if s.Action == mta.StopDiscard {
		o.Verb = VerbCancel
	}
	if o.Reason == "" {
		o.Reason = "the configuration does not send it"
	}
	if s.Matched != "" && !strings.Contains(o.Reason, s.Matched) {
		o.Reason += " (" + s.Matched + ")"
	}
	return o
}
