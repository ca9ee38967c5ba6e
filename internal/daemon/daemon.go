package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"mailout/internal/account"
	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/control"
	"mailout/internal/dkim"
	"mailout/internal/dns"
	"mailout/internal/events"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/returns"
	"mailout/internal/route"
	"mailout/internal/spool/pebble"
	"mailout/internal/standing"
	"mailout/internal/submit"
	"mailout/internal/submit/drop"
	"mailout/internal/submit/smtpd"
	"mailout/internal/tlspolicy"
	"mailout/internal/tlsrpt"
	"mailout/internal/transport"
	"mailout/internal/warmup"
)

// ErrConfig says that a part refused to start because of the configuration.
var ErrConfig = errors.New("configuration")

// Options are what a Daemon is built from.
type Options struct {
	ConfigPath string         // read again by Reload
	Config     *config.Config // checked
	Logger     *slog.Logger
	Version    string
}

// Daemon is all the parts of `mailout serve`. Start it once, Stop it once.
type Daemon struct {
	opts   Options
	log    *slog.Logger
	memory memoryGate
	failed chan error

	store    *pebble.Store
	resolver *dns.Resolver
	planner  *route.Planner
	warmup   *warmup.Ledger
	standing *standing.Standing
	sources  *sources
	carrier  *transport.Carrier
	queue    *queue.Queue
	intake   *submit.Intake
	admin    *admin.Server
	users    *account.Book
	doors    []door
	drop     *drop.Taker
	pickups  *pickups
	sentinel *sentinel
	control  *control.Controller
	routers  *routers
	events   *events.Hub

	ring        *dkim.Ring // which DKIM keys sign
	resolvers   resolvers  // that it asks
	unaligned   unalignedLog
	signing     *signing
	tlsReports  *tlsrpt.Reports
	sts         *tlspolicy.STS
	suppression suppression
	returns     *returns.Office
	links       links

	authority authority // of certificates
	web       web

	stopped      context.CancelFunc // ends housekeeping
	housekeeping sync.WaitGroup

	mu struct {
		sync.Mutex // one reload at a time
		config     *config.Config
	}
}

// door is one [[listen]].
type door struct {
	listener    config.Listener
	server      *smtpd.Server
	certificate *certificate
}

// New makes a daemon; nothing runs and no file is touched before Start.
func New(opts Options) *Daemon {
	d := &Daemon{opts: opts, log: opts.Logger, failed: make(chan error, 1)}
	d.mu.config = opts.Config
	return d
}

// Failed delivers the error of a part that cannot go on; the caller stops the
// daemon then.
func (d *Daemon) Failed() <-chan error { return d.failed }

// StopLimit is how long Stop may drain: [limits] stop.
func (d *Daemon) StopLimit() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.config.Limits.Stop
}

// Start builds and starts every part: the spool first, whose lock keeps a
// second process out, the doors last, so that nothing is accepted before it
// can be delivered. On an error what was started is stopped again. The error
// is spool.ErrLocked, ErrConfig or the cause of a failure, wrapped.
func (d *Daemon) Start(ctx context.Context) error {
	err := d.start(ctx)
	if err != nil {
		stopCtx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, d.Stop(stopCtx))
	}
	return err
}

func (d *Daemon) start(ctx context.Context) (err error) {
	c := d.opts.Config
	d.memory.setLimit(c.Limits.Memory)
	raiseProcessors()
	easeTimers()
	storeOpts := spoolOptions(c)
	storeOpts.Logger = d.log
	if d.store, err = pebble.Open(ctx, storeOpts); err != nil {
		return err
	}
	if err := d.buildRoad(c); err != nil {
		return err
	}
	if err := d.warmup.Start(ctx); err != nil {
		return err
	}
	d.suppression.list.Start(ctx)
	if err := d.standing.Start(ctx); err != nil {
		return err
	}
	d.returns.Start(ctx)
	if err := d.tlsReports.Start(ctx); err != nil {
		return err
	}
	d.ring.Start(ctx) // before anything goes out
	if err := d.startLinks(ctx); err != nil {
		return err
	}
	d.sts.Start(ctx)
	d.resolver.Begin()
	if err := d.queue.Start(ctx); err != nil {
		return err
	}
	d.control.Start(ctx)
	if err := d.events.Start(ctx); err != nil {
		return err
	}
	if err := d.admin.Start(ctx); err != nil {
		return err
	}
	for _, door := range d.doors {
		if err := door.server.Start(ctx); err != nil {
			return fmt.Errorf("[[listen]] %s: %w", door.listener.Address, err)
		}
		d.log.Info("listening", mta.KeyListener, door.listener.Address.String())
	}
	if err := d.drop.Start(ctx); err != nil {
		return fmt.Errorf("%w: [sendmail] drop: %w", ErrConfig, err)
	}
	d.pickups = &pickups{intake: d.intake, users: d.users, log: d.log}
	if err := d.pickups.start(ctx, c); err != nil {
		return err
	}
	if err := d.sentinel.start(ctx); err != nil { // asks others: not before all else is in order
		return err
	}
	d.startHousekeeping()
	d.startAuthority(ctx)
	d.web.open.Store(true)
	return nil
}

// buildRoad joins the parts from the doors to the wire; nothing runs yet.
func (d *Daemon) buildRoad(c *config.Config) (err error) {
	dnsOpts := dnsOptions(c)
	dnsOpts.Logger = d.log
	d.resolver = dns.New(dnsOpts)
	d.ring = d.newRing(c)
	d.warmup = d.newLedger(c)
	d.standing = d.newStanding(c)
	d.routers = newRouters(d.log, d.store, newRouterAlarms(d.log, d.noteRouter))
	d.sts = newSTS(c, d.resolver, tlspolicy.STSOptions{Notes: d.store, Logger: d.log})
	d.planner, err = route.New(route.Options{
		Resolver: d.resolver, Settings: d.routers.settings(context.Background(), c), Unresolved: d.routers.alarms.unresolved, Logger: d.log, Secret: config.ReadSecret,
		Warming: d.warmup.Warming, Slowed: d.standing.Factor, Fallback: d.fallback, STS: d.sts,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	d.routers.alarms.keep(d.planner.Routers())
	d.buildSuppression(c)
	settings, err := carrierSettings(c)
	if err != nil {
		return err
	}
	before := readGuardState(filepath.Join(c.Spool, guardFile), d.log)
	d.sentinel = newSentinel(c, d.log, before)
	d.sources = newSources(c, d.log)
	d.sentinel.dnssec = d.resolver.DNSSEC
	d.sentinel.examineAs(c, d.routers.current)
	d.signing = newSigning(d.ring, rightTime(d.sentinel.Last), d.log)
	d.signing.added = d.links.fields
	d.carrier = transport.New(transport.Options{
		Resolve: d.resolveProxy, Stuck: d.sources.stuck,
		Content: d.store, Observer: newTranscript(d.log), Greeted: d.sentinel.greeted, Settings: settings, Suppressed: d.suppression.atAttempt, ReturnPath: d.returnPath,
		Secured: d.secured, Routed: d.routers.alarms.routed, Prepare: d.signing.prepare, Apart: d.links.apart,
	})
	ordered, err := readOrders(c)
	if err != nil {
		return err
	}
	reporter := &lateReporter{}
	d.queue = queue.New(queue.Options{
		Store: d.store, Planner: d.sources.around(hearing{taught{d.learning(), d.warmup}, d.suppression.list}), Quota: quotas{d.standing, d.warmup}, Carrier: d.carrier, Reporter: reporter,
		Schedules: schedules(c), Limits: queueLimits(c), Logger: d.log, Hostname: c.Hostname,
		Guarded: before.Guarded, Holds: control.Active(ordered.holds, time.Now()), Reroutes: control.ActiveRoutes(ordered.reroutes, time.Now()),
	})
	d.sources.join(d)
	d.control = d.controller(ordered)
	d.sentinel.join(d.planner, d.queue, d.store, newKeeper(c, d.log, func(c *config.Config) (publishing, error) { return Updater(c, d.resolver) }, nil))
	d.intake = submit.NewIntake(submit.Options{
		Store: d.store, Queue: d.queue, Settings: intakeSettings(c), Busy: d.memory.Busy, Suppression: &d.suppression,
		Covered: d.covers, Unaligned: d.unalignedFrom,
	})
	if err := d.buildTLSReports(c); err != nil {
		return err
	}
	reports := submit.NewReporter(d.intake)
	reporter.Reporter = reports
	if err := d.buildReturns(c, reports); err != nil {
		return err
	}
	if err := d.buildLinks(c); err != nil {
		return err
	}
	d.drop = drop.NewTaker(drop.Options{
		Folder: drop.Folder(c.Sendmail.Drop), Intake: d.intake, Report: reports.Refused, Logger: d.log,
	})
	if err := d.buildEvents(c); err != nil {
		return err
	}
	if err := d.buildAPI(c); err != nil {
		return err
	}
	return d.buildDoors(c)
}

// buildDoors makes the SMTP doors.
func (d *Daemon) buildDoors(c *config.Config) error {
	if _, err := d.useAuthority(c); err != nil {
		return err
	}
	for _, l := range c.Listen {
		own := &certificate{}
		if err := own.use(c.Hostname, l, d.authority.now, d.log); err != nil {
			return err
		}
		d.doors = append(d.doors, door{listener: l, certificate: own, server: smtpd.New(smtpd.Options{
			Address: l.Address.String(), Acceptor: d.acceptor(l), Logger: d.log, Settings: d.doorOf(c, l, own),
		})})
	}
	return nil
}

// lateReporter closes the circle between queue and intake: the queue needs
// intake's reporter, intake needs the queue. It is set before either runs.
type lateReporter struct{ queue.Reporter }

// Stop ends every part: at once no door takes anything new and the queue starts
// nothing new, and both let what is under way end until ctx ends; what comes in
// meanwhile is stored and stays in the spool, like what the drain did not
// reach. Then the others end in the reverse order of Start, the store last.
//
// What had to be cut off because ctx ended is told in the log and is no error:
// nothing accepted is lost by it.
func (d *Daemon) Stop(ctx context.Context) error {
	d.web.open.Store(false)
	errs := d.drain(ctx)
	if d.admin != nil {
		errs = append(errs, d.cutOff("control socket", d.admin.Stop(ctx)))
	}
	if d.control != nil {
		d.control.Stop()
	}
	if d.tlsReports != nil {
		d.tlsReports.Stop(ctx)
	}
	if d.returns != nil {
		d.returns.Stop()
	}
	d.stopLinks()
	if d.suppression.list != nil {
		d.suppression.list.Stop()
	}
	if d.events != nil {
		d.events.Stop(ctx)
	}
	if d.stopped != nil {
		d.stopped()
		d.housekeeping.Wait()
	}
	d.stopAuthority()
	if d.ring != nil {
		d.ring.Stop()
	}
	if d.routers != nil {
		d.routers.close()
	}
	if d.planner != nil {
		d.planner.Close()
	}
	if d.sts != nil {
		d.sts.Stop()
	}
	if d.resolver != nil {
		errs = append(errs, d.resolver.Close())
	}
	if d.warmup != nil {
		errs = append(errs, d.warmup.Stop(ctx))
	}
	if d.standing != nil {
		d.standing.Stop(ctx)
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}

// drain stops the doors, the queue and the watch side by side: a client that dawdles must
// not keep another door open, nor use up the time of the deliveries under way.
func (d *Daemon) drain(ctx context.Context) []error {
	errs := make([]error, len(d.doors)+2)
	var all sync.WaitGroup
	for i, door := range d.doors {
		all.Go(func() { errs[i] = d.cutOff(door.listener.Address.String(), door.server.Stop(ctx)) })
	}
	if d.drop != nil {
		all.Go(func() { errs[len(d.doors)+1] = d.drop.Stop(ctx) })
	}
	if d.pickups != nil {
		all.Go(func() { d.pickups.stop(ctx) })
	}
	all.Go(func() { d.stopWeb(ctx) })
	all.Go(func() { d.closeLinks(ctx) })
	if d.sentinel != nil {
		all.Go(d.sentinel.stop)
	}
	if d.queue != nil {
		errs[len(d.doors)] = d.queue.Stop(ctx)
	}
	all.Wait()
	return errs
}

// cutOff takes the end of the time to stop for what it is.
func (d *Daemon) cutOff(part string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		d.log.Warn("cut off: the time to stop was over", mta.KeyListener, part, mta.KeyError, err)
		return nil
	}
	return err
}

// pruneEvery is the period of the journal's housekeeping.
const pruneEvery = time.Hour

// startHousekeeping removes old journal records, and watches the store.
func (d *Daemon) startHousekeeping() {
	ctx, cancel := context.WithCancel(context.Background())
	d.stopped = cancel
	d.housekeeping.Go(func() { d.watchStore(ctx, d.store.Failed()) })
	d.housekeeping.Go(func() { d.watchCertificates(ctx) })
	d.housekeeping.Go(func() { d.sources.watch(ctx) })
	d.housekeeping.Go(func() { d.watchRouters(ctx) })
	d.housekeeping.Go(func() { d.watchTables(ctx) })
	d.housekeeping.Go(func() {
		d.prune(ctx)
		every(ctx, pruneEvery, func() { d.prune(ctx) })
	})
}

// prune removes the journal records whose time is over.
func (d *Daemon) prune(ctx context.Context) {
	d.mu.Lock()
	c := d.mu.config.Journal
	d.mu.Unlock()
	retain(ctx, d.store, c, time.Now(), d.log)
}

// every calls f each time the period is over, until ctx ends.
func every(ctx context.Context, period time.Duration, f func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// watchStore ends the daemon when the store's log cannot be written any more:
// nothing can be accepted or recorded then, and only a new start finds out what
// the disk has.
func (d *Daemon) watchStore(ctx context.Context, failed <-chan struct{}) {
	select {
	case <-failed:
		d.failed <- errors.New("the spool's log could not be written (the lines above say why); nothing accepted is lost, mend the disk and start again")
	case <-ctx.Done():
	}
}
