package warmup

import (
	"context"
	"fmt"
	"time"

	"mailout/internal/mta"
)

const (
	retryWrite = time.Second     // after a write that failed; twice as long after each
	retryMost  = time.Minute     // the longest; one warning each
	keepNotes  = 90 * hoursADay  // of sources that are gone
	lastWrite  = 5 * time.Second // at Stop, whatever its context says
)

// damagedNote is why nothing is sent on the day that a note was found damaged.
const damagedNote = "what was sent today is not known: the ledger's note is damaged"

// Start reads what earlier processes left, and begins to write.
func (l *Ledger) Start(ctx context.Context) error {
	now := l.now()
	var old []string
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.notes.Notes(ctx, notes, "", func(text string, value []byte) bool {
		k, ok := parseNote(text)
		if !ok {
			return true
		}
		a, ok := decode(k, value)
		if !ok {
			l.log.Warn("a note of the warm-up is damaged; nothing is sent on its account today", mta.KeySource, k.source.String(), mta.KeyProvider, name(k.provider))
			a = &account{key: k}
			a.record(now).stopped = damagedNote
		}
		if l.mu.sources[k.source] == nil && now.Sub(a.now.begin()) > keepNotes {
			old = append(old, text)
			return true
		}
		if len(l.mu.accounts) < MaxAccounts {
			l.mu.accounts[k] = a
		}
		return true
	})
	if err == nil && len(old) > 0 {
		changes := make(map[string][]byte, len(old))
		for _, text := range old {
			changes[text] = nil
		}
		err = l.notes.SetNotes(ctx, changes)
	}
	if err != nil {
		return fmt.Errorf("warm-up: read what was sent: %w", err)
	}
	l.mu.open = true
	l.done.Go(l.write)
	return nil
}

// Stop ends the ledger: nothing is taken any more, and what was used is written.
func (l *Ledger) Stop(ctx context.Context) error {
	l.mu.Lock()
	was := l.mu.open
	l.mu.open = false
	l.mu.Unlock()
	if !was {
		return nil
	}
	close(l.end)
	l.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	changes := map[string][]byte{}
	l.mu.Lock()
	for k, a := range l.mu.accounts {
		if len(a.days) == 0 {
			continue
		}
		value, err := a.encode(true)
		if err != nil {
			l.mu.Unlock()
			return fmt.Errorf("warm-up: %w", err)
		}
		changes[k.note()] = value
	}
	l.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	if err := l.notes.SetNotes(ctx, changes); err != nil {
		return fmt.Errorf("warm-up: write what was sent (what was reserved counts as sent): %w", err)
	}
	return nil
}

// write is the writer: it makes reservations and stops durable.
func (l *Ledger) write() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wait := retryWrite
	for {
		select {
		case <-l.work:
		case <-l.end:
			return
		}
		err := l.flush(ctx)
		l.tell()
		if err == nil {
			wait = retryWrite
			continue
		}
		if wait == retryWrite || wait == retryMost {
			l.log.Warn("what warming sources may send cannot be written; they send nothing more", mta.KeyError, err)
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, retryMost)
			l.wake()
		case <-l.end:
			return
		}
	}
}

// wake tells the writer that there is something to do.
func (l *Ledger) wake() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// written is a reservation that is being made durable.
type written struct {
	account *account
	record  *record
	asked   int
}

// flush writes what is marked. Only then may reservations be used.
func (l *Ledger) flush(ctx context.Context) error {
	l.mu.Lock()
	dirty := l.mu.dirty
	l.mu.dirty = nil
	changes := make(map[string][]byte, len(dirty))
	var asked []written
	var err error
	for _, a := range dirty {
		a.dirty = false
		var value []byte
		if value, err = a.encode(false); err != nil {
			break
		}
		changes[a.key.note()] = value
		for _, r := range a.days {
			if r.asked > 0 {
				asked = append(asked, written{a, r, r.asked})
			}
		}
	}
	l.mu.Unlock()
	if err == nil && len(changes) > 0 {
		err = l.notes.SetNotes(ctx, changes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil { // it may be durable or not: it is not used, and written again
		for _, a := range dirty {
			l.mark(a)
		}
		return err
	}
	for _, w := range asked {
		w.record.reserved = max(w.record.reserved, w.asked)
		if w.record.asked == w.asked {
			w.record.asked = 0
		}
	}
	return nil
}
