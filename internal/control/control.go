package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
)

// Queue is what the controller asks of the scheduler.
type Queue interface {
	Command(ctx context.Context, o queue.Order, list []*mta.Delivery) (queue.Tally, []mta.DeliveryKey, error)
	WhyAll(ctx context.Context, list []*mta.Delivery) ([]queue.Explanation, error)
	Recall(ctx context.Context, o queue.Order, wants func(d *mta.Delivery, site string) bool) (queue.Tally, error)
	SetHolds(holds []queue.Hold)
	SetReroutes(rules []queue.Reroute)
}

// Bounds of one errand.
const (
	batchSize = queue.MaxOrder // deliveries in one command, and read ahead for each worker
	workers   = 4              // commands at once, so that settlements share commits
	rounds    = 4              // readings of a delivery that changes under the command
	// SampleSize is how many deliveries a preview shows.
	SampleSize = 10
	// againAfter is the pause after a hold's end that failed.
	againAfter = time.Minute
)

// Errors of a request.
var (
	ErrNothing = errors.New("nothing is selected: name an id, destination, stream, sender, recipient, site, state or age, or say that all is meant")
	ErrExpires = errors.New("only the hold or the new route of a destination (with a stream or not, and no other condition) can expire")
	ErrTo      = errors.New("reroute needs to where: direct, router, HOST, HOST:PORT or default")
	ErrTooMany = fmt.Errorf("more than %d destinations have a route of their own; end some, or use [[route]]", MaxReroutes)
)

// Options are what a Controller is built of; all but Now are required.
type Options struct {
	Store spool.Store
	Queue Queue
	File  string       // keeps the held destinations
	Holds []queue.Hold // as ReadHolds found them; the queue must have the Active ones
	// RoutesFile keeps the destinations with an operator's route, Reroutes are as
	// ReadReroutes found them; queue and planner must have the ActiveRoutes.
	RoutesFile string
	Reroutes   []queue.Reroute
	Logger     *slog.Logger
	Now        func() time.Time
}

// Controller carries out orders. It is safe for concurrent use.
type Controller struct {
	opts    Options
	changed chan struct{} // the holds, for the goroutine that ends them
	cancel  context.CancelFunc
	done    chan struct{}

	mu struct {
		sync.Mutex // one change of the holds at a time
		holds      []queue.Hold
		reroutes   []queue.Reroute
	}
}

// New makes a controller.
func New(o Options) *Controller {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Controller{opts: o, changed: make(chan struct{}, 1), done: make(chan struct{})}
	c.mu.holds, c.mu.reroutes = o.Holds, o.Reroutes
	return c
}

// Request is an operator's command.
type Request struct {
	Verb   queue.Verb
	Select Selector
	By     string // who; empty is not known
	Reason string // in the operator's words
	// To is the route of VerbReroute, as mta.Destination.Via; Default is the
	// configured one.
	To string
	// Expires ends a destination's hold or route after that time; 0: a release,
	// or a reroute to Default, does.
	Expires time.Duration
	// Once is about what is there now: a destination's later mail is not held, or
	// takes the configured route.
	Once bool
}

// Default is Request.To for the configured route.
const Default = "default"

// standing reports that a command is about a destination as such.
func (r *Request) standing() bool {
	switch r.Verb {
	case queue.VerbReroute:
		return r.Select.Destination != "" && r.Select.broad() && !r.Once || r.To == Default && r.Select == Selector{All: true}
	case queue.VerbHold:
		return r.Select.Destination != "" && r.Select.broad() && !r.Once
	case queue.VerbRelease:
		return r.Select.Destination != "" && r.Select.broad() || r.Select == Selector{All: true}
	}
	return false
}

// check refuses what cannot be meant.
func (r *Request) check() error {
	switch {
	case r.Select.Empty():
		return ErrNothing
	case r.Verb == queue.VerbReroute && (r.To == "" || len(r.To) > mta.MaxVia || !mta.Printable(r.To)):
		return ErrTo
	case r.Expires != 0 && (r.Verb != queue.VerbHold && r.Verb != queue.VerbReroute || !r.standing() || r.To == Default):
		return ErrExpires
	}
	return nil
}

// reason is the sentence for the journal: "held by ann: she asked for it".
func (r *Request) reason() string {
	s := [...]string{"held", "released", "retried", "cancelled", "rerouted"}[r.Verb]
	switch {
	case r.Verb != queue.VerbReroute:
	case r.To == Default:
		s += " as configured"
	default:
		s += " to " + r.To
	}
	if r.By != "" {
		s += " by " + r.By
	}
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}

// Result tells how far a command has come.
type Result struct {
	Command string `json:"command"`
	Matched int64  `json:"matched"` // deliveries it is about, as they were listed
	queue.Tally
	Gone  int64       `json:"gone"`           // ended before the command reached them, or not to be caught
	Hold  *queue.Hold `json:"hold,omitempty"` // the destination's, set by it
	Ended int         `json:"holds_ended"`    // holds of destinations ended by it
	// Reroute is the destination's new route, set by it; RoutesEnded are those
	// that it ended.
	Reroute     *queue.Reroute `json:"reroute,omitempty"`
	RoutesEnded int            `json:"reroutes_ended,omitempty"`
	Finished    bool           `json:"finished"`
}

// errand is one pass over the spool.
type errand struct {
	Request
	order  queue.Order
	now    time.Time
	heldBy func(d *mta.Delivery) bool // nil: any
	// clears ends routes of destinations, ended are those: what has no route that
	// ends is left alone.
	clears bool
	ended  []queue.Reroute

	mu       sync.Mutex
	result   Result
	progress func(Result)
}

// wants reports whether an errand is about a delivery.
func (e *errand) wants(d *mta.Delivery) bool {
	return e.Select.matches(d, e.now) && e.order.Applies(d, e.now) && (e.heldBy == nil || e.heldBy(d)) && (!e.clears || e.loses(d))
}

// recalls is wants for what no store has filtered.
func (e *errand) recalls(d *mta.Delivery, site string) bool {
	return e.Select.covers(d) && (e.Select.Site == "" || strings.EqualFold(e.Select.Site, site)) && e.wants(d)
}

func (e *errand) add(f func(r *Result)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.result)
	if e.progress != nil {
		e.progress(e.result)
	}
}

func (c *Controller) errand(r Request) *errand {
	o := queue.Order{Verb: r.Verb, Reason: r.reason()}
	if r.Verb == queue.VerbReroute {
		o.Anew = r.standing()
		if !o.Anew && r.To != Default {
			o.Via = r.To
		}
	}
	e := &errand{Request: r, order: o, now: c.opts.Now(), result: Result{Command: r.Verb.String()}}
	if e.clears = o.Anew && r.To == Default; e.clears {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, e.ended = split(c.mu.reroutes, &r.Select)
	}
	return e
}

// Preview tells what a command would touch: how many deliveries, and the first
// SampleSize of them.
func (c *Controller) Preview(ctx context.Context, r Request) (matched int64, sample []*mta.Delivery, err error) {
	if err := r.check(); err != nil {
		return 0, nil, err
	}
	err = c.each(ctx, c.errand(r), func(batch []*mta.Delivery) error {
		matched += int64(len(batch))
		sample = append(sample, batch[:min(len(batch), SampleSize-len(sample))]...)
		return nil
	})
	return matched, sample, err
}

// Run carries a command out and returns when it is durable, but for what is in
// flight. It is not one commit: after an error a part is done, and the same
// command does the rest. progress, when there is one, is called now and then
// from any goroutine, never twice at once.
func (c *Controller) Run(ctx context.Context, r Request, progress func(Result)) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	e := c.errand(r)
	e.progress = progress
	if r.standing() {
		set := c.standing
		if r.Verb == queue.VerbReroute {
			set = c.standingRoute
		}
		if err := set(e); err != nil {
			return e.result, err
		}
	}
	err := c.run(ctx, e)
	e.result.Finished = err == nil
	c.opts.Logger.Info("an operator's command", "command", r.Verb.String(), "by", r.By, mta.KeyReason, r.Reason,
		mta.KeyDestination, r.Select.Destination, mta.KeyCount, e.result.Changed, "in_flight", e.result.Flight, "finished", err == nil)
	return e.result, err
}

// run makes the pass: one reader, a few workers.
func (c *Controller) run(ctx context.Context, e *errand) error {
	if e.Verb == queue.VerbRelease { // first what is about to be held, then what is
		tally, err := c.opts.Queue.Recall(ctx, e.order, e.recalls)
		if err != nil {
			return err
		}
		e.add(func(r *Result) { r.Matched += tally.Changed + tally.Flight + tally.Kept; r.Tally.Add(tally) })
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan []*mta.Delivery)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for batch := range work {
				if err := c.command(ctx, e, batch); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	err := c.each(ctx, e, func(batch []*mta.Delivery) error {
		e.add(func(r *Result) { r.Matched += int64(len(batch)) })
		select {
		case work <- batch:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(work)
	all.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause // of the first failure
	}
	return err
}

// command is about one batch. What has changed since it was read is read again,
// a few times: in memory, or just read, it is caught.
func (c *Controller) command(ctx context.Context, e *errand, batch []*mta.Delivery) error {
	for range rounds {
		tally, again, err := c.opts.Queue.Command(ctx, e.order, batch)
		if err != nil {
			return err
		}
		e.add(func(r *Result) { r.Tally.Add(tally) })
		if len(again) == 0 {
			return nil
		}
		gone := int64(0)
		if batch, gone, err = c.reread(ctx, e, again); err != nil {
			return err
		}
		e.add(func(r *Result) { r.Gone += gone })
		if len(batch) == 0 {
			return nil
		}
	}
	e.add(func(r *Result) { r.Gone += int64(len(batch)) })
	return nil
}

// reread reads deliveries as they are now, and counts those that are gone or
// not meant any more.
func (c *Controller) reread(ctx context.Context, e *errand, keys []mta.DeliveryKey) (list []*mta.Delivery, gone int64, err error) {
	for _, key := range keys {
		found := false
		err := c.opts.Store.List(ctx, spool.Filter{ID: key.Message}, func(d *mta.Delivery) bool {
			if found = d.N == key.N && e.wants(d); found {
				list = append(list, d)
			}
			return !found
		})
		if err != nil {
			return nil, 0, err
		}
		if !found {
			gone++
		}
	}
	return list, gone, nil
}
