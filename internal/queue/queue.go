package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

// ErrStopped says that the queue does not run (any more).
var ErrStopped = errors.New("the queue has stopped")

// Queue schedules deliveries. Make it with New; Start it once, Stop it once.
// Its methods are safe for concurrent use.
type Queue struct {
	opts     Options
	settings atomic.Pointer[settings]
	started  time.Time

	events   chan event
	outcomes chan *outcome
	done     chan struct{} // closed when the loop has ended
	stop     chan struct{} // closed by Stop: no new work
	running  atomic.Bool
	guarded  atomic.Pointer[[]Span] // written by the loop, or before it runs
	holds    atomic.Pointer[[]Hold] // the same
	reroutes atomic.Pointer[[]Reroute]
	stopping atomic.Bool

	// work ends when no new delivery may be taken, abandoned when open
	// transactions are to be dropped, force when the disk is waited for no more.
	work, abandoned, force                  context.Context
	endWork, endTransactions, endEverything context.CancelFunc
	wg                                      sync.WaitGroup
}

// New makes a queue; nothing runs before Start.
func New(opts Options) *Queue {
	opts = opts.filled()
	q := &Queue{
		opts:     opts,
		events:   make(chan event, eventBuffer),
		outcomes: make(chan *outcome, outcomeBuffer),
		done:     make(chan struct{}),
		stop:     make(chan struct{}),
	}
	q.settings.Store(&settings{schedules: opts.Schedules, limits: opts.Limits, hostname: opts.Hostname})
	q.guarded.Store(&opts.Guarded)
	q.holds.Store(&opts.Holds)
	q.reroutes.Store(&opts.Reroutes)
	return q
}

// Start begins to deliver: the destinations with open deliveries are read from
// the store in the background, each with its due time. The queue takes no new
// work once ctx has ended, and then waits for Stop.
func (q *Queue) Start(ctx context.Context) error {
	if !q.running.CompareAndSwap(false, true) {
		return errors.New("the queue was started before")
	}
	base := context.WithoutCancel(ctx)
	q.work, q.endWork = context.WithCancel(base)
	q.abandoned, q.endTransactions = context.WithCancel(base)
	q.force, q.endEverything = context.WithCancel(base)
	q.started = q.opts.Now()
	l := newLoop(q)
	q.wg.Go(func() { l.run(ctx) })
	for range q.opts.Limits.Settlers {
		q.wg.Go(q.settler)
	}
	return nil
}

// Stop takes no new work and waits until what is under way has ended and its
// outcome is stored. When ctx ends first the open transactions are abandoned;
// carriers and then the disk get ten seconds more. An error says what was left
// behind: it is tried again after the next start.
func (q *Queue) Stop(ctx context.Context) error {
	if !q.running.Load() || !q.stopping.CompareAndSwap(false, true) {
		return nil
	}
	close(q.stop)
	select {
	case <-q.done:
	case <-ctx.Done():
		q.endTransactions()
	}
	err := q.finish()
	q.endWork()
	q.endTransactions()
	q.endEverything()
	return err
}

// finish waits for the loop and for every goroutine, for a bounded time once
// transactions are abandoned.
func (q *Queue) finish() error {
	limit := time.NewTimer(finishTime)
	defer limit.Stop()
	select {
	case <-q.done:
	case <-limit.C:
		q.endEverything()
		<-q.done
	}
	ended := make(chan struct{})
	go func() { q.wg.Wait(); close(ended) }()
	limit.Reset(finishTime)
	select {
	case <-ended:
	case <-limit.C:
		return errors.New("queue: a carrier did not end when its transaction was abandoned")
	}
	if q.force.Err() != nil {
		return errors.New("queue: some outcomes could not be stored; their deliveries will be tried again")
	}
	return nil
}

// Add announces deliveries that Put has just made durable. It waits while the
// queue is far behind; after Stop it returns at once (the spool has them). The
// slice must not be changed afterwards.
func (q *Queue) Add(deliveries []*mta.Delivery) {
	if len(deliveries) > 0 {
		q.send(event{kind: evAdd, fresh: deliveries})
	}
}

// Reconfigure replaces schedules, limits and host name; what is under way goes
// on. Limits.Settlers counts from the next start.
func (q *Queue) Reconfigure(schedules retry.Schedules, limits Limits, hostname string) {
	set := &settings{schedules: schedules, limits: limits.filled(), hostname: hostname}
	q.settings.Store(set)
	q.send(event{kind: evCall, call: func(l *loop) { l.reconfigure(set) }})
}

// Replan drops every cached route: what has not started is planned again.
func (q *Queue) Replan() {
	q.send(event{kind: evCall, call: (*loop).replan})
}

// send hands an event to the loop and reports false when the loop has ended.
func (q *Queue) send(ev event) bool {
	select {
	case q.events <- ev:
		return true
	case <-q.done:
		return false
	}
}

// ask runs f in the loop and waits for it.
func (q *Queue) ask(ctx context.Context, f func(*loop)) error {
	if !q.running.Load() {
		return ErrStopped
	}
	answered := make(chan struct{})
	ev := event{kind: evCall, call: func(l *loop) { f(l); close(answered) }}
	select {
	case q.events <- ev:
	case <-q.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-answered:
		return nil
	case <-q.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause waits and reports false when ctx or the queue ended meanwhile.
func (q *Queue) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-q.done:
	}
	return false
}

// guard runs f and turns a panic into an error: one broken part must not end
// the daemon.
func (q *Queue) guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while %s: %v", what, p)
			logPanic(q.opts.Logger, what, p)
		}
	}()
	return f()
}

func logPanic(log *slog.Logger, what string, p any) {
	log.Error("internal error", mta.KeyReason, what, mta.KeyError, fmt.Sprint(p), "stack", stack())
}
