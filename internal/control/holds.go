package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/queue"
)

// Held destinations. The file is written before a hold counts, and before a
// release does anything, so that what a command has told survives a crash. A
// hold that expires leaves the file when its mail is released: a crash between
// makes the next start release the rest.

// HoldsFile is the name of the file in the spool's directory.
const HoldsFile = "holds.json"

// ReadHolds reads the file; none is no hold. A file that cannot be read is an
// error: mail that is to wait would go out.
func ReadHolds(path string) ([]queue.Hold, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var holds []queue.Hold
	if err == nil {
		err = json.Unmarshal(data, &holds)
	}
	if err != nil {
		return nil, fmt.Errorf("the held destinations cannot be read: %w (mend or remove %s; without it nothing is held that comes from now on)", err, path)
	}
	return holds, nil
}

// Active leaves the holds that have not expired: those that the queue is to
// have.
func Active(holds []queue.Hold, now time.Time) []queue.Hold {
	return slices.DeleteFunc(slices.Clone(holds), func(h queue.Hold) bool { return !h.Expires.IsZero() && !h.Expires.After(now) })
}

// save keeps the holds.
func (c *Controller) save(holds []queue.Hold) error { return keep(c.opts.File, holds) }

// keep writes a value to a file, whole or not at all, and returns when it is on
// stable storage.
func keep(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Holds are the destinations that are held.
func (c *Controller) Holds() []queue.Hold {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.holds)
}

// standing makes or ends the holds of an errand's destination.
func (c *Controller) standing(e *errand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	sel := &e.Select
	meant := func(h queue.Hold) bool {
		return sel.All || h.Destination == sel.Destination && (sel.Stream == "" || h.Stream == sel.Stream)
	}
	if e.Verb == queue.VerbHold { // a new one replaces the same
		meant = func(h queue.Hold) bool { return h.Destination == sel.Destination && h.Stream == sel.Stream }
	}
	holds := slices.DeleteFunc(slices.Clone(c.mu.holds), meant)
	ended := len(c.mu.holds) - len(holds)
	if e.Verb == queue.VerbHold {
		now := e.now.UTC().Truncate(time.Millisecond)
		h := queue.Hold{Destination: sel.Destination, Stream: sel.Stream, By: e.By, Reason: e.Reason, Since: now}
		if e.Expires > 0 {
			h.Expires = now.Add(e.Expires).Truncate(time.Millisecond)
		}
		holds = append(holds, h)
		e.result.Hold, e.order.Reason = &h, h.String()
	} else {
		e.result.Ended = ended
	}
	if e.Verb == queue.VerbRelease && ended == 0 {
		return nil
	}
	if err := c.save(holds); err != nil {
		return fmt.Errorf("the held destinations could not be kept: %w", err)
	}
	c.set(holds)
	return nil
}

// set makes the holds count. The caller has the lock.
func (c *Controller) set(holds []queue.Hold) {
	c.mu.holds = holds
	c.opts.Queue.SetHolds(Active(holds, c.opts.Now()))
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Start begins to end the holds and routes that expire. The queue must run.
func (c *Controller) Start(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(c.done)
		for {
			wait := min(c.endExpired(ctx), c.endRoutes())
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-c.changed:
			case <-ctx.Done():
			}
			t.Stop()
			if ctx.Err() != nil {
				return
			}
		}
	}()
}

// Stop ends what Start began, and waits for it.
func (c *Controller) Stop() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
	}
}

// maxWait bounds the wait for the next expiry, so that a changed clock is
// noticed.
const maxWait = time.Minute

// endExpired ends the holds whose time is over, and says when to look again.
func (c *Controller) endExpired(ctx context.Context) time.Duration {
	wait := maxWait
	for _, h := range c.Holds() {
		switch left := h.Expires.Sub(c.opts.Now()); {
		case h.Expires.IsZero():
		case left > 0:
			wait = min(wait, left)
		default:
			if err := c.expire(ctx, h); err != nil && ctx.Err() == nil {
				c.opts.Logger.Error("a hold has expired and its mail is not released; trying again", mta.KeyDestination, h.Destination, mta.KeyError, err)
				wait = min(wait, againAfter)
			}
		}
	}
	return wait
}

// expire releases what a hold holds, and forgets it.
func (c *Controller) expire(ctx context.Context, h queue.Hold) error {
	c.mu.Lock()
	there := slices.Contains(c.mu.holds, h)
	if there {
		c.opts.Queue.SetHolds(Active(c.mu.holds, c.opts.Now()))
	}
	c.mu.Unlock()
	if !there { // an operator was faster
		return nil
	}
	e := c.errand(Request{Verb: queue.VerbRelease, Select: Selector{Destination: h.Destination, Stream: h.Stream}, Reason: "the hold has expired"})
	since, _, _ := strings.Cut(h.String(), " held ")
	e.heldBy = func(d *mta.Delivery) bool { return strings.HasPrefix(d.HeldBy, since+" held ") }
	if err := c.run(ctx, e); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	holds := slices.DeleteFunc(slices.Clone(c.mu.holds), func(o queue.Hold) bool { return o == h })
	if err := c.save(holds); err != nil {
		return err
	}
	c.mu.holds = holds
	c.opts.Logger.Info("a hold has expired; its mail is released", mta.KeyDestination, h.Destination, mta.KeyCount, e.result.Changed)
	return nil
}
