package standing

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/spool"
)

// The bounds of what is remembered.
const (
	MaxSites   = 10_000
	MaxSources = 64 // of one site
	// memory is how long the length of a suspension is remembered after its end:
	// one that follows within it lasts twice as long.
	memory = 24 * time.Hour
	// quiet is how long after a slowing another is not: many replies to what was
	// under way say the same thing once.
	quiet = time.Minute
	// maxWhy bounds a reason, in octets.
	maxWhy = 500
	// probeLife is how long a probe may take until another is let through.
	probeLife = 15 * time.Minute
	// reachedLately: while some site was reached within it, port 25 is not closed
	// to us, and a site that cannot be reached gets a second attempt.
	reachedLately = time.Hour
)

// Settings say what is done. They are read-only once given.
type Settings struct {
	Fallback Fallback
	Rules    []Rule // an operator's; the shipped ones and the general ones follow
}

// Fallback is [router] use = "fallback".
type Fallback struct {
	Router string // the router's host, for people; empty: none stands in
	On     Triggers
	// Probe is the distance from a failed direct attempt to the next; it doubles
	// up to ProbeMax.
	Probe, ProbeMax time.Duration
}

// The distances of probes where nothing else is said.
const (
	DefaultProbe    = 10 * time.Minute
	DefaultProbeMax = 24 * time.Hour
	maxProbe        = 30 * 24 * time.Hour
)

// Change is one thing that holds newly, or no more.
type Change struct {
	Time   time.Time
	Site   string
	Source string // mta.Route.SourceKey; empty: all of the site's
	Words  string // one sentence
	Worse  bool   // than before
}

// Options are what a Standing is made of.
type Options struct {
	Notes    spool.Notes // nil: nothing is kept
	Settings Settings
	Logger   *slog.Logger     // nil: none
	Now      func() time.Time // nil: time.Now
	// Changed is told of changes, in their order, some at once; it may take its
	// time. nil: nobody is.
	Changed func([]Change)
}

// Standing is what we know. It is safe for concurrent use.
type Standing struct {
	opts     Options
	now      func() time.Time
	settings atomic.Pointer[settings]
	reached  atomic.Int64 // when a host spoke to us last, Unix nanoseconds
	counts   counts
	keeper   keeper

	mu struct {
		sync.Mutex
		sites map[string]*site
		young *site // the list of sites by their last use
		old   *site // its other end
	}
}

// settings are Settings in force.
type settings struct {
	fallback Fallback
	rules    []Rule
}

// site is what is known of one. Standing.mu guards it.
type site struct {
	name           string
	younger, older *site

	router struct { // stands in
		on      bool
		since   time.Time
		why     string
		wait    time.Duration // from a failed probe to the next
		next    time.Time     // the next probe
		probing time.Time     // when one was let through; zero: none is under way
		left    time.Time     // when direct delivery came back; the wait is remembered from then
	}
	missed int       // attempts in a row that found no host to connect to
	idle   time.Time // the first failure since something was taken
	from   map[string]*source
}

// source is what is known of one source at a site; under the name "" it is what
// holds for all of them.
type source struct {
	until time.Time     // suspended
	hard  bool          // whatever else there is
	wait  time.Duration // how long the latest suspension was made for
	why   string

	factor  float64 // what is left of limits at the time slowed; 1: all
	slowed  time.Time
	half    time.Duration
	slowWhy string
}

// New makes a Standing that knows nothing yet.
func New(o Options) *Standing {
	s := &Standing{opts: o, now: o.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	s.mu.sites = make(map[string]*site)
	s.keeper.init()
	s.Reconfigure(o.Settings)
	return s
}

// Reconfigure replaces the settings; what was learnt stays.
func (s *Standing) Reconfigure(n Settings) {
	c := &settings{fallback: n.Fallback}
	if c.fallback.Probe <= 0 {
		c.fallback.Probe = DefaultProbe
	}
	if c.fallback.ProbeMax <= 0 {
		c.fallback.ProbeMax = DefaultProbeMax
	}
	c.fallback.ProbeMax = max(c.fallback.ProbeMax, c.fallback.Probe)
	for _, r := range n.Rules {
		c.rules = append(c.rules, r.filled())
	}
	c.rules = append(append(c.rules, Shipped()...), general()...)
	s.settings.Store(c)
}

// Start reads what was kept and begins to keep. Call it before the queue runs.
func (s *Standing) Start(ctx context.Context) error { return s.keeper.start(ctx, s) }

// Stop keeps what is not kept yet and ends, at the latest with ctx.
func (s *Standing) Stop(ctx context.Context) { s.keeper.stop(ctx) }

// find gives a site that is known, and makes it the youngest; nil otherwise.
// s.mu is held.
func (s *Standing) find(name string) *site {
	st := s.mu.sites[name]
	if st != nil && s.mu.young != st {
		s.unlink(st)
		s.link(st)
	}
	return st
}

// make gives a site, known or new. s.mu is held.
func (s *Standing) make(name string) *site {
	if st := s.find(name); st != nil {
		return st
	}
	if len(s.mu.sites) >= MaxSites {
		s.forget(s.mu.old)
	}
	st := &site{name: name}
	s.mu.sites[name] = st
	s.link(st)
	return st
}

// forget drops a site. s.mu is held.
func (s *Standing) forget(st *site) {
	s.unlink(st)
	delete(s.mu.sites, st.name)
	s.keeper.mark(st.name)
}

func (s *Standing) link(st *site) {
	st.older, st.younger = s.mu.young, nil
	if s.mu.young != nil {
		s.mu.young.younger = st
	} else {
		s.mu.old = st
	}
	s.mu.young = st
}

func (s *Standing) unlink(st *site) {
	if st.younger != nil {
		st.younger.older = st.older
	} else {
		s.mu.young = st.older
	}
	if st.older != nil {
		st.older.younger = st.younger
	} else {
		s.mu.old = st.younger
	}
	st.younger, st.older = nil, nil
}

// of gives what is known of a source, known or new; nil when the site has too
// many.
func (st *site) of(key string, now time.Time) *source {
	if f := st.from[key]; f != nil {
		return f
	}
	if len(st.from) >= MaxSources {
		for k, f := range st.from {
			if f.spent(now) {
				delete(st.from, k)
			}
		}
		if len(st.from) >= MaxSources {
			return nil
		}
	}
	if st.from == nil {
		st.from = make(map[string]*source)
	}
	f := &source{factor: 1}
	st.from[key] = f
	return f
}

// spent reports that a source has nothing to say any more.
func (f *source) spent(now time.Time) bool {
	return !now.Before(f.until.Add(memory)) && f.share(now) > 0.99
}

// share is what is left of limits now.
func (f *source) share(now time.Time) float64 {
	if f.factor >= 1 || f.half <= 0 {
		return 1
	}
	past := now.Sub(f.slowed)
	if past <= 0 {
		return f.factor
	}
	return 1 - (1-f.factor)*exp2(-float64(past)/float64(f.half))
}

// spent reports that a site has nothing to say any more.
func (st *site) spent(now time.Time) bool {
	if st.router.on || now.Before(st.router.left.Add(memory)) && !st.router.left.IsZero() || !st.idle.IsZero() && now.Sub(st.idle) < MaxStalled {
		return false
	}
	for _, f := range st.from {
		if !f.spent(now) {
			return false
		}
	}
	return true
}

// sweep forgets sites that have nothing to say, and gives how many are left.
func (s *Standing) sweep() int {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.mu.sites {
		if st.spent(now) {
			s.forget(st)
		}
	}
	return len(s.mu.sites)
}

// Suspension is why a source is not used at a site.
type Suspension struct {
	Until time.Time
	Why   string // a sentence
	Hard  bool   // nothing is sent, even if there is no other source
}

// Avoid says whether a source (mta.Route.SourceKey) is not to be used at a site
// now: Until is in the future then, and zero otherwise.
func (s *Standing) Avoid(siteName, key string) Suspension {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sites[siteName].avoid(key, now)
}

// avoid joins what holds for the source and for all; a hard one tells more.
func (st *site) avoid(key string, now time.Time) (out Suspension) {
	if st == nil {
		return out
	}
	for _, k := range [...]string{key, ""} {
		f := st.from[k]
		if f == nil || !now.Before(f.until) {
			continue
		}
		if own := (Suspension{Until: f.until, Why: f.why, Hard: f.hard}); out.Until.IsZero() || own.Hard && !out.Hard || own.Hard == out.Hard && own.Until.After(out.Until) {
			out = own
		}
	}
	return out
}

// Factor is what is left of the limits of a source at a site, over 0 and at
// most 1, and why it is less than 1.
func (s *Standing) Factor(siteName, key string) (float64, string) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st, factor, why := s.mu.sites[siteName], 1.0, ""
	if st == nil {
		return factor, why
	}
	for _, k := range [...]string{key, ""} {
		if f := st.from[k]; f != nil && f.share(now) < 0.99 {
			factor *= f.share(now)
			if why == "" {
				why = f.slowWhy
			}
		}
	}
	return max(factor, leastFactor), why
}

// Fallback says whether a router stands in for direct delivery to a site, since
// when and why.
func (s *Standing) Fallback(siteName string) (on bool, why string, since time.Time) {
	set := s.settings.Load()
	if set.fallback.Router == "" {
		return false, "", time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.sites[siteName]
	if st == nil || !st.router.on {
		return false, "", time.Time{}
	}
	return true, st.router.why, st.router.since
}
