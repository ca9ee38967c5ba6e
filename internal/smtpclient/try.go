package smtpclient

import (
	"strings"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Try asks whether a recipient would be taken, and sends nothing: MAIL with the
// null path, RCPT, RSET. The replies go to Options.Observe; a refusal is a
// Failure like any other. It is for people who ask for it: servers count such
// sessions.
func (s *Session) Try(rcpt smtp.Mailbox) *mta.Failure {
	address := rcpt.String()
	if strings.ContainsAny(address, "\r\n") || strings.ContainsAny(address, "<>") && !strings.HasPrefix(address, "\"") {
		return &mta.Failure{Stage: mta.StageRcpt, Cause: mta.CauseLocal, Text: "the address cannot be written in a command"}
	}
	mail := "MAIL FROM:<>"
	if rcpt.NeedsUTF8() {
		if !s.caps.SMTPUTF8 {
			return &mta.Failure{Stage: mta.StageMail, Cause: mta.CauseNeed, Text: "SMTPUTF8 is not offered"}
		}
		mail += " SMTPUTF8"
	}
	s.dirty = true
	failure := s.want2xx(mta.StageMail, mail)
	if failure == nil {
		failure = s.want2xx(mta.StageRcpt, "RCPT TO:<"+address+">")
	}
	if s.broken {
		return failure
	}
	if f := s.want2xx(mta.StageReset, "RSET"); f != nil {
		if failure == nil {
			failure = f
		}
		return failure
	}
	s.dirty = false
	return failure
}

// want2xx sends a command and takes any other reply for a refusal.
func (s *Session) want2xx(stage mta.Stage, line string) *mta.Failure {
	r, f := s.command(stage, line)
	if f == nil && r.Code/100 != 2 {
		f = refused(stage, r)
	}
	return f
}
