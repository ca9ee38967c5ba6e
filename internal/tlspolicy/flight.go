package tlspolicy

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
)

// fly looks at a domain's record, reads the policy anew if need be, and keeps what
// it finds. used says that mail asks for it.
func (s *STS) fly(domain string, f *flight, used bool) {
	k := s.lookSafely(domain, used)
	s.mu.Lock()
	delete(s.mu.flights, domain)
	if k != nil {
		s.put(domain, k)
	}
	s.mu.Unlock()
	f.known = k
	close(f.done)
}

// lookSafely turns a panic over a stranger's octets into a look that found
// nothing: the goroutine is ours, so nobody above could.
func (s *STS) lookSafely(domain string, used bool) (k *known) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a look at an MTA-STS policy panicked", mta.KeyDestination, domain, mta.KeyError, fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
		return s.look(s.life, domain, used)
	case <-s.life.Done():
		return nil
	}
}

// look gives what is known of a domain after a look at its record; nil when that
// is nothing.
func (s *STS) look(ctx context.Context, domain string, used bool) *known {
	old, err := s.recall(ctx, domain, time.Now())
	if err != nil { // it is marked lost, and stays so
		return nil
	}
	k := known{}
	if old != nil {
		k = *old
	}
	r := s.record(ctx, domain)
	now := time.Now()
	if ctx.Err() != nil {
		return old
	}
	k.checked = now
	aged := used && now.Sub(k.used) >= 24*time.Hour
	if used {
		k.used = now
	}
	held := old.holds(now)
	switch {
	case r.err != nil || !r.there || r.wrong != "": // the policy that holds still does (RFC 8461 3.3)
		if old == nil {
			return nil
		}
	case held && r.id == k.id && now.Before(k.refresh(now)):
	case now.Before(k.again):
	default:
		fresh := s.read(ctx, domain, r.id, &k)
		if ctx.Err() != nil {
			return old
		}
		return fresh
	}
	if held && aged {
		s.save(domain, &k)
	}
	return &k
}

// read reads a domain's policy and gives what is known then: the new one, or the
// old with the trouble.
func (s *STS) read(ctx context.Context, domain, id string, k *known) *known {
	p, failure := s.settings.Load().getter.fetch(ctx, domain)
	now := time.Now()
	if failure == nil {
		s.counts.fetched.Add(1)
		fresh := &known{id: id, policy: p, fetched: now, checked: now, used: k.used}
		if k.policy == nil || k.id != id || k.failures > 0 {
			s.log.Info("an MTA-STS policy was read", mta.KeyDestination, domain, mta.KeyID, id, "mode", p.Mode.String(), "max_age", p.MaxAge.String())
		}
		s.save(domain, fresh)
		return fresh
	}
	if ctx.Err() != nil {
		return k
	}
	s.counts.failed.Add(1)
	pause := lastPause
	if k.failures < 4 {
		pause = min(firstPause<<k.failures, lastPause)
	}
	k.failures++
	k.again, k.trouble, k.reason = now.Add(pause), failure.result, failure.text
	switch {
	case k.holds(now) && k.policy.Mode != ModeNone: // RFC 8461 3.3: the operator is told
		s.log.Warn("an MTA-STS policy cannot be read anew; the one that was read holds until its end", mta.KeyDestination, domain, mta.KeyReason, k.reason, "expires", mta.FormatTime(k.expires()), mta.KeyNext, mta.FormatTime(k.again))
	case k.failures == 1:
		s.log.Info("an MTA-STS policy cannot be read; mail goes as to a domain without one", mta.KeyDestination, domain, mta.KeyReason, k.reason, mta.KeyNext, mta.FormatTime(k.again))
	}
	return k
}

// recall gives what is known of a domain, in memory or in its note; nil when that
// is nothing. On an error somebody must wait: the domain counts as lost from then
// on, until a look at its policy succeeds.
func (s *STS) recall(ctx context.Context, domain string, now time.Time) (*known, error) {
	s.mu.Lock()
	k := s.mu.known[domain]
	s.mu.Unlock()
	if k != nil && k.lost.IsZero() || s.opts.Notes == nil {
		return k, nil
	}
	value, err := s.opts.Notes.Note(ctx, notePrefix+domain)
	if err == nil && value != nil {
		var noted *known
		if noted, err = readNote(value); err == nil {
			k = noted
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil && k != nil: // lost already
		return k, nil
	case err != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if newer := s.mu.known[domain]; newer != nil { // read meanwhile, or marked
			return newer, nil
		}
		s.log.Error("a kept MTA-STS policy cannot be read; the domain's mail waits until it was looked for anew", mta.KeyDestination, domain, mta.KeyError, err)
		s.put(domain, &known{lost: now, used: now})
		return nil, err
	case value == nil:
		return k, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if newer := s.mu.known[domain]; newer != nil && newer.lost.IsZero() {
		return newer, nil
	}
	s.put(domain, k)
	return k, nil
}

// put remembers; s.mu is held. Others are forgotten where there are too many:
// their notes stay.
func (s *STS) put(domain string, k *known) {
	if before := s.mu.known[domain]; before != nil {
		s.mu.cost -= before.cost() + len(domain)
	}
	s.mu.known[domain] = k
	s.mu.cost += k.cost() + len(domain)
	for other, o := range s.mu.known {
		if len(s.mu.known) <= MaxKnown && s.mu.cost <= maxCost {
			return
		}
		if other != domain {
			delete(s.mu.known, other)
			s.mu.cost -= o.cost() + len(other)
		}
	}
}

// forget forgets a domain that has no record, unless more is known by now. That
// its note cannot be read stays known: else every other message would wait for it.
func (s *STS) forget(domain string, k *known) {
	if k == nil || !k.lost.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.known[domain] == k {
		delete(s.mu.known, domain)
		s.mu.cost -= k.cost() + len(domain)
	}
}

// save keeps a policy as a note. Without one it is known until the end of the
// process, or until it is pushed out of memory.
func (s *STS) save(domain string, k *known) {
	if s.opts.Notes == nil {
		return
	}
	s.mu.Lock()
	full := s.mu.kept >= maxKept
	s.mu.kept++
	s.mu.Unlock()
	value := k.note()
	if full || len(value) > maxNote {
		s.log.Warn("an MTA-STS policy is not kept beyond the process: it is too large, or too many are kept", mta.KeyDestination, domain, mta.KeySize, len(value))
		return
	}
	// Not bound to a caller: what was read is kept also while we stop.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.opts.Notes.SetNotes(ctx, map[string][]byte{notePrefix + domain: value}); err != nil {
		s.log.Warn("an MTA-STS policy could not be kept beyond the process", mta.KeyDestination, domain, mta.KeyError, err)
	}
}

// The bounds of a sweep through the notes.
const (
	sweepFirst  = time.Minute // after Start
	sweepEvery  = time.Hour
	sweepAhead  = sweepEvery / 2 // what is due until then is read now
	sweepAtOnce = 8              // fetches; the others of MaxFetches are for mail
	sweepMost   = 10_000         // policies read, and notes removed, in one
)

// refresh reads policies anew ahead of their end, until Stop.
func (s *STS) refresh() {
	timer := time.NewTimer(sweepFirst)
	defer timer.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-timer.C:
			s.sweep()
			timer.Reset(sweepEvery)
		}
	}
}

// sweep goes through the notes: it reads what is due, and removes what ended.
func (s *STS) sweep() {
	if !s.settings.Load().On {
		return
	}
	due, over := s.survey(time.Now())
	if len(over) > 0 {
		if err := s.opts.Notes.SetNotes(s.life, over); err != nil && s.life.Err() == nil {
			s.log.Warn("MTA-STS policies that ended could not be removed", mta.KeyError, err)
		}
	}
	gate := make(chan struct{}, sweepAtOnce)
	for _, domain := range due {
		gate <- struct{}{}
		f := s.beginFor(domain, false, false)
		if f == nil { // mail comes first, or we stop
			<-gate
			break
		}
		s.wg.Go(func() {
			<-f.done // also after Stop
			<-gate
		})
	}
	for range sweepAtOnce {
		gate <- struct{}{}
	}
}

// survey finds what is due and what is over.
func (s *STS) survey(now time.Time) (due []string, over map[string][]byte) {
	over = map[string][]byte{}
	n := 0
	err := s.opts.Notes.Notes(s.life, notePrefix, "", func(name string, value []byte) bool {
		n++
		domain := name[len(notePrefix):]
		k, err := readNote(value)
		switch {
		case err != nil: // whoever asks for it sees that
		case now.Sub(k.expires()) > refreshAge:
			if len(over) < sweepMost {
				over[name] = nil
			}
		case k.holds(now) && now.Sub(k.used) < idleFor && !now.Add(sweepAhead).Before(k.refresh(now)) && len(due) < sweepMost:
			due = append(due, domain)
		}
		return s.life.Err() == nil
	})
	if err != nil && s.life.Err() == nil {
		s.log.Warn("the MTA-STS policies that are kept could not be looked through", mta.KeyError, err)
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.kept = n
	for name := range over {
		if s.mu.known[name[len(notePrefix):]].holds(now) {
			delete(over, name)
		}
	}
	return due, over
}

// stsCounts count since the start.
type stsCounts struct{ fetched, failed atomic.Uint64 }

// STSCounts tell how the fetches went, and of the policies in memory that hold.
type STSCounts struct {
	Fetched, Failed        uint64
	None, Testing, Enforce int
}

// Counts gives the counts.
func (s *STS) Counts() STSCounts {
	c := STSCounts{Fetched: s.counts.fetched.Load(), Failed: s.counts.failed.Load()}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.mu.known {
		if !k.holds(now) {
			continue
		}
		switch k.policy.Mode {
		case ModeNone:
			c.None++
		case ModeTesting:
			c.Testing++
		case ModeEnforce:
			c.Enforce++
		}
	}
	return c
}
