package httpapi

import (
	"fmt"
	"maps"
	"slices"

	"mailout/internal/header"
	"mailout/internal/mta"
)

// Batch is the request of POST /v1/messages/batch: one message for many
// recipients, each of whom gets a message of its own, or a list of messages.
type Batch struct {
	Template      Message           // without To, Cc, Bcc and Raw
	Substitutions map[string]string // for recipients that have no own
	Recipients    []BatchRecipient
	Messages      []*Message // alone

	held int64 // octets of memory that the request has
}

// BatchRecipient is one recipient of a batch.
type BatchRecipient struct {
	To            Address
	Substitutions map[string]string
	Metadata      map[string]string // beside that of the template
}

// maxSubstitutions bounds the substitutions of one recipient, and those of all.
const maxSubstitutions = 100

// batchMembers are those beside the members of a message.
var batchMembers = []string{"recipients", "substitutions", "messages"}

// readBatch reads the body of POST /v1/messages/batch; see readMessage.
func readBatch(body []byte, limits Limits) (*Batch, error) {
	d := newDecoder(body, limits)
	b := &Batch{}
	template := ""
	err := d.object(func(name string) error {
		switch name {
		case "messages":
			return d.batchMessages(b)
		case "recipients":
			template = name
			return d.batchRecipients(b)
		case "substitutions":
			template = name
			return d.substitutions(&b.Substitutions)
		case "to", "cc", "bcc":
			return d.wrong("a batch names its recipients in recipients: each gets a message of its own")
		case "raw":
			return d.wrong("a batch is made of fields; send a message that is whole to /v1/messages")
		}
		template = name
		if members[name] == nil {
			return d.unknown(name, slices.Concat(batchMembers, memberNames))
		}
		return d.message(&b.Template, name)
	})
	switch {
	case err != nil:
	case b.Messages != nil && template != "":
		err = invalid(shown(template), "messages stands alone: each of them is complete")
	case b.Messages == nil && len(b.Recipients) == 0:
		err = invalid("recipients", "no recipients")
	default:
		err = d.end()
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (d *decoder) batchMessages(b *Batch) error {
	err := d.list(MaxBatch, func(int) error {
		m := &Message{}
		b.Messages = append(b.Messages, m)
		return d.object(func(name string) error {
			if name == "raw" {
				return d.wrong("a batch is made of fields; send a message that is whole to /v1/messages")
			}
			return d.message(m, name)
		})
	})
	if err == nil && len(b.Messages) == 0 {
		return d.wrong("no messages")
	}
	return err
}

func (d *decoder) batchRecipients(b *Batch) error {
	return d.list(MaxBatch, func(int) error {
		b.Recipients = append(b.Recipients, BatchRecipient{})
		rcpt := &b.Recipients[len(b.Recipients)-1]
		if d.kind() == "text" {
			return d.address(&rcpt.To)
		}
		given := false
		err := d.object(func(name string) error {
			switch name {
			case "to":
				given = true
				return d.address(&rcpt.To)
			case "substitutions":
				return d.substitutions(&rcpt.Substitutions)
			case "metadata":
				return d.pairs(&rcpt.Metadata, mta.MaxMetadata)
			}
			return d.unknown(name, []string{"to", "substitutions", "metadata"})
		})
		if err == nil && !given {
			return d.wrong("to is missing")
		}
		return err
	})
}

func (d *decoder) substitutions(to *map[string]string) error {
	if err := d.pairs(to, maxSubstitutions); err != nil {
		return err
	}
	for name := range *to {
		if !isName(name) {
			return d.wrong("%q cannot be a placeholder: letters, digits, and . _ - are taken, at most %d", shown(name), maxName)
		}
	}
	return nil
}

// templates are the parts of a batch's message that are written anew for each
// recipient.
type templates struct {
	batch               *Batch
	most                int64 // octets of one message
	subject, text, html template
	headers             []template
}

// templates takes the message of a batch apart.
func (b *Batch) templates(limits Limits) (*templates, error) {
	t := &templates{batch: b, most: limits.MessageSize, headers: make([]template, len(b.Template.Headers))}
	var problem string
	for _, part := range []struct {
		field, text string
		to          *template
	}{{"subject", b.Template.Subject, &t.subject}, {"text", b.Template.Text, &t.text}, {"html", b.Template.HTML, &t.html}} {
		if *part.to, problem = parseTemplate(part.text); problem != "" {
			return nil, invalid(part.field, "%s", problem)
		}
	}
	for i, h := range b.Template.Headers {
		if t.headers[i], problem = parseTemplate(h.Value); problem != "" {
			return nil, invalid(fmt.Sprintf("headers[%d].value", i), "%s", problem)
		}
	}
	return t, nil
}

// excess is how much longer the longest message may be than the template, in
// octets.
func (t *templates) excess() int64 {
	const escaped = 5 // octets that one becomes in HTML: &#34;
	longest := int64(0)
	for i := range t.batch.Recipients {
		v := values{own: t.batch.Recipients[i].Substitutions, all: t.batch.Substitutions}
		n := t.subject.added(v) + t.text.added(v) + escaped*t.html.added(v)
		for k := range t.headers {
			n += t.headers[k].added(v)
		}
		if longest = max(longest, n); longest >= t.most { // it will be refused
			return t.most
		}
	}
	return longest
}

// message writes the message of recipient i.
func (t *templates) message(i int) (*Message, error) {
	rcpt := &t.batch.Recipients[i]
	m := t.batch.Template
	m.To = []Address{rcpt.To}
	m.Headers = slices.Clone(m.Headers)
	f := filler{t: t, at: i, left: t.most, values: values{own: rcpt.Substitutions, all: t.batch.Substitutions}}
	f.line("subject", &t.subject, &m.Subject)
	for k := range m.Headers {
		f.line("headers", &t.headers[k], &m.Headers[k].Value)
	}
	f.fill("text", &t.text, &m.Text, false)
	f.fill("html", &t.html, &m.HTML, true)
	if f.err != nil {
		return nil, f.err
	}
	if len(rcpt.Metadata) > 0 {
		m.Metadata = make(map[string]string, len(m.Metadata)+len(rcpt.Metadata))
		maps.Copy(m.Metadata, t.batch.Template.Metadata)
		maps.Copy(m.Metadata, rcpt.Metadata)
	}
	return &m, nil
}

// filler writes the parts of one message; the first error stays.
type filler struct {
	t      *templates
	at     int   // of the recipient
	left   int64 // octets that the message may still have
	values values
	err    error
}

// fill writes one part.
func (f *filler) fill(field string, part *template, to *string, escape bool) {
	if f.err != nil {
		return
	}
	text, problem := part.fill(f.values, escape, f.left, f.t.most)
	f.left -= int64(len(text))
	if problem != "" {
		f.err = invalid(fmt.Sprintf("recipients[%d].substitutions", f.at), "%s: %s", field, problem)
	}
	*to = text
}

// line writes a part that becomes a header field. Values that would end its
// line are refused, and named where they stand.
func (f *filler) line(field string, part *template, to *string) {
	for _, name := range part.names {
		value, _ := f.values.get(name)
		if f.err != nil || header.Check(field, value) == nil {
			continue
		}
		place := "substitutions." + name
		if _, own := f.values.own[name]; own {
			place = fmt.Sprintf("recipients[%d].%s", f.at, place)
		}
		f.err = invalid(place, "it stands in a header field (%s), where no control character may be", field)
	}
	f.fill(field, part, to, false)
}

// field is where the batch has what became a field of message i.
func (t *templates) field(i int, field string) string {
	at := fmt.Sprintf("recipients[%d].", i)
	switch {
	case field == "to", field == "to[0]":
		return at + "to"
	case field == "metadata" && len(t.batch.Recipients[i].Metadata) > 0:
		return at + field
	}
	return field
}
