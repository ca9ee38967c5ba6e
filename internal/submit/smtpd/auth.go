package smtpd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// maxDenials is how many failed sign-ins a session may have; the Book's Guard
// bounds those of an address.
const maxDenials = 3

// signInTime bounds the wait for the sign-ins of others that are being checked.
const signInTime = 30 * time.Second

// Ways in which an AUTH exchange ends without an answer about the password.
var (
	errAuthCancelled = errors.New("cancelled")
	errAuthBase64    = errors.New("not base64")
	errAuthForm      = errors.New("not a response of the mechanism")
)

// auth obeys AUTH (RFC 4954 4).
func (s *session) auth(arg string) error {
	word, initial, given := strings.Cut(arg, " ")
	switch {
	case s.set.Users == nil || s.set.Auth == AuthNever || s.set.Users.Len() == 0:
		return s.fault(replyNotOffered)
	case s.set.TLS != nil && s.set.TLSMode == TLSRequired && !s.secure:
		return s.fault(s.tlsFirst())
	case !s.set.auth(s.secure):
		return s.fault(replyAuthNeedsTLS)
	case !s.extended:
		return s.fault(replyAuthEhlo)
	case s.tx.request != nil:
		return s.fault(replyAuthNested)
	case s.user != nil:
		return s.fault(replyAuthTwice)
	}
	exchange := s.mechanism(word)
	if exchange == nil {
		return s.fault(replyAuthMechanism)
	}
	var first *[]byte
	if given {
		b, err := decodeResponse([]byte(strings.TrimLeft(initial, " ")), true)
		if err != nil {
			return s.authFailed("", err)
		}
		first = &b
	}
	user, name, err := exchange(first)
	if err != nil {
		return s.authFailed(name, err)
	}
	s.server.counters.signedIn.Add(1)
	s.user = user
	return s.say(replyAuthOK)
}

// exchange runs a mechanism; first is the initial response, nil when there is
// none. It gives the user, and the name that was claimed.
type exchange func(first *[]byte) (user *account.User, name string, err error)

// mechanism finds a mechanism that is offered.
func (s *session) mechanism(word string) exchange {
	switch strings.ToUpper(word) {
	case "PLAIN":
		return s.authPlain
	case "LOGIN":
		return s.authLogin
	case "SCRAM-SHA-256":
		if s.set.Users.SCRAM() {
			return s.authSCRAM(false)
		}
	case "SCRAM-SHA-256-PLUS":
		if s.set.Users.SCRAM() && len(s.exporter) > 0 {
			return s.authSCRAM(true)
		}
	}
	return nil
}

// authPlain is RFC 4616: identity NUL name NUL password.
func (s *session) authPlain(first *[]byte) (*account.User, string, error) {
	message, err := s.response(first, "")
	if err != nil {
		return nil, "", err
	}
	defer clear(message)
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || !utf8.Valid(message) {
		return nil, "", errAuthForm
	}
	name := string(parts[1])
	if len(parts[0]) > 0 && string(parts[0]) != name { // nobody acts for another
		return nil, name, account.ErrDenied
	}
	return s.signIn(name, parts[2])
}

// authLogin is LOGIN (draft-murchison-sasl-login): the name, then the password.
func (s *session) authLogin(first *[]byte) (*account.User, string, error) {
	name, err := s.response(first, "Username:")
	if err != nil {
		return nil, "", err
	}
	password, err := s.response(nil, "Password:")
	if err != nil {
		return nil, string(name), err
	}
	defer clear(password)
	return s.signIn(string(name), password)
}

func (s *session) signIn(name string, password []byte) (*account.User, string, error) {
	ctx, cancel := context.WithTimeout(s.server.base, signInTime)
	defer cancel()
	user, err := s.set.Users.SignIn(ctx, s.peer, name, string(password))
	return user, name, err
}

// authSCRAM is SCRAM-SHA-256 or, bound to the TLS connection, -PLUS (RFC 5802,
// 7677): the client's first message, its final one, and an empty response to the
// server's signature, for a success has no room for it in SMTP (RFC 4954 4).
func (s *session) authSCRAM(plus bool) exchange {
	return func(first *[]byte) (*account.User, string, error) {
		x, err := s.set.Users.SCRAMSignIn(s.peer, account.Binding{Exporter: s.exporter, Plus: plus})
		if err != nil {
			return nil, "", err
		}
		message, err := s.response(first, "")
		if err != nil {
			return nil, "", err
		}
		for range 2 {
			challenge, err := x.Step(string(message))
			if err != nil {
				return nil, x.Name(), err
			}
			if message, err = s.response(nil, challenge); err != nil {
				return nil, x.Name(), err
			}
		}
		if len(message) > 0 {
			return nil, x.Name(), errAuthForm
		}
		user, err := x.Done()
		return user, x.Name(), err
	}
}

// response gives the client's next message: the initial one if there is one,
// else the answer to a challenge.
func (s *session) response(first *[]byte, challenge string) ([]byte, error) {
	if first != nil {
		return *first, nil
	}
	s.out = append(s.out, "334 "...)
	s.out = base64.StdEncoding.AppendEncode(s.out, []byte(challenge))
	s.out = append(s.out, "\r\n"...)
	line, err := s.readLine()
	if err != nil {
		return nil, err
	}
	defer clear(line) // the buffer goes on to other sessions
	text, _, ok := cleanLine(line, s.set.LineEnds)
	if !ok {
		return nil, errAuthBase64
	}
	return decodeResponse(text, false)
}

// decodeResponse takes base64 off; "*" cancels, and "=" is an initial response
// of nothing (RFC 4954 4).
func decodeResponse(text []byte, initial bool) ([]byte, error) {
	switch {
	case string(text) == "*":
		return nil, errAuthCancelled
	case initial && string(text) == "=":
		return []byte{}, nil
	case initial && len(text) == 0:
		return nil, errAuthBase64
	}
	out, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, errAuthBase64
	}
	return out, nil
}

// authFailed answers an AUTH that did not succeed.
func (s *session) authFailed(name string, err error) error {
	var wait *account.WaitError
	switch {
	case errors.Is(err, errAuthCancelled):
		return s.fault(replyAuthCancelled)
	case errors.Is(err, errAuthBase64):
		return s.fault(replyAuthBase64)
	case errors.Is(err, errAuthForm):
		return s.fault(replyAuthForm)
	case errors.Is(err, errLineTooLong):
		return s.fault(replyLineTooLong)
	case errors.Is(err, account.ErrDowngrade):
		return s.deny(name, "denied: SCRAM-SHA-256-PLUS was hidden from the client")
	case errors.Is(err, account.ErrDenied):
		return s.deny(name, "denied")
	case errors.As(err, &wait):
		s.server.counters.signInFailed.Add(1)
		s.logDenial(name, "put off")
		text := "Too many failed sign-ins from your address" + retryIn(wait.After)
		return s.fault(string(smtp.AppendReply(nil, mta.Reply{Code: 454, Enhanced: mta.Enhanced{Class: 4, Subject: 7}, Text: text}, false)))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return s.fault(replyAuthBusy)
	}
	return err // of the connection
}

// deny answers a wrong name or password, and ends a session that only guesses.
func (s *session) deny(name, what string) error {
	s.server.counters.signInFailed.Add(1)
	s.logDenial(name, what)
	if s.denials++; s.denials >= maxDenials {
		s.server.counters.errors.Add(1)
		s.out = append(s.out, replyAuthDenied+replyAuthTooMany...)
		return errLimit
	}
	return s.fault(replyAuthDenied)
}

// logDenial tells the operator. A name that no user has is not written: people
// type passwords there.
func (s *session) logDenial(name, what string) {
	if !s.server.authLog.Allow() {
		return
	}
	if s.set.Users.User(name) == nil {
		name = "(not a user)"
	}
	s.server.log.LogAttrs(s.server.base, slog.LevelWarn, "sign-in "+what, slog.Any(mta.KeyPeer, s.peer), slog.String(mta.KeyUser, name))
}

// gate says why MAIL may not begin in this session; empty when it may.
func (s *session) gate() string {
	if s.user == nil && s.set.TLSMode != TLSRequired && s.set.Users == nil {
		return ""
	}
	if s.set.TLS != nil && s.set.TLSMode == TLSRequired && !s.secure {
		return s.tlsFirst()
	}
	if s.user != nil {
		// A reload may have taken the user away, or changed it.
		if s.user = s.set.Users.Still(s.user); s.user == nil {
			return replyAuthFirst
		}
		return ""
	}
	switch {
	case s.set.Users == nil || s.set.Users.Len() == 0 || s.set.Auth == AuthNever || s.set.trusts(s.peer):
		return "" // RCPT decides
	case s.set.auth(s.secure):
		s.server.counters.relayDenied.Add(1)
		return replyAuthFirst
	case s.set.startTLS() && !s.secure:
		s.server.counters.relayDenied.Add(1)
		return s.tlsFirst()
	}
	return ""
}

// tlsFirst asks for TLS, or to come again when there is TLS.
func (s *session) tlsFirst() string {
	if !s.set.ready() {
		return replyTLSLater
	}
	return replyTLSFirst
}

// mayMail makes a transaction the user's own: its origin, stream, addresses
// and rate.
func (s *session) mayMail(r *submit.Request) *submit.Refusal {
	u := s.user
	r.User, r.Origin.User = u, u.Name
	if u.Stream != "" {
		r.Stream = u.Stream
	}
	if !u.May(account.ScopeSend) {
		reply := mta.Reply{Code: 550, Enhanced: mta.Enhanced{Class: 5, Subject: 7, Detail: 1}, Text: u.Name + " may not send ([[user]] scopes)"}
		return &submit.Refusal{Reply: reply, Field: "sender"}
	}
	// The null return path is nobody's: reports come from it (RFC 5321 4.5.5).
	if from := r.Envelope.Sender; from != "" && !u.From.Allow(from) {
		return submit.NotPermitted(u, "sender", from)
	}
	if wait := u.Left(time.Now()); wait > 0 {
		return overRate(u, wait)
	}
	return nil
}

// overRate puts a message off that is beyond the user's rate.
func overRate(u *account.User, wait time.Duration) *submit.Refusal {
	text := u.Name + " has sent its " + u.Rate.String() + retryIn(wait)
	return &submit.Refusal{Reply: mta.Reply{Code: 450, Enhanced: mta.Enhanced{Class: 4, Subject: 7, Detail: 1}, Text: text}, Field: "rate"}
}

// retryIn says when to come again, in whole seconds.
func retryIn(wait time.Duration) string {
	return ", try again in " + ((wait + time.Second - 1) / time.Second * time.Second).String()
}

// protocol is the word of the Received field (RFC 3848, RFC 6531 4.3).
func (s *session) protocol(utf8 bool) string {
	words := &withASCII
	switch {
	case utf8:
		words = &withUTF8
	case !s.extended:
		return "SMTP"
	}
	i := 0
	if s.secure {
		i = 1
	}
	if s.user != nil {
		i += 2
	}
	return words[i]
}

var (
	withASCII = [4]string{"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"}
	withUTF8  = [4]string{"UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"}
)
