package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// wire is the connection with its deadlines and buffers. A deadline covers a
// whole reply and is set only when a read really has to wait for the network.
type wire struct {
	raw  net.Conn // as given; Abort closes it
	conn net.Conn // what is spoken over: raw, or TLS over it
	br   *bufio.Reader
	out  *buffer // what is to be written; nil while nothing is

	wait  time.Duration // for the reply being read
	armed bool          // its deadline is set

	aborted atomic.Bool // by Abort, from any goroutine
	mute    error       // why nothing can be written any more
	broken  bool        // the session is not to be used again
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 2048) }}

// buffer collects one flight. It is taken from the pool for a flight and given
// back when that is written: a session that waits holds none.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 8<<10)} }}

// maxPooled is the largest buffer that is kept for other sessions.
const maxPooled = 128 << 10

func (b *buffer) free() {
	if cap(b.b) <= maxPooled {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

func (w *wire) init(conn net.Conn) {
	w.raw, w.conn = conn, conn
	w.br = readers.Get().(*bufio.Reader)
	w.br.Reset(w)
}

// Read implements io.Reader for the buffered reader alone.
func (w *wire) Read(p []byte) (int, error) {
	if !w.armed {
		if err := w.conn.SetReadDeadline(time.Now().Add(w.wait)); err != nil {
			return 0, err
		}
		w.armed = true
	}
	return w.conn.Read(p)
}

// buf is the flight being collected.
func (w *wire) buf() *buffer {
	if w.out == nil {
		w.out = buffers.Get().(*buffer)
	}
	return w.out
}

func (w *wire) add(s string) {
	b := w.buf()
	b.b = append(b.b, s...)
}

// flush writes the flight. An error makes the wire mute: the peer may still
// have said why it went, so reading goes on, but not for long.
func (w *wire) flush(wait time.Duration) error {
	if w.out == nil {
		return w.mute
	}
	out := w.out
	w.out = nil
	defer out.free()
	if w.mute != nil {
		return w.mute
	}
	err := w.conn.SetWriteDeadline(time.Now().Add(wait))
	if err == nil {
		_, err = w.conn.Write(out.b)
	}
	if err != nil {
		w.mute, w.broken = err, true
	}
	return err
}

// reply reads one reply. After 421 the session is broken, since the server
// closes it (RFC 5321 section 3.8).
func (w *wire) reply(wait time.Duration) (mta.Reply, error) {
	if w.mute != nil {
		wait = min(wait, waitBroken)
	}
	w.wait, w.armed = wait, false
	r, err := smtp.ReadReply(w.br)
	if err != nil {
		w.broken = true
		if w.mute != nil && !errors.As(err, new(*smtp.ProtocolError)) {
			err = w.mute // the first thing that went wrong says more than EOF
		}
		return r, err
	}
	if r.Code == 421 {
		w.broken = true
	}
	return r, nil
}

// Abort ends the session at once, from any goroutine: whatever it waits for
// fails with CauseLocal.
func (w *wire) Abort() {
	w.aborted.Store(true)
	w.raw.Close()
}

// Close closes the connection without QUIT.
func (w *wire) Close() {
	w.broken = true
	w.raw.Close()
	if w.out != nil {
		w.out.free()
		w.out = nil
	}
	if w.br != nil {
		w.br.Reset(nil)
		readers.Put(w.br)
		w.br = nil
	}
}

// failure states the facts of an I/O error at stage.
func (w *wire) failure(stage mta.Stage, err error) *mta.Failure {
	w.broken = true
	f := &mta.Failure{Stage: stage, Err: err}
	var protocol *smtp.ProtocolError
	var timeout net.Error
	switch {
	case w.aborted.Load():
		f.Cause, f.Text = mta.CauseLocal, "mailout is stopping"
	case errors.As(err, &protocol):
		f.Cause, f.Text = mta.CauseProtocol, protocol.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		f.Cause, f.Text = mta.CauseTimeout, "no answer to "+doing(stage)+" in time"
	case errors.Is(err, io.EOF):
		f.Cause, f.Text = mta.CauseIO, "connection closed at "+doing(stage)
	default:
		f.Cause, f.Text = mta.CauseIO, "connection lost at "+doing(stage)+": "+Words(err)
	}
	return f
}

// Words is the innermost text of a network error, harmless to print: the
// addresses and calls that Go puts around it are said elsewhere, or mean
// nothing to a sender who reads them in a report.
func Words(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return smtp.Harmless(err.Error())
}

// doing names a stage for people.
func doing(s mta.Stage) string {
	switch s {
	case mta.StageConnect, mta.StageBanner:
		return "the greeting"
	case mta.StageData:
		return "DATA"
	case mta.StageFinal:
		return "the end of the message"
	case mta.StageTLS:
		return "STARTTLS"
	case mta.StageEhlo:
		return "EHLO"
	case mta.StageReset:
		return "RSET"
	case mta.StageMail:
		return "MAIL"
	case mta.StageRcpt:
		return "RCPT"
	}
	return s.String()
}
