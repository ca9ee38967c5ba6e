package smtpclient

import "mailout/internal/mta"

// finals reads the answers to the content over LMTP: one for each recipient that
// was accepted, in their order (RFC 2033 4.2). Whoever got an answer has it,
// whatever becomes of the others; those without are uncertain, since the server
// has their message. It returns a failure when the session broke.
func (x *exchange) finals(s *Session) *mta.Failure {
	var closing *mta.Failure
	for i := range x.verdicts[:x.asked] {
		v := &x.verdicts[i]
		if v.Fate != Delivered {
			continue // refused at RCPT
		}
		r, err := s.reply(s.opt.cap(waitFinal))
		if err != nil {
			stage := mta.StageFinal
			if s.mute != nil {
				stage = mta.StageData
			}
			f := s.failure(stage, err)
			f.Sent = s.mute == nil
			return f
		}
		s.observe(mta.StageFinal, "", r)
		if f := x.finalOf(s, v, r); f != nil && closing == nil {
			closing = f
		}
	}
	x.final, s.dirty = true, false
	if s.broken {
		return closing
	}
	return nil
}

// finalOf applies one recipient's answer. It returns its failure when there is
// one.
func (x *exchange) finalOf(s *Session, v *Verdict, r mta.Reply) *mta.Failure {
	switch {
	case r.Code/100 == 2 && s.mute != nil:
		// A yes to a message of which not everything could be written.
		*v = Verdict{Fate: Failed, Failure: s.failure(mta.StageData, s.mute)}
	case r.Code/100 == 2:
		v.Reply = r
		if x.reply.Code == 0 {
			x.reply = r
		}
		return nil
	case r.Code/100 == 3:
		s.broken = true
		*v = Verdict{Fate: Failed, Failure: &mta.Failure{Stage: mta.StageFinal, Cause: mta.CauseProtocol, Sent: true, Text: "the message was answered " + r.String()}}
	default:
		f := refused(mta.StageFinal, r)
		f.Each = true
		*v = Verdict{Fate: Failed, Failure: f}
	}
	return v.Failure
}
