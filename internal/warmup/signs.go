package warmup

import (
	"fmt"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// signs counts a day's replies of one provider to one source, by recipient.
type signs struct {
	Replies    int `json:"replies,omitempty"`    // that said something about the mail: delivered, refused or put off
	Delivered  int `json:"delivered,omitempty"`  // of them
	Blocked    int `json:"blocked,omitempty"`    // our address or identity is refused
	Spam       int `json:"spam,omitempty"`       // the content is taken for spam
	PutOff     int `json:"put_off,omitempty"`    // limited, or put off without being greylisted
	Unknown    int `json:"unknown,omitempty"`    // the address does not exist
	Complained int `json:"complained,omitempty"` // complaints that came in on that day
}

// bad is one kind of bad sign: how many and which part of the replies are too
// many.
type bad struct {
	what  string
	count func(s *signs) int
	least int
	part  float64
	of    func(a *account, r *record) int
}

// limits are the thresholds, worst first. docs/warmup.md says where they come
// from.
var limits = []bad{
	{"replies that refuse our address", func(s *signs) int { return s.Blocked }, 2, 0.02, replies},
	{"replies that take the mail for spam", func(s *signs) int { return s.Spam }, 3, 0.02, replies},
	{"complaints", func(s *signs) int { return s.Complained }, 2, 0.003, delivered},
	{"addresses that do not exist", func(s *signs) int { return s.Unknown }, 5, 0.05, replies},
	{"replies that limit us or put mail off", func(s *signs) int { return s.PutOff }, 10, 0.1, replies},
}

func replies(_ *account, r *record) int { return r.signs.Replies }

// delivered is the better of today and the remembered day before: complaints
// come later than the mail.
func delivered(a *account, r *record) int {
	n := r.signs.Delivered
	for _, other := range a.days {
		if other.day < r.day {
			n = max(n, other.signs.Delivered)
		}
	}
	return n
}

// verdict says what is wrong with a day; empty: nothing.
func verdict(a *account, r *record) string {
	for _, l := range limits {
		n, of := l.count(&r.signs), l.of(a, r)
		if n >= l.least && float64(n) >= l.part*float64(of) {
			return fmt.Sprintf("%d %s (%d is too many, from %g %% on)", n, l.what, l.least, 100*l.part)
		}
	}
	return ""
}

// take counts one recipient's result.
func (s *signs) take(r *mta.Result) {
	if r.Suppressed || r.Class == mta.ClassUncertain || r.Scope == mta.ScopeLocal {
		return
	}
	if r.Class == mta.ClassDelivered {
		s.Replies++
		s.Delivered++
		return
	}
	if r.Reply.Code < 400 {
		return // no reply: the network says nothing of how we are seen
	}
	s.Replies++
	switch class := bounce.Class(r.Bounce); {
	case class == bounce.IPBlocked || class == bounce.PTRMissing || class == bounce.AuthFailure:
		s.Blocked++
	case class == bounce.SpamContent:
		s.Spam++
	case class.Action() == bounce.Remove && r.Class == mta.ClassPermanent:
		s.Unknown++
	case class == bounce.RateLimited, r.Class == mta.ClassTemporary && !harmless(class):
		s.PutOff++
	}
}

// harmless are the classes of mail that is put off for reasons of its own.
func harmless(c bounce.Class) bool {
	return c == bounce.Greylisted || c == bounce.MailboxFull || c == bounce.MessageTooLarge || c == bounce.TLSRequired || c.Action() == bounce.Remove
}
