package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taken is a message that the fake intake has accepted.
type taken struct {
	request *submit.Request
	content string
}

// intake is a fake submit.Acceptor: it keeps messages, and fails where told.
type intake struct {
	// fail holds the error of "check", "begin", "write" and "commit".
	fail map[string]error
	// committing, when set, is called in Commit before it succeeds.
	committing func(context.Context) error

	mu       sync.Mutex
	messages []taken
	drafts   int // begun
	ended    int // committed or aborted
}

func (a *intake) Check(context.Context, *submit.Request) error { return a.fail["check"] }

func (a *intake) Begin(_ context.Context, r *submit.Request) (submit.Draft, error) {
	if err := a.fail["begin"]; err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drafts++
	return &draft{intake: a, request: r}, nil
}

func (a *intake) taken() []taken {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.messages
}

type draft struct {
	intake  *intake
	request *submit.Request
	content bytes.Buffer
	over    bool
}

func (d *draft) Write(p []byte) (int, error) {
	if d.over {
		panic("Write to a draft that has ended")
	}
	if err := d.intake.fail["write"]; err != nil {
		return 0, err
	}
	return d.content.Write(p)
}

func (d *draft) end() {
	if !d.over {
		d.over = true
		d.intake.ended++
	}
}

func (d *draft) Commit(ctx context.Context) (mta.ID, error) {
	if d.over {
		panic("Commit of a draft that has ended")
	}
	if d.intake.committing != nil {
		if err := d.intake.committing(ctx); err != nil {
			d.Abort()
			return mta.ID{}, err
		}
	}
	d.intake.mu.Lock()
	defer d.intake.mu.Unlock()
	d.end()
	if err := d.intake.fail["commit"]; err != nil {
		return mta.ID{}, err
	}
	d.intake.messages = append(d.intake.messages, taken{d.request, d.content.String()})
	return mta.NewID(time.Unix(0, 0), [10]byte{9: byte(len(d.intake.messages))}), nil
}

func (d *draft) Abort() {
	d.intake.mu.Lock()
	defer d.intake.mu.Unlock()
	d.end()
}

// listener hands out the server's ends of pipes.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25}
}

// pipe is a connection that comes from an address.
type pipe struct {
	net.Conn
	from netip.Addr
}

func (p pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.from, 4711)) }

// dial connects to a server through its listener.
func (l *listener) dial(t testing.TB, from string) *peer {
	t.Helper()
	client, server := net.Pipe()
	select {
	case l.conns <- pipe{server, netip.MustParseAddr(from)}:
	case <-l.closed:
		t.Fatal("the listener is closed")
	}
	p := &peer{t: t, conn: client, lines: make(chan string, 1<<16)}
	go p.read()
	return p
}

// peer is the client's end, with what came in as lines.
type peer struct {
	t     testing.TB
	conn  net.Conn
	lines chan string
}

func (p *peer) read() {
	defer close(p.lines)
	br := bufio.NewReader(p.conn)
	for {
		line, err := br.ReadString('\n')
		if line != "" {
			p.lines <- line
		}
		if err != nil {
			return
		}
	}
}

// send writes raw octets. A server that has gone away is seen in the replies.
func (p *peer) send(raw string) { p.conn.Write([]byte(raw)) }

// next gives the next line without CRLF; ok is false when the server has
// closed. Nothing within a minute of the bubble's time fails the test.
func (p *peer) next() (line string, ok bool) {
	p.t.Helper()
	select {
	case line, ok = <-p.lines:
	case <-time.After(time.Minute):
		p.t.Fatal("no reply")
	}
	if !ok {
		return "", false
	}
	text, crlf := strings.CutSuffix(line, "\r\n")
	if !crlf || strings.ContainsAny(text, "\r\n\x00") || len(line) > smtp.MaxReplyLine {
		p.t.Fatalf("a malformed reply line: %q", line)
	}
	return text, true
}

// want reads one line for each pattern; "*" at a pattern's end stands for anything.
func (p *peer) want(patterns ...string) {
	p.t.Helper()
	for _, pattern := range patterns {
		got, ok := p.next()
		if !ok {
			p.t.Fatalf("the server closed; want %q", pattern)
		}
		if !matches(pattern, got) {
			p.t.Fatalf("reply %q; want %q", got, pattern)
		}
	}
}

func (p *peer) wantClosed() {
	p.t.Helper()
	if got, ok := p.next(); ok {
		p.t.Fatalf("reply %q; want the connection closed", got)
	}
}

func matches(pattern, s string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, start)
	}
	return pattern == s
}

// hello reads the greeting and says EHLO.
func (p *peer) hello() {
	p.t.Helper()
	p.want("220 *")
	p.send("EHLO client.example\r\n")
	for {
		line, _ := p.next()
		if strings.HasPrefix(line, "250 ") {
			return
		}
		if !strings.HasPrefix(line, "250-") {
			p.t.Fatalf("EHLO: %q", line)
		}
	}
}

// trustedPeer is an address in the networks that testSettings trusts.
const trustedPeer = "127.0.0.1"

func testSettings() Settings {
	return Settings{
		Hostname:   "mx.example.com",
		Postmaster: "postmaster@example.com",
		Trusted:    []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fe80::/10")},
	}
}

// start runs a server over pipes for the test.
func start(t testing.TB, set Settings, a *intake) (*Server, *listener) {
	t.Helper()
	l := newListener()
	s := New(Options{Listener: l, Acceptor: a, Settings: set})
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, l
}

// stopNow ends a server and checks that every draft has ended.
func stopNow(t testing.TB, s *Server, a *intake) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if a.drafts != a.ended {
		t.Errorf("%d drafts begun, %d ended", a.drafts, a.ended)
	}
}

// refusal makes a *submit.Refusal of a reply's text.
func refusal(s string) error {
	r, err := smtp.ParseReply(s)
	if err != nil {
		return errors.New(s)
	}
	return &submit.Refusal{Reply: r}
}

// describe is a message in one line, for dialogues.
func describe(m taken) string {
	var b strings.Builder
	e := m.request.Envelope
	fmt.Fprintf(&b, "%s from=<%s>", m.request.Origin.Protocol, e.Sender)
	for _, r := range m.request.Recipients {
		fmt.Fprintf(&b, " to=<%s>", r.Address)
		if r.Notify != mta.NotifyDefault {
			fmt.Fprintf(&b, ",notify=%d", r.Notify)
		}
		if r.ORcpt != "" {
			fmt.Fprintf(&b, ",orcpt=%s", r.ORcpt)
		}
	}
	if e.EnvID != "" {
		fmt.Fprintf(&b, " envid=%s", e.EnvID)
	}
	if e.Ret != mta.RetDefault {
		fmt.Fprintf(&b, " ret=%d", e.Ret)
	}
	if !m.request.NotBefore.IsZero() {
		fmt.Fprintf(&b, " release=%s", m.request.NotBefore.UTC().Format(time.RFC3339))
	}
	if e.SMTPUTF8 {
		b.WriteString(" utf8")
	}
	if e.Body8Bit {
		b.WriteString(" 8bit")
	}
	if m.request.User != nil {
		fmt.Fprintf(&b, " user=%s", m.request.Origin.User)
	}
	if m.request.Stream != "" {
		fmt.Fprintf(&b, " stream=%s", m.request.Stream)
	}
	if m.request.DeclaredSize != 0 {
		fmt.Fprintf(&b, " size=%d", m.request.DeclaredSize)
	}
	fmt.Fprintf(&b, " %q", m.content)
	return b.String()
}
