package dropin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/compose"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/submit/httpapi"
)

// sendgridMail is the body of POST /v3/mail/send.
type sendgridMail struct {
	Personalizations []sendgridPersonalization  `json:"personalizations,omitempty" doc:"Each is a message of its own."`
	From             *sendgridAddress           `json:"from,omitempty"`
	ReplyTo          *sendgridAddress           `json:"reply_to,omitempty"`
	ReplyToList      []sendgridAddress          `json:"reply_to_list,omitempty"`
	Subject          string                     `json:"subject,omitempty"`
	Content          []sendgridContent          `json:"content,omitempty"`
	Attachments      []sendgridAttachment       `json:"attachments,omitempty"`
	Headers          map[string]string          `json:"headers,omitempty"`
	Categories       list                       `json:"categories,omitempty" doc:"Come back in events as tags."`
	CustomArgs       map[string]json.RawMessage `json:"custom_args,omitempty" doc:"Come back in events as metadata."`
	SendAt           int64                      `json:"send_at,omitempty" doc:"Seconds since 1970."`
	MailSettings     *sendgridSettings          `json:"mail_settings,omitempty"`
	TrackingSettings map[string]sendgridSwitch  `json:"tracking_settings,omitempty" doc:"Nothing is tracked: what is switched on is ignored, with a note in X-Mailout-Note."`
	TemplateID       string                     `json:"template_id,omitempty" doc:"Refused: there are no templates here."`
	BatchID          string                     `json:"batch_id,omitempty" doc:"Refused."`
	Asm              json.RawMessage            `json:"asm,omitempty" doc:"Refused: there are no unsubscribe groups here."`
	IPPoolName       string                     `json:"ip_pool_name,omitempty" doc:"Refused: pools are the operator's business."`
	Sections         map[string]string          `json:"sections,omitempty" doc:"Refused."`
}

type sendgridPersonalization struct {
	To                  []sendgridAddress          `json:"to,omitempty"`
	Cc                  []sendgridAddress          `json:"cc,omitempty"`
	Bcc                 []sendgridAddress          `json:"bcc,omitempty"`
	From                *sendgridAddress           `json:"from,omitempty"`
	Subject             string                     `json:"subject,omitempty"`
	Headers             map[string]string          `json:"headers,omitempty"`
	Substitutions       map[string]json.RawMessage `json:"substitutions,omitempty" doc:"Texts to be replaced in subject, content and reply_to."`
	CustomArgs          map[string]json.RawMessage `json:"custom_args,omitempty"`
	SendAt              int64                      `json:"send_at,omitempty"`
	DynamicTemplateData json.RawMessage            `json:"dynamic_template_data,omitempty" doc:"Refused."`
}

type sendgridAddress struct {
	Email string `json:"email"`
	Name  string `json:"name,omitempty"`
}

type sendgridContent struct {
	Type  string `json:"type" enum:"text/plain,text/html"`
	Value string `json:"value"`
}

type sendgridAttachment struct {
	Content     file   `json:"content"`
	Type        string `json:"type,omitempty"`
	Filename    string `json:"filename"`
	Disposition string `json:"disposition,omitempty" enum:"attachment,inline"`
	ContentID   string `json:"content_id,omitempty"`
	// ContentIDToo is how the client for Node writes it, where its types lead.
	ContentIDToo string `json:"contentId,omitempty"`
}

// sendgridSwitch is a setting that is on or off; what else it holds matters
// only when it is on.
type sendgridSwitch struct {
	Enable bool `json:"enable"`
}

// UnmarshalJSON implements json.Unmarshaler: the other members are let pass.
func (s *sendgridSwitch) UnmarshalJSON(b []byte) error {
	var v struct{ Enable bool }
	err := json.Unmarshal(b, &v)
	s.Enable = v.Enable
	return err
}

type sendgridSettings struct {
	SandboxMode                 sendgridSwitch `json:"sandbox_mode,omitzero" doc:"The request is judged and nothing is sent."`
	Footer                      sendgridSwitch `json:"footer,omitzero" doc:"Refused when it is on."`
	Bcc                         sendgridSwitch `json:"bcc,omitzero" doc:"Refused when it is on."`
	SpamCheck                   sendgridSwitch `json:"spam_check,omitzero" doc:"Ignored with a note."`
	BypassListManagement        sendgridSwitch `json:"bypass_list_management,omitzero" doc:"Ignored with a note, like the others of its kind."`
	BypassSpamManagement        sendgridSwitch `json:"bypass_spam_management,omitzero"`
	BypassBounceManagement      sendgridSwitch `json:"bypass_bounce_management,omitzero"`
	BypassUnsubscribeManagement sendgridSwitch `json:"bypass_unsubscribe_management,omitzero"`
}

type sendgridErrors struct {
	Errors []sendgridError `json:"errors"`
}

type sendgridError struct {
	Message string  `json:"message"`
	Field   *string `json:"field"`
	Help    *string `json:"help"`
}

// sendgridIDs is the answer when a request was several messages.
type sendgridIDs struct {
	IDs []string `json:"ids"`
}

// sendgridProblem tells a problem as clients of SendGrid read it.
func sendgridProblem(w http.ResponseWriter, p *rest.Problem) {
	e := sendgridError{Message: p.Detail}
	if e.Message == "" {
		e.Message = http.StatusText(p.Status)
	}
	if p.Field != "" {
		e.Field = &p.Field
	}
	status := p.Status
	if status == http.StatusUnprocessableEntity { // its clients know 400 alone
		status = http.StatusBadRequest
	}
	answer(w, status, sendgridErrors{[]sendgridError{e}})
}

func (d *door) sendgridRoutes(api huma.API) {
	rest.Raw[struct{ Body sendgridMail }, struct {
		ID   string `header:"X-Message-Id" doc:"ID of the first message."`
		Body *sendgridIDs
	}](api, rest.Operation(huma.Operation{
		OperationID: "sendgrid-send", Method: http.MethodPost, Path: "/v3/mail/send", Tags: []string{"Drop-in"}, DefaultStatus: http.StatusAccepted,
		Summary: "Send messages, as clients of SendGrid do", Description: "Errors have the form {errors: [{message, field, help}]}. With several personalizations the body has all IDs, else it is empty.",
	}, account.ScopeSend), d.sendgridSend)
}

func (d *door) sendgridSend(w http.ResponseWriter, r *http.Request) {
	var mail sendgridMail
	q, release, err := d.begin(w, r, &mail)
	defer release()
	if err != nil {
		fail(w, r, err)
		return
	}
	more, err := mail.hold(q)
	defer more()
	var messages []*httpapi.Message
	if err == nil {
		messages, err = mail.messages(q)
	}
	if err == nil && mail.MailSettings != nil && mail.MailSettings.SandboxMode.Enable {
		answer(w, http.StatusOK, nil)
		return
	}
	var results []httpapi.Result
	if err == nil {
		results, err = q.send(q.key, messages...)
	}
	if err != nil {
		fail(w, r, sendgridField(err))
		return
	}
	ids, err := whole(results)
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("X-Message-Id", ids[0].String())
	if len(ids) == 1 {
		answer(w, http.StatusAccepted, nil)
		return
	}
	out := sendgridIDs{}
	for _, id := range ids {
		out.IDs = append(out.IDs, id.String())
	}
	answer(w, http.StatusAccepted, out)
}

// sendgridField names a field as it stands in the request: messages are
// personalizations there.
func sendgridField(err error) error {
	p := *rest.ProblemOf(err)
	list, _, _ := strings.Cut(p.Field, "[")
	switch list {
	case "messages":
		p.Field = "personalizations" + strings.TrimPrefix(p.Field, "messages")
	case "to", "cc", "bcc":
		p.Field = "personalizations[0]." + p.Field
	}
	return &p
}

// messages translates a request.
func (s *sendgridMail) messages(q *request) ([]*httpapi.Message, error) {
	if err := s.unsupported(q); err != nil {
		return nil, err
	}
	if n := len(s.Personalizations); n == 0 || n > httpapi.MaxBatch {
		return nil, invalid("personalizations", "1 to %d are taken", httpapi.MaxBatch)
	}
	if err := s.countable(); err != nil {
		return nil, err
	}
	base := &httpapi.Message{Tags: s.Categories}
	if err := s.content(base); err != nil {
		return nil, err
	}
	var err error
	if base.Attachments, err = s.files(); err != nil {
		return nil, err
	}
	out := make([]*httpapi.Message, len(s.Personalizations))
	for i := range s.Personalizations {
		if out[i], err = s.message(base, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unsupported refuses what would have to be done and is not, and notes what
// changes nothing of the mail.
func (s *sendgridMail) unsupported(q *request) error {
	for _, f := range []struct {
		field, why string
		asked      bool
	}{
		{"template_id", "there are no templates here: send content", s.TemplateID != ""},
		{"batch_id", "sending is cancelled by message here (mailout queue cancel)", s.BatchID != ""},
		{"asm", "there are no unsubscribe groups here: leave those out who do not want mail, and give List-Unsubscribe in headers", given(s.Asm)},
		{"ip_pool_name", "which addresses send is the operator's business (streams)", s.IPPoolName != ""},
		{"sections", "sections are not known here: put their text into substitutions", len(s.Sections) > 0},
	} {
		if f.asked {
			return invalid(f.field, "%s", f.why)
		}
	}
	if set := s.MailSettings; set != nil {
		if set.Footer.Enable {
			return invalid("mail_settings.footer", "no footer is added here: put it into content")
		}
		if set.Bcc.Enable {
			return invalid("mail_settings.bcc", "name the recipient in the bcc of a personalization")
		}
		if set.SpamCheck.Enable {
			q.note("mail_settings.spam_check is ignored")
		}
		if set.BypassListManagement.Enable || set.BypassSpamManagement.Enable || set.BypassBounceManagement.Enable || set.BypassUnsubscribeManagement.Enable {
			q.note("mail_settings.bypass_* is ignored: there are no such lists here")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.TrackingSettings)) {
		if s.TrackingSettings[name].Enable {
			q.note("tracking_settings.%s is ignored: nothing is tracked", name)
		}
	}
	return nil
}

// countable bounds what each personalization gets a copy of: a thousand copies of
// a long list would be large.
func (s *sendgridMail) countable() error {
	for _, f := range []struct {
		field      string
		have, most int
	}{
		{"headers", len(s.Headers), compose.MaxHeaders}, {"custom_args", len(s.CustomArgs), mta.MaxMetadata}, {"reply_to_list", len(s.ReplyToList), maxReplyTo},
	} {
		if f.have > f.most {
			return invalid(f.field, "at most %d are taken", f.most)
		}
	}
	return nil
}

// content fills in text and HTML.
func (s *sendgridMail) content(m *httpapi.Message) error {
	if len(s.Content) == 0 {
		return invalid("content", "content is missing")
	}
	for i, c := range s.Content {
		var to *string
		kind, _, _ := strings.Cut(c.Type, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/plain":
			to = &m.Text
		case "text/html":
			to = &m.HTML
		default:
			return invalid(fmt.Sprintf("content[%d].type", i), "text/plain and text/html are taken; send others as attachments")
		}
		if *to != "" {
			return invalid(fmt.Sprintf("content[%d].type", i), "this type is there twice")
		}
		if c.Value == "" {
			return invalid(fmt.Sprintf("content[%d].value", i), "the value is empty")
		}
		*to = c.Value
	}
	return nil
}

func (s *sendgridMail) files() ([]httpapi.Attachment, error) {
	out := make([]httpapi.Attachment, len(s.Attachments))
	for i := range s.Attachments {
		f := &s.Attachments[i]
		at := fmt.Sprintf("attachments[%d]", i)
		switch {
		case !f.Content.given:
			return nil, invalid(at+".content", "the content is missing")
		case f.Content.problem != "":
			return nil, invalid(at+".content", "%s", f.Content.problem)
		case f.Disposition != "" && f.Disposition != "attachment" && f.Disposition != "inline":
			return nil, invalid(at+".disposition", "attachment or inline is expected")
		}
		out[i] = httpapi.Attachment{Name: f.Filename, ContentType: f.Type, ContentID: cmp.Or(f.ContentID, f.ContentIDToo), Inline: f.Disposition == "inline", Content: f.Content.content}
	}
	return out, nil
}

// message is that of one personalization.
func (s *sendgridMail) message(base *httpapi.Message, i int) (*httpapi.Message, error) {
	p, at := &s.Personalizations[i], fmt.Sprintf("personalizations[%d]", i)
	if given(p.DynamicTemplateData) {
		return nil, invalid(at+".dynamic_template_data", "there are no templates here: use substitutions")
	}
	if len(p.To) == 0 {
		return nil, invalid(at+".to", "no recipients")
	}
	m := *base
	from := s.From
	if p.From != nil {
		from = p.From
	}
	if from == nil {
		return nil, invalid("from", "from is missing")
	}
	m.From = from.address()
	m.To, m.Cc, m.Bcc = sendgridList(p.To), sendgridList(p.Cc), sendgridList(p.Bcc)
	m.ReplyTo = sendgridList(s.ReplyToList)
	if s.ReplyTo != nil && s.ReplyTo.Email != "" {
		m.ReplyTo = append(m.ReplyTo, s.ReplyTo.address())
	}
	if m.Subject = p.Subject; m.Subject == "" {
		m.Subject = s.Subject
	}
	fields := maps.Clone(s.Headers)
	if fields == nil {
		fields = map[string]string{}
	}
	maps.Copy(fields, p.Headers)
	m.Headers = headersOf(fields)
	at64 := s.SendAt
	if p.SendAt != 0 {
		at64 = p.SendAt
	}
	if at64 != 0 {
		m.SendAt = time.Unix(at64, 0).UTC()
	}
	var err error
	if m.Metadata, err = p.metadata(s.CustomArgs, at); err != nil {
		return nil, err
	}
	return &m, p.substitute(&m, at)
}

func (a *sendgridAddress) address() httpapi.Address {
	return httpapi.Address{Name: a.Name, Address: a.Email}
}

func sendgridList(all []sendgridAddress) []httpapi.Address {
	out := make([]httpapi.Address, len(all))
	for i := range all {
		out[i] = all[i].address()
	}
	return out
}

func (p *sendgridPersonalization) metadata(common map[string]json.RawMessage, at string) (map[string]string, error) {
	if len(common)+len(p.CustomArgs) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, from := range []struct {
		field string
		args  map[string]json.RawMessage
	}{{"custom_args", common}, {at + ".custom_args", p.CustomArgs}} {
		for name, v := range from.args {
			text, ok := scalar(v)
			if !ok {
				return nil, invalid(from.field, "%s is neither text nor a number", name)
			}
			out[name] = text
		}
	}
	return out, nil
}

// scalar writes a value that is not a list or an object as text.
func scalar(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 {
		return "", false
	}
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err == nil
	case '{', '[', 'n':
		return "", false
	}
	return string(raw), true
}
