package httpapi

import (
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Message is a message as an application describes it. It is either built from
// Subject, Text, HTML, Headers and Attachments, or Raw is the message. Sender
// checks everything; nothing needs to be checked before.
type Message struct {
	From Address // the author; its address is the return path, unless ReturnPath says other
	// ReturnPath is where reports of failure go; "" is nowhere (the null return
	// path). nil: the address of From.
	ReturnPath  *string
	To, Cc, Bcc []Address // together at most Limits.Recipients
	ReplyTo     []Address
	Subject     string
	Text, HTML  string   // one of them is needed; both make multipart/alternative
	Headers     []Header // further fields; see compose.Message
	Attachments []Attachment
	// Raw is a whole MIME message; lines may end in LF. Only From, ReturnPath,
	// To, Cc and Bcc (the envelope) and the facts below stand beside it.
	Raw []byte

	Stream      string            // empty: that of the user, else mta.DefaultStream
	SendAt      time.Time         // not before; zero: at once
	SendAfter   time.Duration     // the same, counted from now; at most one of both
	Expires     time.Time         // given up then; zero: as the stream says
	ExpireAfter time.Duration     // the same, counted from SendAt or now; at most one of both
	RequireTLS  bool              // only over verified TLS, all the way (RFC 8689)
	Tags        []string          // see mta.MaxTags; come back in events
	Metadata    map[string]string // see mta.MaxMetadata; comes back in events
}

// size is less than what the message will have, or the same.
func (m *Message) size() int64 {
	n := int64(len(m.Raw) + len(m.Text) + len(m.HTML))
	for i := range m.Attachments {
		n += int64(len(m.Attachments[i].Content))
	}
	return n
}

// Address is an address with a display name, which may be empty.
type Address struct {
	Name    string
	Address string
}

// Header is a header field.
type Header struct{ Name, Value string }

// Attachment is a file of a message. One with Inline and a ContentID is shown
// where HTML says cid:ContentID.
type Attachment struct {
	Name        string
	ContentType string // empty: found by the name
	ContentID   string // without angle brackets
	Inline      bool
	Content     []byte
}

// The bounds of one request. Those of a message are compose's, and those in
// Limits, which are settings.
const (
	MaxBatch = 1000 // messages of one request
	MaxKey   = 255  // octets of an Idempotency-Key
	// MaxBatchFactor times Limits.MessageSize is how large the messages of one
	// request may be together.
	MaxBatchFactor = 20
)

// KeyLife is how long an Idempotency-Key is remembered.
const KeyLife = spool.ReservationLife

// Result is what became of one message.
type Result struct {
	ID         mta.ID      // zero when Err is set
	Recipients []Recipient // each once, in the order To, Cc, Bcc
	// Repeated says that the message was taken before, with the same key.
	Repeated bool
	// Err is why it could not be taken, when others of the same call were: a
	// *rest.Problem.
	Err error
}

// Recipient is a recipient of a message that was taken.
type Recipient struct {
	Address string `json:"address" doc:"As it stands in the envelope." example:"ann@example.com"`
	State   string `json:"state" doc:"queued: it is on stable storage; failed: the address is on the suppression list." example:"queued"`
}

// Limits are what settings bound.
type Limits struct {
	MessageSize int64 // octets of one message
	Recipients  int   // of one message
}
