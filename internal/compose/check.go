package compose

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"mailout/internal/header"
	"mailout/internal/smtp"
)

// checked is a message whose every part may be written.
type checked struct {
	from, sender    mailbox
	to, cc, replyTo []mailbox
	subject         string
	text, html      string
	headers         []Header
	files           []file
	date            time.Time
	messageID       string // without <>
	utf8            bool   // an address needs octets above 127
}

// mailbox is an address that may be written.
type mailbox struct {
	name, address string
}

// check looks at everything before anything is written.
func (m *Message) check() (*checked, error) {
	c := &checked{subject: m.Subject, text: m.Text, html: m.HTML, date: m.Date}
	for _, step := range []func(*Message) error{c.addresses, c.texts, c.extra, c.attachments, c.identity} {
		if err := step(m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *checked) addresses(m *Message) error {
	if n := len(m.To) + len(m.Cc) + len(m.ReplyTo); n > MaxAddresses {
		return refuse("to", "to, cc and reply_to hold %d addresses; at most %d are taken", n, MaxAddresses)
	}
	var err error
	if c.from, err = c.mailbox("from", m.From); err != nil {
		return err
	}
	if m.Sender != nil {
		if c.sender, err = c.mailbox("sender", *m.Sender); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		field string
		from  []Address
		to    *[]mailbox
	}{{"to", m.To, &c.to}, {"cc", m.Cc, &c.cc}, {"reply_to", m.ReplyTo, &c.replyTo}} {
		for i, a := range list.from {
			box, err := c.mailbox(fmt.Sprintf("%s[%d]", list.field, i), a)
			if err != nil {
				return err
			}
			*list.to = append(*list.to, box)
		}
	}
	return nil
}

func (c *checked) mailbox(field string, a Address) (mailbox, error) {
	if err := checkLine(field, a.Name, MaxName); err != nil {
		return mailbox{}, err
	}
	if err := checkLine(field, a.Address, smtp.MaxPath*4); err != nil {
		return mailbox{}, err
	}
	box, err := smtp.ParseMailbox(a.Address, true)
	if err != nil {
		return mailbox{}, refuse(field, "%v", err)
	}
	c.utf8 = c.utf8 || box.NeedsUTF8()
	return mailbox{strings.TrimSpace(a.Name), box.String()}, nil
}

// checkLine refuses what may not stand in one line of a header.
func checkLine(field, value string, most int) error {
	if len(value) > most {
		return refuse(field, "it has %d octets; at most %d are taken", len(value), most)
	}
	if err := header.Check(field, value); err != nil {
		var unsafe *header.UnsafeError
		if errors.As(err, &unsafe) {
			return refuse(field, "it holds %s", unsafe.Why)
		}
		return refuse(field, "%v", err)
	}
	return nil
}

func (c *checked) texts(m *Message) error {
	c.subject = strings.TrimSpace(m.Subject)
	if err := checkLine("subject", c.subject, MaxSubject); err != nil {
		return err
	}
	size := len(m.Text) + len(m.HTML)
	for _, a := range m.Attachments {
		size += len(a.Content)
	}
	if size > MaxContent {
		return refuse("attachments", "the texts and files have %d octets; at most %d are taken", size, MaxContent)
	}
	for _, body := range []struct{ field, value string }{{"text", m.Text}, {"html", m.HTML}} {
		if !utf8.ValidString(body.value) {
			return refuse(body.field, "it is not UTF-8")
		}
		if strings.IndexByte(body.value, 0) >= 0 {
			return refuse(body.field, "it holds a NUL")
		}
	}
	if m.Text == "" && m.HTML != "" {
		c.text = textOf(m.HTML)
	}
	return nil
}

// extra checks the further fields.
func (c *checked) extra(m *Message) error {
	if len(m.Headers) > MaxHeaders {
		return refuse("headers", "there are %d fields; at most %d are taken", len(m.Headers), MaxHeaders)
	}
	c.messageID = m.MessageID
	seen := map[string]bool{}
	for i, h := range m.Headers {
		at := fmt.Sprintf("headers[%d]", i)
		h.Value = strings.Trim(h.Value, " \t")
		if err := checkField(at, h); err != nil {
			return err
		}
		low := strings.ToLower(h.Name)
		if onlyOnce[low] && seen[low] {
			return refuse(at+".name", "%s stands twice; once is allowed", h.Name)
		}
		seen[low] = true
		if low != "message-id" {
			c.headers = append(c.headers, h)
			continue
		}
		if m.MessageID != "" {
			return refuse(at+".name", "there is a message ID beside it already")
		}
		if _, err := cleanMessageID(at+".value", h.Value); err != nil {
			return err
		}
		c.messageID = h.Value
	}
	return nil
}

var fieldName = regexp.MustCompile(`^[!-9;-~]+$`) // RFC 5322 2.2

func checkField(at string, h Header) error {
	if len(h.Name) > MaxHeaderName || !fieldName.MatchString(h.Name) {
		return refuse(at+".name", "a field's name is 1 to %d printable ASCII characters without a colon or a space", MaxHeaderName)
	}
	low := strings.ToLower(h.Name)
	if why := reserved(low); why != "" {
		return refuse(at+".name", "%s is not taken here: %s", h.Name, why)
	}
	if h.Value == "" {
		return refuse(at+".value", "the value of %s is empty", h.Name)
	}
	if err := checkLine(at+".value", h.Value, MaxHeaderValue); err != nil {
		return err
	}
	if structured(low) && !isASCII(h.Value) {
		return refuse(at+".value", "%s takes ASCII only", h.Name)
	}
	if isASCII(h.Value) && longestWord(h.Value) > maxWord {
		return refuse(at+".value", "it has over %d characters without a space, which no line can hold", maxWord)
	}
	return nil
}

// maxWord keeps a line, with the field's name, below 998 octets.
const maxWord = 900

func longestWord(s string) int {
	most, start := 0, 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == ' ' || s[i] == '\t' {
			most, start = max(most, i-start), i+1
		}
	}
	return most
}

// reserved tells why a field may not be among the further ones, or "".
func reserved(low string) string {
	switch low {
	case "from", "sender", "to", "cc", "reply-to", "subject", "date":
		return "it has a place of its own in the message"
	case "bcc", "resent-bcc":
		return "it would show whom it is to hide; name the recipient as bcc"
	case "return-path", "received", "received-spf", "delivered-to", "x-original-to", "envelope-to",
		"dkim-signature", "domainkey-signature", "authentication-results":
		return "servers and signers write it"
	case "mime-version":
		return "it is written with the message's parts"
	}
	switch {
	case strings.HasPrefix(low, "content-"):
		return "it is written with the message's parts"
	case strings.HasPrefix(low, "resent-"):
		return "a message that is made anew was not sent before"
	case strings.HasPrefix(low, "arc-"):
		return "servers and signers write it"
	}
	return ""
}

// onlyOnce are further fields that receivers refuse when they stand twice.
var onlyOnce = map[string]bool{
	"message-id": true, "in-reply-to": true, "references": true,
	"list-id": true, "list-unsubscribe": true, "list-unsubscribe-post": true,
}

// structured tells fields in which encoded words have no place everywhere.
func structured(low string) bool {
	switch low {
	case "message-id", "in-reply-to", "references", "auto-submitted", "precedence", "importance", "priority",
		"x-priority", "sensitivity", "disposition-notification-to", "return-receipt-to", "errors-to", "feedback-id":
		return true
	}
	return strings.HasPrefix(low, "list-")
}

// identity completes Date and Message-ID.
func (c *checked) identity(m *Message) error {
	if c.date.IsZero() {
		c.date = time.Now().UTC()
	}
	if y := c.date.Year(); y < 1970 || y > 9999 {
		return refuse("date", "the year %d is not between 1970 and 9999", y)
	}
	if c.messageID == "" {
		c.messageID = newMessageID(smtp.SplitAddress(c.from.address).Domain)
		return nil
	}
	var err error
	c.messageID, err = cleanMessageID("message_id", c.messageID)
	return err
}

// messageID is what every receiver takes; RFC 5322 3.6.4 allows little more.
var messageID = regexp.MustCompile(`^[A-Za-z0-9.!#$%&'*+/=?^_{|}~\x60-]+@[A-Za-z0-9.!#$%&'*+/=?^_{|}~\x60:\[\]-]+$`)

func cleanMessageID(field, id string) (string, error) {
	id = strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">")
	if len(id) > 250 || !messageID.MatchString(id) {
		return "", refuse(field, "a message ID is left@right, of at most 250 ASCII characters without spaces")
	}
	return id, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
