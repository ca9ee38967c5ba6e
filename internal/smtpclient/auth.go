package smtpclient

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// The bounds of an authentication exchange.
const (
	// maxChallenge and maxAnswer bound the base64 of one challenge and of one
	// answer (RFC 4954 section 4).
	maxChallenge = 12288
	maxAnswer    = 12288
	// maxChallenges is how many a server may send in one exchange; the longest
	// mechanism has two, and one that is empty may come first.
	maxChallenges = 4
	// maxAuthLine bounds the AUTH command with its initial response; a longer
	// one waits for an empty challenge (RFC 4954 section 4).
	maxAuthLine = 512 - len("\r\n")
	// maxDetail bounds what a server says in a challenge about its refusal.
	maxDetail = 300
)

// Authenticate proves who we are by the mechanisms of c (RFC 4954): the
// operator's in their order, else the strongest that the server offers. One
// that the server does not take after all gives way to the next; a refusal of
// the credentials ends it, except that a refused token is renewed once. ctx
// bounds the wait for a token alone.
//
// Nothing is sent unless the server was verified: credentials never travel in
// clear text, nor to somebody unknown. Observe is told the mechanism and the
// final reply, and no failure quotes what was sent.
//
// The failure's stage is auth. With CauseNeed nothing was sent; with CauseRouter
// there was no token; with CauseReply the server refused, and Text has what it
// or the mechanism said beyond the reply; with CauseProtocol it could not prove
// that it knows us, or broke the mechanism's rules.
func (s *Session) Authenticate(ctx context.Context, c *mta.Credentials) *mta.Failure {
	if !s.verified {
		return needAuth("credentials are sent over verified TLS only")
	}
	names := s.mechanisms(c)
	if len(names) == 0 {
		return needAuth("none of " + strings.Join(wanted(c), ", ") + " is offered (offered: " + s.offered() + ")")
	}
	var f *mta.Failure
	for _, name := range names {
		f = s.authenticate(ctx, name, c)
		if f == nil || s.broken || f.Cause != mta.CauseReply || !ofMechanism(f.Reply.Code) {
			return f
		}
	}
	return f
}

func needAuth(text string) *mta.Failure {
	return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseNeed, Text: text}
}

// ofMechanism reports the refusals that speak of the mechanism and not of the
// credentials (RFC 4954 section 6, RFC 5248).
func ofMechanism(code int) bool { return code == 504 || code == 534 }

func (s *Session) offered() string {
	if len(s.caps.Auth) == 0 {
		return "no AUTH"
	}
	list := strings.Join(s.caps.Auth, " ")
	return smtp.Harmless(list[:min(len(list), maxDetail)])
}

// authenticate tries one mechanism; a token that is refused is renewed once.
func (s *Session) authenticate(ctx context.Context, name string, c *mta.Credentials) *mta.Failure {
	if !byToken(name) {
		x, err := s.newMechanism(name, c, "")
		if err != nil {
			return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseRouter, Text: err.Error()}
		}
		return s.converse(name, x, c.Password)
	}
	var f *mta.Failure
	var tokens []string
	for _, refused := range [...]bool{false, true} {
		token, err := c.Token(ctx, refused)
		if err != nil {
			if f != nil { // the refusal of the old token says less than why there is no new one
				f.Text = strings.TrimPrefix(f.Text+"; and no other access token: "+smtp.Harmless(err.Error()), "; ")
				return f
			}
			cause := mta.CauseRouter
			if errors.Is(err, context.Canceled) { // by us
				cause = mta.CauseLocal
			}
			return &mta.Failure{Stage: mta.StageAuth, Cause: cause, Text: "no access token: " + smtp.Harmless(err.Error()), Err: err}
		}
		x, err := s.newMechanism(name, c, token)
		if err != nil {
			return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseRouter, Text: err.Error()}
		}
		tokens = append(tokens, token)
		f = s.converse(name, x, tokens...)
		if f == nil || s.broken || f.Cause != mta.CauseReply || f.Reply.Code/100 != 5 || ofMechanism(f.Reply.Code) {
			return f
		}
	}
	return f
}

// converse carries out AUTH (RFC 4954 section 4). The secrets are taken out of
// whatever the server says.
func (s *Session) converse(name string, x mechanism, secrets ...string) *mta.Failure {
	observe := s.opt.Observe
	s.opt.Observe = nil
	defer func() { s.opt.Observe = observe }()

	var hidden []string
	for _, secret := range secrets {
		hidden = append(hidden, secret, smtp.Harmless(secret))
	}
	line, first, err := opening(name, x)
	if err != nil {
		return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseRouter, Text: err.Error()}
	}
	for range maxChallenges + 1 {
		if _, answer, more := strings.Cut(line, name+" "); more {
			hidden = append(hidden, answer)
		} else {
			hidden = append(hidden, line)
		}
		r, f := s.command(mta.StageAuth, line)
		if f != nil {
			if f.Cause == mta.CauseProtocol { // its line is not to be shown: it may quote ours
				f.Text, f.Err = "AUTH was answered with what is no reply", nil
			}
			return f
		}
		if r.Code != 334 {
			r.Text = conceal(r.Text, hidden)
			return s.concluded(name, x, r, conceal(x.detail(), hidden), observe)
		}
		if first != "" {
			line, first = first, ""
			continue
		}
		answer, err := s.answer(x, r)
		if err != nil {
			return s.giveUp(err)
		}
		line = base64.StdEncoding.EncodeToString(answer)
	}
	return s.giveUp(errors.New("the server asks for more than the mechanism has"))
}

// opening is the command, with the initial response where it fits; first is one
// that has to wait for the first challenge.
func opening(name string, x mechanism) (line, first string, err error) {
	response, speaks, err := x.first()
	line = "AUTH " + name
	switch {
	case err != nil || !speaks:
		return line, "", err
	case len(response) == 0:
		return line + " =", "", nil
	}
	text := base64.StdEncoding.EncodeToString(response)
	switch {
	case len(text) > maxAnswer:
		return "", "", errors.New("the credentials are longer than AUTH can carry")
	case len(line)+1+len(text) > maxAuthLine:
		return line, text, nil
	}
	return line + " " + text, "", nil
}

// answer decodes a challenge and answers it.
func (s *Session) answer(x mechanism, r mta.Reply) ([]byte, error) {
	if len(r.Text) > maxChallenge {
		return nil, errors.New("the server's challenge is longer than AUTH allows")
	}
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Text))
	if err != nil && !x.deaf() {
		return nil, errors.New("the server's challenge is not base64")
	}
	return x.next(challenge)
}

// giveUp ends the session in the middle of an exchange.
func (s *Session) giveUp(err error) *mta.Failure {
	s.broken = true
	return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseProtocol, Text: "AUTH: " + smtp.Harmless(err.Error())}
}

// concluded judges the reply that ends the exchange.
func (s *Session) concluded(name string, x mechanism, r mta.Reply, detail string, observe func(Step)) *mta.Failure {
	if observe != nil {
		observe(Step{Stage: mta.StageAuth, Command: "AUTH " + name, Reply: r})
	}
	switch {
	case r.Code == 235:
		if err := x.proven(); err != nil {
			return s.giveUp(err)
		}
		return nil
	case r.Code/100 < 4:
		s.broken = true
		return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseProtocol, Reply: r, Text: "AUTH was answered with " + r.String()}
	}
	f := refused(mta.StageAuth, r)
	f.Text = "AUTH " + name
	if detail != "" {
		f.Text += ", " + smtp.Harmless(detail[:min(len(detail), maxDetail)])
	}
	return f
}

// conceal takes what was sent out of a text of the server: some quote the line
// that they dislike.
func conceal(text string, sent []string) string {
	for _, secret := range sent {
		if len(secret) > 3 { // "=", "*" and the like
			text = strings.ReplaceAll(text, secret, "(hidden)")
		}
	}
	return text
}

// mechanisms are those to try, in order.
func (s *Session) mechanisms(c *mta.Credentials) []string {
	var names []string
	for _, name := range wanted(c) {
		switch {
		case !slices.Contains(s.caps.Auth, name) || slices.Contains(names, name):
		case byToken(name) && c.Token == nil, !byToken(name) && name != External && c.Token != nil && c.Password == "":
		case name == External && c.Certificate == nil:
		case name == ScramPlus && s.binding().Type == "":
		default:
			names = append(names, name)
		}
	}
	return names
}

// wanted is what the credentials serve, in order.
func wanted(c *mta.Credentials) []string {
	switch {
	case len(c.Mechanisms) > 0:
		return c.Mechanisms
	case c.Token != nil:
		return tokenMechanisms
	}
	return passwordMechanisms
}
