package transport

import (
	"context"

	"mailout/internal/mta"
	"mailout/internal/smtpclient"
)

// signIn proves to a router who we are. A session that does not know us is of
// no use.
func (w *worker) signIn(s *smtpclient.Session, t *mta.Target, c *mta.Credentials) (*smtpclient.Session, *mta.Failure) {
	stop := context.AfterFunc(w.opening, s.Abort)
	f := s.Authenticate(w.opening, c)
	if !stop() && f == nil {
		f = stopping(mta.StageAuth)
	}
	if f == nil {
		return s, nil
	}
	if w.opening.Err() != nil && f.Cause != mta.CauseReply {
		f = stopping(mta.StageAuth)
	}
	if f.Cause != mta.CauseReply {
		w.observe(t, smtpclient.Step{Stage: mta.StageAuth}, f)
	}
	s.Quit()
	return nil, f
}

// routed is what an attempt learns of a router.
type routed struct {
	asked bool // for a new session
	took  bool
	last  *mta.Failure
}

// met takes in how a connection went.
func (r *routed) met(f *mta.Failure) {
	r.asked = true
	if f == nil {
		r.took, r.last = true, nil
	} else if !r.took {
		r.last = f
	}
}

// refused takes in the answer to a message: a router that wants to know first
// who we are takes none (RFC 4954 section 6).
func (r *routed) refused(f *mta.Failure) {
	if r.asked && wantsAuth(f) {
		r.last = f
	}
}

// wantsAuth reports a reply to a message that speaks of our credentials.
func wantsAuth(f *mta.Failure) bool {
	return f.Cause == mta.CauseReply && f.Stage >= mta.StageMail && (f.Reply.Code == 530 || f.Reply.Code == 535 || f.Reply.Code == 538)
}

func (r *routed) tell(to func(*mta.Route, *mta.Failure), route *mta.Route) {
	if to == nil || route.Router == "" || !r.asked || r.last != nil && (r.last.Cause == mta.CauseLocal || r.last.Cause == mta.CauseSource) {
		return
	}
	to(route, r.last)
}

// forgotten reports whether a router that knew us wants to know again who we
// are, and so took nothing: a token has come to its end, or a password was
// changed, and a new session tells which.
func (at *attempt) forgotten(o *smtpclient.Outcome) bool {
	if at.route.Auth == nil || !at.route.Auth.SignsIn() || len(o.Verdicts) == 0 {
		return false
	}
	f := o.Verdicts[0].Failure
	return f != nil && f.Stage == mta.StageMail && wantsAuth(f)
}
