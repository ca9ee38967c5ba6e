package transport

import (
	"net/netip"
	"sync"
	"time"
)

// How long a host whose TLS broke is spoken to in clear at once, and how many
// such hosts are remembered.
const (
	brokenTLSFor = 10 * time.Minute
	brokenTLSMax = 1000
)

// brokenTLS remembers addresses whose opportunistic TLS failed while clear text
// worked, so that not every session costs two connections.
type brokenTLS struct {
	mu struct {
		sync.Mutex
		until map[netip.AddrPort]time.Time
	}
}

func (b *brokenTLS) has(at netip.AddrPort, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.mu.until[at]
	if ok && now.After(until) {
		delete(b.mu.until, at)
		ok = false
	}
	return ok
}

// add remembers where it was. When the memory is full something else is forgotten, which
// costs that host a connection.
func (b *brokenTLS) add(at netip.AddrPort, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.until == nil {
		b.mu.until = make(map[netip.AddrPort]time.Time)
	}
	for other, until := range b.mu.until {
		if len(b.mu.until) < brokenTLSMax && !now.After(until) {
			break
		}
		delete(b.mu.until, other)
	}
	b.mu.until[at] = now.Add(brokenTLSFor)
}

func (b *brokenTLS) forget(at netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mu.until, at)
}
