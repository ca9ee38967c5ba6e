package pickup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// ErrForm says that a file cannot become a message: trying again is no use.
var ErrForm = errors.New("not a message to send")

// maxEnvelope bounds an envelope beside a message, in octets.
const maxEnvelope = 8 << 20

// envelope is what a .json file says.
type envelope struct {
	From     *string // "" or "<>": the null return path; absent: as without an envelope
	To       addresses
	Stream   string
	SendAt   time.Time
	Expire   string // a time, or a span from send_at or the take-over on
	Tags     []string
	Metadata pairs
	Ret      string   // full, hdrs
	EnvID    string   // RFC 3461 4.4
	Notify   []string // never, or some of success, failure, delay
}

// fields are those of a .json file, with what each holds. Others are refused:
// one that is misspelt would otherwise send mail to others than was meant.
var fields = []struct {
	name, want string
	of         func(*envelope) any
}{
	{"from", "an address", func(e *envelope) any { return &e.From }},
	{"to", "an address or a list of addresses", func(e *envelope) any { return &e.To }},
	{"stream", "text", func(e *envelope) any { return &e.Stream }},
	{"send_at", `a time such as "2026-03-01T12:00:00Z"`, func(e *envelope) any { return &e.SendAt }},
	{"expire", `a span ("30m", "2h", "3d") or a time ("2026-03-01T12:00:00Z")`, func(e *envelope) any { return &e.Expire }},
	{"tags", "a list of texts", func(e *envelope) any { return &e.Tags }},
	{"metadata", "an object of texts, numbers, true and false", func(e *envelope) any { return &e.Metadata }},
	{"ret", `"full" or "hdrs"`, func(e *envelope) any { return &e.Ret }},
	{"envid", "text", func(e *envelope) any { return &e.EnvID }},
	{"notify", `a list: "never", or some of "success", "failure", "delay"`, func(e *envelope) any { return &e.Notify }},
}

// take reads the fields of a .json file.
func (e *envelope) take(given map[string]json.RawMessage) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
		value, ok := given[f.name]
		delete(given, f.name)
		if ok && json.Unmarshal(value, f.of(e)) != nil {
			return fmt.Errorf("%s: %s is expected", f.name, f.want)
		}
	}
	if len(given) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(given)))
		return fmt.Errorf("there is no field %q; it may have %s", name, strings.Join(names, ", "))
	}
	return nil
}

// pairs are texts by name. Numbers and truth values are taken as they are
// written, as over HTTP.
type pairs map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (p *pairs) UnmarshalJSON(b []byte) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return err
	}
	*p = make(pairs, len(given))
	for name, value := range given {
		switch value[0] { // a value has no space around it here
		case '{', '[':
			return errors.New("not a text")
		case 'n': // null is as good as absent
		case '"':
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return err
			}
			(*p)[name] = text
		default:
			(*p)[name] = string(value)
		}
	}
	return nil
}

// addresses is one address or a list.
type addresses []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *addresses) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		*a = make(addresses, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// readEnvelope reads a whole .json file.
func readEnvelope(r io.Reader) (*envelope, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxEnvelope+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxEnvelope {
		return nil, fmt.Errorf("%w: its envelope is longer than %d octets", ErrForm, maxEnvelope)
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, byteOrderMark)))
	var given map[string]json.RawMessage
	err = dec.Decode(&given)
	var kind *json.UnmarshalTypeError
	if _, more := dec.Token(); errors.As(err, &kind) || err == nil && (given == nil || !errors.Is(more, io.EOF)) {
		err = errors.New("it is not one JSON object")
	}
	e := &envelope{}
	if err == nil {
		err = e.take(given)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its envelope: %w", ErrForm, err)
	}
	return e, nil
}

// apply puts into the request what the envelope says.
func (e *envelope) apply(r *submit.Request) (err error) {
	if e.From != nil {
		if r.Envelope.Sender, err = sender(*e.From); err != nil {
			return err
		}
	}
	switch strings.ToLower(e.Ret) {
	case "":
	case "full":
		r.Envelope.Ret = mta.RetFull
	case "hdrs":
		r.Envelope.Ret = mta.RetHeaders
	default:
		return fmt.Errorf("ret %q is neither full nor hdrs", e.Ret)
	}
	if len(e.EnvID) > smtp.MaxEnvID || strings.IndexFunc(e.EnvID, func(c rune) bool { return c < ' ' || c > '~' }) >= 0 {
		return fmt.Errorf("envid is not at most %d printable characters", smtp.MaxEnvID)
	}
	r.Envelope.EnvID = e.EnvID
	notify, err := notifyOf(e.Notify)
	if err != nil {
		return err
	}
	if r.Recipients, err = recipients(e.To, notify); err != nil {
		return err
	}
	r.Tags, r.Metadata, r.NotBefore = e.Tags, e.Metadata, e.SendAt
	return e.expires(r)
}

// expires counts a span from the same time whenever it is asked again.
func (e *envelope) expires(r *submit.Request) error {
	if e.Expire == "" {
		return nil
	}
	at, after, ok := submit.ParseExpire(e.Expire)
	if !ok {
		return fmt.Errorf(`expire: %q is neither a span ("30m", "2h", "3d") nor a time ("2026-03-01T12:00:00Z")`, e.Expire)
	}
	if r.Expires = at; after > 0 {
		from := r.ID.Time()
		if e.SendAt.After(from) {
			from = e.SendAt
		}
		r.Expires = from.Add(after)
	}
	return nil
}

// notifyOf reads the member notify.
func notifyOf(words []string) (mta.Notify, error) {
	out, err := mta.ParseNotify(words)
	if err != nil {
		return 0, fmt.Errorf("notify: %w", err)
	}
	return out, nil
}

// sender parses a return path; empty and "<>" are the null one.
func sender(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "<>" {
		return "", nil
	}
	list, err := header.Mailboxes(text)
	if err == nil && len(list) != 1 {
		err = errors.New("one address is needed")
	}
	if err == nil {
		var m smtp.Mailbox
		if m, err = smtp.ParseMailbox(list[0], true); err == nil {
			return m.String(), nil
		}
	}
	return "", fmt.Errorf("the sender %q: %w", text, err)
}

// recipients parses addresses, each of which may be a list.
func recipients(texts []string, notify mta.Notify) (out []mta.Recipient, err error) {
	for _, text := range texts {
		list, err := header.Mailboxes(text)
		if err != nil {
			return nil, fmt.Errorf("the recipient %q: %w", text, err)
		}
		for _, address := range list {
			m, err := smtp.ParseMailbox(address, true)
			if err == nil {
				err = smtp.CheckRecipient(m)
			}
			if err != nil {
				return nil, fmt.Errorf("the recipient %q: %w", address, err)
			}
			out = append(out, mta.Recipient{Address: m.String(), Notify: notify})
		}
	}
	return out, nil
}
