package smtpclient

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"mailout/internal/mta"
)

// Options say how one session is opened.
type Options struct {
	// Hello is the argument of EHLO: a fully qualified host name, or an
	// address literal. Open refuses anything else (RFC 5321 section 4.1.4).
	Hello string
	// Host is the server's name as the route knows it, for SNI and
	// verification; a trailing dot is dropped.
	Host string
	// LMTP speaks that instead of SMTP (RFC 2033): LHLO, and an answer for each
	// recipient after the content.
	LMTP bool
	// TLS says how much of it is demanded.
	TLS mta.TLSRequirement
	// ServerName is told to the server (SNI) where it is not Host.
	ServerName string
	// Match says, with TLSDANE, whether the server's certificates, its own first,
	// are the right ones; its error is an mta.TLSFault. nil: none are.
	Match func(chain []*x509.Certificate, now time.Time) error
	// Audit verifies the server as TLSRequired does, where that is not demanded:
	// Session.Audit tells what came out, and nothing else changes.
	Audit bool
	// MinVersion is the lowest version of TLS that is spoken (tls.VersionTLS13);
	// at least, and by default, TLS 1.2.
	MinVersion uint16
	// RootCAs verify the server when TLS is required; nil means the system's.
	RootCAs *x509.CertPool
	// SessionCache, when set, resumes TLS sessions. It must be for servers with the
	// same RootCAs alone, since a resumed session is not verified anew. It is not
	// used with Certificate, TLSDANE or Audit: who resumes a session shows no
	// certificate.
	SessionCache tls.ClientSessionCache
	// Certificate is shown when the server asks for one; nil: none.
	Certificate *mta.Certificate
	// NeedESMTP forbids the fallback to HELO: the mail to be sent, or AUTH,
	// needs an extension. Where TLS is insisted on that forbids it by itself.
	NeedESMTP bool
	// ReplyTimeout caps the wait for every whole reply, the greeting and the
	// TLS handshake; 0 leaves those of RFC 5321 section 4.5.3.2.
	ReplyTimeout time.Duration
	// Observe, when set, is told of every reply as it comes. It must be quick.
	Observe func(Step)
}

// Step is one thing that happened in a session.
type Step struct {
	Stage   mta.Stage
	Command string    // what was sent, without its line end; empty for the greeting and the content
	Reply   mta.Reply // zero when the step is not a reply
	TLS     mta.TLSFacts
}

// How long each answer is waited for (RFC 5321 section 4.5.3.2).
const (
	waitBanner  = 5 * time.Minute
	waitCommand = 5 * time.Minute // EHLO, MAIL, RCPT, RSET
	waitData    = 2 * time.Minute
	waitBlock   = 3 * time.Minute // writing one block of content
	waitFinal   = 10 * time.Minute
	waitTLS     = 1 * time.Minute // STARTTLS handshake, our own choice
	waitQuit    = 1 * time.Second // nothing depends on the answer (RFC 5321 section 4.1.1.10)
	// waitBroken is the wait for a last word of a peer to which nothing can
	// be written any more.
	waitBroken = 5 * time.Second
)

// Bounds of one flight: commands are written up to flightCommands or
// flightOctets, then all their replies are read before more are written. A
// server that does not read on until its replies are read so never blocks us
// while we write (RFC 2920 section 3.1).
const (
	flightCommands = 100
	flightOctets   = 4000
	// oneFlight is the largest content that goes together with its envelope
	// before any recipient is accepted; larger ones wait for the answers.
	oneFlight = 32 << 10
	// block is how much of a larger content is written at once.
	block = 32 << 10
	// staleAfter is the silence after which a session may have died: content
	// does not go with the envelope then, so that an EOF is never uncertain.
	staleAfter = 1 * time.Second
)

// cap limits d by ReplyTimeout.
func (o *Options) cap(d time.Duration) time.Duration {
	if o.ReplyTimeout > 0 {
		return min(d, o.ReplyTimeout)
	}
	return d
}
