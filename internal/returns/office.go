package returns

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
	"mailout/internal/submit"
	"mailout/internal/suppress"
)

// Store is the spool as the returns use it.
type Store interface {
	Put(ctx context.Context, subs ...*spool.Submission) error
	Records(ctx context.Context, filter spool.RecordFilter, f func(*mta.Record) bool) error
}

// Reporter makes the report that goes on to the sender; nil, nil: none is owed.
// The header is that of the message reported, nil when it did not come along.
type Reporter interface {
	Returned(ctx context.Context, r queue.ReportRequest, header []byte) (*spool.Submission, error)
}

// List is the suppression list as far as it learns.
type List interface {
	Report(ctx context.Context, ev suppress.Evidence) (*suppress.Entry, error)
}

// Settings may change while the office runs.
type Settings struct {
	Domain     string   // of the return paths, lower-case A-labels; empty: they stay as they are
	Streams    []string // whose mail gets one; empty: all
	Users      []string // whose mail gets one; empty: everybody's
	Routers    bool     // also mail to routers
	Forward    bool     // reports go on to the application's return path
	Complaints []string // mailboxes for feedback reports, lower case
	Valid      time.Duration
}

// Options are what an Office is built of. Keys, Store, Queue, Reporter and List
// are needed.
type Options struct {
	Keys     string // path of the file of keys
	Store    Store
	Queue    submit.Queue
	Reporter Reporter
	List     List
	// Complained is told of a complaint, with the record of the delivery that it
	// is about, which names source and site; nil: nobody is.
	Complained func(delivered *mta.Record)
	// Classifier names the class of what a report says; nil: the shipped rules.
	Classifier *bounce.Classifier
	Settings   Settings
	Logger     *slog.Logger     // nil discards
	Now        func() time.Time // nil: time.Now
}

// Office takes in what comes back. It is safe for concurrent use.
type Office struct {
	opts     Options
	log      *slog.Logger
	now      func() time.Time
	keys     atomic.Pointer[keyRing] // nil: not read, for there is no domain
	reader   atomic.Pointer[bounce.Classifier]
	settings atomic.Pointer[Settings]
	counts   counters
	memory   atomic.Int64  // octets that drafts hold
	readers  chan struct{} // messages being read
	pace     *rate.Limiter // of what is looked at
	unread   rate.Sometimes

	stop    context.CancelFunc
	stopped sync.WaitGroup
	making  sync.Mutex // of keys
	lanes   [64]sync.Mutex
}

// The bounds of the door.
const (
	maxHead    = 1 << 20  // octets of one message that are looked at; the rest is read and dropped
	maxMemory  = 64 << 20 // octets of all of them
	maxReaders = 2        // messages read at a time
	perSecond  = 100      // messages that are looked at, with burst
	burst      = 500
)

// New makes an office. With a domain the keys are read, or made; the error says
// what is wrong with them.
func New(o Options) (*Office, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Classifier == nil {
		o.Classifier = bounce.New()
	}
	f := &Office{
		opts: o, log: o.Logger, now: o.Now, pace: rate.NewLimiter(perSecond, burst), readers: make(chan struct{}, maxReaders), unread: rate.Sometimes{First: 3, Interval: time.Minute},
	}
	f.reader.Store(o.Classifier)
	return f, f.Configure(o.Settings)
}

// Classify replaces the rules that reports are read by.
func (f *Office) Classify(c *bounce.Classifier) { f.reader.Store(c) }

// Configure replaces the settings. On an error those before stay.
func (f *Office) Configure(s Settings) error {
	if s.Domain != "" || len(s.Complaints) > 0 {
		if err := f.renew(s.Valid); err != nil {
			return err
		}
	}
	f.settings.Store(&s)
	return nil
}

// renew reads the keys, and makes one when it is time.
func (f *Office) renew(valid time.Duration) error {
	f.making.Lock()
	defer f.making.Unlock()
	ring, err := openKeys(f.opts.Keys, f.now(), valid)
	if err == nil {
		f.keys.Store(&ring)
	}
	return err
}

// renewEvery is how often it is looked whether a key is old.
const renewEvery = 12 * time.Hour

// Start begins to look after the keys. The end of ctx does not stop it.
func (f *Office) Start(ctx context.Context) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	f.stopped.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if f.keys.Load() == nil {
					continue
				}
				if err := f.renew(f.settings.Load().Valid); err != nil {
					f.log.Error("the keys of return paths cannot be renewed; those in use stay", mta.KeyError, err)
				}
			case <-run.Done():
				return
			}
		}
	})
}

// Stop ends the goroutine.
func (f *Office) Stop() {
	if f.stop != nil {
		f.stop()
		f.stopped.Wait()
	}
}

// ReturnPath gives the return path for some recipients of a delivery: one of
// ours, or the message's. A transaction with several recipients gets one that
// speaks of the domain; the report says then of which of them. Who asked for a
// report of success gets it from the next host, which sends it to the return
// path: that stays.
func (f *Office) ReturnPath(d *mta.Delivery, route *mta.Route, rcpts []mta.Recipient) string {
	s, ring := f.settings.Load(), f.keys.Load()
	m := d.Message
	sender := m.Envelope.Sender
	switch {
	case s.Domain == "" || ring == nil || sender == "" || len(rcpts) == 0:
		return sender
	case route.Router != "" && !s.Routers,
		len(s.Streams) > 0 && !slices.Contains(s.Streams, m.Stream),
		len(s.Users) > 0 && !slices.Contains(s.Users, m.Origin.User):
		return sender
	}
	k := ring.current()
	var w who
	quiet := true
	if len(rcpts) == 1 {
		w = k.recipient(rcpts[0].Address)
	} else {
		w = k.domain(domainOf(rcpts[0].Address))
	}
	for i := range rcpts {
		if rcpts[i].Notify.Wants(mta.NotifySuccess) {
			return sender
		}
		quiet = quiet && !rcpts[i].Notify.Wants(mta.NotifyFailure)
	}
	return k.local(m.ID, w, quiet) + "@" + s.Domain
}

// find gives what an address of ours says, nil when it is none: not made here, or
// too old.
func (f *Office) find(address string) *tag {
	s, ring := f.settings.Load(), f.keys.Load()
	at := strings.LastIndexByte(address, '@')
	if ring == nil || s.Domain == "" || at < 0 || !strings.EqualFold(address[at+1:], s.Domain) {
		return nil
	}
	t := ring.open(address[:at])
	if t == nil || f.now().Sub(t.id.Time()) > s.Valid+mta.MaxNotBefore {
		return nil
	}
	return t
}

// complaints reports whether an address is one for feedback reports.
func (f *Office) complaints(address string) bool {
	return slices.Contains(f.settings.Load().Complaints, strings.ToLower(address))
}

var refusals = struct{ unknown, later, large mta.Reply }{
	unknown: mta.Reply{Code: 550, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: "no such address here: only bounces and complaints about mail from here are taken"},
	later:   mta.Reply{Code: 451, Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 2}, Text: "too much comes back at this moment, try again later"},
}

var (
	_ submit.Acceptor         = (*Office)(nil)
	_ submit.RecipientChecker = (*Office)(nil)
)

// Check implements submit.Acceptor: RCPT decides.
func (f *Office) Check(ctx context.Context, _ *submit.Request) error { return ctx.Err() }

// CheckRecipient implements submit.RecipientChecker: addresses of ours alone.
func (f *Office) CheckRecipient(_ context.Context, r *submit.Request, address string) error {
	if f.find(address) != nil || f.complaints(address) {
		return nil
	}
	f.counts.refused.Add(1)
	f.unread.Do(func() {
		f.log.Info("an address was refused where bounces come back to", mta.KeyPeer, peerOf(r), mta.KeyRecipient, address)
	})
	return &submit.Refusal{Reply: refusals.unknown, Field: "recipient"}
}

func peerOf(r *submit.Request) netip.Addr { return r.Origin.Peer }

// Begin implements submit.Acceptor.
func (f *Office) Begin(ctx context.Context, r *submit.Request) (submit.Draft, error) {
	if len(r.Recipients) == 0 {
		return nil, &submit.Refusal{Reply: refusals.unknown, Field: "recipient"}
	}
	for i := range r.Recipients {
		if err := f.CheckRecipient(ctx, r, r.Recipients[i].Address); err != nil {
			return nil, err
		}
	}
	if !f.pace.AllowN(f.now(), 1) {
		f.counts.later.Add(1)
		return nil, &submit.Refusal{Reply: refusals.later}
	}
	return &draft{office: f, request: r}, nil
}
