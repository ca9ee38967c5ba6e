package tlsrpt

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

// Settings may change while reports are made.
type Settings struct {
	Send            bool   // false: nothing is counted or sent, and what was is forgotten
	Hostname        string // ours
	From            string // address that reports by mail come from
	Contact         string // contact-info; of the same domain as From (RFC 8460 5.3)
	Organization    string // organization-name
	Roots           *x509.CertPool
	PrivateNetworks bool // reports may go to private addresses by HTTPS
}

// submitter is who sends the reports: the domain of contact-info.
func (s *Settings) submitter() string { return s.Contact[strings.LastIndexByte(s.Contact, '@')+1:] }

// Options are what Reports are made of. Notes, Resolver and Intake are needed.
type Options struct {
	Notes    spool.Notes
	Resolver Resolver
	Intake   submit.Acceptor
	Settings Settings
	// Signs says whether mail from an address gets a DKIM signature of its domain;
	// nil: all does.
	Signs func(from string) bool
	// Told is told of each report that a receiver has taken or that is given up; it
	// writes it down. nil: nobody is.
	Told func(ctx context.Context, s *Sent)
	// Seen gives the address that others see when we send from a local one; the
	// zero Addr: it is nobody's business. nil: the same.
	Seen   func(local netip.Addr) netip.Addr
	Agent  string // User-Agent; empty: "mailout"
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
	// Dial connects to a receiver by HTTPS; nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Reports counts sessions and sends reports. It is safe for concurrent use.
type Reports struct {
	opts     Options
	now      func() time.Time
	settings atomic.Pointer[Settings]
	counter  *counter
	slots    chan struct{} // one token a worker
	started  time.Time
	warned   rate.Sometimes // that reports are not sent by mail

	end     context.CancelFunc
	timer   sync.WaitGroup // the goroutine that keeps the time, and the lookups
	running sync.WaitGroup // workers; only the timekeeper adds

	mu struct {
		sync.Mutex
		waiting jobs
		known   map[string]struct{} // jobs that wait or are under way
	}
}

// tickPace is how often it is looked what is due; firstTick is how long after the
// start for the first time, when the queue and the doors are open.
const (
	tickPace  = 30 * time.Second
	firstTick = 5 * time.Second
)

// New makes Reports that know nothing yet.
func New(o Options) *Reports {
	r := &Reports{opts: o, now: o.Now, counter: newCounter(), slots: make(chan struct{}, workers), warned: rate.Sometimes{Interval: 24 * time.Hour}}
	if r.now == nil {
		r.now = time.Now
	}
	if r.opts.Logger == nil {
		r.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if r.opts.Agent == "" {
		r.opts.Agent = "mailout"
	}
	r.mu.known = make(map[string]struct{})
	r.Reconfigure(o.Settings)
	return r
}

// Reconfigure replaces the settings.
func (r *Reports) Reconfigure(s Settings) { r.settings.Store(&s) }

// Count adds a session. It takes no time to speak of, and keeps nothing of o but
// texts of its route.
func (r *Reports) Count(o *Session) {
	if r.settings.Load().Send {
		r.counter.count(o, r.now())
	}
}

// Start takes in what was kept, and begins.
func (r *Reports) Start(ctx context.Context) error {
	r.started = r.now()
	if err := r.load(ctx); err != nil {
		return err
	}
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	r.end = end
	for range lookups {
		r.timer.Go(func() { r.lookUp(run) })
	}
	r.timer.Go(func() { r.keepTime(run) })
	return nil
}

// Stop ends what is under way and keeps what was counted, at the latest with ctx.
func (r *Reports) Stop(ctx context.Context) {
	if r.end == nil {
		return
	}
	r.end()
	r.timer.Wait()
	r.running.Wait()
	r.end = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	if err := r.keep(ctx, func(int64, *tally) bool { return true }); err != nil {
		r.opts.Logger.Warn("what was counted for TLS reports could not be kept", mta.KeyError, err)
	}
}

// keepTime does what is due until ctx ends.
func (r *Reports) keepTime(ctx context.Context) {
	tick := time.NewTimer(firstTick)
	defer tick.Stop()
	kept := r.now()
	for {
		select {
		case <-tick.C:
			tick.Reset(tickPace)
		case <-ctx.Done():
			return
		}
		now := r.now()
		if !r.settings.Load().Send {
			r.forget(ctx)
			continue
		}
		r.counter.sweep(now)
		err := r.endDays(ctx, now)
		if past := now.Sub(kept); err == nil && (past >= KeepPace || past < 0) {
			kept = now
			err = r.keep(ctx, func(_ int64, t *tally) bool { return t.asks })
		}
		if err != nil && ctx.Err() == nil {
			r.opts.Logger.Warn("what was counted for TLS reports could not be kept; it is tried again", mta.KeyError, err)
		}
		r.dispatch(ctx)
	}
}

// forget drops all that was counted and that waits: nobody is to get a report any
// more. Reports under way end.
func (r *Reports) forget(ctx context.Context) {
	c := r.counter
	for i := range c.shard {
		s := &c.shard[i]
		s.Lock()
		for day, names := range s.days {
			for domain, t := range names {
				c.drop(s, domain, day, t)
			}
		}
		s.Unlock()
	}
	r.mu.Lock()
	r.mu.waiting = nil
	clear(r.mu.known)
	r.mu.Unlock()
	for {
		changes := map[string][]byte{}
		err := r.opts.Notes.Notes(ctx, prefix, "", func(name string, _ []byte) bool {
			changes[name] = nil
			return len(changes) < keepNotes
		})
		if err == nil && len(changes) > 0 {
			err = r.set(ctx, changes)
		}
		if err != nil && ctx.Err() == nil {
			r.opts.Logger.Warn("TLS reports that are not wanted any more could not be removed; it is tried again", mta.KeyError, err)
		}
		if err != nil || len(changes) < keepNotes {
			return
		}
	}
}

// counts are what happened since the start.
type counts struct {
	success, failure, uncounted atomic.Int64
	mailed, posted, givenUp     atomic.Int64
	unmade, unsigned            atomic.Int64
}

// Counts tell what happened since the start, and what there is.
type Counts struct {
	Success, Failure int64 // sessions told
	Uncounted        int64 // of them those that there was no room for
	Domains          int64 // counted now
	Waiting          int64 // reports
	Mailed, Posted   int64 // reports taken, each receiver by itself
	GivenUp          int64
	Unmade           int64 // reports that there was no room for
	Unsigned         int64 // receivers by mail that got none, for want of a DKIM key
}

// Counts gives them.
func (r *Reports) Counts() Counts {
	c := &r.counter.counts
	r.mu.Lock()
	waiting := len(r.mu.known)
	r.mu.Unlock()
	return Counts{
		Success: c.success.Load(), Failure: c.failure.Load(), Uncounted: c.uncounted.Load(), Domains: r.counter.domains.Load(), Waiting: int64(waiting),
		Mailed: c.mailed.Load(), Posted: c.posted.Load(), GivenUp: c.givenUp.Load(), Unmade: c.unmade.Load(), Unsigned: c.unsigned.Load(),
	}
}
