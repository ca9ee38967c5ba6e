package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"mailout/internal/account"
	"mailout/internal/compose"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// prepared is a message whose envelope is checked.
type prepared struct {
	request submit.Request
	compose *compose.Message // nil: the message is whole
	raw     []byte
}

// prepare checks the envelope of a message, and who may send it.
func (c *call) prepare(m *Message) (*prepared, error) {
	p := &prepared{raw: m.Raw, request: submit.Request{
		Origin: c.origin, User: c.user, Tags: m.Tags, Metadata: m.Metadata,
		NotBefore: m.SendAt, Expires: m.Expires,
		Envelope: mta.Envelope{RequireTLS: m.RequireTLS},
	}}
	if m.SendAfter > 0 {
		p.request.NotBefore = c.now.Add(m.SendAfter)
	}
	if m.ExpireAfter > 0 {
		from := c.now
		if p.request.NotBefore.After(from) {
			from = p.request.NotBefore
		}
		p.request.Expires = from.Add(m.ExpireAfter)
	}
	if err := c.authors(m, p); err != nil {
		return nil, err
	}
	if err := c.stream(m, p); err != nil {
		return nil, err
	}
	if err := c.recipients(m, p); err != nil {
		return nil, err
	}
	if m.Raw != nil {
		p.request.LineEnds = submit.RepairBare
		return p, wholeOnly(m)
	}
	if m.Text == "" && m.HTML == "" && len(m.Attachments) == 0 {
		return nil, invalid("text", "the message is empty: text, html or attachments is needed")
	}
	p.compose = composed(m)
	return p, nil
}

// wholeOnly refuses fields beside a message that is whole.
func wholeOnly(m *Message) error {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"subject", m.Subject != ""}, {"text", m.Text != ""}, {"html", m.HTML != ""}, {"reply_to", len(m.ReplyTo) > 0},
		{"headers", len(m.Headers) > 0}, {"attachments", len(m.Attachments) > 0},
	} {
		if f.given {
			return invalid(f.name, "it has no place beside raw, which is the whole message")
		}
	}
	return nil
}

// authors checks From and the return path.
func (c *call) authors(m *Message, p *prepared) error {
	author, err := mailbox("from", m.From.Address)
	switch {
	case m.From.Address == "" && m.Raw != nil && m.ReturnPath != nil: // the From field of the message counts
	case m.From.Address == "":
		return invalid("from", "from is missing")
	case err != nil:
		return err
	case !c.mayUse(author):
		return submit.NotPermitted(c.user, "from", author)
	}
	p.request.Envelope.Sender = author
	if m.ReturnPath == nil {
		return nil
	}
	path := withoutBrackets(*m.ReturnPath)
	if path == "" {
		p.request.Envelope.Sender = ""
		return nil
	}
	if path, err = mailbox("return_path", path); err != nil {
		return err
	}
	if !c.mayUse(path) {
		return submit.NotPermitted(c.user, "return_path", path)
	}
	p.request.Envelope.Sender = path
	return nil
}

func (c *call) mayUse(address string) bool { return c.user == nil || c.user.From.Allow(address) }

func withoutBrackets(text string) string {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "<"); ok && strings.HasSuffix(inner, ">") {
		return strings.TrimSuffix(inner, ">")
	}
	return text
}

// mailbox gives the canonical form of an address.
func mailbox(field, text string) (string, error) {
	m, err := smtp.ParseMailbox(strings.TrimSpace(text), true)
	if err != nil {
		return "", wrongAddress(field, text, err)
	}
	return m.String(), nil
}

func wrongAddress(field, text string, err error) error {
	p := invalid(field, "%s: %v", shown(text), err)
	var syntax *smtp.SyntaxError
	if errors.As(err, &syntax) {
		p.Reply = syntax.Reply().String()
	}
	return p
}

// stream is that of the user, if the user has one.
func (c *call) stream(m *Message, p *prepared) error {
	p.request.Stream = m.Stream
	if c.user == nil || c.user.Stream == "" {
		return nil
	}
	if m.Stream != "" && m.Stream != c.user.Stream {
		return &rest.Problem{Status: http.StatusForbidden, Field: "stream", Detail: fmt.Sprintf("%s sends in the stream %s", c.user.Name, c.user.Stream)}
	}
	p.request.Stream = c.user.Stream
	return nil
}

// recipients collects To, Cc and Bcc, each address once.
func (c *call) recipients(m *Message, p *prepared) error {
	n := len(m.To) + len(m.Cc) + len(m.Bcc)
	switch {
	case n == 0:
		return invalid("to", "no recipients")
	case n > c.limits.Recipients:
		return invalid("to", "%d recipients; at most %d are taken", n, c.limits.Recipients)
	}
	seen := make(map[string]struct{}, n)
	p.request.Recipients = make([]mta.Recipient, 0, n)
	for _, list := range []struct {
		field string
		of    []Address
	}{{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}} {
		for i, a := range list.of {
			box, err := smtp.ParseMailbox(strings.TrimSpace(a.Address), true)
			if err == nil {
				err = smtp.CheckRecipient(box)
			}
			if err != nil {
				return wrongAddress(fmt.Sprintf("%s[%d]", list.field, i), a.Address, err)
			}
			address := box.String()
			if _, twice := seen[address]; !twice {
				seen[address] = struct{}{}
				p.request.Recipients = append(p.request.Recipients, mta.Recipient{Address: address})
			}
		}
	}
	return nil
}

// composed is the message as the builder takes it.
func composed(m *Message) *compose.Message {
	out := &compose.Message{
		From: compose.Address(trimmed(m.From)), To: addresses(m.To), Cc: addresses(m.Cc), ReplyTo: addresses(m.ReplyTo),
		Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		Headers: make([]compose.Header, len(m.Headers)), Attachments: make([]compose.Attachment, len(m.Attachments)),
	}
	for i, h := range m.Headers {
		out.Headers[i] = compose.Header(h)
	}
	for i, a := range m.Attachments {
		out.Attachments[i] = compose.Attachment(a)
	}
	return out
}

func trimmed(a Address) Address { return Address{a.Name, strings.TrimSpace(a.Address)} }

func addresses(list []Address) []compose.Address {
	out := make([]compose.Address, len(list))
	for i, a := range list {
		out[i] = compose.Address(trimmed(a))
	}
	return out
}

// problemOf translates an error into the answer that the peer gets, a copy that
// may be changed.
func problemOf(err error) *rest.Problem {
	var field *compose.FieldError
	var refusal *submit.Refusal
	switch {
	case errors.As(err, &field):
		return invalid(field.Field, "%s", field.Problem)
	case errors.As(err, &refusal):
		return refused(refusal)
	}
	p := *rest.ProblemOf(err)
	return &p
}

// notAllowed is the enhanced code of what a user may not do.
var notAllowed = mta.Enhanced{Class: 5, Subject: 7, Detail: 1}

// fields are the names of the SMTP world in that of JSON.
var fields = map[string]string{"recipient": "to", "sender": "return_path", "header.from": "from", "content": ""}

func refused(r *submit.Refusal) *rest.Problem {
	p := *rest.ProblemOf(r)
	if r.Reply.Enhanced == notAllowed && r.Field != "recipient" { // for a recipient nobody has to ask for permission
		p.Status, p.Title = http.StatusForbidden, ""
	}
	if name, known := fields[p.Field]; known {
		p.Field = name
	}
	return &p
}

type originKey struct{}

// WithOrigin notes in a request's context who hands the message over, for Send.
func WithOrigin(r *http.Request) context.Context {
	o := mta.Origin{Door: "http", Protocol: "HTTP"}
	if r.TLS != nil {
		o.Protocol = "HTTPS"
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.Peer = peer.Addr().Unmap()
	}
	if rest.IsLocal(r.Context()) {
		o.Door, o.Protocol = "send", "LOCAL"
	}
	return context.WithValue(r.Context(), originKey{}, o)
}

func originOf(ctx context.Context, user *account.User) mta.Origin {
	o, ok := ctx.Value(originKey{}).(mta.Origin)
	if !ok {
		o = mta.Origin{Door: "http", Protocol: "HTTP"}
	}
	if user != nil {
		o.User = user.Name
	}
	return o
}
