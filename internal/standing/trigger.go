package standing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// Trigger is what makes a router stand in for direct delivery to a site.
type Trigger string

// The triggers: the words of [router] fallback_on.
const (
	Blocked    Trigger = "blocked"    // our address is on a block list, or its reputation is bad
	PTR        Trigger = "ptr"        // our address has no reverse DNS that suits
	Port25     Trigger = "port25"     // no host of the site can be connected to
	Stalled    Trigger = "stalled"    // nothing was taken for a time
	Unresolved Trigger = "unresolved" // DNS does not say where mail goes
)

// DefaultStalled is the time of "stalled" without one.
const DefaultStalled = 4 * time.Hour

// The bounds of the time of "stalled".
const (
	MinStalled = time.Second
	MaxStalled = 30 * 24 * time.Hour
)

// Triggers are those in force.
type Triggers struct {
	Blocked, PTR, Port25, Unresolved bool
	Stalled                          time.Duration // 0: never
}

// DefaultTriggers is fallback_on as it is without being written.
var DefaultTriggers = []string{"blocked", "ptr", "port25", "stalled:4h"}

// ParseTriggers reads words of fallback_on; duration reads the time behind
// "stalled:".
func ParseTriggers(words []string, duration func(string) (time.Duration, bool)) (t Triggers, err error) {
	for _, w := range words {
		word, arg, timed := strings.Cut(w, ":")
		switch Trigger(word) {
		case Blocked:
			t.Blocked = true
		case PTR:
			t.PTR = true
		case Port25:
			t.Port25 = true
		case Unresolved:
			t.Unresolved = true
		case Stalled:
			t.Stalled = DefaultStalled
			if timed {
				d, ok := duration(arg)
				if !ok || d < MinStalled || d > MaxStalled {
					return t, fmt.Errorf(`%q needs a time from 1s to 30d behind the colon (write "stalled:4h")`, w)
				}
				t.Stalled = d
			}
			continue
		default:
			return t, fmt.Errorf(`%q is not "blocked", "ptr", "port25", "stalled", "stalled:TIME" or "unresolved"`, w)
		}
		if timed {
			return t, fmt.Errorf("%q takes no time", word)
		}
	}
	return t, nil
}

// blames gives the trigger that a result is; empty when it blames nothing of
// ours that a router would mend.
func (t *Triggers) blames(r *mta.Result) Trigger {
	if r.Class == mta.ClassDelivered || r.Class == mta.ClassUncertain || r.Reply.Code == 0 {
		return ""
	}
	switch bounce.Class(r.Bounce) {
	case bounce.IPBlocked:
		// A bare 421 or 4xx is too often just a busy host.
		if t.Blocked && (r.Reply.Code >= 500 || r.Reply.Enhanced.Subject == 7) {
			return Blocked
		}
	case bounce.PTRMissing:
		if t.PTR {
			return PTR
		}
	}
	return ""
}

// unreachable reports an attempt that found no host of the site to connect to.
func unreachable(a *mta.Attempt) bool {
	for i := range a.Results {
		if r := &a.Results[i]; asked(*r) && (r.Class != mta.ClassTemporary || r.Reply.Code != 0 || r.Scope != mta.ScopeHost) {
			return false
		}
	}
	return len(a.Tries) > 0 && !slices.ContainsFunc(a.Tries, func(t mta.Try) bool { return t.Stage != mta.StageConnect })
}

// asked reports that somebody was, or was to be, asked for a recipient: one who
// gets no mail (package suppress) says nothing of the site.
func asked(r mta.Result) bool { return !r.Suppressed }

// stuck reports a result that is no progress for the site's or our sake: not a
// full mailbox, nor trouble of this machine, nor TLS that the recipient's domain or
// the message demands and the site does not do: whoever could have it refused would
// have the mail by another way.
func (l *lecture) stuck(r *mta.Result) bool {
	if r.Class != mta.ClassTemporary || r.Scope == mta.ScopeLocal {
		return false
	}
	switch bounce.Class(r.Bounce) {
	case bounce.MailboxFull:
		return false
	case bounce.TLSRequired:
		return !demanded(l.route)
	}
	return true
}

// demanded reports whether somebody beside the operator demands TLS of a route's
// hosts.
func demanded(r *mta.Route) bool {
	return slices.ContainsFunc(r.Hosts, func(h mta.Host) bool {
		origin := r.Demand(&h).Origin
		return origin == mta.TLSByDANE || origin == mta.TLSBySTS || origin == mta.TLSByMessage
	})
}

// answered reports that a host spoke to us, so that port 25 is open.
func answered(a *mta.Attempt) bool {
	return slices.ContainsFunc(a.Results, func(r mta.Result) bool { return r.Reply.Code != 0 }) ||
		slices.ContainsFunc(a.Tries, func(t mta.Try) bool { return t.Stage > mta.StageBanner })
}
