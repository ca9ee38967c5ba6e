package pickup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// envelope is the form of a .json file. Unknown fields are refused: one that
// is misspelt would otherwise send mail to others than was meant.
type envelope struct {
	From     *string           `json:"from"` // "" or "<>": the null return path; absent: as without an envelope
	To       addresses         `json:"to"`
	Stream   string            `json:"stream"`
	SendAt   time.Time         `json:"send_at"`
	Expire   string            `json:"expire"` // a time, or a span from send_at or the take-over on
	Tags     []string          `json:"tags"`
	Metadata map[string]string `json:"metadata"`
	Ret      string            `json:"ret"`    // full, hdrs
	EnvID    string            `json:"envid"`  // RFC 3461 4.4
	Notify   []string          `json:"notify"` // never, or some of success, failure, delay
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
	dec.DisallowUnknownFields()
	var e *envelope
	err = dec.Decode(&e)
	if _, more := dec.Token(); err == nil && (e == nil || !errors.Is(more, io.EOF)) {
		err = errors.New("it is not one JSON object")
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

func notifyOf(words []string) (out mta.Notify, err error) {
	for _, word := range words {
		switch strings.ToLower(word) {
		case "never":
			out |= mta.NotifyNever
		case "success":
			out |= mta.NotifySuccess
		case "failure":
			out |= mta.NotifyFailure
		case "delay":
			out |= mta.NotifyDelay
		default:
			return 0, fmt.Errorf("notify: %q is none of never, success, failure, delay", word)
		}
	}
	if out&mta.NotifyNever != 0 && out != mta.NotifyNever {
		return 0, errors.New("notify: never stands alone")
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
