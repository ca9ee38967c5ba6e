package mtatest

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Net is a network in memory: handlers at addresses, and a dialer that
// connects to them. An address without a handler refuses connections. It can
// be used inside a testing/synctest bubble. The zero value is ready.
type Net struct {
	mu struct {
		sync.Mutex
		handlers map[netip.AddrPort]func(net.Conn)
		silent   map[netip.AddrPort]bool
		dials    []DialRecord
		conns    map[net.Conn]struct{}
		port     uint16
		closed   bool
	}
	wg sync.WaitGroup
}

// DialRecord is one attempt to connect.
type DialRecord struct {
	Network string
	Local   netip.Addr // the source asked for; zero when none was
	Address string
}

// maxDials bounds how many dials a Net remembers; later ones are not kept.
const maxDials = 100_000

// Handle answers connections to addr with h, in a goroutine for each; nil
// makes the address refuse again. MX.ServeConn and DNS.ServeConn are handlers.
func (n *Net) Handle(addr netip.AddrPort, h func(net.Conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.handlers == nil {
		n.mu.handlers = make(map[netip.AddrPort]func(net.Conn))
	}
	if h == nil {
		delete(n.mu.handlers, addr)
		return
	}
	n.mu.handlers[addr] = h
}

// Silence makes connects to addr hang until the dialer's context ends, as
// when a firewall drops the packets; false ends that.
func (n *Net) Silence(addr netip.AddrPort, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.silent == nil {
		n.mu.silent = make(map[netip.AddrPort]bool)
	}
	n.mu.silent[addr] = silent
}

// DialContext connects to address ("ip:port"); it has the signature of
// net.Dialer.DialContext.
func (n *Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.DialFrom(ctx, network, netip.Addr{}, address)
}

// DialFrom is DialContext from a local address. The network "udp" gives a
// connection that keeps message boundaries, for DNS.
func (n *Net) DialFrom(ctx context.Context, network string, local netip.Addr, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: textAddr{network, address}, Err: err}
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fail(err)
	}
	handler, silent, port := n.find(DialRecord{Network: network, Local: local, Address: address}, addr)
	if silent {
		<-ctx.Done()
		return fail(ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if handler == nil {
		return fail(syscall.ECONNREFUSED)
	}
	if !local.IsValid() {
		local = addr.Addr()
	}
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, port))
	client, server := Pipe(from, net.TCPAddrFromAddrPort(addr))
	if len(network) >= 3 && network[:3] == "udp" {
		client, server = packetPipe(client.LocalAddr(), server.LocalAddr())
	}
	if !n.start(server, handler) {
		return fail(syscall.ECONNREFUSED)
	}
	return client, nil
}

func (n *Net) find(r DialRecord, addr netip.AddrPort) (h func(net.Conn), silent bool, port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.mu.dials) < maxDials {
		n.mu.dials = append(n.mu.dials, r)
	}
	n.mu.port++
	return n.mu.handlers[addr], n.mu.silent[addr], 32768 + n.mu.port%28000
}

// start runs h for conn and forgets the connection when it returns. It
// reports false once the network is closed.
func (n *Net) start(conn net.Conn, h func(net.Conn)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed {
		return false
	}
	if n.mu.conns == nil {
		n.mu.conns = make(map[net.Conn]struct{})
	}
	n.mu.conns[conn] = struct{}{}
	n.wg.Go(func() {
		h(conn)
		conn.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.mu.conns, conn)
	})
	return true
}

// Dials gives the attempts to connect so far, in order, at most 100,000.
func (n *Net) Dials() []DialRecord {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]DialRecord(nil), n.mu.dials...)
}

// Close refuses new connections, closes the open ones and waits for their
// handlers.
func (n *Net) Close() {
	n.mu.Lock()
	n.mu.closed = true
	for c := range n.mu.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

// textAddr is an address as text.
type textAddr struct{ network, text string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.text }

// packetPipe is a connected pair that keeps message boundaries: net.Pipe hands
// one Write to one Read when the reader's buffer is large enough.
func packetPipe(client, server net.Addr) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	return &packetConn{Conn: a, local: client, remote: server}, &packetConn{Conn: b, local: server, remote: client}
}

// packetConn is a net.PacketConn, too, which is how DNS libraries tell
// datagrams from a stream.
type packetConn struct {
	net.Conn
	local, remote net.Addr
}

// LocalAddr implements net.Conn.
func (c *packetConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *packetConn) RemoteAddr() net.Addr { return c.remote }

// ReadFrom implements net.PacketConn.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.remote, err
}

// WriteTo implements net.PacketConn; the address is the peer's in any case.
func (c *packetConn) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }
