package smtpd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// maxPending bounds the replies that wait for the input to run dry. A client
// that pipelines more commands than this has replies for gets its replies on
// the way; if it does not read them the write deadline ends the session.
const maxPending = 16 << 10

// farewellTime bounds the writing of a last reply and the reading of what the
// peer still sends, so that the reply is not lost in a reset.
const (
	farewellTime   = 2 * time.Second
	farewellOctets = 256 << 10
)

// Ways in which a session ends. errStopping and errTimeout say goodbye with
// 421 first; io errors cannot.
var (
	errQuit     = errors.New("QUIT")
	errStopping = errors.New("stopping")
	errTimeout  = errors.New("time limit")
	errLimit    = errors.New("session limit") // the 421 or 5xx is written already
)

// session is one connection. Its fields belong to its goroutine except raw,
// whose Close and deadlines others may use, peer, which the server's lock
// guards while it changes, and mu.
type session struct {
	server  *Server
	raw     net.Conn   // as accepted
	conn    net.Conn   // what the session speaks over: raw, or TLS over it
	peer    netip.Addr // the client; invalid when it is not known
	proxied bool       // a PROXY header comes first
	set     *settings  // of the current transaction

	secure   bool          // under TLS
	exporter []byte        // of TLS 1.3, for channel binding; else empty
	user     *account.User // who has signed in; nil: nobody
	denials  int           // failed sign-ins

	in       input
	skipping bool      // inside a command line that is too long
	out      []byte    // replies not yet written
	deadline time.Time // as last set on conn, for reading and writing

	helo     string // what the peer called itself; empty before HELO and EHLO
	extended bool   // it said EHLO
	errors   int    // since the last accepted message, as Limits.Errors
	commands int    // since the last accepted message
	tx       transaction

	mu struct {
		sync.Mutex
		// busy is true while a draft is open: Stop lets the session be.
		busy bool
	}
}

func newSession(s *Server, conn net.Conn, peer netip.Addr, set *settings) *session {
	return &session{server: s, raw: conn, conn: conn, peer: peer, set: set}
}

// run is the session's goroutine.
func (s *session) run() {
	defer s.server.leave(s)
	defer func() { s.conn.Close() }() // as it is then
	s.in.init()
	defer s.in.release()
	defer s.forget()
	defer func() {
		if p := recover(); p != nil {
			s.server.counters.internal.Add(1)
			s.server.log.Error("an SMTP session broke off; this is a bug", mta.KeyPeer, s.peer, mta.KeyError, fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	s.farewell(s.serve())
}

// serve greets and obeys until the session ends, and says why it did.
func (s *session) serve() error {
	if err := s.open(); err != nil {
		return err
	}
	s.out = append(s.out, s.set.greeting...)
	for {
		if s.server.stopping.Load() && !s.tx.open() {
			return errStopping
		}
		line, err := s.readLine()
		if err == nil {
			err = s.command(line)
		} else if errors.Is(err, errLineTooLong) {
			err = s.fault(replyLineTooLong)
		}
		if err != nil {
			return err
		}
		if len(s.out) > maxPending {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

// farewell says goodbye where one is due, writes what is pending and ends the
// connection so that the peer sees it.
func (s *session) farewell(why error) {
	switch {
	case errors.Is(why, errStopping):
		s.out = append(s.out, replyStopping...)
	case errors.Is(why, errTimeout):
		s.server.counters.timedOut.Add(1)
		s.out = append(s.out, replyTimeout...)
	case !errors.Is(why, errQuit) && !errors.Is(why, errLimit):
		return // the connection is gone
	}
	s.forget()
	s.conn.SetDeadline(time.Now().Add(farewellTime))
	if _, err := s.conn.Write(s.out); err != nil {
		return
	}
	// Closing with unread input would reset the connection, and the peer could
	// lose the reply it has not read: drain for a moment.
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || errors.Is(why, errQuit) && len(s.in.buffered()) == 0 {
		return
	}
	if half.CloseWrite() == nil {
		io.Copy(io.Discard, io.LimitReader(s.conn, farewellOctets))
	}
}

// interrupt wakes a session that waits for a command, for Stop.
func (s *session) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.busy {
		s.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// setBusy marks that a draft is open. It fails when the server is stopping.
func (s *session) setBusy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server.stopping.Load() {
		return false
	}
	s.mu.busy = true
	return true
}

func (s *session) setIdle() {
	s.mu.Lock()
	s.mu.busy = false
	s.mu.Unlock()
}

// fill waits at most limit for more input, after writing the pending replies:
// so they go out exactly when the input has run dry (RFC 2920 3.2).
func (s *session) fill(limit time.Duration) error {
	if err := s.extend(limit); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	n, err := s.conn.Read(s.in.free())
	s.in.w += n
	if n > 0 || err == nil {
		return nil // an error beside octets comes again with the next read
	}
	return s.ioError(err)
}

// extend sets the deadline limit from now, but no later than the message's.
// Setting one costs about as much as reading a short line, so a deadline that
// lies within a sixty-fourth of the wanted one stays.
func (s *session) extend(limit time.Duration) error {
	want := time.Now().Add(limit)
	if end := s.tx.deadline; !end.IsZero() && end.Before(want) {
		want = end
	}
	if !want.Before(s.deadline) && want.Sub(s.deadline) <= limit/64 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server.stopping.Load() && !s.mu.busy {
		return errStopping // and interrupt's deadline is not to be undone
	}
	s.deadline = want
	return s.conn.SetDeadline(want)
}

// flush writes the pending replies.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > maxPending {
		s.out = nil
	}
	return s.ioError(err)
}

// ioError tells time limits and Stop's interruption from a lost connection.
func (s *session) ioError(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if s.server.stopping.Load() && !s.tx.open() {
		return errStopping
	}
	return errTimeout
}

// readLine gives the next command line with its line end. It is valid until
// the next read. The whole line has one time limit: a peer that sends it an
// octet at a time would else hold its connection for days.
func (s *session) readLine() ([]byte, error) {
	s.in.shrink()
	limit := s.set.Limits.CommandTime
	var end time.Time
	for {
		line, ok, err := s.in.line(s.set.Limits.Line, &s.skipping)
		if ok || err != nil {
			return line, err
		}
		if end.IsZero() {
			end = time.Now().Add(limit)
		} else if limit = time.Until(end); limit <= 0 {
			return nil, errTimeout
		}
		if err := s.fill(limit); err != nil {
			return nil, err
		}
	}
}

// command obeys one command line.
func (s *session) command(line []byte) error {
	if s.commands++; s.commands > s.set.Limits.Commands {
		s.out = append(s.out, replyTooManyCommands...)
		return errLimit
	}
	line, ascii, ok := cleanLine(line, s.set.LineEnds)
	if !ok {
		return s.fault(replyBadLine)
	}
	verb, arg := smtp.ParseCommand(line)
	if !ascii {
		switch {
		case verb == smtp.VerbRcpt && s.tx.request != nil && !s.tx.utf8():
			// A refused address like any other, not an error of the session.
			s.tx.refused++
			return s.say(replyNeedsUTF8)
		case verb != smtp.VerbMail && verb != smtp.VerbRcpt:
			return s.fault(replyEightBit)
		}
	}
	switch verb {
	case smtp.VerbHelo, smtp.VerbEhlo:
		return s.hello(string(arg), verb == smtp.VerbEhlo)
	case smtp.VerbMail:
		return s.mail(string(arg))
	case smtp.VerbRcpt:
		return s.rcpt(string(arg))
	case smtp.VerbData:
		return s.data(arg)
	case smtp.VerbBdat:
		return s.bdat(string(arg))
	case smtp.VerbQuit:
		s.out = append(s.out, replyBye...)
		return errQuit
	}
	return s.minor(verb, arg, line)
}

// minor obeys the commands that no message needs.
func (s *session) minor(verb smtp.Verb, arg, line []byte) error {
	switch verb {
	case smtp.VerbRset:
		s.reset()
		return s.say(replyOK)
	case smtp.VerbNoop:
		return s.say(replyOK)
	case smtp.VerbVrfy:
		return s.say(replyVrfy)
	case smtp.VerbHelp:
		return s.say(replyHelp)
	case smtp.VerbStartTLS:
		return s.startTLS(arg)
	case smtp.VerbAuth:
		defer clear(arg) // maybe a password, in a buffer that goes on to others
		return s.auth(string(arg))
	case smtp.VerbExpn:
		return s.fault(replyNotOffered)
	}
	if isHTTP(line) {
		// A browser or proxy that was pointed at this port: what follows is
		// content of somebody else's choice, not commands.
		s.server.counters.errors.Add(1)
		s.out = append(s.out, replyNotSMTP...)
		return errLimit
	}
	return s.fault(replyUnknown)
}

// say appends a reply.
func (s *session) say(reply string) error {
	s.out = append(s.out, reply...)
	return nil
}

// fault appends a reply that counts as an error of the peer.
func (s *session) fault(reply string) error {
	s.out = append(s.out, reply...)
	s.server.counters.errors.Add(1)
	if s.errors++; s.errors >= s.set.Limits.Errors {
		s.out = append(s.out, replyTooManyErrors...)
		return errLimit
	}
	return nil
}

// answer appends a reply in full form.
func (s *session) answer(r mta.Reply) {
	s.out = smtp.AppendReply(s.out, r, s.tx.utf8())
}

// syntax answers an error of the grammar. Faults of addresses are not counted
// as the peer's: its list may have bad ones.
func (s *session) syntax(err error) error {
	var e *smtp.SyntaxError
	if !errors.As(err, &e) {
		return fmt.Errorf("parsing a command: %w", err)
	}
	if e.Enhanced.Subject == 1 || e.Enhanced.Subject == 6 {
		s.answer(e.Reply())
		return nil
	}
	return s.fault(string(smtp.AppendReply(nil, e.Reply(), false)))
}

// hello obeys HELO and EHLO (RFC 5321 4.1.1.1). Any word is taken: old devices
// send short names, underscores and bare addresses.
func (s *session) hello(arg string, extended bool) error {
	name, err := smtp.ParseHelo(arg)
	if err != nil {
		return s.syntax(err)
	}
	s.reset()
	s.helo, s.extended = name, extended
	switch {
	case extended && len(s.exporter) > 0:
		s.out = append(s.out, s.set.ehloBound...)
	case extended && s.secure:
		s.out = append(s.out, s.set.ehloTLS...)
	case extended && !s.set.ready():
		s.out = append(s.out, s.set.ehloEarly...)
	case extended:
		s.out = append(s.out, s.set.ehlo...)
	default:
		s.out = append(s.out, s.set.helo...)
	}
	if extended {
		s.out = endOfEhlo(s.out, time.Now())
	}
	return nil
}

// refuse answers an error of intake: a *submit.Refusal exactly, anything else
// as our own fault.
func (s *session) refuse(err error) {
	var r *submit.Refusal
	if errors.As(err, &r) && r.Reply.Code >= 400 && r.Reply.Code < 600 {
		s.server.counters.refused.Add(1)
		if r.Err != nil {
			s.logRefusal(slog.LevelWarn, r)
		} else {
			s.logRefusal(slog.LevelInfo, r)
		}
		s.answer(r.Reply)
		return
	}
	s.server.counters.internal.Add(1)
	if s.server.refusalLog.Allow() {
		s.server.log.Error("a message could not be taken", mta.KeyPeer, s.peer, mta.KeyError, err)
	} else {
		s.server.unlogged.Add(1)
	}
	s.out = append(s.out, replyInternal...)
}

// logRefusal tells the operator of a refused message, or counts it for the next
// line.
func (s *session) logRefusal(level slog.Level, r *submit.Refusal) {
	if !s.server.refusalLog.Allow() {
		s.server.unlogged.Add(1)
		return
	}
	attrs := []slog.Attr{slog.Any(mta.KeyPeer, s.peer), slog.String(mta.KeyReply, r.Reply.String())}
	if r.Err != nil {
		attrs = append(attrs, slog.Any(mta.KeyError, r.Err))
	}
	if n := s.server.unlogged.Swap(0); n > 0 {
		attrs = append(attrs, slog.Int64("refused_before_and_not_logged", n))
	}
	s.server.log.LogAttrs(s.server.base, level, "message refused", attrs...)
}
