package unsubscribe

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowPeersLeave: who dawdles with a header or a body has so long, and no
// longer, and what came of a body changes nothing.
func TestSlowPeersLeave(t *testing.T) {
	d, b := newDesk(t)
	path := "/u/" + (*d.keys.Load()).token(t, leave{"news", "ann@example.com", letter.ID})
	for what, sent := range map[string]string{
		"nothing": "", "half a header": "GET " + path + " HTTP/1.1\r\nHost: x\r\n",
		"half a body": "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\nContent-Type: " + form + "\r\n\r\nList-Unsubscribe=One-Cli",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := NewServer(d, ServerOptions{})
			p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
			served := make(chan error)
			go func() { served <- s.http.Serve(newCrowd(p, 1)) }()
			ours, theirs := net.Pipe()
			p.conns <- theirs
			begun := time.Now()
			if _, err := io.WriteString(ours, sent); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(ours)
			if took := time.Since(begun); err != nil || took > requestTime+time.Second || strings.Contains(string(answer), "200 OK") {
				t.Errorf("%s: after %v: %q, %v", what, took, answer, err)
			}
			if err := s.http.Close(); err != nil {
				t.Error(err)
			}
			<-served
		})
	}
	if len(b.listed) != 0 {
		t.Error(b.listed)
	}
}
