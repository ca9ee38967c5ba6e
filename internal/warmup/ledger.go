package warmup

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// The bounds of a Ledger.
const (
	MaxAccounts = 4096
	maxFlights  = 10_000
)

// Priority says what mail of a stream does while a source is warming.
type Priority uint8

// The priorities. See pace.go for what First leaves to Any.
const (
	Any   Priority = iota
	First          // before the others
	Never          // not by such a source
)

// Source is a source that is warmed up.
type Source struct {
	IP     netip.Addr
	Start  time.Time // its first day, at midnight UTC; nothing is sent before
	Plan   Plan
	Origin string // the configuration line
}

// Settings are what the operator configured. They are read-only once given.
type Settings struct {
	Sources []Source
	Streams map[string]Priority // that are not Any
}

// Options are what a Ledger is made of.
type Options struct {
	Notes    spool.Notes
	Settings Settings
	Logger   *slog.Logger     // nil: none
	Now      func() time.Time // nil: time.Now
	// Stopped is told of every stop, when it has been written; nil: nobody.
	Stopped func(Stop)
}

// Stop tells that bad signs ended a source's day at a provider.
type Stop struct {
	At       time.Time
	Source   netip.Addr
	Provider string // as in Plan.Providers: Other for everybody else
	Reason   string
	Day      int // of the plan, that was stopped; from 1
	Next     int // of the plan, on the next day
}

// Ledger counts what warming sources send. Make it with New, Start it before
// the queue, Stop it after.
type Ledger struct {
	notes   spool.Notes
	log     *slog.Logger
	now     func() time.Time
	stopped func(Stop)
	work    chan struct{} // something is to be written; one place
	end     chan struct{} // closed by Stop
	done    sync.WaitGroup

	mu struct {
		sync.Mutex
		open     bool // between Start and Stop
		sources  map[netip.Addr]*Source
		streams  map[string]Priority
		anyFirst bool // some stream is marked First
		accounts map[accountKey]*account
		flights  map[mta.DeliveryKey]flight
		dirty    []*account // to be written
		stops    []Stop     // to be told; at most one of an account and day
	}
}

// flight is what was taken for one delivery that is under way.
type flight struct {
	accounts [2]*account // second is nil, but for a pair of sources that are both warming
	day      day
	n        int
	first    bool
}

// New makes a ledger. It counts nothing before Start.
func New(o Options) *Ledger {
	l := &Ledger{notes: o.Notes, log: o.Logger, now: o.Now, stopped: o.Stopped, work: make(chan struct{}, 1), end: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.stopped == nil {
		l.stopped = func(Stop) {}
	}
	l.mu.accounts = map[accountKey]*account{}
	l.mu.flights = map[mta.DeliveryKey]flight{}
	l.Reconfigure(o.Settings)
	return l
}

// Reconfigure replaces the settings. What was sent today counts under the new
// ones too; a changed start forgets what bad signs cost.
func (l *Ledger) Reconfigure(s Settings) {
	sources := make(map[netip.Addr]*Source, len(s.Sources))
	for i := range s.Sources {
		sources[s.Sources[i].IP] = &s.Sources[i]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.sources, l.mu.streams, l.mu.anyFirst = sources, s.Streams, false
	for _, p := range s.Streams {
		l.mu.anyFirst = l.mu.anyFirst || p == First
	}
}

// Warming is route.Warming: the mark of routes from a source that has a ceiling
// at a provider now, or why it must not carry a stream's mail. A route that is
// marked longer than its source is warming is not refused anything.
func (l *Ledger) Warming(stream string, source netip.Addr, provider string) (mark *mta.Warming, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.sources[source]
	if s == nil {
		return nil, ""
	}
	today := dayOf(l.now())
	step := int(today - dayOf(s.Start))
	if a := l.mu.accounts[accountKey{source, provider}]; a != nil {
		a.follow(dayOf(s.Start))
		step = a.step(today)
	}
	if step >= s.Plan.days(provider) {
		return nil, ""
	}
	priority := l.mu.streams[stream]
	if priority == Never {
		return nil, "it is being warmed up (" + s.Origin + "), and the stream " + stream + " is not for that"
	}
	l.prepare(source, provider)
	return &mta.Warming{Provider: words(provider), Origin: s.Origin, Second: l.mu.anyFirst && priority != First}, ""
}

// prepare has the first reservation of the day made while mail is still being
// planned.
func (l *Ledger) prepare(source netip.Addr, provider string) {
	if !l.mu.open {
		return
	}
	now := l.now()
	if a := l.account(source, provider, dayOf(now)); a != nil {
		if r := a.record(now); r.stopped == "" {
			l.reserve(a, r, l.ceiling(a, r.day), 1)
		}
	}
}

// account gives the account of a warming source, new when there is none; nil
// when the source is not warming there today.
func (l *Ledger) account(source netip.Addr, provider string, today day) *account {
	s := l.mu.sources[source]
	if s == nil {
		return nil
	}
	k := accountKey{source, provider}
	a := l.mu.accounts[k]
	if a == nil && len(l.mu.accounts) >= MaxAccounts && provider != "" {
		return l.account(source, "", today)
	}
	if a == nil {
		a = &account{key: k, start: dayOf(s.Start), now: today}
	}
	a.follow(dayOf(s.Start))
	if a.step(today) >= s.Plan.days(provider) {
		return nil
	}
	l.mu.accounts[k] = a
	return a
}

// ceiling is an account's for a day: of a source that is warming.
func (l *Ledger) ceiling(a *account, today day) int {
	i := a.step(today)
	if i < 0 {
		return 0
	}
	return l.mu.sources[a.key.source].Plan.ceiling(a.key.provider, i)
}

// mark has the writer write an account.
func (l *Ledger) mark(a *account) {
	if !a.dirty {
		a.dirty = true
		l.mu.dirty = append(l.mu.dirty, a)
	}
	l.wake()
}
