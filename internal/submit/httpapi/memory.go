package httpapi

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"mailout/internal/rest"
)

// memoryFactor times its body is what a request with JSON may hold at most: the
// body, texts copied out of it, and the message that is built. HTML without a
// text needs most. A test measures it.
const memoryFactor = 12

// memoryWait is how long a request waits for memory that others hold.
const memoryWait = 10 * time.Second

// memory shares out octets, first come, first served, so that large requests
// are not overtaken for ever.
type memory struct {
	total int64
	mu    struct {
		sync.Mutex
		used    int64
		waiting []*claim
	}
}

type claim struct {
	octets int64
	given  chan struct{} // closed when they are
}

// take waits for octets; more than there are in all are all of them. The error
// is a problem that says "later".
func (m *memory) take(ctx context.Context, octets int64) (release func(), err error) {
	octets = min(octets, m.total)
	c := &claim{octets: octets, given: make(chan struct{})}
	m.mu.Lock()
	m.mu.waiting = append(m.mu.waiting, c)
	m.serve()
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, memoryWait)
	defer cancel()
	select {
	case <-c.given:
	case <-ctx.Done():
		if !m.giveUp(c) {
			break // it was given at this moment
		}
		return nil, &rest.Problem{Status: http.StatusServiceUnavailable, Retry: 5 * time.Second, Detail: "other requests need the memory, try again later"}
	}
	return sync.OnceFunc(func() { m.put(octets) }), nil
}

// try takes octets when there are enough and nobody waits for them.
func (m *memory) try(octets int64) (release func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.waiting) > 0 || m.mu.used+octets > m.total {
		return nil, false
	}
	m.mu.used += octets
	return sync.OnceFunc(func() { m.put(octets) }), true
}

// holdExcess takes the memory for the largest message of a batch, by which it is
// larger than the request itself: a few octets may be asked for often.
func (s *Sender) holdExcess(ctx context.Context, t *templates) (release func(), err error) {
	const free = bodyStart
	need := min(memoryFactor*t.excess(), s.memory.total-t.batch.held)
	if need <= memoryFactor*free {
		return func() {}, nil
	}
	return s.memory.take(ctx, need)
}

// serve gives those who wait what there is. The lock is held.
func (m *memory) serve() {
	for len(m.mu.waiting) > 0 && m.mu.used+m.mu.waiting[0].octets <= m.total {
		c := m.mu.waiting[0]
		m.mu.waiting = m.mu.waiting[1:]
		m.mu.used += c.octets
		close(c.given)
	}
}

func (m *memory) put(octets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.used -= octets
	m.serve()
}

// giveUp ends a claim; false when it was given already.
func (m *memory) giveUp(c *claim) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.mu.waiting, c)
	if i < 0 {
		return false
	}
	m.mu.waiting = slices.Delete(m.mu.waiting, i, i+1)
	m.serve() // it may have stood before smaller ones
	return true
}
