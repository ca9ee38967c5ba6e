package queue

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"mailout/internal/retry"
	"mailout/internal/spool"
)

// Limits bound the queue. Zero values mean the defaults.
type Limits struct {
	Connections      int // sessions at once to all sites; default 5,000
	PerDestination   int // deliveries of one destination in memory; default 200, 2 to 4,000
	InMemory         int // deliveries in memory, plus one a destination; default 200,000
	IdleDestinations int // destinations without deliveries in memory kept with their routes; default 20,000
	// RestingDestinations is of how many destinations with nothing in memory the
	// next due time is known; what is due later is looked for when the time is near.
	// Those due within the next minutes are not limited. Default 100,000, at least 2.
	RestingDestinations int
	Plans               int // Planner.Plan calls at once, slow ones not counted; default 64
	Pages               int // Store.Page calls at once; default 8
	Clerks              int // conclusions at once without a session; default 8
	Settlers            int // Store.Settle calls at once; default 4, at least 2; fixed at Start
}

func (l Limits) filled() Limits {
	fill := func(v *int, def, least int) {
		if *v <= 0 {
			*v = def
		}
		*v = max(*v, least)
	}
	fill(&l.Connections, 5000, 1)
	fill(&l.PerDestination, 200, 2)
	l.PerDestination = min(l.PerDestination, maxPerDestination)
	fill(&l.InMemory, 200_000, 2)
	fill(&l.IdleDestinations, 20_000, 1)
	fill(&l.RestingDestinations, 100_000, 2)
	fill(&l.Plans, 64, 1)
	fill(&l.Pages, 8, 1)
	fill(&l.Clerks, 8, 1)
	fill(&l.Settlers, 4, 2)
	return l
}

// Bounds that are not configurable. docs/queue.md lists them.
const (
	eventBuffer   = 1024 // events waiting for the loop
	outcomeBuffer = 1024 // outcomes waiting for the disk
	// maxPerDestination keeps a page (at most twice as long) within what a
	// store gives at once.
	maxPerDestination = 4000
	settleBatch       = 256 // outcomes in one commit
	failBatch         = 64  // deliveries that get a failed plan's result at a time
	eventBatch        = 256 // events handled for one look at the clock

	// lateAdd is the age of a message beyond which Add is not trusted.
	lateAdd = 10 * time.Second
	// staleRoute is how long a route is used past its expiry while a new plan
	// is being made.
	staleRoute = 30 * time.Second
	// leastRoute is how long a route or a failed plan counts at least.
	leastRoute = 5 * time.Second
	// slowPlan is the age at which a plan under way is slow and makes place for
	// another; plansInAll is how many times Plans there may be with the slow.
	slowPlan   = time.Second
	plansInAll = 4
	// failedPlan is how long a failed plan's result is given to what is due, and
	// failedLookUp the same when it is not for good: mail that comes after the
	// name servers' trouble must not be put off because of it.
	failedPlan   = 30 * time.Second
	failedLookUp = time.Second
	// leastLead and mostLead bound how long before the horizon a walk begins;
	// between them it is walkShare times what the last walk took.
	leastLead = time.Minute
	mostLead  = 15 * time.Minute
	walkShare = 4
	walkBatch = 256 // destinations told to the loop at a time
	// keepStreamNames bounds the stream names kept for resting destinations.
	keepStreamNames = 10_000
	// A map that has held slimFrom entries, and slimShare times what it holds
	// now, is made anew.
	slimFrom  = 10_000
	slimShare = 4
	// firstPage is how many deliveries of a destination are read from the spool at
	// first: what a site's connections take at once. A page that was used up in
	// fastPage doubles the next, one that lasted slowPage halves it.
	firstPage = 20
	fastPage  = time.Second
	slowPage  = 8 * time.Second
	// nearHorizon is how soon a delivery must be due to be kept in memory when
	// half of InMemory is used.
	nearHorizon = time.Minute
	// quick is the time a delivery takes, on average, at a site that counts as quick.
	quick = 5 * time.Second
	// slowTurn and slowShare are how long, and how many deliveries, a slow
	// site's worker keeps its connection while others have none.
	slowTurn  = time.Minute
	slowShare = 20
	// releaseMin and releaseMax bound the distance of two releases of a site,
	// releaseCalm forgets the growth.
	releaseMin  = 10 * time.Second
	releaseMax  = 30 * time.Minute
	releaseCalm = time.Hour
	// keepSite is how long a site without work or destinations is remembered.
	keepSite = 10 * time.Minute
	// watchEvery is the watchdog's period; stuckAfter is what it reports.
	watchEvery = time.Minute
	stuckAfter = 10 * time.Minute
	watchLines = 20 // log lines of one look at most
	// maxSleep bounds the loop's sleep, so that a changed wall clock is noticed.
	maxSleep = 30 * time.Second
	// finishTime is what Stop gives to carriers, and then to the disk, after
	// its context has ended.
	finishTime = 10 * time.Second
	// settleMin and settleMax bound the wait between tries of a failed commit.
	settleMin = 100 * time.Millisecond
	settleMax = 10 * time.Second
)

// Options are what a Queue stands on. Store, Planner, Carrier and Reporter are
// required.
type Options struct {
	Store     spool.Store
	Planner   Planner
	Carrier   Carrier
	Reporter  Reporter
	Quota     Quota // nil: no source is being warmed up
	Schedules retry.Schedules
	Limits    Limits
	// Now is the wall clock; default time.Now. It and Rand are called from many
	// goroutines.
	Now func() time.Time
	// Rand gives numbers in [0,1) for jitter; default math/rand/v2.
	Rand   func() float64
	Logger *slog.Logger // default: discards
	// Guarded are the times in which the guard held direct mail before this
	// start, as Queue.Guarded gave them; one without an end goes on.
	Guarded []Span
	// Holds are the destinations whose mail is held from the start on.
	Holds []Hold
	// Reroutes are the destinations with an operator's route from the start on;
	// the planner has them.
	Reroutes []Reroute
	// Hostname is the EHLO name noted in records of attempts whose carrier
	// named none.
	Hostname string
}

func (o Options) filled() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.filled()
	return o
}

// settings are what Reconfigure replaces: immutable, shared by pointer.
type settings struct {
	schedules retry.Schedules
	limits    Limits
	hostname  string
}
