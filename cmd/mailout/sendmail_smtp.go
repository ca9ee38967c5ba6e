package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/smtpd"
)

// speakSMTP is -bs: the SMTP door itself on standard input and output, with the
// road of this command behind it in the place of intake. Whoever may run the
// command may send, as without -bs.
func (s *sendmail) speakSMTP() error {
	conn := newStdio(s.Stdin, s.Stdout)
	self := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	server := smtpd.New(smtpd.Options{
		Listener: newOnce(conn, net.TCPAddrFromAddrPort(self)), Acceptor: &smtpRoad{s},
		Settings: smtpd.Settings{
			Hostname: s.config.Hostname, Postmaster: s.config.Postmaster, LineEnds: submit.RepairBare, Stream: s.options.stream,
			Trusted: []netip.Prefix{netip.PrefixFrom(self.Addr(), 32)},
			Limits:  smtpd.Limits{MessageSize: s.config.Limits.MessageSize, Recipients: s.config.Limits.Recipients},
		},
	})
	if err := server.Start(context.Background()); err != nil {
		return fail(exitSoftware, "%v", err)
	}
	<-conn.closed
	if err := server.Stop(context.Background()); err != nil {
		return fail(exitSoftware, "%v", err)
	}
	if conn.outErr != nil {
		return fail(exitIO, "a reply could not be written: %v", conn.outErr)
	}
	return nil
}

// smtpRoad stands where intake stands behind the door.
type smtpRoad struct{ s *sendmail }

var _ submit.Acceptor = (*smtpRoad)(nil)

// Check implements submit.Acceptor.
func (a *smtpRoad) Check(_ context.Context, r *submit.Request) error {
	if limit := a.s.config.Limits.MessageSize; r.DeclaredSize > limit {
		return a.tooLarge()
	}
	return nil
}

func (a *smtpRoad) tooLarge() *submit.Refusal {
	return &submit.Refusal{Field: "content", Reply: mta.Reply{
		Code: 552, Enhanced: mta.Enhanced{Class: 5, Subject: 3, Detail: 4},
		Text: fmt.Sprintf("the message is larger than %d octets", a.s.config.Limits.MessageSize),
	}}
}

// Begin implements submit.Acceptor.
func (a *smtpRoad) Begin(ctx context.Context, r *submit.Request) (submit.Draft, error) {
	if err := a.Check(ctx, r); err != nil {
		return nil, err
	}
	return &smtpDraft{road: a, request: r, content: newKept(a.s.config.Limits.MessageSize)}, nil
}

// smtpDraft is one message of -bs.
type smtpDraft struct {
	road    *smtpRoad
	request *submit.Request
	content *kept
}

// Write implements submit.Draft.
func (d *smtpDraft) Write(p []byte) (int, error) {
	n, err := d.content.Write(p)
	if errors.Is(err, errTooLarge) {
		err = d.road.tooLarge()
	}
	return n, err
}

// Commit implements submit.Draft.
func (d *smtpDraft) Commit(context.Context) (mta.ID, error) {
	s := d.road.s
	id, err := newID()
	if err != nil {
		return mta.ID{}, refusalOf(err)
	}
	r := *d.request
	r.ID = id
	r.Origin = mta.Origin{Door: "sendmail", Protocol: "LOCAL", User: s.account.login}
	w := &whole{content: d.content, skip: mboxLine(d.content.mem)}
	h, _, err := header.Parse(d.content.mem[w.skip:], header.Limits{})
	if err == nil {
		w.added, err = s.missing(h, r.Envelope.Sender)
	}
	if err != nil {
		return mta.ID{}, refusalOf(fail(exitData, "%v", err))
	}
	if _, err := s.hand(&r, w); err != nil {
		return mta.ID{}, refusalOf(err)
	}
	return id, nil
}

// Abort implements submit.Draft.
func (d *smtpDraft) Abort() { d.content.Close() }

// refusalOf turns what would be an exit status into a reply.
func refusalOf(err error) *submit.Refusal {
	reply := mta.Reply{Code: 554, Enhanced: mta.Enhanced{Class: 5, Subject: 6}, Text: err.Error()}
	var exit *exitError
	if errors.As(err, &exit) {
		switch exit.Status {
		case exitTemporary, exitNoPermission, exitConfig, exitIO: // the operator's to mend
			reply.Code, reply.Enhanced = 451, mta.Enhanced{Class: 4, Subject: 3}
		}
	}
	return &submit.Refusal{Reply: reply, Err: err}
}

// stdio is standard input and output as a connection. Input comes through a
// pipe, for its deadlines; it ends with the input, while replies still go out.
type stdio struct {
	net.Conn // the pipe
	out      io.Writer
	outErr   error
	once     sync.Once
	closed   chan struct{}
}

func newStdio(in io.Reader, out io.Writer) *stdio {
	near, far := net.Pipe()
	// The goroutine ends with the input, or with the process.
	go func() {
		io.Copy(far, newLineEnds(in)) //nolint:errcheck // the session sees the end
		far.Close()
	}()
	return &stdio{Conn: near, out: out, closed: make(chan struct{})}
}

// lineEnds makes CRLF of LF in the input of programs that write LF alone, as
// the first line shows. A program whose first line ends with CRLF gets nothing
// mended: what it sends may be somebody else's text, with an LF in it that is
// to end no line and no message.
type lineEnds struct {
	in     *bufio.Reader
	judged bool
	bare   bool
	out    []byte
	last   byte // before what is read next
}

func newLineEnds(in io.Reader) *lineEnds { return &lineEnds{in: bufio.NewReader(in)} }

// Read implements io.Reader.
func (l *lineEnds) Read(p []byte) (int, error) {
	if len(l.out) == 0 {
		if _, err := l.in.Peek(1); err != nil {
			return 0, err
		}
		l.mend(l.in.Buffered())
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

// mend takes what is buffered.
func (l *lineEnds) mend(n int) {
	piece, _ := l.in.Peek(n)
	l.out = l.out[:0]
	for _, c := range piece {
		if c == '\n' && !l.judged {
			l.judged, l.bare = true, l.last != '\r'
		}
		if c == '\n' && l.bare && l.last != '\r' {
			l.out = append(l.out, '\r')
		}
		l.out = append(l.out, c)
		l.last = c
	}
	l.in.Discard(n) //nolint:errcheck // they are buffered
}

// Write implements net.Conn.
func (c *stdio) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	if err != nil && c.outErr == nil {
		c.outErr = err
	}
	return n, err
}

// SetDeadline implements net.Conn: output has none.
func (c *stdio) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *stdio) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn.
func (c *stdio) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// once is a listener with one connection.
type once struct {
	conn  chan net.Conn
	addr  net.Addr
	close func()
	ended chan struct{}
}

func newOnce(conn net.Conn, addr net.Addr) *once {
	l := &once{conn: make(chan net.Conn, 1), addr: addr, ended: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.ended) })
	l.conn <- addressed{conn, addr}
	return l
}

// Accept implements net.Listener.
func (l *once) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *once) Close() error { l.close(); return nil }

// Addr implements net.Listener.
func (l *once) Addr() net.Addr { return l.addr }

// addressed gives a connection the address that its door trusts.
type addressed struct {
	net.Conn
	addr net.Addr
}

// RemoteAddr implements net.Conn.
func (c addressed) RemoteAddr() net.Addr { return c.addr }

// LocalAddr implements net.Conn.
func (c addressed) LocalAddr() net.Addr { return c.addr }
