package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func contextWithLocal(t *testing.T, a net.Addr) context.Context {
	return context.WithValue(t.Context(), http.LocalAddrContextKey, a)
}

// line is a listener of pipes, for virtual time.
type line struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newLine() *line { return &line{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *line) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *line) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *line) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func (l *line) dial() net.Conn {
	here, there := net.Pipe()
	l.conns <- there
	return here
}

// atBounds runs a server with the bounds of TCP in virtual time.
func atBounds(t *testing.T, most int, handler http.HandlerFunc, f func(t *testing.T, l *line)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tcp := TCP{Connections: most}
		server := tcp.server(handler)
		server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		l := newLine()
		guests := newCrowd(l, most)
		server.ConnState = guests.state
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := server.Serve(guests); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		f(t, l)
		server.Close()
		<-done
	})
}

// silence reports how long a connection stays open when its peer does nothing
// but read.
func silence(conn net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, conn)
	return time.Since(start)
}

func swallow(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusRequestTimeout)
	}
}

// TestSlowHeaders: a peer that says nothing, or begins and dawdles, is gone
// after ten seconds.
func TestSlowHeaders(t *testing.T) {
	atBounds(t, 5, swallow, func(t *testing.T, l *line) {
		nothing := l.dial()
		if d := silence(nothing); d > headerTime {
			t.Error("a silent peer stays for", d)
		}
		slow := l.dial()
		go func() { _, _ = io.Copy(io.Discard, slow) }() // a pipe has no buffer for the server's last words
		start := time.Now()
		for {
			if _, err := slow.Write([]byte("G")); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d > headerTime+2*time.Second {
			t.Error("slow headers are waited for", d)
		}
		slow.Close()
	})
}

// TestSlowBody: a body has to go on, and to end.
func TestSlowBody(t *testing.T) {
	atBounds(t, 5, swallow, func(t *testing.T, l *line) {
		const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
		stalled := l.dial()
		_, _ = io.WriteString(stalled, head+"some")
		if d := silence(stalled); d < stallTime || d > stallTime+leaveTime {
			t.Error("a body that stalls is waited for", d)
		}
		stalled.Close()

		drip := l.dial()
		go func() { _, _ = io.Copy(io.Discard, drip) }()
		start := time.Now()
		_, err := io.WriteString(drip, head)
		for err == nil {
			time.Sleep(stallTime / 2)
			_, err = drip.Write([]byte("x"))
		}
		if d := time.Since(start); d < bodyTime || d > bodyTime+stallTime {
			t.Error("a body that never ends is waited for", d)
		}
		drip.Close()

		steady := l.dial()
		go func() {
			_, _ = io.WriteString(steady, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nConnection: close\r\n\r\n")
			for range 20 {
				time.Sleep(stallTime - time.Second)
				_, _ = steady.Write([]byte("x"))
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(steady), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Error("a slow body that goes on is not taken:", err)
		}
		steady.Close()
	})
}

// TestUnwantedBody: who is refused before the body was read cannot hold the
// connection with it.
func TestUnwantedBody(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	atBounds(t, 5, refuse, func(t *testing.T, l *line) {
		conn := l.dial()
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		if d := silence(conn); d > 2*leaveTime {
			t.Error("the connection is held for", d)
		}
	})
}

// TestSlowReader: an answer has to be read, and may take as long as it is.
func TestSlowReader(t *testing.T) {
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 8192)); err != nil {
				return
			}
		}
	}
	atBounds(t, 5, endless, func(t *testing.T, l *line) {
		conn := l.dial()
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		in := bufio.NewReader(conn)
		for range 100 { // slowly, for longer than any bound
			if _, err := in.Discard(8192); err != nil {
				t.Fatal("a slow reader is cut off:", err)
			}
			time.Sleep(stallTime / 2)
		}
		time.Sleep(stallTime + time.Second)
		if n, _ := io.Copy(io.Discard, in); n > 1<<20 {
			t.Error("the answer goes on to nobody")
		}
	})
}

// TestConnectionsAreBounded: more wait; one that is idle gives way, one that is
// at work does not.
func TestConnectionsAreBounded(t *testing.T) {
	release := make(chan struct{})
	work := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/work" {
			<-release
		}
	}
	t.Run("", func(t *testing.T) {
		atBounds(t, 2, work, func(t *testing.T, l *line) {
			release = make(chan struct{}) // of the bubble
			ask := func(conn net.Conn, path string) *bufio.Reader {
				go func() { _, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n") }()
				return bufio.NewReader(conn)
			}
			answered := func(in *bufio.Reader) bool {
				resp, err := http.ReadResponse(in, nil)
				return err == nil && resp.StatusCode == http.StatusOK
			}
			first, second := l.dial(), l.dial()
			defer first.Close()
			defer second.Close()
			if !answered(ask(first, "/")) {
				t.Fatal("the first is not served")
			}
			busy := ask(second, "/work")
			synctest.Wait()

			start := time.Now()
			third := l.dial() // the first is idle and gives way
			defer third.Close()
			if !answered(ask(third, "/")) {
				t.Error("the third is not served")
			}
			if _, err := first.Read(make([]byte, 1)); err == nil {
				t.Error("the first is still there")
			}

			inThird := ask(third, "/work")
			synctest.Wait()
			fourth := l.dial()
			defer fourth.Close()
			served := make(chan bool, 1)
			go func() { served <- answered(ask(fourth, "/")) }()
			synctest.Wait()
			select {
			case <-served:
				t.Error("a fourth was served while two are at work")
			default:
			}
			close(release)
			if !answered(busy) || !answered(inThird) {
				t.Error("one at work was cut off")
			}
			if !<-served { // one of the two is idle now
				t.Error("the fourth is not served")
			}
			if d := time.Since(start); d != 0 {
				t.Error("room was made only after", d)
			}
		})
	})
}
