package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"mailout/internal/mta"
)

// Server is one listener with its sessions. Its methods are safe for
// concurrent use.
type Server struct {
	opts     Options
	log      *slog.Logger
	settings atomic.Pointer[settings]
	counters counters
	relayLog rate.Sometimes // refusals to relay are told at most every 10 s
	openLog  rate.Sometimes // and so are broken handshakes and PROXY headers
	authLog  *rate.Limiter  // and failed sign-ins
	// refusalLog bounds the lines about refused messages: a full disk and
	// pushing clients make thousands a second, maybe onto the same disk.
	refusalLog *rate.Limiter
	unlogged   atomic.Int64 // refusals that were not told since the last line

	stopping atomic.Bool     // no new connection, no new transaction
	stop     chan struct{}   // closed with stopping
	base     context.Context // of the calls of intake; ends when work is abandoned
	abandon  context.CancelFunc
	sessions sync.WaitGroup // the accepting goroutine and the sessions

	mu struct {
		sync.Mutex
		listener net.Listener
		open     map[*session]struct{}
		perPeer  map[netip.Addr]int
	}
}

// So many lines about refused messages are written: refusalBurst at once, then
// refusalLines a second.
const (
	refusalLines = 2
	refusalBurst = 50
)

// New makes a Server; Start runs it.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o, log: o.Logger, stop: make(chan struct{}), relayLog: rate.Sometimes{First: 3, Interval: 10 * time.Second},
		openLog: rate.Sometimes{First: 3, Interval: 10 * time.Second},
		authLog: rate.NewLimiter(refusalLines, refusalBurst), refusalLog: rate.NewLimiter(refusalLines, refusalBurst)}
	s.settings.Store(newSettings(o.Settings))
	s.mu.open = make(map[*session]struct{})
	s.mu.perPeer = make(map[netip.Addr]int)
	return s
}

// Start binds the address and begins to accept. ctx bounds the binding and
// gives intake's calls their values; its end does not stop the server, Stop
// does.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.listener != nil || s.stopping.Load() {
		return errors.New("the SMTP door was started before")
	}
	l := s.opts.Listener
	if l == nil {
		var lc net.ListenConfig
		var err error
		if l, err = lc.Listen(ctx, family(s.opts.Address), s.opts.Address); err != nil {
			return fmt.Errorf("cannot listen for SMTP on %s: %w", s.opts.Address, err)
		}
	}
	s.mu.listener = l
	s.base, s.abandon = context.WithCancel(context.WithoutCancel(ctx))
	s.log = s.opts.Logger.With(mta.KeyListener, l.Addr().String())
	s.sessions.Add(1)
	go s.accept(l)
	return nil
}

// family gives the network for listening on exactly an address: "tcp" would
// take 0.0.0.0 for every address of IPv6 too.
func family(address string) string {
	ap, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return "tcp"
	case ap.Addr().Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}

// Addr is the address that was bound; nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.listener == nil {
		return nil
	}
	return s.mu.listener.Addr()
}

// Reconfigure replaces the settings. Sessions take them over at their next
// transaction; connection limits hold for new connections.
func (s *Server) Reconfigure(n Settings) { s.settings.Store(newSettings(n)) }

// Counts gives the totals.
func (s *Server) Counts() Counts { return s.counters.snapshot() }

// Stop closes the listener, ends idle sessions with 421, lets sessions that
// receive or store a message finish until ctx ends, then cuts them off. It
// returns when every goroutine has ended: nil, or an error that says how many
// sessions were cut. A Server is not started again.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopping.Swap(true)
	if first {
		close(s.stop)
		if s.mu.listener != nil {
			s.mu.listener.Close()
		}
	}
	for sess := range s.mu.open {
		sess.interrupt()
	}
	started := s.mu.listener != nil
	s.mu.Unlock()
	if !started {
		return nil
	}
	done := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.abandon()
		return nil
	case <-ctx.Done():
	}
	cut := s.cutAll()
	<-done
	if cut == 0 {
		return nil
	}
	return fmt.Errorf("%d SMTP sessions were cut off: %w", cut, context.Cause(ctx))
}

// cutAll abandons all work and closes every connection.
func (s *Server) cutAll() int {
	s.abandon()
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.mu.open {
		sess.raw.Close()
	}
	return len(s.mu.open)
}

// accept takes connections until the listener closes. Errors such as a lack of
// file descriptors are waited out, from 5 ms doubling to 1 s.
func (s *Server) accept(l net.Listener) {
	defer s.sessions.Done()
	var wait time.Duration
	for {
		conn, err := l.Accept()
		if err == nil {
			wait = 0
			s.admit(conn)
			continue
		}
		if s.stopping.Load() || errors.Is(err, net.ErrClosed) {
			return
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.log.Error("cannot accept a connection", mta.KeyError, err)
		select {
		case <-time.After(wait):
		case <-s.stop:
			return
		}
	}
}

// admit starts the session of a connection, or turns it away.
func (s *Server) admit(conn net.Conn) {
	set := s.settings.Load()
	peer := peerOf(conn)
	sess := newSession(s, conn, peer, set)
	if set.proxied(peer) {
		// The client is told by the header; until then it is nobody, and the
		// connections of the balancer itself are not bounded.
		sess.proxied, sess.peer, peer = true, netip.Addr{}, netip.Addr{}
	}
	s.mu.Lock()
	var why string
	switch {
	case s.stopping.Load():
		why = "421 4.3.2 shutting down, try again later\r\n"
	case len(s.mu.open) >= set.Limits.Connections:
		why = "421 4.7.0 too many connections, try again later\r\n"
	case !sess.proxied && s.mu.perPeer[peer] >= set.Limits.PeerConnections:
		why = replyTooManyFromPeer
	default:
		s.mu.open[sess] = struct{}{}
		s.mu.perPeer[peer]++
		s.sessions.Add(1)
	}
	s.mu.Unlock()
	if why != "" {
		s.counters.turnedAway.Add(1)
		// A fresh socket takes these octets at once; the deadline is for
		// connections of other kinds.
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		conn.Write([]byte(why))
		conn.Close()
		return
	}
	s.counters.connections.Add(1)
	s.counters.active.Add(1)
	go sess.run()
}

// adopt makes peer the client of a session; false when it has too many already.
func (s *Server) adopt(sess *session, peer netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.perPeer[peer] >= sess.set.Limits.PeerConnections {
		return false
	}
	s.drop(sess.peer)
	sess.peer = peer
	s.mu.perPeer[peer]++
	return true
}

// drop counts a connection of peer out; s.mu is held.
func (s *Server) drop(peer netip.Addr) {
	if s.mu.perPeer[peer]--; s.mu.perPeer[peer] <= 0 {
		delete(s.mu.perPeer, peer)
	}
}

// leave forgets an ended session.
func (s *Server) leave(sess *session) {
	s.mu.Lock()
	delete(s.mu.open, sess)
	s.drop(sess.peer)
	s.mu.Unlock()
	s.counters.active.Add(-1)
	s.sessions.Done()
}

// peerOf gives the peer's address, zero when it is not one of TCP.
func peerOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
