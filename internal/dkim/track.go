package dkim

// This file decides when a key may sign. It is pure: what was seen and the time
// come in, states come out.
//
// Goal: no message is signed with a key whose record receivers do not see, and
// none goes unsigned while an older key's record is there; trouble of our own
// with DNS changes nothing.
// Method: a key waits until its record is seen at every server of its zone
// that answers; of each domain and algorithm the last one in the configuration
// whose record is seen signs. A key stops when the record is definitely gone,
// which has to be seen twice some time apart, or at once when the owner has
// withdrawn it (an empty p=). What is unknown leaves everything as it was.
// Rejected: to sign with a new key a fixed time after it was made, which is
// what makes rotations break mail; and to ask receivers' resolvers, which
// nobody can.

import "time"

// Finding is what the servers say of a key's record.
type Finding string

// The findings.
const (
	Unknown   Finding = ""          // nobody answered: nothing is known
	Published Finding = "published" // the record is there, and it is the key's
	Absent    Finding = "absent"    // there is no record
	Differs   Finding = "differs"   // there is another one, or it is damaged
	Withdrawn Finding = "withdrawn" // the record says that the key is revoked
)

// Sight is one look at a key's record.
type Sight struct {
	Finding Finding
	// Authority: the zone's own servers said so, else a resolver.
	Authority bool
	// Settled: each of the zone's own servers said so.
	Settled bool
	Why     string // for people: who said what
}

// State is where a key stands.
type State string

// The states.
const (
	// StateMissing: the file holds no key that can be used.
	StateMissing State = "missing"
	// StatePending: the record has not been seen; the key does not sign.
	StatePending State = "pending"
	// StateActive: the key signs.
	StateActive State = "active"
	// StateStandby: the record is there, and a later key of the configuration
	// signs; the key has never signed.
	StateStandby State = "standby"
	// StateRetired: the same, and the key did sign before.
	StateRetired State = "retired"
	// StateGone: the record was there and is gone; the key does not sign.
	StateGone State = "gone"
	// StateRevoked: the record says that the key is withdrawn.
	StateRevoked State = "revoked"
)

// How often a record is looked at, and how long it has to be gone.
const (
	hourly       = time.Hour   // of a record that is there
	unsettled    = time.Minute // of one that some server kept silent about
	unsettledEnd = time.Hour   // after which such a server is taken for dead
	confirmation = 3 * time.Minute
	// hearsay is the same as confirmation where only a resolver can be asked:
	// what it says may be old.
	hearsay = 30 * time.Minute
	// fresh is how long ago a record may have been seen for signing to go on at a
	// start before the first look, and for its absence to be taken for a slip.
	fresh = 24 * time.Hour
)

// pendingEvery is how often a record that is not there yet is looked for, by
// how long that has been so.
func pendingEvery(waited time.Duration) time.Duration {
	switch {
	case waited < 2*time.Minute:
		return 2 * time.Second
	case waited < 20*time.Minute:
		return 5 * time.Second
	case waited < 2*time.Hour:
		return 30 * time.Second
	}
	return 5 * time.Minute
}

// track is what is known of one key's record. It belongs to whoever holds the
// Ring's lock.
type track struct {
	note
	last  Sight     // the last that said something
	asked time.Time // the last look, whatever it said
	doubt time.Time // since when the record seems gone
	since time.Time // the key is waited for
}

// note is what outlives the process.
type note struct {
	Key       string    `json:"key"`                // which key, see Key.print
	Seen      time.Time `json:"seen,omitzero"`      // the record was first seen; zero: it has not been
	Checked   time.Time `json:"checked,omitzero"`   // and last
	Authority bool      `json:"authority"`          // at the zone's own servers
	Gone      time.Time `json:"gone,omitzero"`      // since when it is gone
	Withdrawn time.Time `json:"withdrawn,omitzero"` // since when it is revoked
	Signed    time.Time `json:"signed,omitzero"`    // the key signs, or signed, since
	Retired   time.Time `json:"retired,omitzero"`   // a later key signs since
}

// visible reports that the key may sign.
func (n *note) visible() bool { return !n.Seen.IsZero() && n.Gone.IsZero() && n.Withdrawn.IsZero() }

// event is what an observation changed.
type event uint8

const (
	nothing  event = iota
	appeared       // the key may sign now
	vanished       // it may not any more: the record is gone
	revoked        // it may not any more: it was withdrawn
	doubted        // the record seems gone; the key goes on signing
)

// elects reports whether another key may have to sign: nothing else but whether
// keys may sign decides that, and with a thousand keys an election takes a while.
func (e event) elects() bool { return e == appeared || e == vanished || e == revoked }

// observe takes in one look.
func (t *track) observe(now time.Time, s Sight) event {
	t.asked = now
	if s.Finding == Unknown {
		return nothing
	}
	t.last = s
	switch s.Finding {
	case Published:
		return t.there(now, s)
	case Withdrawn:
		t.doubt = time.Time{}
		if !t.Withdrawn.IsZero() {
			return nothing
		}
		could := t.visible()
		t.Withdrawn = now
		if could {
			return revoked
		}
		return nothing
	}
	return t.away(now, s)
}

func (t *track) there(now time.Time, s Sight) event {
	could := t.visible()
	t.doubt, t.Gone, t.Withdrawn = time.Time{}, time.Time{}, time.Time{}
	if t.Seen.IsZero() || !could {
		t.Seen, t.Authority = now, false
	}
	t.Checked, t.Authority = now, t.Authority || s.Authority
	if could {
		return nothing
	}
	return appeared
}

// away is about a record that is not there, or is another one.
func (t *track) away(now time.Time, s Sight) event {
	if !t.Withdrawn.IsZero() && s.Authority {
		t.Withdrawn, t.Gone = time.Time{}, now // the revoked record was removed
	}
	if !t.visible() {
		return nothing
	}
	wait := confirmation
	switch {
	case s.Authority && !t.Authority:
		// A resolver's word let the key sign, and the zone's own servers know better.
		wait = 0
	case s.Authority && now.Sub(t.Checked) > fresh:
		wait = 0 // nobody has seen it for long: it is no slip
	case !s.Authority:
		wait = hearsay
	}
	if t.doubt.IsZero() {
		t.doubt = now
		if wait > 0 {
			return doubted
		}
	}
	if now.Sub(t.doubt) < wait {
		return nothing
	}
	t.Gone, t.doubt = now, time.Time{}
	t.since = now
	return vanished
}

// next is when to look again.
func (t *track) next() time.Time {
	switch {
	case t.asked.IsZero():
		return time.Time{}
	case !t.doubt.IsZero():
		return t.asked.Add(unsettled)
	case t.visible() && t.last.Finding == Published && (t.last.Settled || t.asked.Sub(t.Seen) > unsettledEnd), !t.Withdrawn.IsZero():
		return t.asked.Add(hourly)
	case t.visible():
		return t.asked.Add(unsettled)
	}
	return t.asked.Add(pendingEvery(t.asked.Sub(t.since)))
}

// elect marks, of the tracks of one domain and algorithm in the order of the
// configuration, the one that signs, and gives its index; -1: none.
func elect(now time.Time, tracks []*track) int {
	signs := -1
	for i, t := range tracks {
		if t.visible() {
			signs = i
		}
	}
	for i, t := range tracks {
		switch {
		case i == signs:
			t.Retired = time.Time{}
			if t.Signed.IsZero() {
				t.Signed = now
			}
		case !t.Signed.IsZero() && t.Retired.IsZero() && i < signs:
			t.Retired = now
		}
	}
	return signs
}

// state is where a key stands.
func (t *track) state(signs bool) State {
	switch {
	case signs:
		return StateActive
	case !t.Withdrawn.IsZero():
		return StateRevoked
	case !t.Gone.IsZero():
		return StateGone
	case t.Seen.IsZero():
		return StatePending
	case !t.Signed.IsZero():
		return StateRetired
	}
	return StateStandby
}
