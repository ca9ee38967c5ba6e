package account

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// How much guessing is let through. Each failed sign-in fills two buckets, that
// of the address and that of the address with the user's name; each runs dry by
// one failure every guardLeak. A full bucket puts further attempts off, without
// a look at the password, until it has room again.
//
// Two buckets, so that one device with an old password does not lock out the
// others behind its address: it fills the small bucket of its name only, which
// then keeps it from filling the large one. Not one for the name alone: whoever
// knows a name could lock its owner out from anywhere.
const (
	guardByUser  = 5
	guardByPeer  = 30
	guardLeak    = 30 * time.Second
	guardEntries = 8192
)

// Guard counts failed sign-ins by address, IPv6 by /64. It holds 8192 buckets at
// most; the one longest unused goes first.
type Guard struct {
	mu struct {
		sync.Mutex
		entries map[guardKey]*list.Element
		order   *list.List // of *bucket; the last used in front
	}
}

type guardKey struct {
	network netip.Prefix
	user    string // empty: of the address
}

type bucket struct {
	key   guardKey
	level time.Duration // failures × guardLeak, at time at
	at    time.Time
}

// NewGuard makes a Guard that has seen nothing.
func NewGuard() *Guard {
	g := &Guard{}
	g.mu.entries = make(map[guardKey]*list.Element)
	g.mu.order = list.New()
	return g
}

// Wait says how long sign-ins of user from peer are put off; 0: not at all.
func (g *Guard) Wait(peer netip.Addr, user string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(
		g.over(guardKey{network(peer), user}, guardByUser, now),
		g.over(guardKey{network: network(peer)}, guardByPeer, now),
	)
}

// Failed counts a failed sign-in.
func (g *Guard) Failed(peer netip.Addr, user string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fill(guardKey{network(peer), user}, now)
	if user != "" {
		g.fill(guardKey{network: network(peer)}, now)
	}
}

// over is the time until a bucket of so many failures has room for one more.
func (g *Guard) over(k guardKey, room int, now time.Time) time.Duration {
	e := g.mu.entries[k]
	if e == nil {
		return 0
	}
	b := e.Value.(*bucket)
	return max(0, b.levelAt(now)-time.Duration(room-1)*guardLeak)
}

// levelAt is what is left at now. A clock that went back leaves it as it is.
func (b *bucket) levelAt(now time.Time) time.Duration {
	return max(0, b.level-max(0, now.Sub(b.at)))
}

func (g *Guard) fill(k guardKey, now time.Time) {
	e := g.mu.entries[k]
	if e == nil {
		if len(g.mu.entries) >= guardEntries {
			oldest := g.mu.order.Back()
			delete(g.mu.entries, oldest.Value.(*bucket).key)
			g.mu.order.Remove(oldest)
		}
		e = g.mu.order.PushFront(&bucket{key: k, at: now})
		g.mu.entries[k] = e
	}
	g.mu.order.MoveToFront(e)
	b := e.Value.(*bucket)
	b.level, b.at = min(b.levelAt(now)+guardLeak, guardByPeer*guardLeak), now
}

// network is what one attacker surely has: an IPv4 address, an IPv6 /64.
func network(peer netip.Addr) netip.Prefix {
	peer = peer.Unmap().WithZone("")
	bits := peer.BitLen()
	if peer.Is6() {
		bits = 64
	}
	p, _ := peer.Prefix(bits) // zero for no address: all of them share a bucket
	return p
}
