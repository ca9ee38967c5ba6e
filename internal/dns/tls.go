package dns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// Bounds of the connections that are kept to a server asked over TLS.
const (
	maxIdle  = 8                // connections
	idleTime = 10 * time.Second // then it is closed; RFC 7858 3.4 leaves the time to the client
	sessions = 4                // TLS tickets, so that a new connection costs one round trip less
)

// secured is a server that is asked over TLS alone (RFC 7858). Each connection
// carries one query at a time; it is kept for the next one for a while. A server
// whose certificate does not fit is never asked in clear instead.
type secured struct {
	server string
	config *tls.Config

	mu struct {
		sync.Mutex
		idle   []*idleConn
		closed bool
	}
}

type idleConn struct {
	net.Conn
	expiry *time.Timer
}

// newSecured makes the servers of a configuration. The name of an address is
// the address: the certificate must name it.
func newSecured(names map[netip.AddrPort]string, roots *x509.CertPool) map[string]*secured {
	if len(names) == 0 {
		return nil
	}
	out := make(map[string]*secured, len(names))
	for server, name := range names {
		if name == "" {
			name = server.Addr().WithZone("").String()
		}
		out[server.String()] = &secured{server: server.String(), config: &tls.Config{
			ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
		}}
	}
	return out
}

// exchange asks over a connection that is kept, or over a new one; connecting
// and the handshake are within the time-out.
func (d *secured) exchange(ctx context.Context, s *settings, q *query) (*wire.Msg, error) {
	deadline := time.Now().Add(s.timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if conn := d.take(); conn != nil {
		m, err := d.over(ctx, conn, deadline, q)
		if err == nil || ctx.Err() != nil {
			return m, err
		}
		// The server had closed it meanwhile (RFC 7766 6.2.4).
	}
	raw, err := s.dial(ctx, "tcp", d.server)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, d.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return d.over(ctx, conn, deadline, q)
}

// over asks over a connection, and keeps it when it is still good.
func (d *secured) over(ctx context.Context, conn net.Conn, deadline time.Time, q *query) (*wire.Msg, error) {
	// A deadline in the past ends the read when the caller gives up.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := conn.SetDeadline(deadline)
	var m *wire.Msg
	if err == nil {
		m, err = q.overTCP(conn)
	}
	if !stop() || err != nil {
		conn.Close()
		return m, err
	}
	d.keep(conn)
	return m, nil
}

// take gives the connection that was used last; nil when none is kept.
func (d *secured) take() net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := len(d.mu.idle); n > 0; n = len(d.mu.idle) {
		c := d.mu.idle[n-1]
		d.mu.idle = d.mu.idle[:n-1]
		if c.expiry.Stop() {
			return c.Conn
		}
	}
	return nil
}

func (d *secured) keep(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed || len(d.mu.idle) >= maxIdle {
		conn.Close()
		return
	}
	c := &idleConn{Conn: conn}
	c.expiry = time.AfterFunc(idleTime, func() { d.drop(c) })
	d.mu.idle = append(d.mu.idle, c)
}

// drop closes a connection whose time is over.
func (d *secured) drop(c *idleConn) {
	d.mu.Lock()
	for i, other := range d.mu.idle {
		if other == c {
			d.mu.idle = append(d.mu.idle[:i], d.mu.idle[i+1:]...)
			break
		}
	}
	d.mu.Unlock()
	c.Close()
}

// close ends what is kept; connections in use end with their query.
func (d *secured) close() {
	d.mu.Lock()
	idle := d.mu.idle
	d.mu.idle, d.mu.closed = nil, true
	d.mu.Unlock()
	for _, c := range idle {
		c.expiry.Stop()
		c.Close()
	}
}
