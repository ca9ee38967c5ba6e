package transport

import (
	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// bounced names the class of every result of an attempt that a reply decided
// and that is no delivery (mta.Result.Bounce). The recipients of a transaction
// mostly share a reply, which is then looked at once.
func (s *settings) bounced(a *mta.Attempt) {
	var last *mta.Result
	for i := range a.Results {
		r := &a.Results[i]
		if r.Class == mta.ClassDelivered || r.Reply.Code == 0 {
			continue
		}
		if last != nil && last.Reply == r.Reply {
			r.Bounce = last.Bounce
			continue
		}
		q := bounce.Reply{Code: r.Reply.Code, Text: r.Reply.Text, Host: a.Host}
		if e := usable(r.Reply); !e.IsZero() {
			q.Enhanced = e.String()
		}
		r.Bounce = string(s.Classifier.Classify(q))
		last = r
	}
}
