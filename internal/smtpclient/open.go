package smtpclient

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Session is one SMTP session, greeted and ready for transactions. It belongs
// to one goroutine; only Abort may come from another.
type Session struct {
	wire
	opt      Options
	caps     smtp.Capabilities
	esmtp    bool
	secure   mta.TLSFacts
	verified bool
	audit    *mta.TLSFault // with Options.Audit: why the server is not authentic
	hello    mta.Reply
	tlsTime  time.Duration
	local    netip.Addr

	dirty    bool // a transaction is open at the server: RSET before MAIL
	messages int  // MAIL commands so far
	last     time.Time
	x        exchange // of the transaction in hand; kept for its memory
	dots     smtp.DotWriter
}

// Open begins a session on conn: greeting, EHLO (or HELO when EHLO is refused
// and nothing forbids it), TLS as Options demand. It owns conn: on failure it
// is closed. The end of ctx aborts it.
//
// A Failure with CauseTLS says that TLS itself failed; when it is optional the
// caller connects anew and passes TLSNone, because this connection is spoilt
// (trap 15).
func Open(ctx context.Context, conn net.Conn, opt Options) (*Session, *mta.Failure) {
	s := &Session{opt: opt}
	s.init(conn)
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		s.local = a.AddrPort().Addr().Unmap()
	}
	stop := context.AfterFunc(ctx, s.Abort)
	f := s.open(ctx)
	if !stop() && f == nil {
		f = s.failure(mta.StageEhlo, ctx.Err())
	}
	if f == nil {
		s.last = time.Now()
		return s, nil
	}
	cancelled(ctx, f)
	s.Quit()
	return nil, f
}

// cancelled makes a connection that broke because ctx ended a failure of ours,
// or of the time that the caller gave.
func cancelled(ctx context.Context, f *mta.Failure) {
	switch {
	case ctx.Err() == nil || f.Cause == mta.CauseReply || f.Cause == mta.CauseNeed || f.Cause == mta.CauseProtocol:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.Cause, f.Text = mta.CauseTimeout, "no session within the time given"
	default:
		f.Cause, f.Text = mta.CauseLocal, "mailout is stopping"
	}
}

func (s *Session) open(ctx context.Context) *mta.Failure {
	if !smtp.ValidHelo(s.opt.Hello) {
		return &mta.Failure{Stage: mta.StageEhlo, Cause: mta.CauseLocal, Text: "\"" + smtp.Harmless(s.opt.Hello) + "\" cannot be used as EHLO name: it must be a fully qualified host name or an address literal"}
	}
	s.opt.Host = strings.TrimSuffix(s.opt.Host, ".")
	if s.opt.TLS == mta.TLSImplicit {
		if f := s.handshake(ctx); f != nil {
			return f
		}
	}
	if f := s.greeting(); f != nil {
		return f
	}
	if f := s.ehlo(); f != nil {
		return f
	}
	switch s.opt.TLS {
	case mta.TLSNone, mta.TLSImplicit:
		return nil
	}
	return s.starttls(ctx)
}

// greeting reads the server's first word (RFC 5321 section 3.1).
func (s *Session) greeting() *mta.Failure {
	r, err := s.reply(s.opt.cap(waitBanner))
	if err != nil {
		return s.failure(mta.StageBanner, err)
	}
	s.observe(mta.StageBanner, "", r)
	if r.Code/100 != 2 {
		return refused(mta.StageBanner, r)
	}
	return nil
}

// ehlo introduces us, by HELO when the server does not know EHLO (RFC 5321
// section 3.2). What an earlier EHLO offered is forgotten first.
func (s *Session) ehlo() *mta.Failure {
	s.caps, s.esmtp = smtp.Capabilities{}, false
	hello := "EHLO "
	if s.opt.LMTP {
		hello = "LHLO " // RFC 2033 4.1
	}
	r, f := s.command(mta.StageEhlo, hello+s.opt.Hello)
	if f != nil {
		return f
	}
	if r.Code/100 == 2 {
		s.caps, s.esmtp, s.hello = smtp.ParseCapabilities(r), true, r
		return nil
	}
	demanded := s.opt.TLS.Insists() && !s.tls()
	if demanded && r.Code/100 == 5 {
		return &mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseNeed, Text: "EHLO was refused, so there is no STARTTLS: " + r.String()}
	}
	if r.Code/100 != 5 || demanded || s.opt.NeedESMTP || s.opt.LMTP || s.tls() {
		return refused(mta.StageEhlo, r)
	}
	if r, f = s.command(mta.StageEhlo, "HELO "+s.opt.Hello); f != nil {
		return f
	}
	if r.Code/100 != 2 {
		return refused(mta.StageEhlo, r)
	}
	// Whatever a reply to HELO names is no extension (trap 13).
	s.caps, s.hello = smtp.Capabilities{Host: smtp.GreetingHost(r)}, r
	return nil
}

// command sends one command and reads its reply.
func (s *Session) command(stage mta.Stage, line string) (mta.Reply, *mta.Failure) {
	if f := s.outOfStep(stage); f != nil {
		return mta.Reply{}, f
	}
	s.add(line)
	s.add("\r\n")
	wait := s.opt.cap(waitCommand)
	_ = s.flush(wait) // the reader tells what is left to tell
	r, err := s.reply(wait)
	if err != nil {
		return r, s.failure(stage, err)
	}
	s.observe(stage, line, r)
	return r, nil
}

// starttls secures the session when the server offers it (RFC 3207), or says
// why it cannot when that is required.
func (s *Session) starttls(ctx context.Context) *mta.Failure {
	required := s.opt.TLS.Insists()
	if !s.caps.StartTLS {
		if required {
			return &mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseNeed, Text: "STARTTLS is not offered"}
		}
		return nil
	}
	r, f := s.command(mta.StageTLS, "STARTTLS")
	if f != nil {
		return tlsFailure(f)
	}
	if r.Code != 220 {
		if required || s.broken {
			return refused(mta.StageTLS, r)
		}
		return nil // in clear, on the same connection (RFC 3207 section 4)
	}
	// Octets that came before the handshake are somebody else's (trap 14).
	if s.br.Buffered() > 0 {
		s.broken = true
		return &mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseProtocol, Text: "data came in clear between STARTTLS and the handshake"}
	}
	if f := s.handshake(ctx); f != nil {
		return f
	}
	if f := s.ehlo(); f != nil {
		// TLS 1.3 servers refuse us only after our side of the handshake.
		return tlsFailure(f)
	}
	return nil
}

// tlsFailure makes a connection that breaks around the handshake a failure of
// TLS; replies, protocol errors and our own stopping stay what they are.
func tlsFailure(f *mta.Failure) *mta.Failure {
	if f.Cause == mta.CauseIO || f.Cause == mta.CauseTimeout {
		f.Stage, f.Cause = mta.StageTLS, mta.CauseTLS
	}
	return f
}

func (s *Session) observe(stage mta.Stage, command string, r mta.Reply) {
	if s.opt.Observe != nil {
		s.opt.Observe(Step{Stage: stage, Command: command, Reply: r})
	}
}

func refused(stage mta.Stage, r mta.Reply) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: mta.CauseReply, Reply: r}
}

func (s *Session) tls() bool { return s.secure.Version != "" }

// Capabilities are what the server offers now.
func (s *Session) Capabilities() *smtp.Capabilities { return &s.caps }

// ESMTP reports whether EHLO was accepted.
func (s *Session) ESMTP() bool { return s.esmtp }

// TLS says how the session is protected; zero in clear text.
func (s *Session) TLS() mta.TLSFacts { return s.secure }

// Audit says, with Options.Audit, why the server is not authentic; nil: it is, or
// there is no TLS.
func (s *Session) Audit() *mta.TLSFault { return s.audit }

// TLSTime is how long the handshake took; 0 in clear text.
func (s *Session) TLSTime() time.Duration { return s.tlsTime }

// Hello is the last reply to EHLO or HELO: many servers name there the address
// that we come from.
func (s *Session) Hello() mta.Reply { return s.hello }

// Messages is how many transactions were begun.
func (s *Session) Messages() int { return s.messages }

// Local is the address we connected from; zero when the connection has none.
func (s *Session) Local() netip.Addr { return s.local }

// Usable reports whether another transaction may be begun: the session is in
// order, the server has not said more than it was asked, and its MAILMAX is not
// reached (RFC 9422).
func (s *Session) Usable() bool {
	return !s.broken && s.br.Buffered() == 0 && (s.caps.MailMax == 0 || s.messages < s.caps.MailMax)
}

// Broken reports whether the session has ended: the server closed it or broke
// the protocol.
func (s *Session) Broken() bool { return s.broken }

// Quit says good-bye, waits shortly for the answer, and closes. Nothing that
// happens here matters to mail (trap 7).
func (s *Session) Quit() {
	if !s.broken && !s.aborted.Load() {
		s.add("QUIT\r\n")
		wait := s.opt.cap(waitQuit)
		if s.flush(wait) == nil {
			_, _ = s.reply(wait)
		}
	}
	s.Close()
}
