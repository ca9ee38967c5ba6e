package mta

// Class is what a result means for a recipient.
type Class uint8

// The classes. ClassUncertain is temporary, with a duplicate possible: the
// final reply was lost.
const (
	ClassTemporary Class = iota // unknown means temporary, so it is the zero value
	ClassDelivered
	ClassPermanent
	ClassUncertain
)

// String gives the class's word.
func (c Class) String() string {
	return [...]string{"temporary", "delivered", "permanent", "uncertain"}[c]
}

// MarshalText implements encoding.TextMarshaler.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// DetourWords end the Reason of a result that another route is to better.
const DetourWords = "another route is tried at once"

// Scope is how far a result reaches.
type Scope uint8

// The scopes, from the narrowest to our own house. ScopeLocal is trouble of
// ours (disk, configuration, DNS): it never bounces mail.
const (
	ScopeRecipient Scope = iota
	ScopeMessage
	ScopeHost
	ScopeSite
	ScopeLocal
)

// String gives the scope's word.
func (s Scope) String() string {
	return [...]string{"recipient", "message", "host", "site", "local"}[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Result is what an attempt means for one recipient. Only
// transport/trouble.go makes results out of failures.
type Result struct {
	Class    Class
	Scope    Scope
	Reply    Reply    // the reply that decided; Code 0 when none came
	Enhanced Enhanced // the status to report: the reply's, or ours when it has none
	Reason   string   // one sentence for people: what happened, and where
	Relayed  bool     // with ClassDelivered: handed to a router, or to a host without DSN
	// DSN, with ClassDelivered, says that the host does DSN (RFC 3461): it took
	// over NOTIFY, so that success is its to report.
	DSN bool
	// RetryAfter is a hint of the receiver ("try again in 5 minutes",
	// greylisting); 0 means that the schedule decides. Seconds.
	RetryAfter int
	// Bounce is what the reply means (package bounce, "mailbox_full"); empty
	// without a reply, and for what was delivered.
	Bounce string
	// Signed are the keys whose signatures the content bore, when it was sent.
	Signed KeyNames
	// Elsewhere says that another route will do: the delivery is tried again at
	// once, and nothing is bounced. Planner.Learn of the queue sets it.
	Elsewhere bool
	// Suppressed says that nothing was tried, because the address is on the
	// suppression list. The class is permanent.
	Suppressed bool
}
