package client

import (
	"encoding/json"
	"mime"
	"strconv"
	"strings"
	"time"
)

// Message is a message to send. From, a recipient, and one of Text, HTML,
// Attachments and Raw are needed. Addresses are "ann@example.com" or
// "Ann <ann@example.com>"; see Mailbox.
type Message struct {
	From string `json:"from"`
	// ReturnPath is where reports of failure go; nil: to From, "": nowhere.
	ReturnPath  *string      `json:"return_path,omitempty"`
	To          []string     `json:"to,omitempty"`
	Cc          []string     `json:"cc,omitempty"`
	Bcc         []string     `json:"bcc,omitempty"`
	ReplyTo     []string     `json:"reply_to,omitempty"`
	Subject     string       `json:"subject,omitempty"`
	Text        string       `json:"text,omitempty"`
	HTML        string       `json:"html,omitempty"` // alone, a text is made of it
	Headers     []Header     `json:"headers,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	// Raw is a whole MIME message in place of Subject to Attachments. From, To,
	// Cc and Bcc are its envelope then.
	Raw []byte `json:"raw,omitempty"`

	Stream string        `json:"stream,omitempty"`
	SendAt time.Time     `json:"send_at,omitzero"` // not before
	Expire time.Duration `json:"-"`                // given up after; whole seconds; zero: as the stream says
	// RequireTLS has the message go over verified TLS alone, all the way (RFC
	// 8689). What no mail server can do so comes back at once.
	RequireTLS bool              `json:"require_tls,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"` // comes back in events

	// Key is the idempotency key: the daemon takes one message under it. Empty:
	// Send makes one, so that its own tries are safe.
	Key string `json:"-"`
}

// Header is a further header field. Its value is text and needs no encoding.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Attachment is a file. One with Inline and a ContentID is shown where the HTML
// says cid:ContentID.
type Attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"type,omitempty"` // empty: by the name's ending
	Content     []byte `json:"content"`
	ContentID   string `json:"cid,omitempty"`
	Inline      bool   `json:"inline,omitempty"`
}

// MarshalJSON writes the message as POST /v1/messages takes it.
func (m Message) MarshalJSON() ([]byte, error) {
	type plain Message // without this method
	return json.Marshal(struct {
		plain
		Expire string `json:"expire,omitempty"`
	}{plain(m), seconds(m.Expire)})
}

func seconds(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"
}

// Mailbox writes an address with a display name that may hold anything, also
// quotes, commas and characters outside ASCII.
func Mailbox(name, address string) string {
	if name == "" {
		return address
	}
	encoded := mime.BEncoding.Encode("utf-8", name)
	if encoded == name {
		encoded = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return encoded + " <" + address + ">"
}

// Receipt says that a message is on the daemon's stable storage.
type Receipt struct {
	ID         string      `json:"id"`
	Recipients []Recipient `json:"recipients"`
}

// Recipient is one address of the envelope and its state.
type Recipient struct {
	Address string `json:"address"`
	State   State  `json:"state"`
}

// State is where a recipient of a message is.
type State string

// The states. Those from Delivered on are final.
const (
	Queued    State = "queued"
	Deferred  State = "deferred" // tried, and to be tried again
	Held      State = "held"     // by the operator, or by a check
	Delivered State = "delivered"
	Relayed   State = "relayed" // handed to a server that reports nothing back
	Failed    State = "failed"
	Expired   State = "expired" // given up after its time
	Cancelled State = "cancelled"
)

// Final reports whether nothing more will happen to the recipient.
func (s State) Final() bool {
	switch s {
	case Delivered, Relayed, Failed, Expired, Cancelled:
		return true
	}
	return false
}
