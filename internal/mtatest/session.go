package mtatest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Sizes of a session's buffers; a command line longer than readBuffer is a
// violation and ends the session.
const (
	readBuffer  = 32 << 10
	writeBuffer = 4 << 10
	keepData    = 1 << 20 // a larger content buffer is given back after its message
)

// session is one connection as the server sees it. Its goroutine is that of
// MX.ServeConn.
type session struct {
	mx     *MX
	number int64
	conn   net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	tls    *tls.ConnectionState

	left  bool // it counts as open no more
	helo  string
	esmtp bool
	user  string // who signed in
	count int    // messages accepted
	mails int    // MAIL commands accepted

	// the transaction
	open    bool // after MAIL
	from    string
	params  string
	to      []Recipient
	eight   bool // BODY=8BITMIME
	utf8    bool // SMTPUTF8
	chunked bool // a BDAT came
	broken  bool // a BDAT was refused: RSET must follow (RFC 3030 2)
	data    []byte
	large   bool // data went past the limit and is not complete
}

// errEnd ends a session without being a failure.
var errEnd = errors.New("session ends")

func newSession(m *MX, conn net.Conn) *session {
	return &session{
		mx: m, conn: conn, number: m.stats.sessions.Add(1),
		r: bufio.NewReaderSize(conn, readBuffer), w: bufio.NewWriterSize(conn, writeBuffer),
	}
}

// run speaks with the client until either side has enough. open is how many
// sessions there are now.
func (s *session) run(open int64) {
	err := s.greet(open)
	for err == nil {
		var line string
		if line, err = s.readLine(); err == nil {
			err = s.command(line)
		}
	}
	if !errors.Is(err, errEnd) && !errors.Is(err, io.EOF) {
		s.event(StageClose, "", "", err.Error())
	} else {
		s.event(StageClose, "", "", "")
	}
	_ = s.w.Flush() // the client may be gone
}

func (s *session) greet(open int64) error {
	if s.mx.cfg.ImplicitTLS {
		if err := s.handshake(); err != nil {
			return err
		}
	}
	greeting := "220 " + s.mx.cfg.Hostname + " ESMTP test receiver"
	if limit := s.mx.cfg.MaxSessions; limit > 0 && open > int64(limit) {
		greeting = "421 4.3.2 too many connections"
	}
	host := s.conn.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ok, err := s.answer(StageConnect, host, "", greeting)
	if err == nil && !ok { // refused: we close, as many do after 421 and 554
		return s.flushThen(errEnd)
	}
	return err
}

// readLine reads a command. Replies are sent before the session waits.
func (s *session) readLine() (string, error) {
	if s.r.Buffered() == 0 {
		if err := s.w.Flush(); err != nil {
			return "", err
		}
	}
	line, err := s.r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			s.violate("a command line of more than %d octets", readBuffer)
			return "", s.flushThen(errEnd)
		}
		if len(line) > 0 {
			s.violate("the connection ended inside a command line %q", line)
		}
		return "", err
	}
	text := line[:len(line)-1]
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	} else {
		s.violate("a command line that ends in a bare LF: %q", text)
	}
	if bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, 0) >= 0 {
		s.violate("a command line with a bare CR or NUL: %q", text)
	}
	return string(text), nil
}

func (s *session) command(line string) error {
	verb, rest := splitVerb(line)
	if verb != "BDAT" && s.r.Buffered() > 0 && !s.mayPipeline(verb) {
		s.violate("commands behind %s before its reply", verb)
	}
	switch verb {
	case "EHLO", "HELO":
		return s.hello(verb, rest, line)
	case "STARTTLS":
		return s.startTLS(line)
	case "AUTH":
		return s.auth(rest)
	case "MAIL":
		return s.mail(rest, line)
	case "RCPT":
		return s.rcpt(rest, line)
	case "DATA":
		return s.dataCommand(line)
	case "BDAT":
		return s.bdat(rest, line)
	case "RSET":
		ok, err := s.answer(StageRset, "", line, "250 2.0.0 forgotten")
		if ok {
			s.reset()
		}
		return err
	case "QUIT":
		if _, err := s.answer(StageQuit, "", line, "221 2.0.0 "+s.mx.cfg.Hostname+" closes"); err != nil {
			return err
		}
		return s.flushThen(errEnd)
	case "NOOP", "HELP", "VRFY":
		_, err := s.answer(StageNoop, line, line, "250 2.0.0 ok")
		return err
	}
	s.violate("an unknown command: %q", line)
	_, err := s.answer(StageNoop, line, line, "500 5.5.1 unknown command")
	return err
}

// mayPipeline says whether more may follow verb in one write (RFC 2920 3.1).
func (s *session) mayPipeline(verb string) bool {
	if !s.esmtp || !s.mx.offers("PIPELINING") {
		return false
	}
	return verb == "MAIL" || verb == "RCPT" || verb == "RSET"
}

func (s *session) hello(verb, name, line string) error {
	switch {
	case name == "" || strings.ContainsAny(name, " _") || strings.HasSuffix(name, "."):
		s.violate("not a host name in %q", line) // RFC 5321 4.1.1.1
	case !strings.HasPrefix(name, "[") && !strings.Contains(name, "."):
		s.violate("not a fully qualified name in %q", line)
	}
	usual := "250 " + s.mx.cfg.Hostname
	if verb == "EHLO" {
		usual = s.mx.ehlo[0]
		if s.tls != nil {
			usual = s.mx.ehlo[1]
		}
	}
	ok, err := s.answer(StageHelo, name, line, usual)
	if ok {
		s.reset()
		s.helo, s.esmtp = name, verb == "EHLO"
	}
	return err
}

func (s *session) startTLS(line string) error {
	switch {
	case s.mx.cfg.TLS == nil || s.tls != nil || !s.esmtp:
		s.violate("STARTTLS although it is not offered")
		return s.say(StageStartTLS, line, "503 5.5.1 not now")
	case s.r.Buffered() > 0:
		s.violate("octets behind STARTTLS before its reply")
	}
	ok, err := s.answer(StageStartTLS, "", line, "220 2.0.0 go ahead")
	if err != nil || !ok {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	return s.handshake()
}

// handshake starts TLS; what was known of the client is forgotten
// (RFC 3207 4.2).
func (s *session) handshake() error {
	if a, ok := s.script().find(StageHandshake, "", ""); ok {
		if handled, err := s.act(a, StageHandshake, ""); err != nil {
			return err
		} else if handled { // octets that are no handshake
			return s.flushThen(errEnd)
		}
	}
	conn := tls.Server(s.conn, s.mx.cfg.TLS)
	if err := conn.Handshake(); err != nil {
		s.event(StageHandshake, "", "", "failed: "+err.Error())
		return errEnd
	}
	state := conn.ConnectionState()
	s.conn, s.tls = conn, &state
	s.r, s.w = bufio.NewReaderSize(conn, readBuffer), bufio.NewWriterSize(conn, writeBuffer)
	s.helo, s.esmtp = "", false
	s.reset()
	s.mx.stats.tls.Add(1)
	s.event(StageHandshake, "", "", tls.VersionName(state.Version)+" "+tls.CipherSuiteName(state.CipherSuite))
	return nil
}

func (s *session) script() *script { return s.mx.script.Load() }

// answer replies to a command as the script says, or as usual. ok reports
// that the reply was positive, so that the command takes effect.
func (s *session) answer(stage Stage, arg, line, usual string) (ok bool, err error) {
	a, found := s.script().find(stage, arg, s.from)
	if !found {
		return usual[0] < '4', s.say(stage, line, usual)
	}
	handled, err := s.act(a, stage, line)
	if err != nil || handled {
		return err == nil && positive(a.Raw), err
	}
	reply := usual
	if a.Reply != "" {
		reply = formatReply(a.Reply)
	}
	if err := s.say(stage, line, reply); err != nil {
		return false, err
	}
	if a.After != "" {
		if _, err := s.w.WriteString(a.After); err != nil {
			return false, err
		}
	}
	if a.Drop || strings.HasPrefix(reply, "421") {
		return false, s.drop(a)
	}
	return reply[0] < '4', nil
}

// positive reports whether raw octets begin like a positive reply.
func positive(raw string) bool { return raw != "" && (raw[0] == '2' || raw[0] == '3') }

// act does what an action asks for besides an ordinary reply. handled reports
// that no reply is to follow.
func (s *session) act(a Action, stage Stage, line string) (handled bool, err error) {
	if a.Takeover != nil {
		if err := s.w.Flush(); err != nil {
			return true, err
		}
		pending, _ := s.r.Peek(s.r.Buffered())
		s.event(stage, line, "", "taken over")
		a.Takeover(s.conn, pending)
		return true, errEnd
	}
	if a.Delay > 0 {
		if err := s.pause(a.Delay); err != nil {
			return true, err
		}
	}
	switch {
	case a.Hang:
		s.event(stage, line, "", "never answered")
		return true, s.hang()
	case a.Raw != "":
		s.event(stage, line, "", "raw octets")
		if _, err := s.w.WriteString(a.Raw); err != nil {
			return true, err
		}
		if a.Drop {
			return true, s.drop(a)
		}
		return true, nil
	case a.Drop && a.Reply == "":
		s.event(stage, line, "", "dropped")
		return true, s.drop(a)
	}
	return false, nil
}

// drop closes the connection after what was written.
func (s *session) drop(a Action) error {
	if a.Reset {
		err := s.flushThen(errEnd)
		if c, ok := s.rawConn().(interface{ SetLinger(int) error }); ok {
			_ = c.SetLinger(0) // an ordinary close otherwise
		}
		return err
	}
	return s.flushThen(errEnd)
}

func (s *session) rawConn() net.Conn {
	if c, ok := s.conn.(*tls.Conn); ok {
		return c.NetConn()
	}
	return s.conn
}

// leave takes the session off those that are open.
func (s *session) leave() {
	if !s.left {
		s.left = true
		s.mx.stats.open.Add(-1)
	}
}

// flushThen sends what is written and returns then, or the error of sending. A
// session that ends counts no more when its last word goes out: a client that has
// read it may connect anew.
func (s *session) flushThen(then error) error {
	if errors.Is(then, errEnd) {
		s.leave()
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	return then
}

// hang reads and throws away until the connection ends.
func (s *session) hang() error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, s.r); err != nil {
		return err
	}
	return errEnd
}

// pause sends the replies so far and waits; Stop ends it.
func (s *session) pause(d time.Duration) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.mx.done:
		return errEnd
	}
}

// say writes a reply: a line without CRLF, or formatted already.
func (s *session) say(stage Stage, line, reply string) error {
	if s.mx.cfg.OnEvent != nil {
		first, _, _ := strings.Cut(reply, "\r\n")
		s.event(stage, line, first, "")
	}
	if _, err := s.w.WriteString(reply); err != nil {
		return err
	}
	if strings.HasSuffix(reply, "\r\n") {
		return nil
	}
	_, err := s.w.WriteString("\r\n")
	return err
}

func (s *session) event(stage Stage, line, reply, note string) {
	if s.mx.cfg.OnEvent == nil {
		return
	}
	s.mx.cfg.OnEvent(Event{
		Session: s.number, Local: s.conn.LocalAddr(), Remote: s.conn.RemoteAddr(),
		Stage: stage, Line: line, Reply: reply, Note: note,
	})
}

func (s *session) violate(format string, args ...any) {
	s.mx.Violate("session "+strconv.FormatInt(s.number, 10)+": "+format, args...)
}

// reset forgets the transaction.
func (s *session) reset() {
	s.open, s.from, s.params, s.to = false, "", "", nil
	s.eight, s.utf8, s.chunked, s.broken, s.large = false, false, false, false, false
	if cap(s.data) > keepData {
		s.data = nil
	}
	s.data = s.data[:0]
}
