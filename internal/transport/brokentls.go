package transport

import (
	"net/netip"
	"sync"
	"time"

	"mailout/internal/mta"
)

// How long a host whose TLS broke is spoken to in clear at once, and how many
// such hosts are remembered.
const (
	brokenTLSFor = 10 * time.Minute
	brokenTLSMax = 1000
)

// brokenTLS remembers addresses whose opportunistic TLS failed while clear text
// worked, so that not every session costs two connections. Only opportunistic
// sessions ask it: what is demanded is never less for what it knows.
type brokenTLS struct {
	mu struct {
		sync.Mutex
		at map[netip.AddrPort]broken
	}
}

// broken is what is remembered of one address.
type broken struct {
	until time.Time
	why   *mta.TLSFault
}

// of says why TLS broke at an address lately; nil: it did not.
func (b *brokenTLS) of(at netip.AddrPort, now time.Time) *mta.TLSFault {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.mu.at[at]
	if ok && now.After(known.until) {
		delete(b.mu.at, at)
		return nil
	}
	return known.why
}

// add remembers where it was and why. When the memory is full something else is forgotten, which
// costs that host a connection.
func (b *brokenTLS) add(at netip.AddrPort, now time.Time, why *mta.TLSFault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.at == nil {
		b.mu.at = make(map[netip.AddrPort]broken)
	}
	for other, known := range b.mu.at {
		if len(b.mu.at) < brokenTLSMax && !now.After(known.until) {
			break
		}
		delete(b.mu.at, other)
	}
	b.mu.at[at] = broken{now.Add(brokenTLSFor), &mta.TLSFault{Result: why.Result, Text: why.Text}} // without the errors, and what they hold
}

func (b *brokenTLS) forget(at netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mu.at, at)
}
