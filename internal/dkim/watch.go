package dkim

import (
	"context"
	"sync"
	"time"

	"mailout/internal/mta"
)

// unknown are the keys that the first look is for: those that nothing is known
// of, and those of which it has not been heard for long. The lock is held.
func (r *Ring) unknown(now time.Time) []*held {
	var out []*held
	for _, h := range r.mu.keys {
		if h.key != nil && (!h.visible() || now.Sub(h.Checked) > fresh) {
			out = append(out, h)
		}
	}
	return out
}

// run looks at each record when its time has come. A slow zone keeps no other's
// key waiting.
func (r *Ring) run(ctx context.Context) {
	defer close(r.done)
	var looks sync.WaitGroup
	defer looks.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wake:
		}
		now := time.Now()
		r.mu.Lock()
		r.retry(now)
		for _, h := range r.due(now) {
			h.busy = true
			r.mu.busy++
			looks.Go(func() {
				r.look(ctx, []*held{h}, lookLimit)
				r.mu.Lock()
				h.busy = false
				r.mu.busy--
				r.mu.Unlock()
				r.stir()
			})
		}
		wait := r.wait(now)
		r.mu.Unlock()
		timer.Reset(wait)
	}
}

// stir makes run see what is due.
func (r *Ring) stir() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// retry reads the files again that could not be read. The lock is held.
func (r *Ring) retry(now time.Time) {
	news := false
	for i, h := range r.mu.keys {
		if h.trouble == nil || now.Sub(h.tried) < reloadEvery {
			continue
		}
		again := &held{Entry: h.Entry}
		again.read(now, h, r.log)
		again.adopt(now, h, r.mu.notes[h.Name()])
		r.mu.keys[i], news = again, true
		if again.trouble == nil {
			r.log.Info("a DKIM key was read that could not be before", mta.KeyPath, h.Path)
		}
	}
	if news {
		r.elect(now)
	}
}

// due are the keys whose records are to be looked at now, as many as there is
// room for. The lock is held.
func (r *Ring) due(now time.Time) []*held {
	var out []*held
	for _, h := range r.mu.keys {
		if h.key != nil && !h.busy && !h.next().After(now) && r.mu.busy+len(out) < atOnce {
			out = append(out, h)
		}
	}
	return out
}

// wait is how long there is nothing to do. The end of a look stirs by itself.
// The lock is held.
func (r *Ring) wait(now time.Time) time.Duration {
	wait := hourly
	for _, h := range r.mu.keys {
		if h.key != nil && !h.busy && r.mu.busy < atOnce {
			wait = min(wait, h.next().Sub(now))
		}
		if h.trouble != nil {
			wait = min(wait, h.tried.Add(reloadEvery).Sub(now))
		}
	}
	return max(wait, 10*time.Millisecond)
}

// look looks at the records of some keys side by side, and takes in what it
// finds as it comes: a slow zone keeps no other's key waiting.
func (r *Ring) look(ctx context.Context, keys []*held, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for _, h := range keys {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			s := r.asker.Look(ctx, h.Name(), h.key)
			r.saw(ctx, h, s)
		})
	}
	wg.Wait()
}

// saw takes in what was found, unless the key is not the configuration's any
// more.
func (r *Ring) saw(ctx context.Context, h *held, s Sight) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.holds(h) || ctx.Err() != nil && s.Finding == Unknown && !r.mu.looked {
		return // what was not found out at the start in time is looked up at once
	}
	r.count(s.Finding)
	e := h.observe(now, s)
	switch {
	case !r.mu.looked: // at the start one that is overtaken at once must not count as having signed
	case e.elects():
		r.elect(now)
	default:
		r.keepOne(h)
	}
	r.tell(h, s, e)
}

func (r *Ring) holds(h *held) bool {
	for _, k := range r.mu.keys {
		if k == h {
			return true
		}
	}
	return false
}

func (r *Ring) count(f Finding) {
	switch f {
	case Published:
		r.mu.looks.Published++
	case Unknown:
		r.mu.looks.Unknown++
	default:
		r.mu.looks.Missing++
	}
}

// Looks counts the looks at records.
func (r *Ring) Looks() LookCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.looks
}

// tell logs what became of a key. The lock is held.
func (r *Ring) tell(h *held, s Sight, e event) {
	about := []any{"domain", h.Domain, "selector", h.Selector, mta.KeyReason, s.Why}
	switch e {
	case appeared:
		r.log.Info("the record of a DKIM key is seen", about...)
	case doubted:
		r.log.Warn("the record of a DKIM key seems gone; the key goes on signing until that is sure", about...)
	case vanished:
		r.log.Error("the record of a DKIM key is gone: nothing is signed with it any more", append(about, mta.KeyFix, "publish it again (\"mailout dkim record "+h.Selector+"\"), or take the key out of the configuration")...)
	case revoked:
		r.log.Warn("a DKIM key was revoked: nothing is signed with it any more", about...)
	}
}

// KeyStatus is where one key stands, for people and the API. It holds nothing
// secret.
type KeyStatus struct {
	Entry
	Algorithm Algorithm // empty: the file could not be read
	Bits      int
	TXT       string // the record's text; empty: not known
	State     State
	Trouble   string // with the file; empty: none
	Record    Sight  // the last look that said something
	Since     time.Time
	Seen      time.Time // the record was first seen; zero: it has not been
	Checked   time.Time // it was last seen
	Signed    time.Time // the key signs, or signed, since
	Retired   time.Time // a later key signs since
	Next      time.Time // the next look; zero: at once, or none
}

// Status lists the keys in the order of the configuration.
func (r *Ring) Status() []KeyStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]KeyStatus, 0, len(r.mu.keys))
	for _, h := range r.mu.keys {
		out = append(out, h.status())
	}
	return out
}

func (h *held) status() KeyStatus {
	k := KeyStatus{Entry: h.Entry, State: StateMissing}
	if h.trouble != nil {
		k.Trouble = h.trouble.Error()
	}
	if h.key == nil {
		return k
	}
	k.Algorithm, k.Bits, k.TXT = h.key.Algorithm(), h.key.Bits(), h.key.TXT()
	k.State, k.Record = h.state(h.signs), h.last
	k.Seen, k.Checked, k.Signed, k.Retired, k.Next = h.Seen, h.Checked, h.Signed, h.Retired, h.next()
	switch k.State {
	case StatePending:
		k.Since = h.since
	case StateGone:
		k.Since = h.Gone
	case StateRevoked:
		k.Since = h.Withdrawn
	case StateRetired:
		k.Since = h.Retired
	case StateActive:
		k.Since = h.Signed
	case StateStandby:
		k.Since = h.Seen
	}
	return k
}

// Survey looks at the records of keys once and says where they would stand for a
// daemon that knows nothing else of them. It owns no goroutine when it returns.
func Survey(ctx context.Context, o RingOptions) []KeyStatus {
	o.Notes = nil
	r := NewRing(o)
	r.mu.Lock()
	r.configure(o.Entries)
	first := r.unknown(time.Now())
	r.mu.Unlock()
	r.look(ctx, first, r.o.FirstLook)
	r.mu.Lock()
	r.elect(time.Now())
	r.mu.Unlock()
	return r.Status()
}
