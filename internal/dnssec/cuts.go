package dnssec

import (
	"container/list"
	"sync"
	"time"
)

// Bounds of what is remembered of zones.
const (
	maxCuts    = 8192
	maxCutCost = 16 << 20 // octets, estimated
)

// cuts remembers the names between anchors and records: an LRU list, bounded by
// count and octets, with the time until each is good, and those being found out.
type cuts struct {
	mu struct {
		sync.Mutex
		order   *list.List // of *kept, most recently used first
		entries map[string]*list.Element
		flights map[string]*flight
		cost    int
	}
}

type kept struct {
	name string
	cut  *cut
	cost int
}

// flight is a name that somebody finds out about.
type flight struct {
	done chan struct{}
	cut  *cut
}

func (c *cuts) init() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.order = list.New()
	c.mu.entries = make(map[string]*list.Element)
	if c.mu.flights == nil {
		c.mu.flights = make(map[string]*flight)
	}
	c.mu.cost = 0
}

// get gives what is known of a name, or finds it out; of several callers at once
// one does. What a caller found that had no time or share left is not for the
// others.
func (c *cuts) get(w *work, name string, find func() *cut) *cut {
	for {
		c.mu.Lock()
		if known := c.known(name, w.now); known != nil {
			c.mu.Unlock()
			return known
		}
		f := c.mu.flights[name]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			c.mu.flights[name] = f
			c.mu.Unlock()
			return c.lead(name, f, find)
		}
		c.mu.Unlock()
		select {
		case <-f.done:
			if f.cut != nil && !f.cut.until.IsZero() {
				return f.cut
			}
		case <-w.ctx.Done():
			return &cut{err: w.ctx.Err()}
		}
		if w.ctx.Err() != nil {
			return &cut{err: w.ctx.Err()}
		}
	}
}

// lead finds out, and lets the others go on whatever happens.
func (c *cuts) lead(name string, f *flight, find func() *cut) *cut {
	defer func() {
		c.mu.Lock()
		delete(c.mu.flights, name)
		c.mu.Unlock()
		close(f.done)
	}()
	f.cut = find()
	c.put(name, f.cut)
	return f.cut
}

// known gives an entry that is still good; the caller holds the lock.
func (c *cuts) known(name string, now time.Time) *cut {
	el := c.mu.entries[name]
	if el == nil {
		return nil
	}
	k := el.Value.(*kept)
	if !now.Before(k.cut.until) {
		c.remove(el)
		return nil
	}
	c.mu.order.MoveToFront(el)
	return k.cut
}

// put keeps a cut that is good for a while.
func (c *cuts) put(name string, found *cut) {
	if found.until.IsZero() {
		return
	}
	k := &kept{name: name, cut: found, cost: 300 + len(name)}
	if found.zone != nil {
		for _, key := range found.zone.keys {
			k.cost += 200 + len(key.PublicKey)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.mu.entries[name]; el != nil {
		c.remove(el)
	}
	c.mu.entries[name] = c.mu.order.PushFront(k)
	c.mu.cost += k.cost
	for c.mu.order.Len() > maxCuts || c.mu.cost > maxCutCost {
		c.remove(c.mu.order.Back())
	}
}

func (c *cuts) remove(el *list.Element) {
	k := c.mu.order.Remove(el).(*kept)
	delete(c.mu.entries, k.name)
	c.mu.cost -= k.cost
}
