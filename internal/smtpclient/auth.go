package smtpclient

import (
	"encoding/base64"
	"slices"

	"mailout/internal/mta"
)

// Authenticate proves who we are with a name and a password, by PLAIN (RFC
// 4616) or LOGIN, whichever the server offers first in this order. It refuses
// to do so unless the server was verified: credentials never travel in clear
// text, nor to somebody unknown. Observe is not told what was sent.
//
// The failure's stage is auth. With CauseNeed nothing was sent; with CauseReply
// the server refused, for good with 5xx.
func (s *Session) Authenticate(username, password string) *mta.Failure {
	if !s.verified {
		return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseNeed, Text: "credentials are sent over verified TLS only"}
	}
	enc := base64.StdEncoding.EncodeToString
	switch {
	case slices.Contains(s.caps.Auth, "PLAIN"):
		return s.auth("AUTH PLAIN "+enc([]byte("\x00"+username+"\x00"+password)), nil)
	case slices.Contains(s.caps.Auth, "LOGIN"):
		return s.auth("AUTH LOGIN", []string{enc([]byte(username)), enc([]byte(password))})
	}
	return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseNeed, Text: "neither AUTH PLAIN nor AUTH LOGIN is offered"}
}

// auth sends the command, then an answer to each challenge (RFC 4954 4).
func (s *Session) auth(line string, answers []string) *mta.Failure {
	observe := s.opt.Observe
	s.opt.Observe = nil
	defer func() { s.opt.Observe = observe }()
	for {
		r, f := s.command(mta.StageAuth, line)
		switch {
		case f != nil:
			return f
		case r.Code == 235:
			return nil
		case r.Code == 334 && len(answers) > 0:
			line, answers = answers[0], answers[1:]
		case r.Code/100 == 3:
			s.broken = true // it waits for more than there is to say
			return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseProtocol, Reply: r, Text: "the server asked for more than the mechanism has: " + r.String()}
		case r.Code/100 == 2:
			s.broken = true
			return &mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseProtocol, Reply: r, Text: "AUTH was answered with " + r.String()}
		default:
			return refused(mta.StageAuth, r)
		}
	}
}
