package bounce

import (
	"maps"
	"slices"
)

// Class is what a reply means.
type Class string

// The classes.
const (
	UserUnknown       Class = "user_unknown"       // the mailbox does not exist (5.1.1)
	MailboxDisabled   Class = "mailbox_disabled"   // suspended, inactive, expired (5.2.1)
	DomainUnknown     Class = "domain_unknown"     // domain or host does not exist, null MX (5.1.2, 5.1.10)
	UserMoved         Class = "user_moved"         // the address changed (5.1.6, 551)
	MailboxFull       Class = "mailbox_full"       // over quota (x.2.2)
	Greylisted        Class = "greylisted"         // "come back later" by design
	SystemError       Class = "system_error"       // the receiver's own trouble (x.3.x)
	NetworkError      Class = "network_error"      // no connection, lost connection, loop (x.4.x)
	Expired           Class = "expired"            // a previous hop gave up (4.4.7)
	RateLimited       Class = "rate_limited"       // too many connections, messages or recipients
	IPBlocked         Class = "ip_blocked"         // block list, reputation, dynamic range
	PTRMissing        Class = "ptr_missing"        // reverse DNS missing or mismatching (x.7.25)
	AuthFailure       Class = "auth_failure"       // SPF, DKIM, DMARC, ARC (x.7.20 to 29)
	RelayDenied       Class = "relay_denied"       // no MX for that domain, or wants AUTH (5.7.1)
	TLSRequired       Class = "tls_required"       // STARTTLS wanted or failing (530, x.7.10)
	SenderRejected    Class = "sender_rejected"    // MAIL FROM or From refused
	ProtocolError     Class = "protocol_error"     // syntax or sequence (x.5.x)
	SpamContent       Class = "spam_content"       // content judged spam
	Virus             Class = "virus"              // malware, type of attachment
	ContentInvalid    Class = "content_invalid"    // malformed MIME or header, line too long (x.6.x)
	MessageTooLarge   Class = "message_too_large"  // size (x.3.4, x.2.3)
	Policy            Class = "policy"             // policy, not further explained
	RecipientFiltered Class = "recipient_filtered" // refused by the recipient's own filter
	Other             Class = "other"              // undetermined
)

// Action is what a class calls for.
type Action string

// The actions.
const (
	Remove  Action = "remove"  // the address is dead: do not write to it again
	Retry   Action = "retry"   // nothing is wrong with address or sender: it may pass later
	Backoff Action = "backoff" // the same, but slower
	Sender  Action = "sender"  // the sender's identity or set-up is refused: mend that
	Content Action = "content" // this message is refused: another may pass
	Unclear Action = "unclear" // nothing follows from it
)

// actions gives every class its action; it is the list of classes too.
var actions = map[Class]Action{
	UserUnknown: Remove, MailboxDisabled: Remove, DomainUnknown: Remove, UserMoved: Remove,
	MailboxFull: Retry, Greylisted: Retry, SystemError: Retry, NetworkError: Retry, Expired: Retry,
	RateLimited: Backoff,
	IPBlocked:   Sender, PTRMissing: Sender, AuthFailure: Sender, RelayDenied: Sender, TLSRequired: Sender,
	SenderRejected: Sender, ProtocolError: Sender,
	SpamContent: Content, Virus: Content, ContentInvalid: Content, MessageTooLarge: Content, Policy: Content,
	RecipientFiltered: Unclear, Other: Unclear,
}

// Action gives what the class calls for; Unclear for what is no class.
func (c Class) Action() Action {
	if a, ok := actions[c]; ok {
		return a
	}
	return Unclear
}

// Known reports one of the classes.
func (c Class) Known() bool { _, ok := actions[c]; return ok }

// Classes lists the classes by name.
func Classes() []Class { return slices.Sorted(maps.Keys(actions)) }
