package unsubscribe

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// How many unknown links a peer may try: so many at once, then one each second.
// Peers are remembered in two generations of at most maxPeers, each for a while;
// with more of them around the oldest are forgotten sooner.
const (
	guessBurst = 30
	guessEvery = time.Second
	maxPeers   = 4096
	generation = time.Minute // more than guessBurst of guessEvery: who is forgotten has nothing left to wait for
)

// guesses counts unknown links by peer. It is safe for concurrent use.
type guesses struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		young, old map[netip.Prefix]time.Time // when all that was tried is paid for
		since      time.Time                  // of young
	}
}

func newGuesses(now func() time.Time) *guesses {
	g := &guesses{now: now}
	g.mu.young, g.mu.since = map[netip.Prefix]time.Time{}, now()
	return g
}

// allow counts one, and reports whether the peer may have it.
func (g *guesses) allow(peer netip.Prefix) bool {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.mu.since) >= generation || len(g.mu.young) >= maxPeers {
		g.mu.old, g.mu.young, g.mu.since = g.mu.young, map[netip.Prefix]time.Time{}, now
	}
	paid, known := g.mu.young[peer]
	if !known {
		paid = g.mu.old[peer]
	}
	if paid.Before(now) {
		paid = now
	}
	if paid.Sub(now) > (guessBurst-1)*guessEvery {
		return false
	}
	g.mu.young[peer] = paid.Add(guessEvery)
	return true
}

// perPeer is how many of a server's connections one peer may have: a quarter.
// Loopback is a proxy, whose clients all come from there.
func perPeer(all int) int { return max(1, all/4) }

// crowd bounds the connections of a listener, in all and by peer. When all places
// are taken the next connection waits, and those after it in the system's queue;
// each place becomes free soon, for every step of a request is bounded in time.
// A peer that has its share is hung up on.
type crowd struct {
	net.Listener
	places chan struct{}
	each   int
	closed chan struct{}
	close  func() error

	mu struct {
		sync.Mutex
		of map[netip.Prefix]int
	}
}

func newCrowd(l net.Listener, most int) *crowd {
	c := &crowd{Listener: l, places: make(chan struct{}, most), each: perPeer(most), closed: make(chan struct{})}
	c.mu.of = map[netip.Prefix]int{}
	c.close = sync.OnceValue(func() error {
		close(c.closed)
		return l.Close()
	})
	return c
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	select {
	case c.places <- struct{}{}:
	case <-c.closed:
		return nil, net.ErrClosed
	}
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			<-c.places
			return nil, err
		}
		peer := networkOf(conn.RemoteAddr().String())
		if c.enter(peer) {
			return &guest{Conn: conn, leave: sync.OnceFunc(func() { c.leave(peer) })}, nil
		}
		_ = conn.Close()
	}
}

// Close implements net.Listener.
func (c *crowd) Close() error { return c.close() }

func (c *crowd) enter(peer netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.of[peer] >= c.each && !peer.Addr().IsLoopback() {
		return false
	}
	c.mu.of[peer]++
	return true
}

func (c *crowd) leave(peer netip.Prefix) {
	c.mu.Lock()
	if c.mu.of[peer]--; c.mu.of[peer] <= 0 {
		delete(c.mu.of, peer)
	}
	c.mu.Unlock()
	<-c.places
}

// guest is a connection that has a place.
type guest struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}
