package mtatest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// MXConfig is how a receiving server behaves. The zero value is a friendly
// server without TLS.
type MXConfig struct {
	// Hostname is the name in the greeting; default "mx.test.example".
	Hostname string
	// Certificate, when set, makes the server offer STARTTLS.
	Certificate *tls.Certificate
	// TLS, when set, is used instead of a configuration made from Certificate.
	TLS *tls.Config
	// ImplicitTLS starts TLS before the greeting (RFC 8314 3.3).
	ImplicitTLS bool
	// Without names extensions that are not offered: PIPELINING, 8BITMIME,
	// SMTPUTF8, DSN, CHUNKING, SIZE, ENHANCEDSTATUSCODES.
	Without []string
	// With are further lines of the EHLO reply: "LIMITS MAILMAX=5".
	With []string
	// Size is the limit on a message in octets, offered with SIZE; 0 means
	// 64 MB, offered as "SIZE".
	Size int64
	// MaxRecipients makes further RCPTs of a transaction get 452 4.5.3; 0: no limit.
	MaxRecipients int
	// MaxMessages makes further MAILs of a session get 421 4.7.0 and closes; 0: no limit.
	MaxMessages int
	// MaxSessions makes further connections get 421 4.3.2; 0: no limit.
	MaxSessions int
	// Users, when not nil, are the only recipients that exist (whole address,
	// lower case); others get 550 5.1.1.
	Users []string
	// SASL, when set, is offered under TLS, and mail without it gets 530.
	SASL *SASL
	// Rules are the script; see MX.SetRules.
	Rules []Rule
	// Discard keeps no messages, only counts (and Remember).
	Discard bool
	// Remember names a header field whose value is counted for each message
	// accepted; see MX.Seen.
	Remember string
	// OnMessage sees each accepted message before the reply is sent; in
	// Discard mode its Data is valid only during the call.
	OnMessage func(*Message)
	// OnEvent sees each step of each session, from the session's goroutine.
	OnEvent func(Event)
}

// defaultMaxSize bounds a message when MXConfig.Size does not.
const defaultMaxSize = 64 << 20

// maxViolations bounds how many breaches of the protocol an MX remembers;
// further ones are counted.
const maxViolations = 1000

// MX is a receiving mail server for tests. Fill in the configuration, then
// Listen, Serve or ServeConn. It keeps every accepted message until Reset,
// unless MXConfig.Discard.
type MX struct {
	cfg      MXConfig
	hidden   map[string]bool
	ehlo     [2]string // the reply to EHLO without a greeting line, in clear and under TLS
	script   atomic.Pointer[script]
	sequence atomic.Int64
	stats    struct {
		sessions, open, maxOpen, messages, recipients, octets, tls, violations atomic.Int64
	}
	mu struct {
		sync.Mutex
		messages   []*Message
		violations []string
		seen       map[string]int
		conns      map[net.Conn]struct{}
		listeners  []net.Listener
		stopped    bool
		news       chan struct{} // closed and removed at the next message; nil while nobody waits
	}
	done chan struct{}
	wg   sync.WaitGroup
}

// Recipient is one accepted RCPT TO.
type Recipient struct {
	Address string // without angle brackets
	Params  string // what followed, as given: "NOTIFY=SUCCESS ORCPT=rfc822;a@b"
}

// Message is one message that an MX accepted.
type Message struct {
	Seq           int64 // counts from 1 over the server
	Session       int64 // the session's number, from 1
	InSession     int   // the message's number in its session, from 1
	Local, Remote net.Addr
	Helo          string
	ESMTP         bool                 // EHLO, not HELO
	TLS           *tls.ConnectionState // nil in clear text
	From          string               // without angle brackets; empty for <>
	Params        string               // what followed the return path, as given
	To            []Recipient
	User          string // who signed in; empty: nobody
	Data          []byte // dot-unstuffed, byte for byte
	Chunked       bool   // came by BDAT
	Reply         string // the final reply, also when it was lost on purpose
}

// Header gives the value of the first header field of that name, unfolded
// lines joined, without surrounding white space; empty when there is none.
func (m *Message) Header(name string) string { return headerValue(m.Data, name) }

// Event is one step of a session as the server saw it.
type Event struct {
	Session       int64
	Local, Remote net.Addr
	Stage         Stage
	Line          string // the command as received; empty at connect, handshake and dot
	Reply         string // first line of the reply, with the code; empty when none was sent
	Note          string // what else is worth telling: TLS version, octets, "dropped"
}

// Stats are an MX's counts so far.
type Stats struct {
	Sessions   int64 // connections taken
	Open       int64 // connections now
	MaxOpen    int64 // the most at once
	Messages   int64 // accepted
	Recipients int64 // of accepted messages
	Octets     int64 // of accepted messages
	TLS        int64 // sessions with a finished handshake
	Violations int64 // breaches of the protocol by clients
}

// NewMX makes a server.
func NewMX(cfg MXConfig) *MX {
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.test.example"
	}
	if cfg.TLS == nil && cfg.Certificate != nil {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{*cfg.Certificate}, MinVersion: tls.VersionTLS12}
	}
	m := &MX{cfg: cfg, hidden: make(map[string]bool), done: make(chan struct{})}
	for _, w := range cfg.Without {
		m.hidden[strings.ToUpper(w)] = true
	}
	m.ehlo = [2]string{m.capabilities(false), m.capabilities(true)}
	m.mu.seen = make(map[string]int)
	m.mu.conns = make(map[net.Conn]struct{})
	m.SetRules(cfg.Rules...)
	return m
}

// capabilities is the EHLO reply (RFC 5321 4.1.1.1).
func (m *MX) capabilities(secure bool) string {
	lines := []string{m.cfg.Hostname}
	for _, w := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "ENHANCEDSTATUSCODES"} {
		if !m.hidden[w] {
			lines = append(lines, w)
		}
	}
	if !m.hidden["SIZE"] {
		if m.cfg.Size > 0 {
			lines = append(lines, fmt.Sprintf("SIZE %d", m.cfg.Size))
		} else {
			lines = append(lines, "SIZE")
		}
	}
	if m.cfg.TLS != nil && !secure {
		lines = append(lines, "STARTTLS")
	}
	if m.cfg.SASL != nil && secure {
		lines = append(lines, "AUTH "+strings.Join(m.cfg.SASL.Mechanisms, " "))
	}
	return formatReply("250 " + strings.Join(append(lines, m.cfg.With...), "\n"))
}

func (m *MX) offers(word string) bool { return !m.hidden[word] }

// SetRules replaces the script, its counts and its greylist, for all sessions
// at once.
func (m *MX) SetRules(rules ...Rule) { m.script.Store(newScript(rules)) }

// Listen serves TCP at addr ("127.0.0.1:0" for a free port) and returns where.
func (m *MX) Listen(addr string) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("receiving server %s: %w", m.cfg.Hostname, err)
	}
	m.Serve(l)
	return l.Addr(), nil
}

// Serve takes connections from l in a goroutine of its own, until Stop or
// until l is closed.
func (m *MX) Serve(l net.Listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.stopped {
		l.Close()
		return
	}
	m.mu.listeners = append(m.mu.listeners, l)
	m.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				m.Violate("accept on %s: %v", l.Addr(), err)
				return
			}
			m.wg.Go(func() { m.ServeConn(conn) })
		}
	})
}

// ServeConn serves one connection and returns when it has ended.
func (m *MX) ServeConn(conn net.Conn) {
	m.mu.Lock()
	if m.mu.stopped {
		m.mu.Unlock()
		conn.Close()
		return
	}
	m.mu.conns[conn] = struct{}{}
	open := m.stats.open.Add(1)
	m.stats.maxOpen.Store(max(open, m.stats.maxOpen.Load()))
	m.mu.Unlock()
	s := newSession(m, conn)
	s.run(open)
	conn.Close()
	m.mu.Lock()
	delete(m.mu.conns, conn)
	m.mu.Unlock()
	s.leave()
}

// Dial connects to this server in memory, whatever the address.
func (m *MX) Dial(_ context.Context, network, address string) (net.Conn, error) {
	client, server := Pipe(textAddr{network, "client"}, textAddr{network, address})
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.stopped {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: client.RemoteAddr(), Err: syscall.ECONNREFUSED}
	}
	m.wg.Go(func() { m.ServeConn(server) })
	return client, nil
}

// Stop closes the listeners and all connections, and waits.
func (m *MX) Stop() {
	m.end(func(c net.Conn) { c.Close() })
}

// Finish is Stop that first lets each session send the replies it owes; what
// is still on its way in is cut off.
func (m *MX) Finish() {
	m.end(func(c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // fails only on a closed connection
}

func (m *MX) end(each func(net.Conn)) {
	m.mu.Lock()
	if !m.mu.stopped {
		m.mu.stopped = true
		close(m.done)
	}
	for _, l := range m.mu.listeners {
		l.Close()
	}
	for c := range m.mu.conns {
		each(c)
	}
	m.mu.Unlock()
	m.wg.Wait()
}

// Hostname is the name in the greeting.
func (m *MX) Hostname() string { return m.cfg.Hostname }

// Messages gives the accepted messages, in order.
func (m *MX) Messages() []*Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mu.messages)
}

// Seen gives how often each value of the field MXConfig.Remember came with an
// accepted message.
func (m *MX) Seen() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]int, len(m.mu.seen))
	for k, v := range m.mu.seen {
		out[k] = v
	}
	return out
}

// Reset forgets messages, violations and what Seen counts; Stats go on.
func (m *MX) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.messages, m.mu.violations = nil, nil
	m.mu.seen = make(map[string]int)
}

// Stats gives the counts so far.
func (m *MX) Stats() Stats {
	s := &m.stats
	return Stats{
		Sessions: s.sessions.Load(), Open: s.open.Load(), MaxOpen: s.maxOpen.Load(),
		Messages: s.messages.Load(), Recipients: s.recipients.Load(), Octets: s.octets.Load(),
		TLS: s.tls.Load(), Violations: s.violations.Load(),
	}
}

// Wait returns when n messages have been accepted since the server began, or
// with the context's error.
func (m *MX) Wait(ctx context.Context, n int64) error {
	for {
		m.mu.Lock()
		if m.mu.news == nil {
			m.mu.news = make(chan struct{})
		}
		news := m.mu.news
		m.mu.Unlock()
		if m.stats.messages.Load() >= n {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%s: %d of %d messages came: %w", m.cfg.Hostname, m.stats.messages.Load(), n, ctx.Err())
		}
	}
}

// Violations gives the breaches of the protocol by clients, at most the first
// 1,000. A correct client causes none.
func (m *MX) Violations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mu.violations)
}

// Violate notes a breach of the protocol.
func (m *MX) Violate(format string, args ...any) {
	m.stats.violations.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.violations) < maxViolations {
		m.mu.violations = append(m.mu.violations, fmt.Sprintf(format, args...))
	}
}

// keep takes a message: numbers it, counts it, shows it, stores it.
func (m *MX) keep(msg *Message) {
	m.stats.recipients.Add(int64(len(msg.To)))
	m.stats.octets.Add(int64(len(msg.Data)))
	if m.cfg.OnMessage != nil {
		m.cfg.OnMessage(msg)
	}
	value := ""
	if m.cfg.Remember != "" {
		value = msg.Header(m.cfg.Remember)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.Remember != "" {
		m.mu.seen[value]++
	}
	if !m.cfg.Discard {
		m.mu.messages = append(m.mu.messages, msg)
	}
	m.stats.messages.Add(1)
	if m.mu.news != nil {
		close(m.mu.news)
		m.mu.news = nil
	}
}
