package smtpd

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"mailout/internal/account"
	"mailout/internal/submit"
)

// Options make a Server. They do not change while it runs; Settings may, with
// Reconfigure.
type Options struct {
	// Address is the TCP address to bind, "127.0.0.1:25"; unused with Listener.
	Address string
	// Listener, when set, is used instead of binding Address; the Server closes it.
	Listener net.Listener
	// Acceptor is intake.
	Acceptor submit.Acceptor
	// Logger gets the operator's lines; nil discards them.
	Logger *slog.Logger
	// Settings at the start.
	Settings Settings
}

// Settings are what may change while the Server runs. A session goes over to
// new settings at its next transaction.
type Settings struct {
	Hostname   string          // our name in the greeting and the replies to HELO and EHLO
	Postmaster string          // canonical address that RCPT TO:<postmaster> stands for; empty refuses it
	Trusted    []netip.Prefix  // networks that may send without AUTH
	LineEnds   submit.LineEnds // bare CR and LF in commands and content
	Stream     string          // of messages taken here; empty: mta.DefaultStream
	Limits     Limits

	TLS     *tls.Config // our certificate and versions; nil: clear text only
	TLSMode TLSMode     // how TLS begins; unused without TLS
	// TLSReady reports whether TLS has a certificate yet; nil: it has. Until then
	// STARTTLS is answered 454, and so is MAIL where TLS is required.
	TLSReady func() bool
	Users    *account.Book  // who may sign in; nil or empty: AUTH is not offered
	Auth     AuthMode       // where it is
	Proxies  []netip.Prefix // balancers whose connections begin with a PROXY header
	// TrustedOnly turns away everybody whom Trusted does not name, signed in or
	// not: for listeners with versions of TLS that are broken.
	TrustedOnly bool
	// Everybody may send here, to the recipients that the Acceptor takes
	// (submit.RecipientChecker): a door for what comes back.
	Everybody bool
}

// TLSMode says how TLS begins.
type TLSMode uint8

// The ways to TLS.
const (
	TLSOffered  TLSMode = iota // by STARTTLS, if the client likes (RFC 3207)
	TLSRequired                // by STARTTLS, and no mail without it
	TLSImplicit                // at once (RFC 8314 3.3)
)

// AuthMode says where AUTH is offered.
type AuthMode uint8

// The places of AUTH.
const (
	AuthTLS    AuthMode = iota // in sessions under TLS only
	AuthAlways                 // in clear text too
	AuthNever                  // nowhere
)

// Limits bound what a peer may ask for. Zero values mean the defaults given.
type Limits struct {
	// Line is the longest command line in octets with its CRLF: default 2048,
	// at least 512 (RFC 5321 4.5.3.1.4), at most 4096.
	Line int
	// MessageSize is the largest content in octets; default 50 MB (50,000,000).
	MessageSize int64
	// Recipients of one message; default 1000, at least 100 (RFC 5321
	// 4.5.3.1.8). More are answered 452 4.5.3, so that the client sends them
	// in a further transaction.
	Recipients int
	// Connections at once; default 1000. More are answered 421.
	Connections int
	// PeerConnections at once from one address; default: as Connections.
	PeerConnections int
	// Commands since the last accepted message; default 10,000, then 421. A
	// RCPT that adds a recipient is none, so that a message may have more
	// recipients than this.
	Commands int
	// Errors since the last accepted message: commands that are unknown,
	// malformed, out of order or not permitted; default 20, then 421. A refused
	// address is none, so that a list with bad addresses gets through.
	Errors int
	// CommandTime is the wait for the next command; default 5 min (RFC 5321
	// 4.5.3.2.7).
	CommandTime time.Duration
	// DataTime is the wait for the next piece of content; default 3 min.
	DataTime time.Duration
	// MessageTime is the time from MAIL to the last octet; default 1 h.
	MessageTime time.Duration
}

const (
	minLine       = 512
	maxLine       = smallBuffer
	minRecipients = 100
)

// withDefaults fills the zero values and holds the bounds.
func (l Limits) withDefaults() Limits {
	l.Line = min(max(orDefault(l.Line, 2048), minLine), maxLine)
	l.MessageSize = orDefault(l.MessageSize, 50_000_000)
	l.Recipients = max(orDefault(l.Recipients, 1000), minRecipients)
	l.Connections = orDefault(l.Connections, 1000)
	l.PeerConnections = orDefault(l.PeerConnections, l.Connections)
	l.Commands = orDefault(l.Commands, 10_000)
	l.Errors = orDefault(l.Errors, 20)
	l.CommandTime = orDefault(l.CommandTime, 5*time.Minute)
	l.DataTime = orDefault(l.DataTime, 3*time.Minute)
	l.MessageTime = orDefault(l.MessageTime, time.Hour)
	return l
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// settings is one immutable version of Settings with what follows from it.
type settings struct {
	Settings
	greeting  []byte // 220 line
	ehlo      []byte // whole reply to EHLO
	ehloTLS   []byte // the same under TLS
	ehloBound []byte // and under TLS that a sign-in can be bound to
	ehloEarly []byte // and in clear text while TLS is not ready
	helo      []byte
}

func newSettings(in Settings) *settings {
	in.Limits = in.Limits.withDefaults()
	in.Trusted = append([]netip.Prefix(nil), in.Trusted...)
	s := &settings{Settings: in}
	s.greeting = []byte("220 " + in.Hostname + " ESMTP mailout\r\n")
	s.helo = []byte("250 " + in.Hostname + "\r\n")
	s.Proxies = slices.Clone(in.Proxies)
	s.ehlo, s.ehloTLS, s.ehloBound = s.ehloReply(false, false), s.ehloReply(true, false), s.ehloReply(true, true)
	s.ehloEarly = bytes.Replace(s.ehlo, []byte("250-STARTTLS\r\n"), nil, 1)
	return s
}

// auth reports whether AUTH is offered in a session, under TLS or not.
func (s *settings) auth(secure bool) bool {
	return s.Users != nil && (s.Auth == AuthAlways || s.Auth == AuthTLS && secure) && s.Users.Len() > 0
}

// startTLS reports whether STARTTLS is offered in clear text.
func (s *settings) startTLS() bool { return s.TLS != nil && s.TLSMode != TLSImplicit }

// ready reports whether a handshake can succeed.
func (s *settings) ready() bool { return s.TLSReady == nil || s.TLSReady() }

// trusts reports whether addr may relay through us.
func (s *settings) trusts(addr netip.Addr) bool { return within(s.Trusted, addr) }

// proxied reports whether connections from addr begin with a PROXY header.
func (s *settings) proxied(addr netip.Addr) bool { return within(s.Proxies, addr) }

func within(networks []netip.Prefix, addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.WithZone("")
	for _, p := range networks {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
