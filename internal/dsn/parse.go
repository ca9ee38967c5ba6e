package dsn

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strconv"
	"strings"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Bounds of Parse.
const (
	maxParts   = 50      // parts looked at in one message
	maxNesting = 5       // a report may be wrapped by a gateway or a list
	maxStatus  = 4 << 20 // octets of one status part
	maxGroups  = 10_000  // recipients in one report
)

// ErrNotReport says that a message holds no delivery status.
var ErrNotReport = errors.New("not a delivery status notification")

// Typed is a value with its type in front, as "rfc822; a@example.net".
type Typed struct{ Type, Value string }

// Notification is a report as it was read. Fields that were missing, or made
// no sense, are zero.
type Notification struct {
	ReportingMTA Typed
	EnvelopeID   string // Original-Envelope-Id
	Arrived      time.Time
	Statuses     []Status
	// MessageID is the Message-ID of the message reported, from the third
	// part, or else from In-Reply-To; with angle brackets.
	MessageID string
	// Original is the returned header; nil when none came.
	Original *header.Header
}

// Status is what a report says of one recipient.
type Status struct {
	Original    Typed // Original-Recipient
	Final       Typed // Final-Recipient
	Action      Action
	Status      mta.Enhanced
	Remote      Typed // Remote-MTA
	Diagnostic  Typed // Diagnostic-Code
	LastAttempt time.Time
	RetryUntil  time.Time
}

// Parse reads a delivery status notification (RFC 3464, RFC 6522, RFC 6533).
// It is tolerant: of line ends, letter case, wrapping parts, encodings and
// fields that make no sense. It returns ErrNotReport when no status about any
// recipient can be found.
func Parse(content []byte) (*Notification, error) {
	n := &Notification{}
	p := parser{out: n, parts: maxParts}
	p.entity(content, 0)
	if len(n.Statuses) == 0 {
		return nil, ErrNotReport
	}
	if n.MessageID == "" {
		n.MessageID = p.inReplyTo
	}
	return n, nil
}

type parser struct {
	out       *Notification
	parts     int // still allowed
	inReplyTo string
}

// entity looks at a message or a body part with its header.
func (p *parser) entity(content []byte, depth int) {
	h, at, err := header.Parse(content, header.Limits{})
	if err != nil {
		return
	}
	if f, ok := h.Get("In-Reply-To"); ok && depth == 0 {
		p.inReplyTo = f.Text()
	}
	kind, params := contentType(h)
	body := content[at:]
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		p.multipart(body, params["boundary"], depth)
	case kind == "message/delivery-status" || kind == "message/global-delivery-status":
		p.status(decode(h, body))
	case p.out.Original == nil && isOriginal(kind):
		p.original(decode(h, body))
	}
}

func isOriginal(kind string) bool {
	switch kind {
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers":
		return true
	}
	return false
}

// contentType reads the type in lower case; a broken parameter does not hide
// the type.
func contentType(h *header.Header) (string, map[string]string) {
	f, ok := h.Get("Content-Type")
	if !ok {
		return "text/plain", nil
	}
	kind, params, err := mime.ParseMediaType(f.Text())
	if err != nil && kind == "" {
		kind, _, _ = strings.Cut(f.Text(), ";")
	}
	return strings.ToLower(strings.TrimSpace(kind)), params
}

func (p *parser) multipart(body []byte, boundary string, depth int) {
	if boundary == "" || depth >= maxNesting {
		return
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for p.parts > 0 {
		raw, err := r.NextRawPart()
		if err != nil {
			return
		}
		p.parts--
		// A part that is cut off is read as far as it goes.
		content, _ := io.ReadAll(io.LimitReader(raw, maxStatus))
		p.entity(rejoin(raw.Header, content), depth+1)
	}
}

// rejoin makes an entity of a part again; only what entity looks at is kept.
func rejoin(h map[string][]string, body []byte) []byte {
	var b bytes.Buffer
	for _, name := range []string{"Content-Type", "Content-Transfer-Encoding"} {
		if v := h[name]; len(v) > 0 {
			b.WriteString(name + ": " + v[0] + "\r\n")
		}
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// decode undoes the transfer encoding; broken encoding gives what could be
// read.
func decode(h *header.Header, body []byte) []byte {
	f, ok := h.Get("Content-Transfer-Encoding")
	if !ok {
		return body
	}
	var r io.Reader
	switch strings.ToLower(f.Text()) {
	case "quoted-printable":
		r = quotedprintable.NewReader(bytes.NewReader(body))
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(body))
	default:
		return body
	}
	out, _ := io.ReadAll(r)
	return out
}

// original reads the returned message's header.
func (p *parser) original(body []byte) {
	h, _, err := header.Parse(bytes.TrimLeft(body, "\r\n"), header.Limits{})
	if err != nil || h.Len() == 0 {
		return
	}
	p.out.Original = h
	if f, ok := h.Get("Message-ID"); ok {
		p.out.MessageID = f.Text()
	}
}

// status reads the groups of fields: one about the message, then one for each
// recipient. Some writers leave out the first, or the empty line after it.
func (p *parser) status(body []byte) {
	for groups := 0; groups < maxGroups; groups++ {
		body = bytes.TrimLeft(body, "\r\n")
		if len(body) == 0 {
			return
		}
		h, at, err := header.Parse(body, header.Limits{})
		if err != nil {
			return
		}
		p.group(h)
		if h.End() == header.EndMalformed { // a line that is no field: leave it out
			next := bytes.IndexByte(body[at:], '\n') + 1
			if next == 0 {
				return
			}
			at += next
		}
		body = body[at:]
	}
}

func (p *parser) group(h *header.Header) {
	var s Status
	for f := range h.All() {
		switch strings.ToLower(f.Name()) {
		case "reporting-mta":
			p.out.ReportingMTA = typed(f.Text())
		case "original-envelope-id":
			p.out.EnvelopeID = f.Text()
		case "arrival-date":
			p.out.Arrived = date(f.Text())
		default:
			s.set(strings.ToLower(f.Name()), f.Text())
		}
	}
	if s.Final != (Typed{}) || s.Original != (Typed{}) && s.Action != "" {
		p.out.Statuses = append(p.out.Statuses, s)
	}
}

func (s *Status) set(name, value string) {
	switch name {
	case "original-recipient":
		s.Original = address(value)
	case "final-recipient":
		s.Final = address(value)
	case "action":
		word, _, _ := strings.Cut(value, " ")
		s.Action = Action(strings.ToLower(word))
	case "status":
		s.Status = enhanced(value)
	case "remote-mta":
		s.Remote = typed(value)
	case "diagnostic-code":
		s.Diagnostic = typed(value)
	case "last-attempt-date":
		s.LastAttempt = date(value)
	case "will-retry-until":
		s.RetryUntil = date(value)
	}
}

// typed splits "type; value"; the type comes in lower case.
func typed(s string) Typed {
	kind, value, ok := strings.Cut(s, ";")
	if !ok {
		return Typed{Value: strings.TrimSpace(s)}
	}
	return Typed{strings.ToLower(strings.TrimSpace(kind)), strings.TrimSpace(value)}
}

// address reads a typed address: angle brackets off, the escapes of RFC 6533 3
// undone.
func address(s string) Typed {
	t := typed(s)
	if n := len(t.Value); n > 1 && t.Value[0] == '<' && t.Value[n-1] == '>' {
		t.Value = t.Value[1 : n-1]
	}
	if t.Type == "utf-8" {
		if v, err := smtp.ParseORcpt("utf-8;" + t.Value); err == nil {
			t.Value = strings.TrimPrefix(v, "utf-8;")
		}
	}
	return t
}

// enhanced reads the three numbers at the front of a status.
func enhanced(s string) mta.Enhanced {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " ")
	var n [3]uint16
	numbers := strings.SplitN(s, ".", 3)
	if len(numbers) != 3 {
		return mta.Enhanced{}
	}
	for i, d := range numbers {
		v, err := strconv.ParseUint(d, 10, 16)
		if err != nil || v > 999 {
			return mta.Enhanced{}
		}
		n[i] = uint16(v)
	}
	if n[0] != 2 && n[0] != 4 && n[0] != 5 {
		return mta.Enhanced{}
	}
	return mta.Enhanced{Class: n[0], Subject: n[1], Detail: n[2]}
}

func date(s string) time.Time {
	t, err := mail.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
