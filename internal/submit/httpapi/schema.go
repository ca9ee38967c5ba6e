package httpapi

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/mta"
)

// What follows describes the JSON for the OpenAPI document. A test holds it to
// the decoder, which does the reading.

// Fields are those of a message and of the message of a batch.
type Fields struct {
	From        addressBody      `json:"from,omitempty" doc:"The author. Needed, unless raw and return_path are given."`
	ReturnPath  string           `json:"return_path,omitempty" doc:"Where reports of failure go; empty: nowhere. Default: the address of from." example:"bounces@example.com"`
	ReplyTo     addressesBody    `json:"reply_to,omitempty" doc:"Who gets the answers."`
	Subject     string           `json:"subject,omitempty" maxLength:"2000" example:"Your invoice 2026-17"`
	Text        string           `json:"text,omitempty" doc:"The plain text. HTML without it gets one made of the HTML." example:"Dear Ann, your invoice is attached."`
	HTML        string           `json:"html,omitempty" example:"<p>Dear Ann, your invoice is attached.</p>"`
	Headers     headersBody      `json:"headers,omitempty"`
	Attachments []attachmentBody `json:"attachments,omitempty" maxItems:"200"`
	Stream      string           `json:"stream,omitempty" maxLength:"64" doc:"The queue's label for this kind of mail. Default: that of the user." example:"invoices"`
	SendAt      string           `json:"send_at,omitempty" format:"date-time" doc:"Not before; at most 30 days ahead." example:"2026-03-01T08:00:00+01:00"`
	Expire      string           `json:"expire,omitempty" doc:"Given up then: a span from send_at or now on (30m, 2h, 3d), or a time. Default: as the stream says." example:"2h"`
	RequireTLS  bool             `json:"require_tls,omitempty" doc:"Only over verified TLS, all the way to the recipient (RFC 8689); what no mail server can do comes back at once."`
	Tags        []string         `json:"tags,omitempty" maxItems:"16" doc:"Come back in every event." example:"[\"invoice\"]"`
	Metadata    pairsBody        `json:"metadata,omitempty" doc:"Comes back in every event; at most 32 members and 4096 octets." example:"{\"customer\":\"4711\"}"`
}

// messageBody is the body of POST /v1/messages.
type messageBody struct {
	To  addressesBody `json:"to,omitempty" doc:"Recipients. One of to, cc and bcc is needed."`
	Cc  addressesBody `json:"cc,omitempty" doc:"Recipients that everybody sees."`
	Bcc addressesBody `json:"bcc,omitempty" doc:"Recipients that nobody sees."`
	Raw string        `json:"raw,omitempty" doc:"A whole MIME message, as text or as base64 of it, instead of reply_to, subject, text, html, headers and attachments."`
	Fields
}

// batchBody is the body of POST /v1/messages/batch.
type batchBody struct {
	Recipients    []batchAddressBody `json:"recipients,omitempty" maxItems:"1000" doc:"Each gets a message of its own."`
	Substitutions pairsBody          `json:"substitutions,omitempty" doc:"Values of placeholders for recipients that have no own; at most 100." example:"{\"shop\":\"Widget\"}"`
	Messages      []messageBody      `json:"messages,omitempty" maxItems:"1000" doc:"Instead of everything else: messages that are complete, without raw."`
	Fields
}

// batchAddressBody is an address, or a batchRecipientBody.
type batchAddressBody struct{}

// Schema implements huma.SchemaProvider.
func (batchAddressBody) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: "A recipient, as an object or as the address alone.", Examples: []any{map[string]string{"to": "Ann <ann@example.com>"}, "bob@example.com"},
		OneOf: []*huma.Schema{{Type: huma.TypeString}, r.Schema(reflect.TypeFor[batchRecipientBody](), true, "")},
	}
}

type batchRecipientBody struct {
	To            addressBody `json:"to"`
	Substitutions pairsBody   `json:"substitutions,omitempty" doc:"Values of {{name}} in subject, text, html and the values of headers; at most 100. In html they are escaped." example:"{\"name\":\"Ann\"}"`
	Metadata      pairsBody   `json:"metadata,omitempty" doc:"Beside that of the message."`
}

type attachmentBody struct {
	Name    string `json:"name" maxLength:"255" doc:"Without a path. Also: filename." example:"invoice.pdf"`
	Type    string `json:"type,omitempty" doc:"The media type; default: by the name. Also: content_type." example:"application/pdf"`
	CID     string `json:"cid,omitempty" doc:"What cid:… in the HTML names. Also: content_id." example:"logo"`
	Inline  bool   `json:"inline,omitempty" doc:"Shown within the HTML."`
	Content string `json:"content" contentEncoding:"base64" doc:"Base64 (RFC 4648 4)." example:"JVBERi0xLjc="`
}

// addressBody is one address.
type addressBody struct{}

// Schema implements huma.SchemaProvider.
func (addressBody) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: "An address, as text with or without a name, or as an object.",
		Examples:    []any{"Ann <ann@example.com>", map[string]string{"name": "Ann", "address": "ann@example.com"}},
		OneOf: []*huma.Schema{
			{Type: huma.TypeString, Examples: []any{"ann@example.com"}},
			{
				Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"address"},
				Properties: map[string]*huma.Schema{
					"name":    {Type: huma.TypeString},
					"address": {Type: huma.TypeString, Description: "Also: email."},
				},
			},
		},
	}
}

// addressesBody is one address or a list.
type addressesBody struct{}

// Schema implements huma.SchemaProvider.
func (addressesBody) Schema(r huma.Registry) *huma.Schema {
	one := addressBody{}.Schema(r)
	return &huma.Schema{
		Description: "One address or a list of them.", Examples: []any{[]string{"Ann <ann@example.com>", "bob@example.com"}},
		OneOf: append(one.OneOf, &huma.Schema{Type: huma.TypeArray, Items: one}),
	}
}

// headersBody are further header fields.
type headersBody struct{}

// Schema implements huma.SchemaProvider.
func (headersBody) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{
		Description: "Further header fields: an object of texts, or of lists of them, or a list of objects with name and value. At most 100.",
		Examples:    []any{map[string]string{"X-Campaign": "spring"}},
		OneOf: []*huma.Schema{
			{Type: huma.TypeObject, AdditionalProperties: &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, Items: text}}}},
			{Type: huma.TypeArray, Items: &huma.Schema{
				Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"name", "value"},
				Properties: map[string]*huma.Schema{"name": text, "value": text},
			}},
		},
	}
}

// pairsBody are texts by name.
type pairsBody map[string]string

// Accepted is the answer to a message that was taken: it is on stable storage.
type Accepted struct {
	ID         mta.ID      `json:"id" doc:"The name of the message from now on." example:"01KJMMJG1004A0E0000000000M"`
	Recipients []Recipient `json:"recipients" doc:"Each once, in the order to, cc, bcc."`
}

// acceptedBatch is the answer to a batch.
type acceptedBatch struct {
	Accepted int            `json:"accepted" doc:"Messages that are on stable storage."`
	Refused  int            `json:"refused" doc:"Messages that could not be taken; the same request with the same Idempotency-Key takes these alone."`
	Messages []batchOutcome `json:"messages" doc:"One for each recipient or message, in the order of the request."`
}

// batchOutcome is one message of it.
type batchOutcome struct {
	ID         string      `json:"id,omitempty" doc:"Of a message that was taken." example:"01KJMMJG1004A0E0000000000M"`
	Recipients []Recipient `json:"recipients,omitempty"`
	Problem    any         `json:"problem,omitempty" doc:"Why a message could not be taken, as a problem."`
}
