package queue

import (
	"context"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Planner answers where a destination's mail goes now.
type Planner interface {
	// Variant names the rules that a message meets beyond its destination (by
	// sender, user, tag): "" when none can matter. Mail of one destination with
	// different variants is planned apart. It is pure, quick, and called by the
	// loop; after Replan it may answer otherwise.
	Variant(m *mta.Message, dest mta.Destination) string
	// Plan gives the routes, or the result that every due delivery of the
	// destination and variant gets (no such domain, DNS trouble, …). It may block
	// on DNS. A variant that begins with mta.VariantReleased is that of mail that
	// was released from a rule's hold: rules that hold are passed over. The queue
	// calls it from a bounded number of goroutines, never twice
	// at once for one destination and variant.
	Plan(ctx context.Context, dest mta.Destination, variant string) (*mta.Plan, *mta.Attempt)
	// Learn takes in what an attempt by a route came to, before that is stored.
	// It may set Elsewhere on results of a. It is called by workers and must be
	// quick.
	Learn(route *mta.Route, d *mta.Delivery, a *mta.Attempt) Lesson
}

// Lesson is what an attempt taught. The zero Lesson is nothing.
type Lesson struct {
	// Avoid is until when the route's site is not used from the route's source
	// while its plan has other routes; where all are avoided mail waits for the one
	// whose avoidance ends first. Why says it.
	Avoid time.Time
	Why   string
	// Replan says that routes to the site are to be made anew: another router or
	// other limits hold from now on.
	Replan bool
}

// Quota counts what a source that is being warmed up sends. It is called by the
// loop and must not block.
type Quota interface {
	// Take takes one message out of what the route's source may send to its
	// provider (Route.Warming is set). It reports false when there is nothing
	// left, and when to ask again; until then the source is avoided there.
	Take(route *mta.Route, d *mta.Delivery, now time.Time) (again time.Time, ok bool)
}

// Carrier carries the deliveries of one site. Carry is one worker: the queue
// calls it in a goroutine of its own, at most the site's limit of them at
// once. It takes deliveries from work, attempts each over a session it keeps
// while it lasts, reports each exactly once, and returns when work has no
// more. A panic inside is caught by the queue, which defers what was taken.
//
// Two contexts: when ctx ends no new delivery is taken and open transactions
// go on; when abandon ends everything is dropped at once (a transaction whose
// content was sent is then uncertain).
type Carrier interface {
	Carry(ctx, abandon context.Context, route *mta.Route, work Work)
}

// Work is a worker's view of its site's ready deliveries.
type Work interface {
	// Next gives the next delivery and the route it is to use (same site as
	// the worker's, maybe a newer look-up). It waits up to idle for one and
	// reports false when there is none, when the site's limit was lowered
	// below this worker, or when the queue stops: QUIT then.
	Next(ctx context.Context, idle time.Duration) (*mta.Delivery, *mta.Route, bool)
	// Report hands in the outcome of a delivery taken from Next. The attempt
	// has one result for each recipient. It may block while settlements wait
	// for the disk.
	Report(d *mta.Delivery, a *mta.Attempt)
}

// Reporter makes the messages that tell senders and the operator what
// happened (RFC 3464). It returns nil, nil when none is owed. It does not
// store: the queue puts the submission in the same commit as the state it
// reports.
type Reporter interface {
	Report(ctx context.Context, r ReportRequest) (*spool.Submission, error)
}

// ReportKind is what a report is about.
type ReportKind uint8

// The kinds of report.
const (
	ReportFailure ReportKind = iota
	ReportDelay
	ReportSuccess // relayed to a host that does not do DSN
)

// ReportRequest asks for one report about some recipients of one delivery.
type ReportRequest struct {
	Kind     ReportKind
	Delivery *mta.Delivery
	// Recipients are those to report, with NOTIFY already respected; Results
	// has the same length. For an expired recipient the result carries the
	// last real reply and the status 5.4.7 (4.4.7 in a delay notice).
	Recipients []mta.Recipient
	Results    []mta.Result
	Host       string    // the host that gave the replies, if any
	LastTry    time.Time // of the last attempt
	RetryUntil time.Time // delay: when we give up
	Now        time.Time
}
