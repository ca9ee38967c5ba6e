package httpapi

import (
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mailout/internal/compose"
	"mailout/internal/mta"
	"mailout/internal/submit"
)

// A decoder reads the JSON of messages.
type decoder struct {
	reader
	limits Limits
}

// members are those of a message, with how each is read. Some have a second
// name, by which others call them.
var members = map[string]func(*decoder, *Message) error{
	"from":        func(d *decoder, m *Message) error { return d.address(&m.From) },
	"return_path": (*decoder).returnPath,
	"to":          func(d *decoder, m *Message) error { return d.addresses(&m.To) },
	"cc":          func(d *decoder, m *Message) error { return d.addresses(&m.Cc) },
	"bcc":         func(d *decoder, m *Message) error { return d.addresses(&m.Bcc) },
	"reply_to":    func(d *decoder, m *Message) error { return d.addresses(&m.ReplyTo) },
	"subject":     func(d *decoder, m *Message) error { return d.string(&m.Subject) },
	"text":        func(d *decoder, m *Message) error { return d.string(&m.Text) },
	"html":        func(d *decoder, m *Message) error { return d.string(&m.HTML) },
	"headers":     (*decoder).headers,
	"attachments": (*decoder).attachments,
	"raw":         (*decoder).raw,
	"stream":      func(d *decoder, m *Message) error { return d.string(&m.Stream) },
	"send_at":     func(d *decoder, m *Message) error { return d.time(&m.SendAt) },
	"expire":      (*decoder).expire,
	"require_tls": func(d *decoder, m *Message) (err error) {
		m.RequireTLS, err = d.boolean()
		return err
	},
	"tags": (*decoder).tags,
	"metadata": func(d *decoder, m *Message) error {
		return d.pairs(&m.Metadata, mta.MaxMetadata)
	},
}

var memberNames = names(members)

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// readMessage reads the body of POST /v1/messages. The message lies in body,
// which is not to be used any more.
func readMessage(body []byte, limits Limits) (*Message, error) {
	d := newDecoder(body, limits)
	m := &Message{}
	err := d.object(func(name string) error { return d.message(m, name) })
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func newDecoder(body []byte, limits Limits) *decoder {
	d := &decoder{limits: limits}
	d.b = body
	if len(body) >= 3 && string(body[:3]) == "\ufeff" { // some programs write it (RFC 8259 8.1)
		d.at = 3
	}
	return d
}

func (d *decoder) message(m *Message, name string) error {
	read := members[name]
	if read == nil {
		return d.unknown(name, memberNames)
	}
	return read(d, m)
}

func (d *decoder) string(to *string) (err error) {
	*to, err = d.text()
	return err
}

func (d *decoder) returnPath(m *Message) error {
	text, err := d.text()
	m.ReturnPath = &text
	return err
}

// addresses reads one address or a list of them.
func (d *decoder) addresses(to *[]Address) error {
	if d.kind() != "a list" {
		*to = make([]Address, 1)
		return d.address(&(*to)[0])
	}
	return d.list(d.limits.Recipients, func(int) error {
		var a Address
		err := d.address(&a)
		*to = append(*to, a)
		return err
	})
}

// address reads "Name <a@b>", "a@b" or an object.
func (d *decoder) address(to *Address) error {
	if d.kind() == "an object" {
		return d.addressObject(to)
	}
	if d.kind() != "text" {
		return d.wrong(`an address is expected: "a@example.com", "Ann <a@example.com>" or {"name": "Ann", "address": "a@example.com"}`)
	}
	text, err := d.text()
	if err != nil {
		return err
	}
	a, problem := ParseAddress(text)
	if problem != "" {
		return d.wrong("%s", problem)
	}
	*to = a
	return nil
}

func (d *decoder) addressObject(to *Address) error {
	given := false
	err := d.object(func(name string) error {
		switch name {
		case "name":
			return d.string(&to.Name)
		case "address", "email":
			if given {
				return d.wrong("the address is there twice")
			}
			given = true
			return d.string(&to.Address)
		}
		return d.unknown(name, []string{"name", "address", "email"})
	})
	if err == nil && !given {
		return d.wrong("the address is missing")
	}
	return err
}

// ParseAddress takes "Name <a@b>" or "a@b" apart. The second result says what
// is wrong. Whether the address is a good one is seen later.
func ParseAddress(text string) (a Address, problem string) {
	text = strings.TrimSpace(text)
	open := strings.LastIndexByte(text, '<')
	if open < 0 || !strings.HasSuffix(text, ">") {
		return Address{Address: text}, ""
	}
	a.Address = strings.TrimSpace(text[open+1 : len(text)-1])
	if strings.TrimSpace(text[:open]) == "" {
		return a, ""
	}
	parsed, err := mail.ParseAddress(text[:open] + "<a@example.com>")
	switch {
	case !utf8.ValidString(text):
		return a, "the text is not UTF-8"
	case err != nil:
		return a, `the name before <` + shown(a.Address) + `> cannot be read: put it into quotes, or write {"name": …, "address": …}; of several addresses make a list`
	}
	a.Name = parsed.Name
	return a, ""
}

// headers reads {"X-Name": "value"}, where a value may be a list, or a list of
// {"name": …, "value": …}.
func (d *decoder) headers(m *Message) error {
	if d.kind() == "a list" {
		return d.list(compose.MaxHeaders, func(int) error {
			var h Header
			err := d.object(func(name string) error {
				switch name {
				case "name":
					return d.string(&h.Name)
				case "value":
					return d.string(&h.Value)
				}
				return d.unknown(name, []string{"name", "value"})
			})
			m.Headers = append(m.Headers, h)
			return err
		})
	}
	return d.object(func(name string) error {
		add := func(int) error {
			value, err := d.text()
			m.Headers = append(m.Headers, Header{name, value})
			if len(m.Headers) > compose.MaxHeaders {
				return d.wrong("more than %d fields", compose.MaxHeaders)
			}
			return err
		}
		if d.kind() == "a list" {
			return d.list(compose.MaxHeaders, add)
		}
		return add(0)
	})
}

func (d *decoder) attachments(m *Message) error {
	return d.list(compose.MaxAttachments, func(int) error {
		var a Attachment
		content := false
		err := d.object(func(name string) error {
			switch name {
			case "name", "filename":
				return d.once(&a.Name)
			case "type", "content_type":
				return d.once(&a.ContentType)
			case "cid", "content_id":
				return d.once(&a.ContentID)
			case "inline":
				var err error
				a.Inline, err = d.boolean()
				return err
			case "content":
				content = true
				return d.base64(&a.Content)
			}
			return d.unknown(name, []string{"name", "filename", "type", "content_type", "cid", "content_id", "inline", "content"})
		})
		if err == nil && !content {
			return d.wrong("the content is missing")
		}
		m.Attachments = append(m.Attachments, a)
		return err
	})
}

// once reads a member that has two names.
func (d *decoder) once(to *string) error {
	if *to != "" {
		return d.wrong("it is there twice, by two names")
	}
	return d.string(to)
}

func (d *decoder) base64(to *[]byte) error {
	text, err := d.octets()
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(text[:min(len(text), 5)]), "data:") {
		return d.wrong("it is a data URL; give what comes behind its comma")
	}
	out, err := decodeInPlace(text)
	if err != nil {
		return d.wrong("not base64: %v", err)
	}
	*to = out
	return nil
}

// raw reads a whole message, as text or as base64 of it. Every header has a
// colon, and base64 has none, so one is never taken for the other.
func (d *decoder) raw(m *Message) error {
	text, err := d.octets()
	if err != nil {
		return err
	}
	if slices.Contains(text, ':') {
		m.Raw = text
		return nil
	}
	if m.Raw, err = decodeInPlace(text); err != nil {
		return d.wrong("neither a message, which begins with header fields, nor base64 of one: %v", err)
	}
	if len(m.Raw) == 0 {
		return d.wrong("the message is empty")
	}
	return nil
}

func (d *decoder) tags(m *Message) error {
	return d.list(mta.MaxTags, func(int) error {
		tag, err := d.text()
		m.Tags = append(m.Tags, tag)
		return err
	})
}

// pairs reads an object of texts. Numbers and truth values are taken as they
// are written: who sends them wants to see them again, not to count.
func (d *decoder) pairs(to *map[string]string, most int) error {
	*to = make(map[string]string)
	return d.object(func(name string) error {
		if len(*to) == most {
			return d.wrong("more than %d members", most)
		}
		value, err := d.scalar()
		(*to)[name] = value
		return err
	})
}

func (d *decoder) scalar() (string, error) {
	switch d.kind() {
	case "true or false":
		v, err := d.boolean()
		return strconv.FormatBool(v), err
	case "a number":
		return d.number()
	}
	return d.text()
}

func (d *decoder) time(to *time.Time) error {
	text, err := d.text()
	if err != nil {
		return err
	}
	var problem string
	if *to, problem = parseTime(text); problem != "" {
		return d.wrong("%s", problem)
	}
	return nil
}

func parseTime(text string) (at time.Time, problem string) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		problem = `not a time; write "2026-03-01T12:00:00Z" (RFC 3339)`
	}
	return at, problem
}

// expire reads a time, or a span from the time to send on.
func (d *decoder) expire(m *Message) error {
	text, err := d.text()
	if err != nil {
		return err
	}
	var problem string
	if m.Expires, m.ExpireAfter, problem = parseExpire(text); problem != "" {
		return d.wrong("%s", problem)
	}
	return nil
}

func parseExpire(text string) (at time.Time, after time.Duration, problem string) {
	at, after, ok := submit.ParseExpire(text)
	if !ok {
		problem = `neither a span of at most a year ("30m", "2h", "3d") nor a time ("2026-03-01T12:00:00Z")`
	}
	return at, after, problem
}
