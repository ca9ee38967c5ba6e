package dropin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/submit/httpapi"
)

// resendEmail is the body of POST /emails.
type resendEmail struct {
	From        string             `json:"from" required:"false" example:"Shop <shop@example.com>"`
	To          list               `json:"to,omitempty"`
	Cc          list               `json:"cc,omitempty"`
	Bcc         list               `json:"bcc,omitempty"`
	ReplyTo     list               `json:"reply_to,omitempty"`
	Subject     string             `json:"subject,omitempty"`
	HTML        string             `json:"html,omitempty"`
	Text        string             `json:"text,omitempty"`
	Headers     map[string]string  `json:"headers,omitempty"`
	ScheduledAt string             `json:"scheduled_at,omitempty" doc:"A time (RFC 3339), or a span such as \"in 2 hours\"."`
	Attachments []resendAttachment `json:"attachments,omitempty"`
	Tags        []resendTag        `json:"tags,omitempty" doc:"Come back in events as metadata."`
	Template    json.RawMessage    `json:"template,omitempty" doc:"Refused: there are no templates here."`
	TopicID     string             `json:"topic_id,omitempty" doc:"Refused: there are no topics here."`
}

type resendAttachment struct {
	Content     file   `json:"content,omitempty" required:"false"`
	Filename    string `json:"filename,omitempty"`
	Path        string `json:"path,omitempty" doc:"Refused: nothing is fetched."`
	ContentType string `json:"content_type,omitempty"`
	ContentID   string `json:"content_id,omitempty" doc:"With it the file is inline."`
}

type resendTag struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type resendID struct {
	ID string `json:"id"`
}

type resendBatchAnswer struct {
	Data   []resendID         `json:"data"`
	Errors []resendBatchError `json:"errors,omitempty"`
}

type resendBatchError struct {
	Index   int    `json:"index"`
	Message string `json:"message"`
}

// resendStatus is the answer of GET /emails/{id}.
type resendStatus struct {
	Object    string   `json:"object"`
	ID        string   `json:"id"`
	To        []string `json:"to" doc:"The recipients of the envelope."`
	From      string   `json:"from" doc:"The return path."`
	CreatedAt string   `json:"created_at"`
	LastEvent string   `json:"last_event" enum:"queued,scheduled,delivery_delayed,delivered,bounced,failed,canceled"`
}

type resendError struct {
	StatusCode int    `json:"statusCode"`
	Name       string `json:"name"`
	Message    string `json:"message"`
}

// resendProblem tells a problem as clients of Resend read it.
func resendProblem(w http.ResponseWriter, p *rest.Problem) {
	answer(w, p.Status, resendError{StatusCode: p.Status, Name: resendName(p), Message: withField(p)})
}

func resendName(p *rest.Problem) string {
	switch {
	case p.Field == "Idempotency-Key" && p.Status == http.StatusConflict:
		return "concurrent_idempotent_requests"
	case p.Field == "Idempotency-Key" && p.Status == http.StatusUnprocessableEntity:
		return "invalid_idempotent_request"
	case p.Field == "Idempotency-Key":
		return "invalid_idempotency_key"
	}
	switch p.Status {
	case http.StatusUnauthorized:
		return "missing_api_key"
	case http.StatusForbidden:
		return "invalid_access"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusTooManyRequests:
		return "rate_limit_exceeded"
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return "application_error"
	}
	if p.Status >= 500 {
		return "internal_server_error"
	}
	return "validation_error"
}

// withField puts the field into the sentence, for clients that show nothing
// else.
func withField(p *rest.Problem) string {
	text := p.Detail
	if text == "" {
		text = http.StatusText(p.Status)
	}
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	return text
}

func (d *door) resendRoutes(api huma.API) {
	rest.Raw[struct{ Body resendEmail }, struct{ Body resendID }](api, rest.Operation(huma.Operation{
		OperationID: "resend-send", Method: http.MethodPost, Path: "/emails", Tags: []string{"Drop-in"},
		Summary: "Send a message, as clients of Resend do", Description: "Errors have the form {statusCode, name, message}.",
	}, account.ScopeSend), d.resendSend)
	rest.Raw[struct {
		Validation string `header:"x-batch-validation" enum:"strict,permissive" doc:"permissive: messages that are refused do not keep the others back."`
		Body       []resendEmail
	}, struct{ Body resendBatchAnswer }](api, rest.Operation(huma.Operation{
		OperationID: "resend-batch", Method: http.MethodPost, Path: "/emails/batch", Tags: []string{"Drop-in"},
		Summary: "Send messages, as clients of Resend do",
	}, account.ScopeSend), d.resendBatch)
	rest.Raw[struct {
		ID string `path:"id"`
	}, struct{ Body resendStatus }](api, rest.Operation(huma.Operation{
		OperationID: "resend-status", Method: http.MethodGet, Path: "/emails/{id}", Tags: []string{"Drop-in"},
		Summary: "What became of a message, as clients of Resend ask",
	}, account.ScopeSend, account.ScopeRead), d.resendGet)
}

func (d *door) resendSend(w http.ResponseWriter, r *http.Request) {
	var email resendEmail
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
			answer(w, http.StatusOK, resendID{results[0].ID.String()})
			return
		}
	}
	fail(w, r, err)
}

func (d *door) resendBatch(w http.ResponseWriter, r *http.Request) {
	var emails []resendEmail
	q, release, err := d.begin(w, r, &emails)
	defer release()
	if err != nil {
		fail(w, r, err)
		return
	}
	messages, problems := make([]*httpapi.Message, len(emails)), make([]error, len(emails))
	permissive := r.Header.Get("x-batch-validation") == "permissive"
	for i := range emails {
		if messages[i], problems[i] = emails[i].message(q); problems[i] != nil && !permissive {
			p := *rest.ProblemOf(problems[i])
			p.Field = fmt.Sprintf("[%d].%s", i, p.Field)
			fail(w, r, &p)
			return
		}
	}
	switch {
	case len(emails) == 0 || len(emails) > httpapi.MaxBatch:
		fail(w, r, invalid("", "1 to %d messages are taken at once", httpapi.MaxBatch))
	case permissive:
		q.resendPermissive(messages, problems)
	default:
		q.resendStrict(messages)
	}
}

func (q *request) resendStrict(messages []*httpapi.Message) {
	results, err := q.send(q.key, messages...)
	if err == nil {
		var ids []mta.ID
		if ids, err = whole(results); err == nil {
			out := resendBatchAnswer{}
			for _, id := range ids {
				out.Data = append(out.Data, resendID{id.String()})
			}
			answer(q.w, http.StatusOK, out)
			return
		}
	}
	fail(q.w, q.r, err)
}

func (q *request) resendPermissive(messages []*httpapi.Message, problems []error) {
	out := resendBatchAnswer{Data: []resendID{}}
	for i, result := range q.each(messages, problems) {
		if result.Err != nil {
			out.Errors = append(out.Errors, resendBatchError{i, withField(rest.ProblemOf(result.Err))})
			continue
		}
		out.Data = append(out.Data, resendID{result.ID.String()})
	}
	answer(q.w, http.StatusOK, out)
}

// message translates an email.
func (e *resendEmail) message(q *request) (*httpapi.Message, error) {
	switch {
	case given(e.Template):
		return nil, invalid("template", "there are no templates here: send html or text")
	case e.TopicID != "":
		return nil, invalid("topic_id", "there are no topics here: who does not want mail must be left out by the sender")
	case e.From == "":
		return nil, invalid("from", "from is missing")
	}
	m := &httpapi.Message{Subject: e.Subject, Text: e.Text, HTML: e.HTML}
	var err error
	if m.From, err = resendAuthor(e.From); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		field string
		texts list
		to    *[]httpapi.Address
	}{{"to", e.To, &m.To}, {"cc", e.Cc, &m.Cc}, {"bcc", e.Bcc, &m.Bcc}, {"reply_to", e.ReplyTo, &m.ReplyTo}} {
		if *l.to, err = resendAddresses(l.field, l.texts); err != nil {
			return nil, err
		}
	}
	m.Headers = headersOf(e.Headers)
	if m.SendAt, m.SendAfter, err = resendTime(e.ScheduledAt); err != nil {
		return nil, err
	}
	for i, t := range e.Tags {
		if m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
		if _, twice := m.Metadata[t.Name]; twice {
			return nil, invalid(fmt.Sprintf("tags[%d].name", i), "the tag is there twice")
		}
		m.Metadata[t.Name] = t.Value
	}
	m.Attachments, err = resendFiles(e.Attachments)
	return m, err
}

// resendAddresses reads texts of one address each. Programs write the name
// without quotes, whatever it holds; a text without a name may be a list.
func resendAddresses(field string, texts []string) ([]httpapi.Address, error) {
	var out []httpapi.Address
	for _, text := range texts {
		name, rest, named := strings.Cut(strings.TrimSpace(text), "<")
		if named && !strings.ContainsAny(name, "@\"<(") && !strings.Contains(name, "=?") && strings.Count(rest, ">") == 1 && strings.HasSuffix(rest, ">") {
			out = append(out, httpapi.Address{Name: strings.TrimSpace(name), Address: strings.TrimSuffix(rest, ">")})
			continue
		}
		more, err := addresses(field, text)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func resendAuthor(text string) (httpapi.Address, error) {
	all, err := resendAddresses("from", []string{text})
	if err != nil {
		return httpapi.Address{}, err
	}
	if len(all) != 1 {
		return httpapi.Address{}, invalid("from", "one address is needed, there are %d", len(all))
	}
	return all[0], nil
}

// headersOf sorts the fields: an object has no order.
func headersOf(fields map[string]string) []httpapi.Header {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]httpapi.Header, len(names))
	for i, name := range names {
		out[i] = httpapi.Header{Name: name, Value: fields[name]}
	}
	return out
}

func resendFiles(files []resendAttachment) ([]httpapi.Attachment, error) {
	out := make([]httpapi.Attachment, len(files))
	for i := range files {
		f := &files[i]
		at := fmt.Sprintf("attachments[%d]", i)
		switch {
		case f.Path != "":
			return nil, invalid(at+".path", "nothing is fetched here: put the file into content")
		case !f.Content.given:
			return nil, invalid(at+".content", "the content is missing")
		case f.Content.problem != "":
			return nil, invalid(at+".content", "%s", f.Content.problem)
		}
		out[i] = httpapi.Attachment{Name: f.Filename, ContentType: f.ContentType, ContentID: f.ContentID, Inline: f.ContentID != "", Content: f.Content.content}
	}
	return out, nil
}

// resendSpan is what documentation shows of natural language.
var resendSpan = regexp.MustCompile(`^in (\d{1,6}|an?) (sec|second|min|minute|hour|day|week)s?$`)

var spanUnits = map[string]time.Duration{
	"sec": time.Second, "second": time.Second, "min": time.Minute, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// resendTime reads when to send: a time, or a span from now, which stays one so
// that a repeated request is known.
func resendTime(text string) (at time.Time, after time.Duration, err error) {
	if text == "" {
		return at, 0, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, 0, nil
	}
	if m := resendSpan.FindStringSubmatch(strings.ToLower(strings.TrimSpace(text))); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			n = 1 // "in an hour"
		}
		const far = 1000 * 24 * time.Hour // more than is taken, and less than overflows
		unit := spanUnits[m[2]]
		return at, min(time.Duration(n), far/unit) * unit, nil
	}
	return at, 0, invalid("scheduled_at", `neither a time ("2026-03-01T12:00:00Z") nor a span ("in 2 hours")`)
}

// resendGet tells what became of a message.
func (d *door) resendGet(w http.ResponseWriter, r *http.Request) {
	id, err := mta.ParseID(r.PathValue("id"))
	unknown := &rest.Problem{Status: http.StatusNotFound, Detail: "no such message"}
	if err != nil {
		fail(w, r, unknown)
		return
	}
	out := resendStatus{Object: "email", ID: id.String()}
	states := map[string]mta.Event{}
	seen := false
	err = d.opts.Journal(r.Context(), id, func(rec *mta.Record) bool {
		if rec.Event == mta.EventAccepted && rest.Sees(r.Context(), rec.User) {
			seen = true
			out.From, out.CreatedAt = rec.Sender, mta.FormatTime(rec.Time)
			out.To = append(out.To, rec.Recipient)
		}
		if _, counts := resendWeight[rec.Event]; counts && (rec.Event != mta.EventBounced || rec.CameBack()) {
			states[rec.Recipient] = rec.Event
		}
		return true
	})
	if err != nil {
		fail(w, r, err)
		return
	}
	if !seen {
		fail(w, r, unknown)
		return
	}
	out.LastEvent = resendEvent(states)
	answer(w, http.StatusOK, out)
}

// resendWeight orders what may have become of recipients: the message shows
// the worst of it, for a client that asks of one message sees one word.
var resendWeight = map[mta.Event]struct {
	weight int
	word   string
}{
	mta.EventRelayed: {1, "delivered"}, mta.EventDelivered: {1, "delivered"}, mta.EventAccepted: {2, "queued"}, mta.EventReleased: {2, "queued"},
	mta.EventHeld: {3, "queued"}, mta.EventDeferred: {4, "delivery_delayed"}, mta.EventCancelled: {5, "canceled"},
	mta.EventExpired: {6, "bounced"}, mta.EventFailed: {6, "bounced"}, mta.EventBounced: {6, "bounced"}, mta.EventSuppressed: {6, "bounced"},
	mta.EventComplained: {7, "complained"},
}

func resendEvent(states map[string]mta.Event) string {
	most, word := 0, "queued"
	for _, e := range states {
		if w := resendWeight[e]; w.weight > most {
			most, word = w.weight, w.word
		}
	}
	return word
}
