package dkim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// Entry is one [[dkim]] of the configuration.
type Entry struct {
	Domain, Selector string // lower-case A-labels
	Path             string // of the file with the private key
}

// Name is where the key's record is published.
func (e *Entry) Name() string { return Name(e.Selector, e.Domain) }

// Notes keep what was found out over a restart; a spool's.
type Notes interface {
	Notes(ctx context.Context, prefix, after string, f func(name string, value []byte) bool) error
	SetNotes(ctx context.Context, changes map[string][]byte) error
}

// RingOptions are what a Ring is made of.
type RingOptions struct {
	Entries []Entry
	// Notes keep what was seen; nil: nothing is kept.
	Notes Notes
	// Ask puts one question to one DNS server; nil: dns.Ask.
	Ask func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error)
	// Servers are the resolvers.
	Servers func() []netip.AddrPort
	// FirstLook bounds how long Start looks for records; DefaultFirstLook when
	// not positive.
	FirstLook time.Duration
	Logger    *slog.Logger // nil: slog.Default
}

const (
	// DefaultFirstLook bounds the first look at all records.
	DefaultFirstLook = 5 * time.Second
	// reloadLook bounds that at new keys of a changed configuration.
	reloadLook = 2 * time.Second
	// lookLimit bounds a later one.
	lookLimit = 20 * time.Second
	// atOnce bounds the looks under way together.
	atOnce = 16
	// reloadEvery is how often a file that could not be read is tried again.
	reloadEvery = time.Minute

	notesPrefix = "dkim/"
	notesTime   = 10 * time.Second
)

// Ring holds the keys of the configuration and says which of them sign: of each
// domain and algorithm the last one whose record is published (track.go). It
// implements Keys.
//
// Its goroutine looks at the records; Start begins and Stop ends it. What was
// found is kept in the notes, so that after a restart signing goes on at once.
type Ring struct {
	o     RingOptions
	asker Asker
	log   *slog.Logger
	wake  chan struct{} // holds one

	shown atomic.Pointer[shown]

	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		keys   []*held
		notes  map[string]note // of keys that are not held, as they were read
		stored map[string]note // as the notes have them
		dark   map[string]bool // domains whose mail goes unsigned, as told
		looked bool            // the first look is over
		looks  LookCounts
		busy   int // looks of run's under way
	}
}

// held is one key of the configuration.
type held struct {
	Entry
	track
	key     *Key  // nil: the file cannot be used
	trouble error // why
	tried   time.Time
	signs   bool
	busy    bool // a look is under way
}

// shown is what For and Covers read: it never changes.
type shown struct {
	signing map[string][]SigningKey // by domain
	covered map[string]struct{}     // the domains of all keys
}

// LookCounts count looks at records since the start, by what they found.
type LookCounts struct{ Published, Missing, Unknown int64 }

// NewRing makes a Ring. It does nothing before Start.
func NewRing(o RingOptions) *Ring {
	if o.FirstLook <= 0 {
		o.FirstLook = DefaultFirstLook
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	r := &Ring{o: o, log: o.Logger, wake: make(chan struct{}, 1), done: make(chan struct{})}
	r.asker.Ask, r.asker.Servers = o.Ask, o.Servers
	r.mu.notes, r.mu.stored, r.mu.dark = map[string]note{}, map[string]note{}, map[string]bool{}
	r.shown.Store(&shown{})
	return r
}

// Start reads keys and notes, looks at the records that nothing is known of, at
// most FirstLook long, and goes on looking until Stop.
func (r *Ring) Start(ctx context.Context) {
	r.recall(ctx)
	r.mu.Lock()
	r.configure(r.o.Entries)
	first := r.unknown(time.Now())
	r.mu.Unlock()
	r.look(ctx, first, r.o.FirstLook)
	r.mu.Lock()
	r.mu.looked = true
	r.elect(time.Now()) // which tells what goes unsigned
	r.mu.Unlock()
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go r.run(ctx)
}

// Stop ends the goroutine and waits for it. For goes on answering.
func (r *Ring) Stop() {
	if r.cancel != nil {
		r.cancel()
		<-r.done
	}
}

// Configure takes the keys of a new configuration, and reads their files. A key
// whose file cannot be read any more goes on as it was read before. It looks at
// the records of keys that are new, for a moment, so that they sign when it
// returns.
func (r *Ring) Configure(ctx context.Context, entries []Entry) {
	r.mu.Lock()
	r.configure(entries)
	var fresh []*held
	for _, h := range r.mu.keys {
		if h.key != nil && h.asked.IsZero() && !h.visible() {
			h.busy = true
			fresh = append(fresh, h)
		}
	}
	r.mu.Unlock()
	r.look(ctx, fresh, min(r.o.FirstLook, reloadLook))
	r.mu.Lock()
	for _, h := range fresh {
		h.busy = false
	}
	r.mu.Unlock()
	r.stir()
}

// configure is Configure with the lock held.
func (r *Ring) configure(entries []Entry) {
	now := time.Now()
	before := map[string]*held{}
	for _, h := range r.mu.keys {
		before[h.Name()] = h
	}
	keys := make([]*held, 0, len(entries))
	for _, e := range entries {
		name := e.Name()
		h := &held{Entry: e}
		old := before[name]
		h.read(now, old, r.log)
		h.adopt(now, old, r.mu.notes[name])
		keys = append(keys, h)
	}
	r.mu.keys = keys
	r.forget()
	r.elect(now)
}

// forget drops the notes of keys that are not the configuration's: one that
// comes back later is looked for anew. The lock is held.
func (r *Ring) forget() {
	names := map[string]bool{}
	for _, h := range r.mu.keys {
		names[h.Name()] = true
	}
	for name := range r.mu.notes {
		if !names[name] {
			delete(r.mu.notes, name)
		}
	}
}

// read takes the key from its file; old is what was held under the name before.
func (h *held) read(now time.Time, old *held, log *slog.Logger) {
	h.tried = now
	h.key, h.trouble = Load(h.Path)
	if h.trouble == nil {
		if info, err := os.Stat(h.Path); err == nil && info.Mode().Perm()&0o004 != 0 && os.PathSeparator == '/' && (old == nil || old.key == nil) {
			log.Warn("everybody on this machine may read a DKIM key", mta.KeyPath, h.Path, mta.KeyFix, "chmod 600 "+h.Path)
		}
		return
	}
	if old != nil && old.key != nil && old.Path == h.Path {
		h.key = old.key
	}
	if old == nil || old.trouble == nil || old.trouble.Error() != h.trouble.Error() {
		words := "a DKIM key cannot be read, so nothing is signed with it"
		if h.key != nil {
			words = "a DKIM key cannot be read; what was read before goes on signing"
		}
		log.Error(words, mta.KeyPath, h.Path, mta.KeyError, h.trouble)
	}
}

// adopt goes on with what is known of the same key.
func (h *held) adopt(now time.Time, old *held, n note) {
	h.since = now
	if h.key == nil {
		return
	}
	h.Key = h.key.print()
	switch {
	case old != nil && old.Key == h.Key:
		h.track = old.track
	case n.Key == h.Key:
		h.note = n
	}
}

// print tells keys apart: the hash of the public half.
func (k *Key) print() string {
	sum := sha256.Sum256(k.public())
	return hex.EncodeToString(sum[:16])
}

// elect finds out which keys sign, and shows them. The lock is held.
func (r *Ring) elect(now time.Time) {
	groups := map[[2]string][]*held{}
	var order [][2]string
	next := &shown{signing: map[string][]SigningKey{}, covered: map[string]struct{}{}}
	for _, h := range r.mu.keys {
		next.covered[h.Domain] = struct{}{}
		h.signs = false
		if h.key == nil {
			continue
		}
		g := [2]string{h.Domain, string(h.key.Algorithm())}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], h)
	}
	for _, g := range order {
		tracks := make([]*track, len(groups[g]))
		for i, h := range groups[g] {
			tracks[i] = &h.track
		}
		if i := elect(now, tracks); i >= 0 {
			h := groups[g][i]
			h.signs = true
			next.add(SigningKey{Domain: h.Domain, Selector: h.Selector, Key: h.key})
		}
	}
	r.shown.Store(next)
	r.tellDark(next)
	r.keep()
}

// add puts RSA first: there are receivers that stop at an algorithm which they
// do not know.
func (s *shown) add(k SigningKey) {
	list := s.signing[k.Domain]
	if k.Key.Algorithm() == RSA {
		s.signing[k.Domain] = append([]SigningKey{k}, list...)
		return
	}
	s.signing[k.Domain] = append(list, k)
}

// tellDark tells once when no key of a domain may sign, and once when that is
// over. The lock is held.
func (r *Ring) tellDark(now *shown) {
	for domain := range now.covered {
		keys := now.keysFor(domain)
		signed := len(keys) > 0
		switch {
		case signed && r.mu.dark[domain]:
			delete(r.mu.dark, domain)
			r.log.Info("mail of the domain is signed", "domain", keys[0].Domain, "selector", keys[0].Selector)
		case !signed && !r.mu.dark[domain] && r.mu.looked:
			r.mu.dark[domain] = true
			r.log.Error("mail of the domain goes unsigned: the record of none of its DKIM keys is seen", "domain", domain,
				mta.KeyFix, "publish the record that \"mailout dkim record "+domain+"\" prints; the key signs as soon as the zone's servers have it")
		}
	}
	for domain := range r.mu.dark {
		if _, ok := now.covered[domain]; !ok {
			delete(r.mu.dark, domain)
		}
	}
}

// For implements Keys: the keys of the domain, else those of the nearest domain
// above it that has any (RFC 6376 3.6: d= may be a parent of From's domain).
func (r *Ring) For(domain string) []SigningKey { return r.shown.Load().keysFor(domain) }

func (s *shown) keysFor(domain string) []SigningKey {
	if len(s.signing) == 0 {
		return nil
	}
	for {
		if keys := s.signing[domain]; len(keys) > 0 {
			return keys
		}
		_, above, ok := strings.Cut(domain, ".")
		if !ok {
			return nil
		}
		domain = above
	}
}

// Any reports whether there is a key in the configuration.
func (r *Ring) Any() bool { return len(r.shown.Load().covered) > 0 }

// Covers reports whether the configuration has a key for mail from a domain:
// its own or one of a domain above it, whether it may sign now or not.
func (r *Ring) Covers(domain string) bool {
	s := r.shown.Load()
	for {
		if _, ok := s.covered[domain]; ok {
			return true
		}
		_, above, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		domain = above
	}
}

// recall reads the notes. Notes that cannot be read are as good as none: the
// first look finds out.
func (r *Ring) recall(ctx context.Context) {
	if r.o.Notes == nil {
		return
	}
	err := r.o.Notes.Notes(ctx, notesPrefix, "", func(name string, value []byte) bool {
		var n note
		if json.Unmarshal(value, &n) == nil {
			name = strings.TrimPrefix(name, notesPrefix)
			r.mu.notes[name], r.mu.stored[name] = n, n
		}
		return true
	})
	if err != nil {
		r.log.Warn("what was known of DKIM records cannot be read; they are looked up anew", mta.KeyError, err)
	}
}

// keep writes the notes that changed. The lock is held. A note that cannot be
// written is tried again at the next change.
func (r *Ring) keep() {
	if r.o.Notes == nil {
		return
	}
	changes, next := map[string][]byte{}, make(map[string]note, len(r.mu.keys))
	for _, h := range r.mu.keys {
		old, there := r.mu.stored[h.Name()]
		switch {
		case h.key != nil:
			next[h.Name()] = h.note
			if !there || old != h.note {
				h.note.change(changes, h.Name())
			}
		case there:
			next[h.Name()] = old // the file may be there again tomorrow
		}
	}
	for name := range r.mu.stored {
		if _, ok := next[name]; !ok {
			changes[notesPrefix+name] = nil
		}
	}
	if r.write(changes) {
		r.mu.stored = next
	}
}

// keepOne writes the note of one key, if it changed. The lock is held.
func (r *Ring) keepOne(h *held) {
	name := h.Name()
	if r.o.Notes == nil || r.mu.stored[name] == h.note {
		return
	}
	changes := map[string][]byte{}
	if h.note.change(changes, name); r.write(changes) {
		r.mu.stored[name] = h.note
	}
}

// change adds a note to what is to be written.
func (n *note) change(changes map[string][]byte, name string) {
	if value, err := json.Marshal(n); err == nil {
		changes[notesPrefix+name] = value
	}
}

// write reports whether the notes have the changes.
func (r *Ring) write(changes map[string][]byte) bool {
	if len(changes) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), notesTime)
	defer cancel()
	if err := r.o.Notes.SetNotes(ctx, changes); err != nil {
		r.log.Warn("what is known of DKIM records cannot be kept", mta.KeyError, err)
		return false
	}
	return true
}
