package admin

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// How slowly a peer may send and read. A body has bodyTime in all and
// stallTime between two of its pieces; an answer has stallTime for each piece,
// so that a listing or a stream of events may take as long as it moves.
const (
	bodyTime  = 10 * time.Minute
	stallTime = 30 * time.Second
	leaveTime = 5 * time.Second // for the rest of a body that was refused
)

// defaultConnections and defaultBody hold when nothing is configured.
const (
	defaultConnections = 256
	defaultBody        = 64 << 20
)

// bounded gives a request its bounds: of size and time.
func (t *TCP) bounded(next http.Handler) http.Handler {
	most := t.Body
	if most <= 0 {
		most = defaultBody
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{}) // that of the request before
		if r.Body != nil && r.Body != http.NoBody {
			body := &steadyBody{ReadCloser: http.MaxBytesReader(w, r.Body, most), control: control, end: time.Now().Add(bodyTime)}
			r.Body = body
			defer body.leave()
		}
		defer func() { _ = control.SetWriteDeadline(time.Now().Add(stallTime)) }() // for what is still to be flushed
		next.ServeHTTP(&steadyWriter{ResponseWriter: w, control: control}, r)
	})
}

// steadyBody is a body whose peer has to go on sending.
type steadyBody struct {
	io.ReadCloser
	control *http.ResponseController
	end     time.Time
	ended   bool
}

// Read implements io.Reader. It sets the deadline for the piece alone: what
// comes after the body has the server's.
func (b *steadyBody) Read(p []byte) (int, error) {
	until := time.Now().Add(stallTime)
	if until.After(b.end) {
		until = b.end
	}
	_ = b.control.SetReadDeadline(until) // a connection that cannot is closed already
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) { // after another error the rest is still to come
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// leave bounds what the server still reads of a body that nobody wanted.
func (b *steadyBody) leave() {
	if !b.ended {
		_ = b.control.SetReadDeadline(time.Now().Add(leaveTime))
	}
}

// steadyWriter is an answer whose peer has to go on reading.
type steadyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write implements io.Writer.
func (w *steadyWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(stallTime)) // a connection that cannot is closed already
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *steadyWriter) Flush() { _ = w.FlushError() }

// FlushError implements what http.ResponseController looks for.
func (w *steadyWriter) FlushError() error {
	_ = w.control.SetWriteDeadline(time.Now().Add(stallTime))
	return w.control.Flush()
}

// Unwrap serves http.ResponseController.
func (w *steadyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// crowd bounds the connections of a listener. When all places are taken, the
// connection that has been idle longest gives its place up; when none is idle, a
// new one waits, and those after it in the system's queue.
type crowd struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once

	mu struct {
		sync.Mutex
		idle    map[net.Conn]time.Time // since when
		waiting bool                   // somebody waits for a place
	}
	now func() time.Time
}

func newCrowd(l net.Listener, most int) *crowd {
	if most <= 0 {
		most = defaultConnections
	}
	c := &crowd{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{}), now: time.Now}
	c.mu.idle = make(map[net.Conn]time.Time)
	return c
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case c.places <- struct{}{}:
	default:
		c.makeRoom()
		select {
		case c.places <- struct{}{}:
			c.setWaiting(false)
		case <-c.closed:
			_ = conn.Close()
			return nil, net.ErrClosed
		}
	}
	return &guest{Conn: conn, leave: sync.OnceFunc(func() { <-c.places })}, nil
}

// Close implements net.Listener.
func (c *crowd) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Listener.Close()
}

func (c *crowd) setWaiting(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.waiting = on
}

// makeRoom closes the connection that has been idle longest, or lets the next
// one go that becomes idle.
func (c *crowd) makeRoom() {
	c.mu.Lock()
	var oldest net.Conn
	for conn, since := range c.mu.idle {
		if oldest == nil || since.Before(c.mu.idle[oldest]) {
			oldest = conn
		}
	}
	delete(c.mu.idle, oldest)
	c.mu.waiting = oldest == nil
	c.mu.Unlock()
	if oldest != nil {
		cut(oldest)
	}
}

// cut closes a connection without a word, which could take time.
func cut(conn net.Conn) {
	if under, ok := conn.(*tls.Conn); ok {
		conn = under.NetConn()
	}
	_ = conn.Close()
}

// state follows http.Server.ConnState.
func (c *crowd) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s != http.StateIdle:
		delete(c.mu.idle, conn)
	case c.mu.waiting:
		c.mu.waiting = false
		cut(conn)
	default:
		c.mu.idle[conn] = c.now()
	}
}

// guest is a connection that holds a place.
type guest struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}
