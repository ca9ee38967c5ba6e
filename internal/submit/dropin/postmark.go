package dropin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/submit/httpapi"
)

// postmarkEmail is the body of POST /email.
type postmarkEmail struct {
	From          string               `json:"From" required:"false" example:"Shop <shop@example.com>"`
	To            string               `json:"To,omitempty" doc:"Addresses with commas between them, like Cc, Bcc and ReplyTo."`
	Cc            string               `json:"Cc,omitempty"`
	Bcc           string               `json:"Bcc,omitempty"`
	ReplyTo       string               `json:"ReplyTo,omitempty"`
	Subject       string               `json:"Subject,omitempty"`
	Tag           string               `json:"Tag,omitempty" doc:"Comes back in events."`
	HTMLBody      string               `json:"HtmlBody,omitempty"`
	TextBody      string               `json:"TextBody,omitempty"`
	Headers       []postmarkHeader     `json:"Headers,omitempty"`
	Metadata      map[string]string    `json:"Metadata,omitempty"`
	Attachments   []postmarkAttachment `json:"Attachments,omitempty"`
	MessageStream string               `json:"MessageStream,omitempty" doc:"The stream; outbound is the default one."`
	TrackOpens    bool                 `json:"TrackOpens,omitempty" doc:"Nothing is tracked: ignored, with a note in X-Mailout-Note."`
	TrackLinks    string               `json:"TrackLinks,omitempty"`
	InlineCSS     *bool                `json:"InlineCss,omitempty" doc:"Ignored with a note."`
	TemplateID    json.RawMessage      `json:"TemplateId,omitempty" doc:"Refused, like the others of its kind: there are no templates here."`
	TemplateAlias string               `json:"TemplateAlias,omitempty"`
	TemplateModel json.RawMessage      `json:"TemplateModel,omitempty"`
}

type postmarkHeader struct {
	Name  string `json:"Name"`
	Value string `json:"Value"`
}

type postmarkAttachment struct {
	Name          string `json:"Name"`
	Content       file   `json:"Content"`
	ContentType   string `json:"ContentType,omitempty"`
	ContentID     string `json:"ContentID,omitempty" doc:"cid:NAME; with it the file is inline."`
	ContentLength int64  `json:"ContentLength,omitempty"`
	Disposition   string `json:"Disposition,omitempty"`
}

// postmarkAnswer is the answer to one message, and to each of a batch.
type postmarkAnswer struct {
	To          string `json:"To,omitempty"`
	Cc          string `json:"Cc,omitempty"`
	Bcc         string `json:"Bcc,omitempty"`
	SubmittedAt string `json:"SubmittedAt,omitempty"`
	MessageID   string `json:"MessageID,omitempty"`
	ErrorCode   int    `json:"ErrorCode"`
	Message     string `json:"Message"`
}

// postmarkProblem tells a problem as clients of Postmark read it.
func postmarkProblem(w http.ResponseWriter, p *rest.Problem) {
	status := p.Status
	if status == http.StatusBadRequest || status == http.StatusForbidden {
		status = http.StatusUnprocessableEntity // its clients know that alone
	}
	answer(w, status, postmarkError(p))
}

// postmarkError gives the provider's codes for what it has codes for.
func postmarkError(p *rest.Problem) postmarkAnswer {
	code := 0
	switch {
	case p.Status == http.StatusUnauthorized:
		code = 10
	case p.Status == http.StatusForbidden:
		code = 400 // the sender is not one of the account's
	case p.Status == http.StatusBadRequest:
		code = 402
	case p.Status == http.StatusTooManyRequests:
		code = 429
	case p.Status >= 400 && p.Status < 500:
		code = 300
	case p.Status >= 500:
		code = 100
	}
	return postmarkAnswer{ErrorCode: code, Message: withField(p)}
}

func (d *door) postmarkRoutes(api huma.API) {
	rest.Raw[struct{ Body postmarkEmail }, struct{ Body postmarkAnswer }](api, rest.Operation(huma.Operation{
		OperationID: "postmark-send", Method: http.MethodPost, Path: "/email", Tags: []string{"Drop-in"},
		Summary: "Send a message, as clients of Postmark do", Description: "Errors have the form {ErrorCode, Message}.",
	}, account.ScopeSend), d.postmarkSend)
	rest.Raw[struct{ Body []postmarkEmail }, struct{ Body []postmarkAnswer }](api, rest.Operation(huma.Operation{
		OperationID: "postmark-batch", Method: http.MethodPost, Path: "/email/batch", Tags: []string{"Drop-in"},
		Summary: "Send messages, as clients of Postmark do", Description: "Each message is judged by itself: those with an ErrorCode of 0 were taken.",
	}, account.ScopeSend), d.postmarkBatch)
}

func (d *door) postmarkSend(w http.ResponseWriter, r *http.Request) {
	var email postmarkEmail
	q, release, err := d.begin(w, r, &email)
	defer release()
	if err != nil {
		fail(w, r, err)
		return
	}
	m, err := email.message(q)
	if err == nil {
		var results []httpapi.Result
		if results, err = q.send(q.key, m); err == nil {
			answer(w, http.StatusOK, email.taken(results[0].ID))
			return
		}
	}
	fail(w, r, err)
}

func (d *door) postmarkBatch(w http.ResponseWriter, r *http.Request) {
	var emails []postmarkEmail
	q, release, err := d.begin(w, r, &emails)
	defer release()
	if err == nil && (len(emails) == 0 || len(emails) > httpapi.MaxBatch) {
		err = invalid("", "1 to %d messages are taken at once", httpapi.MaxBatch)
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	messages, problems := make([]*httpapi.Message, len(emails)), make([]error, len(emails))
	for i := range emails {
		messages[i], problems[i] = emails[i].message(q)
	}
	out := make([]postmarkAnswer, len(emails))
	for i, result := range q.each(messages, problems) {
		if result.Err != nil {
			out[i] = postmarkError(rest.ProblemOf(result.Err))
			continue
		}
		out[i] = emails[i].taken(result.ID)
	}
	answer(w, http.StatusOK, out)
}

func (e *postmarkEmail) taken(id mta.ID) postmarkAnswer {
	return postmarkAnswer{To: e.To, Cc: e.Cc, Bcc: e.Bcc, SubmittedAt: mta.FormatTime(time.Now()), MessageID: id.String(), Message: "OK"}
}

// message translates an email.
func (e *postmarkEmail) message(q *request) (*httpapi.Message, error) {
	switch {
	case given(e.TemplateID) || e.TemplateAlias != "" || given(e.TemplateModel):
		return nil, invalid("TemplateId", "there are no templates here: send HtmlBody or TextBody")
	case e.From == "":
		return nil, invalid("From", "From is missing")
	}
	if e.TrackOpens {
		q.note("TrackOpens is ignored: nothing is tracked")
	}
	if e.TrackLinks != "" && !strings.EqualFold(e.TrackLinks, "None") {
		q.note("TrackLinks is ignored: nothing is tracked")
	}
	if e.InlineCSS != nil && *e.InlineCSS {
		q.note("InlineCss is ignored: HTML goes as it is")
	}
	m := &httpapi.Message{Subject: e.Subject, Text: e.TextBody, HTML: e.HTMLBody, Metadata: e.Metadata, Stream: e.MessageStream}
	if m.Stream == "outbound" {
		m.Stream = ""
	}
	if e.Tag != "" {
		m.Tags = []string{e.Tag}
	}
	var err error
	if m.From, err = author("From", e.From); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		field, text string
		to          *[]httpapi.Address
	}{{"To", e.To, &m.To}, {"Cc", e.Cc, &m.Cc}, {"Bcc", e.Bcc, &m.Bcc}, {"ReplyTo", e.ReplyTo, &m.ReplyTo}} {
		if *l.to, err = addresses(l.field, l.text); err != nil {
			return nil, err
		}
	}
	for _, h := range e.Headers {
		m.Headers = append(m.Headers, httpapi.Header(h))
	}
	m.Attachments, err = postmarkFiles(e.Attachments)
	return m, err
}

func postmarkFiles(files []postmarkAttachment) ([]httpapi.Attachment, error) {
	out := make([]httpapi.Attachment, len(files))
	for i := range files {
		f := &files[i]
		at := fmt.Sprintf("Attachments[%d]", i)
		switch {
		case !f.Content.given:
			return nil, invalid(at+".Content", "the content is missing")
		case f.Content.problem != "":
			return nil, invalid(at+".Content", "%s", f.Content.problem)
		}
		id := strings.TrimPrefix(f.ContentID, "cid:")
		inline := id != "" && !strings.EqualFold(f.Disposition, "attachment")
		out[i] = httpapi.Attachment{Name: f.Name, ContentType: f.ContentType, ContentID: id, Inline: inline, Content: f.Content.content}
	}
	return out, nil
}
