package queue

import (
	"fmt"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// outcome is a conclusion on its way to the disk. It belongs to the goroutine
// that has it: who concluded, then one settler, then the loop.
type outcome struct {
	e       *entry
	from    conclusion
	out     concluded
	records int // of the conclusion, without those of its reports
	built   bool
	gone    bool // the store did not have the delivery any more

	elsewhere bool    // as out has it; out is the worker's until it is settled
	lesson    *Lesson // nil: nothing
	mood      mood
	verdict   mta.Result // why, when the mood is not good
	took      time.Duration
	refused   bool // the result of a failed plan
	attempt   bool

	command   *command // whose order this is; nil for others
	holdBatch bool     // of a destination that is held

	// Who reported it, and the loop's note of when; nil for a clerk.
	w   *worker
	age int
}

// conclude draws the conclusion of e, attempted or, with a nil attempt, waiting.
func (q *Queue) conclude(e *entry, a *mta.Attempt, blame mta.Last) *outcome {
	set := q.settings.Load()
	c := conclusion{
		d: e.d, a: a, now: q.opts.Now(), arrived: e.d.Message.Start(),
		jitter: q.opts.Rand(), hostname: set.hostname, blame: blame,
	}
	if !e.routed {
		c.arrived = q.arrived(e.d.Message)
	}
	c.schedule = set.schedule(e.d.Message, c.arrived)
	o := &outcome{e: e, from: c, out: conclude(c), attempt: a != nil}
	o.records, o.elsewhere = len(o.out.settlement.Records), o.out.elsewhere
	if a != nil {
		o.mood, o.verdict = judge(a)
		if !a.Start.IsZero() {
			o.took = a.End.Sub(a.Start)
		}
	}
	return o
}

// settle hands an outcome to the settlers; it waits while they are behind.
func (q *Queue) settle(o *outcome) {
	q.build(o)
	select {
	case q.outcomes <- o:
	case <-q.done:
		o.discard() // it will not be stored
	}
}

// build makes the reports that an outcome owes. When one cannot be made the
// recipients it is about stay open, with that reason.
func (q *Queue) build(o *outcome) {
	if o.built {
		return
	}
	o.built = true
	if len(o.out.requests) == 0 {
		return
	}
	if err := q.reports(o); err != nil {
		o.discard()
		o.built = true
		q.opts.Logger.Error("a report could not be made; its delivery stays open", mta.KeyID, o.e.d.Message.ID.String(), mta.KeyError, err)
		o.from.trouble = fmt.Errorf("the report to the sender could not be made: %w", err)
		o.out = conclude(o.from)
		o.records = len(o.out.settlement.Records)
	}
}

func (q *Queue) reports(o *outcome) error {
	s := o.out.settlement
	for _, r := range o.out.requests {
		var sub *spool.Submission
		err := q.guard("making a report", func() (err error) {
			sub, err = q.opts.Reporter.Report(q.force, r)
			return err
		})
		if err != nil {
			return err
		}
		if sub == nil {
			q.untold(r)
			continue
		}
		s.Reports = append(s.Reports, sub)
		nameReport(s.Records, r, sub.Message.ID)
		s.Records = append(s.Records, bounced(r, sub.Message)...)
	}
	return nil
}

// untold puts a failure into the log that no report tells anybody of: a report
// to the postmaster that could not be delivered itself.
func (q *Queue) untold(r ReportRequest) {
	if r.Kind != ReportFailure {
		return
	}
	for i, rcpt := range r.Recipients {
		q.opts.Logger.Error("a report could not be delivered, and nobody is left to tell", mta.KeyID, r.Delivery.Message.ID.String(),
			mta.KeyRecipient, rcpt.Address, mta.KeyReason, r.Results[i].Reason)
	}
}

// discard drops the reports, so that they are made anew: the store may have
// used up their drafts.
func (o *outcome) discard() {
	s := o.out.settlement
	for _, sub := range s.Reports {
		if sub.Content != nil {
			sub.Content.Discard()
		}
	}
	s.Reports = nil
	s.Records = s.Records[:o.records]
	o.built = false
}

// settler joins outcomes into commits. A commit that fails is tried again with
// growing waits; the loop is told while nothing at all succeeds.
//
// Crash argument: the loop keeps a delivery in flight until its commit has
// returned, so nothing is attempted twice by one process; a crash before the
// commit leaves the delivery as it was, and the next start attempts it again.
func (q *Queue) settler() {
	s := &settling{q: q, wait: settleMin}
	for {
		var in chan *outcome
		if !s.down {
			in = q.outcomes
		}
		var again <-chan time.Time
		var t *time.Timer
		if len(s.failed) > 0 {
			t = time.NewTimer(s.wait)
			again = t.C
		}
		select {
		case o := <-in:
			s.settle(s.gather(append(s.batch[:0], o)))
		case <-again:
			s.again()
		case <-q.done:
			s.giveUp()
			return
		}
		if t != nil {
			t.Stop()
		}
	}
}

// settling is one settler's state.
type settling struct {
	q      *Queue
	batch  []*outcome
	list   []*spool.Settlement
	failed []*outcome // at most what is in flight
	wait   time.Duration
	down   bool // nothing succeeded the last time
}

// gather adds what else waits, up to a batch.
func (s *settling) gather(batch []*outcome) []*outcome {
	for len(batch) < settleBatch {
		select {
		case o := <-s.q.outcomes:
			batch = append(batch, o)
		default:
			s.batch = batch
			return batch
		}
	}
	s.batch = batch
	return batch
}

// again retries what failed, with something fresh beside it when there is: if
// that succeeds the store is well, and only single records are not.
func (s *settling) again() {
	batch := s.gather(append(s.batch[:0], s.failed...))
	s.failed = s.failed[:0]
	s.settle(batch)
}

func (s *settling) settle(batch []*outcome) {
	done := make([]*outcome, 0, len(batch))
	err := s.commit(batch)
	if err == nil {
		done = append(done, batch...)
	} else {
		for _, o := range batch {
			if len(batch) > 1 && s.commit(batch[:0:0], o) == nil {
				done = append(done, o)
				continue
			}
			s.failed = append(s.failed, o)
		}
	}
	s.report(len(done) > 0, err)
	if len(done) > 0 {
		s.q.send(event{kind: evSettled, outs: done})
	}
}

// commit stores outcomes, all or none.
func (s *settling) commit(batch []*outcome, more ...*outcome) error {
	batch = append(batch, more...)
	s.list = s.list[:0]
	for _, o := range batch {
		s.q.build(o)
		s.list = append(s.list, o.out.settlement)
	}
	var gone []mta.DeliveryKey
	err := s.q.guard("settling", func() (err error) {
		gone, err = s.q.opts.Store.Settle(s.q.force, s.list...)
		return err
	})
	for _, o := range batch {
		if err != nil {
			o.discard()
		}
		for _, key := range gone {
			o.gone = o.gone || o.out.settlement.Delivery == key
		}
	}
	return err
}

// report keeps the wait and tells the loop when the store went down or came
// back.
func (s *settling) report(any bool, err error) {
	if err == nil {
		if len(s.failed) == 0 {
			s.wait = settleMin
		}
	} else {
		s.wait = min(2*s.wait, settleMax)
		s.q.opts.Logger.Error("outcomes could not be stored; trying again", mta.KeyError, err,
			mta.KeyCount, len(s.failed), mta.KeyDuration, s.wait.Milliseconds())
	}
	down := !any
	if down == s.down {
		return
	}
	s.down = down
	step := 1
	if !down {
		step = -1
	}
	s.q.send(event{kind: evCall, call: func(l *loop) { l.onDown(step) }})
}

// giveUp frees what could not be stored; the deliveries stay in the spool as
// they were.
func (s *settling) giveUp() {
	for _, o := range s.failed {
		o.discard()
		s.q.opts.Logger.Error("the outcome of an attempt is lost; the delivery will be tried again",
			mta.KeyID, o.e.d.Message.ID.String(), mta.KeyDestination, o.e.d.Destination.String())
	}
	for {
		select {
		case o := <-s.q.outcomes:
			o.discard()
		default:
			return
		}
	}
}

// onDown counts the settlers whose store fails; while all do, nothing new is
// started.
func (l *loop) onDown(step int) {
	l.down += step
	if !l.storeDown() {
		for _, s := range l.sites {
			l.dispatch(s)
		}
		l.serveHungry()
	}
}

func (l *loop) storeDown() bool { return l.down >= l.q.opts.Limits.Settlers }

// onSettled forgets or reschedules a delivery whose outcome is durable.
func (l *loop) onSettled(o *outcome) {
	e, w, d := o.e, o.e.way, o.e.way.dest
	if o.refused {
		w.failing--
	}
	if o.holdBatch {
		w.holding--
	}
	l.uncertain += int64(o.out.uncertain)
	l.onOrdered(o)
	l.comeBack(e, o)
	if !o.gone {
		for _, sub := range o.out.settlement.Reports {
			for _, r := range sub.Deliveries {
				l.onAdd(r)
			}
		}
	}
	l.onDurable(o) // before advance, so that what becomes ready finds its session idle
	l.advance(d)
}

// comeBack takes a delivery out of flight, unless there is an order for it.
func (l *loop) comeBack(e *entry, o *outcome) {
	next := o.out.settlement.Next
	over := o.gone || next == nil
	if !over && l.comesBack(e, next) {
		return
	}
	l.unfly(e)
	if e.doing != nil { // it is over
		e.doing = nil
		l.ordering--
	}
	switch {
	case over || next.State == mta.Held:
		l.forgetEntry(e)
	case next.Destination != e.way.dest.key:
		l.forgetEntry(e)
		l.moved(next)
	default:
		l.reschedule(e, next, o)
	}
}

// moved takes a delivery that an operator has rerouted to its new destination:
// from the spool, like whatever is outside memory.
func (l *loop) moved(m *mta.Delivery) {
	d := l.destination(m.Destination)
	d.outside(m.Due)
	l.advance(d)
}

// reschedule puts a deferred delivery back, in memory or outside.
func (l *loop) reschedule(e *entry, next *mta.Delivery, o *outcome) {
	d := e.way.dest
	e.d = next
	e.settling, e.guest = false, false
	full := len(l.entries) > l.set.limits.InMemory && d.inMemory() > 0 // it came for an order
	if full || l.far(ms(next.Due)) || d.inMemory() >= l.set.limits.PerDestination {
		d.outside(next.Due)
		l.forgetEntry(e)
	} else {
		l.enter(d, e, ms(next.Due))
	}
	if o.out.deferred {
		l.waitAt(d, o)
	}
}

// waitAt notes that a destination has mail deferred for the sake of a site that
// it goes to: that of the attempt, else those of the name.
func (l *loop) waitAt(d *dest, o *outcome) {
	name := o.out.settlement.Next.Last.Site
	for w := &d.first; w != nil; w = w.next {
		for b := &w.berth; b != nil && b.site != nil; b = b.next {
			if o.w != nil && b.site == o.w.site || o.w == nil && b.site.name == name {
				b.site.waiting[d] = struct{}{}
				if b.site.sick {
					l.rearm(b.site)
				}
			}
		}
	}
}
