package doctor

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The watch: the examination again and again, and only what changed is told.
//
// Everything but the block lists is examined every Interval; the lists, which
// are others' servers, every ListsInterval with the rest. While the guard has
// something to hold, what it goes by is looked at more often (soonAgain). A
// wait is up to a tenth shorter than configured, at random, so that many
// machines do not ask at once and a change is still seen within one interval.

// listsID is the check that asks others' servers.
const listsID = "blocklist"

// Bounds of the watch's times.
const (
	watchJitter = 10          // a wait is cut by at most a 10th
	soonShare   = 5           // a second look comes after a 5th of the interval,
	soonLeast   = time.Minute // or this when that is longer
	leastPause  = 10          // between the end and the next beginning: at least a 10th of the interval
)

// ErrStopped says that the watch does not run (any more).
var ErrStopped = errors.New("the watch has stopped")

// Change is a finding that is another than the last time: its status, or what
// is to be done.
type Change struct {
	Time  time.Time
	Was   Status // empty: there was no such finding
	Check Check  // as it is now; one that is gone is Skip
}

// Examined is what the watch knows after an examination. It is immutable.
type Examined struct {
	At      time.Time // when it began
	Lists   time.Time // when the block lists were asked
	Report  *Report   // the last finding of every check
	Changes []Change  // in the order of the report
	Holds   []Hold    // what the guard would hold, if it is on
	Names   []Agreed  // whose addresses were looked at, and whether they are certain
}

// Observer is told of every examination, in order, by the watch's goroutine.
type Observer interface {
	Examined(e *Examined)
}

// WatchSettings are what Reconfigure replaces.
type WatchSettings struct {
	Identity      Identity
	Interval      time.Duration // default 15 min
	ListsInterval time.Duration // default 1 h
}

func (s WatchSettings) filled() WatchSettings {
	s.Interval = cmp.Or(max(s.Interval, 0), 15*time.Minute)
	s.ListsInterval = cmp.Or(max(s.ListsInterval, 0), time.Hour)
	return s
}

// WatchOptions are what a Watch stands on.
type WatchOptions struct {
	World    World
	Observer Observer // required
	Settings WatchSettings
	Holds    []Hold         // in force before a restart
	Timeout  time.Duration  // of one examination; default DefaultTimeout
	Rand     func() float64 // in [0,1); default math/rand/v2
}

// Watch repeats the examination. Make it with NewWatch; Start it once, Stop it
// once. It owns one goroutine, and those of the examination under way.
type Watch struct {
	opts    WatchOptions
	examine func(context.Context, Identity, World, Options) *Report
	last    atomic.Pointer[Examined]
	asks    chan chan *Examined // somebody waits for an examination
	wake    chan struct{}       // mu has news; holds one
	cancel  context.CancelFunc
	done    chan struct{}

	mu struct {
		sync.Mutex
		settings WatchSettings
		changed  bool // the identity is another: examine at once
		doubted  bool // an examination is wanted soon
	}
}

// NewWatch makes a watch; nothing runs before Start.
func NewWatch(o WatchOptions) *Watch {
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	w := &Watch{opts: o, examine: Examine, asks: make(chan chan *Examined), wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.mu.settings = o.Settings.filled()
	return w
}

// Start begins with an examination at once.
func (w *Watch) Start(context.Context) error {
	if w.cancel != nil {
		return errors.New("the watch was started before")
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() {
		defer close(w.done)
		g := &watching{w: w}
		g.guard.seed(w.opts.Holds)
		g.run(ctx)
	}()
	return nil
}

// Stop breaks off what is under way and waits for it.
func (w *Watch) Stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.done
	}
}

// Last is what the last examination found; nil before the first has ended.
func (w *Watch) Last() *Examined { return w.last.Load() }

// Now examines everything and waits for it. Those who ask meanwhile share the
// next examination. The error is that of ctx, or ErrStopped.
func (w *Watch) Now(ctx context.Context) (*Examined, error) {
	answer := make(chan *Examined, 1)
	select {
	case w.asks <- answer:
	case <-w.done:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case e := <-answer:
		return e, nil
	case <-w.done:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Reconfigure replaces the settings. Another identity is examined at once.
func (w *Watch) Reconfigure(s WatchSettings) {
	s = s.filled()
	w.mu.Lock()
	w.mu.changed = w.mu.changed || !reflect.DeepEqual(s.Identity, w.mu.settings.Identity)
	w.mu.settings = s
	w.mu.Unlock()
	w.nudge()
}

// Doubt asks for a look sooner than planned, but not sooner than a fifth of the
// interval after the last: somebody has said that our address is another.
func (w *Watch) Doubt() {
	w.mu.Lock()
	w.mu.doubted = true
	w.mu.Unlock()
	w.nudge()
}

func (w *Watch) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watching is the state of the watch's goroutine.
type watching struct {
	w        *Watch
	settings WatchSettings
	found    map[finding]Check
	guard    guard
	began    time.Time // of the last examination
	lists    time.Time // of the last with the lists; zero: none
	full     time.Time // of the last with everything but the lists
	soon     bool      // the next is a second look
	waiting  []chan *Examined
}

type finding struct{ id, subject string }

func (g *watching) run(ctx context.Context) {
	g.load()
	for ctx.Err() == nil {
		g.round(ctx)
		if !g.rest(ctx) {
			return
		}
	}
}

// load takes the settings over and reports what was asked for.
func (g *watching) load() (changed, doubted bool) {
	mu := &g.w.mu
	mu.Lock()
	defer mu.Unlock()
	changed, doubted = mu.changed, mu.doubted
	mu.changed, mu.doubted = false, false
	g.settings = mu.settings
	if changed {
		g.full, g.lists = time.Time{}, time.Time{}
		g.guard.outsider = nil // other witnesses, perhaps
	}
	return changed, doubted
}

// round makes one examination and tells of it; one that was broken off says
// nothing.
func (g *watching) round(ctx context.Context) {
	g.began = time.Now()
	ids := g.due()
	r := g.w.examine(ctx, g.settings.Identity, g.w.opts.World, Options{Only: ids, Timeout: g.w.opts.Timeout})
	if ctx.Err() != nil {
		return
	}
	if ids == nil {
		g.lists = g.began
	}
	if ids == nil || len(ids) > len(guardIDs) {
		g.full = g.began
	}
	e := &Examined{At: g.began, Lists: g.lists}
	e.Report, e.Changes = g.merge(r, ids)
	e.Holds = g.guard.judge(g.settings.Identity, r, g.began)
	e.Names = agreed(r.stances)
	g.soon = len(e.Holds) > 0
	g.w.last.Store(e)
	g.w.opts.Observer.Examined(e)
	for _, answer := range g.waiting {
		answer <- e
	}
	g.waiting = nil
}

// due are the checks whose time has come; nil means all.
func (g *watching) due() []string {
	slack := g.settings.Interval / watchJitter
	switch {
	case len(g.waiting) > 0 || g.lists.IsZero() || g.began.Sub(g.lists) >= g.settings.ListsInterval-slack:
		return nil
	case g.full.IsZero() || g.began.Sub(g.full) >= g.settings.Interval-slack:
		var ids []string
		for _, e := range IDs {
			if e.ID != listsID {
				ids = append(ids, e.ID)
			}
		}
		return ids
	}
	return guardIDs
}

// soonAgain is the distance of a second look.
func (g *watching) soonAgain() time.Duration {
	return min(max(g.settings.Interval/soonShare, soonLeast), g.settings.Interval)
}

// rest waits for the next time; false when the watch is to end.
func (g *watching) rest(ctx context.Context) bool {
	ended, jitter := time.Now(), 1-g.w.opts.Rand()/watchJitter
	for {
		period := g.settings.Interval
		if g.soon {
			period = g.soonAgain()
		}
		next := g.began.Add(time.Duration(float64(period) * jitter))
		if least := ended.Add(g.settings.Interval / leastPause); next.Before(least) {
			next = least
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
			return true
		case answer := <-g.w.asks:
			timer.Stop()
			g.waiting = append(g.waiting, answer)
			return true
		case <-g.w.wake:
			timer.Stop()
			changed, doubted := g.load()
			if changed {
				return true
			}
			g.soon = g.soon || doubted
		}
	}
}

// merge joins an examination of some checks (nil: all) with what is known of
// the others, and finds what changed.
func (g *watching) merge(r *Report, ids []string) (*Report, []Change) {
	all := &Report{Checks: slices.Clone(r.Checks)}
	for _, c := range g.found {
		if ids != nil && !slices.Contains(ids, c.ID) {
			all.Checks = append(all.Checks, c)
		}
	}
	slices.SortStableFunc(all.Checks, compareChecks)
	all.Status = status(all.Checks)
	next := make(map[finding]Check, len(all.Checks))
	var changes []Change
	for _, c := range all.Checks {
		key := finding{c.ID, c.Subject}
		old, known := g.found[key]
		next[key] = c
		if known && differs(old, c) || !known && !fine(c) {
			changes = append(changes, Change{Time: g.began, Was: old.Status, Check: c})
		}
	}
	for key, old := range g.found {
		if _, still := next[key]; !still && !fine(old) {
			changes = append(changes, Change{Time: g.began, Was: old.Status, Check: Check{
				ID: key.id, Subject: key.subject, Status: Skip, Seen: "it is not there any more", Why: old.Why}})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(place(a.Check.ID)-place(b.Check.ID), strings.Compare(a.Check.Subject, b.Check.Subject))
	})
	g.found = next
	return all, changes
}

// fine is what a first look says nothing about.
func fine(c Check) bool { return c.Status == Pass || c.Status == Skip }

// differs reports a finding worth telling: another status, or another thing to
// do. What was seen may count seconds, which is no news.
func differs(old, c Check) bool {
	if old.Status != c.Status || (old.Fix == nil) != (c.Fix == nil) {
		return true
	}
	return c.Fix != nil && (old.Fix.Record != c.Fix.Record || old.Fix.Command != c.Fix.Command)
}
