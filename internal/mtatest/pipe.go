package mtatest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is how many octets an in-memory connection holds each way before
// Write blocks, like the socket buffers of the real thing.
const pipeBuffer = 64 << 10

// Pipe gives the two ends of an in-memory connection. Unlike net.Pipe it
// buffers (64 KB each way), so that peers which write before they read behave
// as over TCP. Deadlines work, also in the fake time of testing/synctest.
// SetLinger(0) before Close makes the close a reset, as on a TCP connection.
func Pipe(client, server net.Addr) (net.Conn, net.Conn) {
	up, down := newHalf(), newHalf()
	return &pipeConn{in: down, out: up, local: client, remote: server},
		&pipeConn{in: up, out: down, local: server, remote: client}
}

// half is one direction of a pipe.
type half struct {
	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte
	ended    bool // the writer closed: EOF after buf
	gone     bool // the reader closed: writing fails
	reset    bool // either side aborted
	rd, wr   cutoff
	rdClosed bool
}

// cutoff is a deadline that wakes the waiting side.
type cutoff struct {
	timer   *time.Timer
	expired bool
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) setCutoff(c *cutoff, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.expired = false
	if !t.IsZero() {
		left := time.Until(t)
		if left <= 0 {
			c.expired = true
		} else {
			h.arm(c, left)
		}
	}
	h.cond.Broadcast()
}

func (h *half) arm(c *cutoff, left time.Duration) {
	var own *time.Timer
	own = time.AfterFunc(left, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if c.timer == own { // not replaced meanwhile
			c.expired = true
			h.cond.Broadcast()
		}
	})
	c.timer = own
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.rdClosed:
			return 0, net.ErrClosed
		case h.reset:
			return 0, syscall.ECONNRESET
		case h.rd.expired:
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			if len(h.buf) == 0 {
				h.buf = nil
			}
			h.cond.Broadcast()
			return n, nil
		case h.ended:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := 0
	for {
		switch {
		case h.ended:
			return done, net.ErrClosed
		case h.reset:
			return done, syscall.ECONNRESET
		case h.gone:
			return done, syscall.EPIPE
		case h.wr.expired:
			return done, os.ErrDeadlineExceeded
		}
		if room := pipeBuffer - len(h.buf); room > 0 {
			n := min(room, len(p)-done)
			h.buf = append(h.buf, p[done:done+n]...)
			done += n
			h.cond.Broadcast()
		}
		if done == len(p) {
			return done, nil
		}
		h.cond.Wait()
	}
}

// shut marks one end closed and stops its timer.
func (h *half) shut(c *cutoff, mark func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mark()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	h.cond.Broadcast()
}

type pipeConn struct {
	in, out       *half
	local, remote net.Addr
	mu            sync.Mutex
	abort         bool
	closed        bool
}

func (c *pipeConn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "pipe", Source: c.local, Addr: c.remote, Err: err}
}

// Read implements net.Conn.
func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

// Write implements net.Conn.
func (c *pipeConn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.opError("write", err)
}

// SetLinger with 0 makes Close a reset.
func (c *pipeConn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort = sec == 0
	return nil
}

// CloseWrite sends EOF and leaves the other direction open.
func (c *pipeConn) CloseWrite() error {
	c.out.shut(&c.out.wr, func() { c.out.ended = true })
	return nil
}

// Close implements net.Conn.
func (c *pipeConn) Close() error {
	c.mu.Lock()
	abort, closed := c.abort, c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	c.in.shut(&c.in.rd, func() { c.in.rdClosed, c.in.gone, c.in.buf = true, true, nil; c.in.reset = c.in.reset || abort })
	c.out.shut(&c.out.wr, func() { c.out.ended = true; c.out.reset = c.out.reset || abort })
	return nil
}

// LocalAddr implements net.Conn.
func (c *pipeConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *pipeConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *pipeConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *pipeConn) SetReadDeadline(t time.Time) error {
	c.in.setCutoff(&c.in.rd, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	c.out.setCutoff(&c.out.wr, t)
	return nil
}
