package client

import (
	"context"
	"encoding/json"
	"fmt"
)

// MaxBatch is how many messages one call of SendAll or SendMailing takes.
const MaxBatch = 1000

// Mailing is one message for many recipients, each of whom gets a message of
// its own and sees no other. {{name}} in Subject, Text, HTML and the values of
// Headers is replaced; a name without a value refuses the mailing.
type Mailing struct {
	Message       Message // without To, Cc, Bcc and Raw; its Key is that of the mailing
	Substitutions map[string]string
	Recipients    []MailingRecipient // at most MaxBatch
}

// MailingRecipient is one recipient of a mailing.
type MailingRecipient struct {
	To            string            `json:"to"`
	Substitutions map[string]string `json:"substitutions,omitempty"` // before those of the mailing; escaped in HTML
	Metadata      map[string]string `json:"metadata,omitempty"`      // beside that of the message
}

// Outcome is what became of one message of several: a receipt, or an error.
type Outcome struct {
	Receipt
	Err *Error
}

// SendMailing hands a mailing over. With an error nothing was taken. Otherwise
// there is an outcome for each recipient, in order.
func (c *Client) SendMailing(ctx context.Context, m *Mailing) ([]Outcome, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("mailout: %w", err)
	}
	return c.batch(ctx, m.Message.Key, body)
}

// MarshalJSON writes the mailing as POST /v1/messages/batch takes it.
func (m Mailing) MarshalJSON() ([]byte, error) {
	type plain Message
	return json.Marshal(struct {
		plain
		Expire        string             `json:"expire,omitempty"`
		Substitutions map[string]string  `json:"substitutions,omitempty"`
		Recipients    []MailingRecipient `json:"recipients"`
	}{plain(m.Message), seconds(m.Message.Expire), m.Substitutions, m.Recipients})
}

// SendAll hands several messages over in one request, under one idempotency key
// (empty: a new one; the keys of the messages do not count). With an error
// nothing was taken. Otherwise there is an outcome for each message, in order.
func (c *Client) SendAll(ctx context.Context, key string, messages ...*Message) ([]Outcome, error) {
	body, err := json.Marshal(struct {
		Messages []*Message `json:"messages"`
	}{messages})
	if err != nil {
		return nil, fmt.Errorf("mailout: %w", err)
	}
	return c.batch(ctx, key, body)
}

// batch sends until every message is taken or refused for good: with the same
// key, those that were taken are not taken again.
func (c *Client) batch(ctx context.Context, key string, body []byte) ([]Outcome, error) {
	key = orNew(key)
	var out []Outcome
	err := c.try(ctx, func() error {
		var answer struct {
			Messages []struct {
				Receipt
				Problem *Error `json:"problem"`
			} `json:"messages"`
		}
		if err := c.postOnce(ctx, "/v1/messages/batch", key, body, &answer); err != nil {
			return err
		}
		out = make([]Outcome, len(answer.Messages))
		var later *Error
		for i, m := range answer.Messages {
			out[i] = Outcome{m.Receipt, m.Problem}
			if m.Problem != nil && m.Problem.Temporary() {
				later = m.Problem
			}
		}
		if later != nil {
			return later
		}
		return nil
	})
	if out != nil { // the outcomes say it better
		return out, nil
	}
	return nil, err
}
