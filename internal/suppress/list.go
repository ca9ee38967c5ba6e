package suppress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Settings may change while the list is used. Zero times and numbers mean the
// defaults.
type Settings struct {
	Off          bool          // nothing is learned; what is listed counts
	Dead         time.Duration // how long a dead address stays listed; default DefaultDead
	Domain       time.Duration // and one whose domain is gone; default DefaultDomain
	Sure         int           // days on which a clear reply must come; default DefaultSure
	Unsure       int           // and an unclear one; default DefaultUnsure
	UnsureWithin time.Duration // within this time; default DefaultUnsureWithin
	// Streams gives, for the streams named, the reasons that count there; for
	// others every reason does.
	Streams map[string][]Reason
}

// The defaults of Settings.
const (
	DefaultDead         = 90 * 24 * time.Hour
	DefaultDomain       = 24 * time.Hour
	DefaultSure         = 2
	DefaultUnsure       = 3
	DefaultUnsureWithin = 14 * 24 * time.Hour
)

// apart is how far apart two replies must be to count as of two days.
const apart = 20 * time.Hour

// Options are what a List is built of.
type Options struct {
	Notes spool.Notes
	// Classifier names the class of a reply; nil: the shipped rules.
	Classifier *bounce.Classifier
	// Gone asks DNS whether a domain does not exist. Only its yes makes a reply
	// that says so count; nil: none does.
	Gone     func(ctx context.Context, domain string) bool
	Settings Settings
	Logger   *slog.Logger     // nil discards
	Now      func() time.Time // nil: time.Now
}

// List is the suppression list. It is safe for concurrent use.
type List struct {
	opts       Options
	log        *slog.Logger
	now        func() time.Time
	classifier atomic.Pointer[bounce.Classifier]
	settings   atomic.Pointer[Settings]
	filter     atomic.Pointer[filter] // nil: not read yet, everything is looked up
	loading    atomic.Pointer[filter] // being read; what is added goes there too
	trouble    rate.Sometimes         // one line about failed look-ups a minute
	counts     counters

	heard   chan heard    // to the goroutine
	crowded chan struct{} // the filter is to be made anew
	stop    context.CancelFunc
	stopped sync.WaitGroup

	writes sync.Mutex // one change at a time: entries are read, changed and written
}

// New makes a list; Start reads it. It can be asked before.
func New(o Options) *List {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Classifier == nil {
		o.Classifier = bounce.New()
	}
	l := &List{opts: o, log: o.Logger, now: o.Now, trouble: rate.Sometimes{First: 1, Interval: time.Minute}, heard: make(chan heard, maxHeard), crowded: make(chan struct{}, 1)}
	l.classifier.Store(o.Classifier)
	l.Configure(o.Settings)
	return l
}

// Configure replaces the settings.
func (l *List) Configure(s Settings) {
	if s.Dead <= 0 {
		s.Dead = DefaultDead
	}
	if s.Domain <= 0 {
		s.Domain = DefaultDomain
	}
	if s.Sure <= 0 {
		s.Sure = DefaultSure
	}
	if s.Unsure <= 0 {
		s.Unsure = DefaultUnsure
	}
	if s.UnsureWithin <= 0 {
		s.UnsureWithin = DefaultUnsureWithin
	}
	l.settings.Store(&s)
}

// Classify replaces the rules that replies are read by.
func (l *List) Classify(c *bounce.Classifier) { l.classifier.Store(c) }

// Find gives the entry for which mail of a stream is not sent to an address,
// nil when there is none. The address is as smtp.ParseMailbox makes it. When
// the store cannot be read there is none, and the log says why.
func (l *List) Find(ctx context.Context, address, stream string) *Entry {
	key := fold(address)
	if f := l.filter.Load(); f != nil && !f.may(key) {
		return nil
	}
	now := l.now()
	for _, s := range [...]string{"", stream} {
		e, err := l.get(ctx, entryName(key, s))
		if err != nil {
			l.counts.errors.Add(1)
			l.trouble.Do(func() {
				l.log.Error("the suppression list cannot be read; addresses count as not listed", mta.KeyError, err)
			})
			return nil
		}
		if e != nil && e.active(now) && l.counted(e.Reason, stream) {
			return e
		}
		if stream == "" {
			break
		}
	}
	return nil
}

// counted reports whether a reason counts in a stream.
func (l *List) counted(r Reason, stream string) bool {
	reasons, own := l.settings.Load().Streams[stream]
	if !own {
		return true
	}
	for _, one := range reasons {
		if one == r {
			return true
		}
	}
	return false
}

// get reads one entry; nil when there is none, or a damaged one.
func (l *List) get(ctx context.Context, name string) (*Entry, error) {
	value, err := l.opts.Notes.Note(ctx, name)
	if errors.Is(err, spool.ErrCorrupt) {
		return nil, nil // the store has told of it, and set it aside
	}
	if err != nil || value == nil {
		return nil, err
	}
	return decodeEntry(name, value)
}

// mark puts an address into the filters. It is called before and after an entry
// is written, so that no filter can miss it: one that was begun before the entry
// was visible is marked by the second call. The one being read is looked for
// first: when it has just taken the other's place, it is found there.
func (l *List) mark(address string) {
	loading := l.loading.Load()
	if f := l.filter.Load(); f != nil {
		f.add(address)
	}
	if loading != nil {
		loading.add(address)
	}
}

// MaxBatch is how many entries one call of Add or Remove takes.
const MaxBatch = 1000

// Added tells what Add did.
type Added struct {
	Added   int `json:"added"`   // entries that are new
	Changed int `json:"changed"` // those that were there, and are as given now
}

// Add lists addresses, all or none. An entry for the same address and stream is
// replaced, but keeps its beginning and its hits. The error of a wrong entry is
// an *EntryError. The entries are completed in place.
func (l *List) Add(ctx context.Context, entries ...Entry) (Added, error) {
	var out Added
	if len(entries) > MaxBatch {
		return out, fmt.Errorf("%d entries at once; at most %d are taken", len(entries), MaxBatch)
	}
	now := l.now()
	for i := range entries {
		if err := entries[i].complete(now); err != nil {
			return out, &EntryError{i, err}
		}
	}
	l.writes.Lock()
	defer l.writes.Unlock()
	changes := make(map[string][]byte, len(entries))
	for i := range entries {
		e := &entries[i]
		before, err := l.get(ctx, e.name())
		if err != nil {
			return Added{}, err
		}
		_, twice := changes[e.name()]
		switch {
		case twice:
		case before != nil && before.active(now):
			out.Changed++
			e.Since, e.Hits, e.Last = before.Since, max(e.Hits, before.Hits), later(e.Last, before.Last)
		default:
			out.Added++
			l.counts.entries[number(e.Reason)].Add(1)
		}
		if changes[e.name()], err = e.encode(); err != nil {
			return Added{}, err
		}
	}
	if err := l.set(ctx, changes); err != nil {
		return Added{}, err
	}
	l.counts.added.Add(int64(out.Added))
	return out, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// EntryError says which of several entries is wrong.
type EntryError struct {
	Index int
	Err   error
}

// Error implements error.
func (e *EntryError) Error() string { return fmt.Sprintf("[%d]: %v", e.Index, e.Err) }

// Unwrap gives the cause.
func (e *EntryError) Unwrap() error { return e.Err }

// set makes changes durable and marks the addresses of entries. l.writes is held.
func (l *List) set(ctx context.Context, changes map[string][]byte) error {
	if len(changes) == 0 {
		return nil
	}
	mark := func() {
		for name, value := range changes {
			if value == nil {
				continue
			}
			if address, _, ok := parseName(name); ok {
				l.mark(address)
			} else {
				l.mark(strings.TrimPrefix(name, doubtPrefix))
			}
		}
	}
	mark()
	err := l.opts.Notes.SetNotes(ctx, changes)
	mark()
	if f := l.filter.Load(); f != nil && f.crowded() {
		select {
		case l.crowded <- struct{}{}:
		default: // it was said already
		}
	}
	return err
}

// Remove takes an address off the list: of one stream, or with all of every
// entry. What was heard of it and was not sure is forgotten too. It tells how
// many entries there were.
func (l *List) Remove(ctx context.Context, address, stream string, all bool) (int, error) {
	key, err := Canonical(address)
	if err != nil {
		return 0, &FieldError{"address", err.Error()}
	}
	l.writes.Lock()
	defer l.writes.Unlock()
	changes := map[string][]byte{}
	active, now := 0, l.now()
	err = l.opts.Notes.Notes(ctx, entryName(key, ""), "", func(name string, value []byte) bool {
		if _, s, _ := parseName(name); all || s == stream {
			changes[name] = nil
			if e, err := decodeEntry(name, value); err == nil && e.active(now) {
				active++
				l.counts.entries[number(e.Reason)].Add(-1)
			}
		}
		return len(changes) < spool.MaxNoteChanges-1
	})
	if err != nil {
		return 0, err
	}
	// The list may know it by another stream only: the doubt goes in any case.
	if d, err := l.opts.Notes.Note(ctx, doubtName(key)); err == nil && d != nil {
		changes[doubtName(key)] = nil
	}
	// Addresses that have the same beginning are other addresses: the NUL ends it.
	if err := l.set(ctx, changes); err != nil {
		return 0, err
	}
	l.counts.removed.Add(int64(active))
	return active, nil
}

// Query selects entries. Zero fields select everything; all that are given must
// hold.
type Query struct {
	Address string // as people write it
	Domain  string
	Stream  *string // "" are those of every stream
	Reason  Reason
}

// look bounds what one page reads.
const look = 50_000

// Page gives up to n entries that count now, in the order of their addresses,
// behind the cursor of the page before ("": from the first). With a cursor there
// may be more, even when the page is not full.
func (l *List) Page(ctx context.Context, q Query, cursor string, n int) (entries []Entry, next string, err error) {
	prefix, after := entryPrefix, ""
	if q.Address != "" {
		key, err := Canonical(q.Address)
		if err != nil {
			return nil, "", &FieldError{"address", err.Error()}
		}
		prefix = entryName(key, "")
	}
	if cursor != "" {
		after = entryPrefix + cursor
	}
	now, read, last := l.now(), 0, ""
	domain := "@" + strings.ToLower(strings.TrimSuffix(q.Domain, "."))
	err = l.opts.Notes.Notes(ctx, prefix, after, func(name string, value []byte) bool {
		if len(entries) == n || read == look {
			next = strings.TrimPrefix(last, entryPrefix)
			return false
		}
		read, last = read+1, name
		e, err := decodeEntry(name, value)
		if err != nil || !e.active(now) || !q.fits(e, domain) {
			return ctx.Err() == nil
		}
		entries = append(entries, *e)
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return entries, next, err
}

func (q *Query) fits(e *Entry, domain string) bool {
	return (q.Domain == "" || strings.HasSuffix(e.Address, domain)) &&
		(q.Stream == nil || e.Stream == *q.Stream) && (q.Reason == "" || e.Reason == q.Reason)
}
