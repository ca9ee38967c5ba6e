package dns

import (
	"container/list"
	"sync"
	"time"
)

// The cache is a plain LRU list with an expiry per entry, bounded by count and
// by octets. It has no goroutine and no clock of its own, so that it works in
// virtual time; entries past their expiry go when they are met or when the
// bounds push them out. A library with per-entry TTL was rejected for its
// background goroutines and because the mutex here is never contended: a
// look-up that misses costs a network round trip.

// key is one question.
type key struct {
	name  string // lower case, fully qualified with the final dot
	qtype uint16
}

type cacheEntry struct {
	key    key
	result *result
	cost   int
}

type cache struct {
	maxEntries, maxCost int

	mu struct {
		sync.Mutex
		order   *list.List // of *cacheEntry, most recently used first
		entries map[key]*list.Element
		cost    int
	}
}

func newCache(maxEntries, maxCost int) *cache {
	c := &cache{maxEntries: maxEntries, maxCost: maxCost}
	c.mu.order = list.New()
	c.mu.entries = make(map[key]*list.Element)
	return c
}

// get gives the result that is still good at now, or nil.
func (c *cache) get(k key, now time.Time) *result {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.mu.entries[k]
	if el == nil {
		return nil
	}
	e := el.Value.(*cacheEntry)
	if !now.Before(e.result.expires) {
		c.remove(el)
		return nil
	}
	c.mu.order.MoveToFront(el)
	return e.result
}

// put keeps a result until it expires or the bounds push it out.
func (c *cache) put(k key, r *result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.mu.entries[k]; el != nil {
		c.remove(el)
	}
	e := &cacheEntry{key: k, result: r, cost: r.cost() + len(k.name)}
	c.mu.entries[k] = c.mu.order.PushFront(e)
	c.mu.cost += e.cost
	for c.mu.order.Len() > c.maxEntries || c.mu.cost > c.maxCost {
		c.remove(c.mu.order.Back())
	}
}

// remove takes an entry out; the caller holds the lock.
func (c *cache) remove(el *list.Element) {
	e := c.mu.order.Remove(el).(*cacheEntry)
	delete(c.mu.entries, e.key)
	c.mu.cost -= e.cost
}

// clear forgets everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.order.Init()
	clear(c.mu.entries)
	c.mu.cost = 0
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.order.Len()
}
