package compose

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"
)

// The bounds of a message, beyond which Build refuses it. Sizes are octets as
// the caller gave them, before any encoding.
const (
	MaxAddresses   = 1000      // in To, Cc and Reply-To together
	MaxName        = 250       // of a display name
	MaxSubject     = 2000      // of Subject
	MaxHeaders     = 100       // fields in Headers
	MaxHeaderName  = 76        // of a field's name
	MaxHeaderValue = 8000      // of a field's value
	MaxAttachments = 200       // files
	MaxFileName    = 255       // of a file's name
	MaxContentType = 255       // of a file's media type
	MaxContentID   = 200       // of a file's Content-ID
	MaxContent     = 128 << 20 // text, HTML and files together
)

// Address is a mailbox: the address as RFC 5321 writes it, and the name that
// is shown, both in UTF-8. The domain may have U-labels.
type Address struct{ Name, Address string }

// Attachment is a file that goes with the message.
type Attachment struct {
	Name        string // without a path; shown to the reader
	ContentType string // empty: by the name's ending, else application/octet-stream
	ContentID   string // without <>; what "cid:…" in the HTML names
	// Inline files are shown within the HTML. Without a ContentID the Name is
	// it. In a message without HTML they are shown behind the text.
	Inline  bool
	Content []byte
}

// Header is a further header field. The value is text and needs no encoding.
type Header struct{ Name, Value string }

// Message is what Build makes a message of.
type Message struct {
	From   Address
	Sender *Address // who sent it, when that is not From
	To, Cc []Address
	// ReplyTo gets the answers; empty: From.
	ReplyTo []Address
	Subject string
	// Text is the plain text. HTML without Text gets a text made of the HTML.
	Text, HTML string
	// Headers are further fields, in order. Fields that the others of Message
	// write, and those that only servers or signers write, are refused, except
	// that a Message-ID is taken when MessageID is empty.
	Headers     []Header
	Attachments []Attachment
	Date        time.Time // zero: now
	MessageID   string    // with or without <>; empty: a new one of From's domain
}

// FieldError says which part of a message cannot be taken, and why.
type FieldError struct {
	Field   string // as the JSON API names it: "subject", "to[2]", "headers[0].value", "attachments[1].name"
	Problem string // a sentence for people, without the field
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func refuse(field, problem string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(problem, args...)}
}

// Build makes the message. Errors that blame the caller are *FieldError; any
// other is a fault of this package.
func (m *Message) Build() ([]byte, error) {
	c, err := m.check()
	if err != nil {
		return nil, err
	}
	head, err := c.fields()
	if err != nil {
		return nil, err
	}
	out, err := c.assemble(head)
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	if err := verify(out, c.utf8); err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	return out, nil
}

// newMessageID is unguessable, so that it tells nothing of other messages.
func newMessageID(domain string) string {
	var id [16]byte
	rand.Read(id[:]) //nolint:errcheck // it never fails (crypto/rand)
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:])) + "@" + domain
}
