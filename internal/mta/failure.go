package mta

// Stage is the step of an attempt at which something happened.
type Stage uint8

// The stages in the order in which an attempt passes them.
const (
	StageRoute Stage = iota // choosing hosts, DNS look-ups included
	StageConnect
	StageBanner
	StageEhlo
	StageTLS
	StageAuth
	StageMail
	StageRcpt
	StageData // the DATA command, and the content up to its last octet
	StageFinal
	StageReset
	StageQuit
)

var stageNames = [...]string{"route", "connect", "banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "final", "reset", "quit"}

// String gives the stage's word.
func (s Stage) String() string { return stageNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Stage) UnmarshalText(b []byte) error {
	for i, n := range stageNames {
		if n == string(b) {
			*s = Stage(i)
			return nil
		}
	}
	return &UnknownWordError{Kind: "stage", Word: string(b)}
}

// Cause says what kind of failure it was when no reply tells.
type Cause uint8

// The causes.
const (
	CauseReply         Cause = iota // the peer answered; see Reply
	CauseIO                         // the connection broke or was refused
	CauseTimeout                    // no answer in time
	CauseProtocol                   // the peer broke the protocol: over-long reply, bytes before the handshake, …
	CauseTLS                        // handshake or verification failed
	CauseNeed                       // the peer lacks an extension the message needs (SMTPUTF8, REQUIRETLS, SIZE too small)
	CauseNoDomain                   // NXDOMAIN of the recipient's domain
	CauseNoAddress                  // the domain exists, but neither MX nor address
	CauseNullMX                     // RFC 7505
	CauseLoop                       // we are the best mail server for it (RFC 5321 5.1)
	CauseForbiddenAddr              // every address is loopback, private or ourselves
	CauseDNS                        // SERVFAIL, time-out or bogus: nobody knows
	CauseLocal                      // our disk, configuration, memory, file descriptors, network or a shutdown
	CauseRouter                     // a router's name does not resolve or its credentials are refused
	CauseRule                       // a rule of the operator's refuses the mail
	CauseSource                     // the source cannot be used: its address is not on this machine, or its proxy fails
	CauseSuspended                  // nothing is sent to the site for a while, because of what it said
	CauseTLSPolicy                  // a policy about TLS forbids the host, or cannot be read
)

var causeNames = [...]string{"reply", "io", "timeout", "protocol", "tls", "need", "no domain", "no address", "null mx", "loop", "forbidden address", "dns", "local", "router", "rule", "source", "suspended", "tls policy"}

// String gives the cause's words.
func (c Cause) String() string { return causeNames[c] }

// Failure is the one typed error of the road out: at which stage, why, with
// which reply. What it means for mail is decided by transport/trouble.go
// alone.
type Failure struct {
	Stage Stage
	Cause Cause
	Reply Reply  // with CauseReply
	Text  string // what exactly, for people: "connect to 192.0.2.1:25: connection refused"
	// Sent reports that the last octet of the content may have reached the
	// peer, so that it may have accepted the message: with a lost reply the
	// result is uncertain.
	Sent bool
	// Each reports that the reply to the content is about one recipient alone, as
	// with LMTP.
	Each bool
	// NeedEnhanced, with CauseNeed, is the status to report (5.6.7, 5.3.4, …).
	NeedEnhanced Enhanced
	Err          error // the cause in Go's terms; may be nil
	// RetryAfter, with CauseSuspended, is in how many seconds mail may go again.
	RetryAfter int
}

// Error implements error.
func (f *Failure) Error() string {
	s := f.Stage.String() + ": "
	switch {
	case f.Cause == CauseReply:
		return s + f.Reply.String()
	case f.Text != "":
		return s + f.Text
	case f.Err != nil:
		return s + f.Err.Error()
	}
	return s + f.Cause.String()
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }
