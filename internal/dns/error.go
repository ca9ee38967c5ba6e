package dns

import (
	"errors"
	"strconv"
	"time"
)

// Kind says why there is no answer.
type Kind uint8

// The kinds of failure. Only the first three are facts about the name; the
// others say that nobody knows.
const (
	// NXDomain: the name does not exist (RFC 2308 2.1).
	NXDomain Kind = iota + 1
	// NoData: the name exists, without records of the type (RFC 2308 2.2).
	NoData
	// BadName: the text is no name that can be asked for: an empty or over-long
	// label, more than 253 octets, or octets other than letters, digits, "-"
	// and "_". No server was asked.
	BadName
	// Temporary: SERVFAIL, REFUSED, no answer in time, a broken answer, a CNAME
	// loop, or the caller gave up.
	Temporary
	// Bogus: signatures are wrong or missing. They were checked here, or a
	// validating server said so by an extended error (RFC 8914 4.7 to 4.13);
	// servers that do not send these say SERVFAIL, which is Temporary. Both mean
	// "ask again later".
	Bogus
)

var kindNames = [...]string{"unknown", "no such domain", "no such record", "not a domain name", "no answer", "DNSSEC validation failed"}

// String gives the kind's words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

// Error is the one error of this package.
type Error struct {
	Kind   Kind
	Name   string // asked for, without a trailing dot
	Type   string // "MX", "A", …
	Server string // the server that said so last, "192.0.2.1:53"; empty when none was asked
	Text   string // what exactly: "SERVFAIL", "no answer within 5s"; empty when Kind says it all
	// Secure reports that a denial (NXDomain, NoData) is authenticated.
	Secure bool
	// Expires is when the failure is forgotten and a server is asked again.
	Expires time.Time
	Err     error // the cause in Go's terms; may be nil

	here bool // the signatures were found wrong here: another server may have better ones
	had  bool // and there were records
}

// Error gives one sentence: what was asked, what came back, from whom.
func (e *Error) Error() string {
	name := e.Name
	if e.Kind == BadName {
		name = strconv.Quote(name) // it may hold anything
	}
	s := "look-up of " + e.Type + " for " + name + ": " + e.Kind.String()
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Server != "" {
		s += " (server " + e.Server + ")"
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether nobody knows, so that asking later may help.
func (e *Error) Temporary() bool { return e.Kind == Temporary || e.Kind == Bogus }

// AsError gives the *Error inside err. Any other error becomes a Temporary
// one: unknown means temporary. It gives nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Temporary, Text: err.Error(), Err: err}
}
