package smtpd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"mailout/internal/mta"
)

// The time for what comes before SMTP. A peer that dawdles is dropped without
// a word: it is not yet in a state to read one.
const (
	handshakeTime = 30 * time.Second
	headerTime    = 10 * time.Second
)

// open does what comes before the greeting: the PROXY header of a balancer,
// then TLS where it is implicit.
func (s *session) open() error {
	if s.proxied {
		if err := s.proxyHeader(); err != nil {
			return err
		}
	}
	if s.set.TLS != nil && s.set.TLSMode == TLSImplicit {
		if err := s.handshake(); err != nil {
			return err
		}
	}
	if s.set.TrustedOnly && !s.set.trusts(s.peer) {
		s.server.counters.turnedAway.Add(1)
		s.out = append(s.out, replyTrustedOnly...)
		return errLimit
	}
	return nil
}

// startTLS obeys STARTTLS (RFC 3207 4). Whatever came before it may come from
// somebody else, so all of it is forgotten; what came behind it in clear text
// must not be taken for what the client says under TLS (CVE-2011-0411), and a
// client that does so is not one to go on with.
func (s *session) startTLS(arg []byte) error {
	switch {
	case !s.set.startTLS():
		return s.fault(replyNotOffered)
	case s.secure:
		return s.fault(replyHaveTLS)
	case len(arg) > 0:
		return s.fault(replyTLSArgument)
	case !s.set.ready():
		return s.say(replyTLSLater)
	case len(s.in.buffered()) > 0:
		s.server.counters.errors.Add(1)
		s.out = append(s.out, replyTLSPipelined...)
		return errLimit
	}
	s.reset()
	s.helo, s.extended, s.user = "", false, nil
	s.out = append(s.out, replyReadyTLS...)
	if err := s.flush(); err != nil {
		return err
	}
	if !s.set.startTLS() { // a reload took it away in this very moment
		return errors.New("TLS is off")
	}
	return s.handshake()
}

// handshake goes over to TLS. A failure ends the session.
func (s *session) handshake() error {
	if err := s.extend(handshakeTime); err != nil {
		return errors.New("stopping before TLS") // no goodbye: the peer waits for TLS
	}
	conn := tls.Server(s.conn, s.set.TLS)
	if err := conn.Handshake(); err != nil {
		s.server.counters.tlsFailed.Add(1)
		s.broken("a TLS handshake failed", err)
		return fmt.Errorf("TLS handshake: %v", err) // not %w: a time limit is no 421 here
	}
	s.server.counters.tls.Add(1)
	s.conn, s.secure = conn, true
	s.exporter = exporter(conn.ConnectionState())
	return nil
}

// exporter gives what SCRAM-SHA-256-PLUS binds to (RFC 9266). Clients of TLS 1.2
// mostly know tls-unique alone, which is broken and not taken here: to them PLUS
// is not offered, so that they do not take it and fail.
func exporter(state tls.ConnectionState) []byte {
	if state.Version < tls.VersionTLS13 {
		return nil
	}
	value, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil
	}
	return value
}

// broken tells the operator, now and then, of a connection that did not come
// as far as SMTP.
func (s *session) broken(what string, err error) {
	if s.server.stopping.Load() {
		return
	}
	s.server.openLog.Do(func() {
		s.server.log.Info(what, mta.KeyPeer, s.raw.RemoteAddr().String(), mta.KeyError, err)
	})
}

// proxyHeader reads the PROXY protocol's header, version 1 or 2, and makes its
// source the client. A balancer that speaks for itself (LOCAL: a health check)
// or does not know its client (UNKNOWN; the library tells no difference) leaves
// nobody, whom no network is trusted to hold.
func (s *session) proxyHeader() error {
	if err := s.extend(headerTime); err != nil {
		return err
	}
	in := bufio.NewReaderSize(s.conn, smallBuffer/2)
	h, err := proxyproto.Read(in)
	if err != nil {
		s.broken("a connection without the header that [[listen]] proxy demands was dropped", err)
		return fmt.Errorf("PROXY header: %v", err)
	}
	rest, _ := in.Peek(in.Buffered())
	s.in.w += copy(s.in.free(), rest)
	a, ok := h.SourceAddr.(*net.TCPAddr)
	if h.Command.IsLocal() || !ok {
		return nil
	}
	client := a.AddrPort().Addr().Unmap()
	if !client.IsValid() || s.server.adopt(s, client) {
		return nil
	}
	s.server.counters.turnedAway.Add(1)
	s.out = append(s.out, replyTooManyFromPeer...)
	return errLimit
}
