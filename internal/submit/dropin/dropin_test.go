package dropin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/submit/httpapi"
)

// sender takes everything whose From is not of refused.example, and remembers
// it.
type sender struct {
	taken []*httpapi.Message
	keys  []string
	user  string
	held  int64
	fail  int // the message of a call that the disk has no room for, from 1
}

func (s *sender) ReadJSON(r *http.Request) ([]byte, string, func(), error) {
	content, err := io.ReadAll(r.Body)
	return content, r.Header.Get("Idempotency-Key"), func() {}, err
}

func (s *sender) Hold(_ context.Context, octets int64) (func(), error) {
	s.held += octets
	return func() { s.held -= octets }, nil
}

func idOf(n int) mta.ID { return mta.NewID(time.UnixMilli(int64(n)), [10]byte{}) }

func (s *sender) Send(ctx context.Context, user *account.User, key string, messages ...*httpapi.Message) ([]httpapi.Result, error) {
	for i, m := range messages {
		if strings.HasSuffix(m.From.Address, "@refused.example") {
			field := "from"
			if len(messages) > 1 {
				field = fmt.Sprintf("messages[%d].from", i)
			}
			return nil, &rest.Problem{Status: http.StatusForbidden, Field: field, Detail: "may not send"}
		}
	}
	if user != nil {
		s.user = user.Name
	}
	s.keys = append(s.keys, key)
	out := make([]httpapi.Result, len(messages))
	for i, m := range messages {
		if i+1 == s.fail {
			out[i].Err = &rest.Problem{Status: http.StatusInsufficientStorage, Detail: "full"}
			continue
		}
		s.taken = append(s.taken, m)
		out[i].ID = idOf(len(s.taken))
	}
	return out, nil
}

// world is the endpoints as the API serves them, for a user who has signed in.
type world struct {
	sender  sender
	handler http.Handler
	journal []*mta.Record
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	mux := http.NewServeMux()
	api := rest.New(mux, "")
	Register(api, Options{Sender: &w.sender, Journal: func(_ context.Context, id mta.ID, each func(*mta.Record) bool) error {
		for _, r := range w.journal {
			if r.ID == id && !each(r) {
				break
			}
		}
		return nil
	}})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if name := r.Header.Get("X-User"); name != "" {
			ctx = account.WithUser(ctx, &account.User{Name: name, Scopes: []account.Scope{account.ScopeSend}})
		}
		mux.ServeHTTP(Dress(rw, r), r.WithContext(ctx))
	})
	return w
}

func (w *world) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-User", "erp")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec
}

func (w *world) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	return w.ask(http.MethodPost, path, body, headers...)
}

// shown is a message in one line.
func shown(m *httpapi.Message) string {
	list := func(all []httpapi.Address) string {
		var out []string
		for _, a := range all {
			out = append(out, strings.TrimSpace(a.Name+" <"+a.Address+">"))
		}
		return strings.Join(out, "+")
	}
	s := fmt.Sprintf("from=%s to=%s cc=%s bcc=%s reply=%s subject=%s text=%s html=%s stream=%s tags=%v meta=%v", list([]httpapi.Address{m.From}), list(m.To), list(m.Cc), list(m.Bcc),
		list(m.ReplyTo), m.Subject, m.Text, m.HTML, m.Stream, m.Tags, m.Metadata)
	for _, h := range m.Headers {
		s += " " + h.Name + ":" + h.Value
	}
	for _, a := range m.Attachments {
		s += fmt.Sprintf(" %s(%s,%s,%v)=%x", a.Name, a.ContentType, a.ContentID, a.Inline, a.Content)
	}
	if !m.SendAt.IsZero() {
		s += " at=" + m.SendAt.UTC().Format(time.RFC3339)
	}
	return s
}

func TestRequestsBecomeMessages(t *testing.T) {
	for _, c := range []struct {
		name, path, body, want, answer string
		status                         int
	}{
		{
			"resend", "/emails", `{"from":"Shop <shop@example.com>","to":["a@x.example","B, C <b@x.example>","\"D, E\" <d@x.example>"],"cc":"c@x.example","bcc":null,"reply_to":"r@example.com",
			"subject":"S","html":"<b>H</b>","text":"T","headers":{"X-B":"2","X-A":"1"},"scheduled_at":"2026-03-01T12:00:00+01:00","tags":[{"name":"k","value":"v"}],
			"attachments":[{"filename":"a.txt","content":"aGk="},{"filename":"l.png","content":{"type":"Buffer","data":[1,255]},"content_type":"image/png","content_id":"l"}]}`,
			`from=Shop <shop@example.com> to=<a@x.example>+B, C <b@x.example>+D, E <d@x.example> cc=<c@x.example> bcc= reply=<r@example.com> subject=S text=T html=<b>H</b> stream= tags=[] meta=map[k:v]` +
				` X-A:1 X-B:2 a.txt(,,false)=6869 l.png(image/png,l,true)=01ff at=2026-03-01T11:00:00Z`,
			`{"id":"` + idOf(1).String() + `"}`, 200,
		},
		{
			"sendgrid", "/v3/mail/send", `{"personalizations":[{"to":[{"email":"a@x.example","name":"A"}],"cc":[{"email":"c@x.example"}],"bcc":[{"email":"b@x.example"}],"headers":{"X-P":"p"},
			"custom_args":{"n":7,"own":"o"},"substitutions":{"-name-":"Ann <&>","-n":"no"},"send_at":1772366400}],"from":{"email":"shop@example.com","name":"Shop"},"reply_to":{"email":"r@example.com"},
			"subject":"Hi -name-","content":[{"type":"text/plain","value":"T -name-"},{"type":"text/html","value":"H -name-"}],"headers":{"X-P":"all","X-Q":"q"},"categories":["c1","c2"],
			"custom_args":{"own":"all","flag":true},"attachments":[{"content":"aGk=","filename":"a.txt","type":"text/plain","disposition":"attachment"},{"content":"aGk=","filename":"i","disposition":"inline","contentId":"i"}],
			"mail_settings":{"sandbox_mode":{"enable":false}}}`,
			`from=Shop <shop@example.com> to=A <a@x.example> cc=<c@x.example> bcc=<b@x.example> reply=<r@example.com> subject=Hi Ann <&> text=T Ann <&> html=H Ann <&> stream= tags=[c1 c2] meta=map[flag:true n:7 own:o]` +
				` X-P:p X-Q:q a.txt(text/plain,,false)=6869 i(,i,true)=6869 at=2026-03-01T12:00:00Z`,
			"", 202,
		},
		{
			"postmark", "/email", `{"From":"Shop <shop@example.com>","To":"a@x.example, \"B, C\" <b@x.example>","Cc":"c@x.example","Bcc":"d@x.example","ReplyTo":"r@example.com","Subject":"S","Tag":"t","HtmlBody":"H",
			"TextBody":"T","Headers":[{"Name":"X-A","Value":"1"}],"Metadata":{"k":"v"},"MessageStream":"broadcast","Attachments":[{"Name":"l.png","Content":"aGk=","ContentType":"image/png","ContentID":"cid:l"}]}`,
			`from=Shop <shop@example.com> to=<a@x.example>+B, C <b@x.example> cc=<c@x.example> bcc=<d@x.example> reply=<r@example.com> subject=S text=T html=H stream=broadcast tags=[t] meta=map[k:v]` +
				` X-A:1 l.png(image/png,l,true)=6869`,
			`"ErrorCode":0,"Message":"OK"`, 200,
		},
	} {
		w := newWorld(t)
		rec := w.post(c.path, c.body, "Idempotency-Key", "k1")
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.answer) || len(w.sender.taken) != 1 {
			t.Errorf("%s: %d %s", c.name, rec.Code, rec.Body)
			continue
		}
		if got := shown(w.sender.taken[0]); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
		if w.sender.user != "erp" || !slices.Equal(w.sender.keys, []string{"k1"}) {
			t.Errorf("%s: user %q, keys %q", c.name, w.sender.user, w.sender.keys)
		}
		if rec.Header().Get("X-Mailout-Note") != "" {
			t.Errorf("%s: noted %q", c.name, rec.Header()["X-Mailout-Note"])
		}
	}
}

// TestNothingIsDroppedInSilence: what is asked for and not done is refused, or
// noted.
func TestNothingIsDroppedInSilence(t *testing.T) {
	resend := func(more string) string {
		return `{"from":"s@example.com","to":"a@x.example","subject":"S","text":"T",` + more + `}`
	}
	sendgrid := func(more string) string {
		return `{"personalizations":[{"to":[{"email":"a@x.example"}]}],"from":{"email":"s@example.com"},"subject":"S","content":[{"type":"text/plain","value":"T"}],` + more + `}`
	}
	postmark := func(more string) string {
		return `{"From":"s@example.com","To":"a@x.example","Subject":"S","TextBody":"T",` + more + `}`
	}
	for _, c := range []struct {
		path, body, field string
	}{
		{"/emails", resend(`"template":{"id":"x"}`), "template"},
		{"/emails", resend(`"topic_id":"x"`), "topic_id"},
		{"/emails", resend(`"scheduled_at":"next tuesday"`), "scheduled_at"},
		{"/emails", resend(`"attachments":[{"path":"https://x.example/f","filename":"f"}]`), "attachments[0].path"},
		{"/emails", resend(`"attachments":[{"filename":"f"}]`), "attachments[0].content"},
		{"/emails", resend(`"attachments":[{"filename":"f","content":"%%%"}]`), "attachments[0].content"},
		{"/emails", resend(`"attachments":[{"filename":"f","content":{"type":"Buffer","data":[300]}}]`), "attachments[0].content"},
		{"/emails", resend(`"tags":[{"name":"a","value":"1"},{"name":"a","value":"2"}]`), "tags[1].name"},
		{"/emails", resend(`"new_feature":true`), "new_feature"},
		{"/emails", resend(`"bcc":7`), "bcc"},
		{"/emails", resend(`"bcc":[7]`), "bcc"},
		{"/emails", `{"to":"a@x.example"}`, "from"},
		{"/emails", `{"from":"a@example.com, b@example.com","to":"a@x.example"}`, "from"},
		{"/v3/mail/send", sendgrid(`"template_id":"d-1"`), "template_id"},
		{"/v3/mail/send", sendgrid(`"batch_id":"b"`), "batch_id"},
		{"/v3/mail/send", sendgrid(`"asm":{"group_id":1}`), "asm"},
		{"/v3/mail/send", sendgrid(`"ip_pool_name":"p"`), "ip_pool_name"},
		{"/v3/mail/send", sendgrid(`"sections":{"-a-":"b"}`), "sections"},
		{"/v3/mail/send", sendgrid(`"mail_settings":{"footer":{"enable":true,"text":"x"}}`), "mail_settings.footer"},
		{"/v3/mail/send", sendgrid(`"mail_settings":{"bcc":{"enable":true,"email":"x@y"}}`), "mail_settings.bcc"},
		{"/v3/mail/send", sendgrid(`"custom_args":{"a":[1]}`), "custom_args"},
		{"/v3/mail/send", sendgrid(`"attachments":[{"content":"aGk=","filename":"f","disposition":"hidden"}]`), "attachments[0].disposition"},
		{"/v3/mail/send", sendgrid(`"whatever":1`), "whatever"},
		{"/v3/mail/send", `{"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"T"}]}`, "personalizations"},
		{"/v3/mail/send", `{"personalizations":[{}],"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"T"}]}`, "personalizations[0].to"},
		{"/v3/mail/send", `{"personalizations":[{"to":[{"email":"a@x"}],"dynamic_template_data":{"a":1}}],"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"T"}]}`, "personalizations[0].dynamic_template_data"},
		{"/v3/mail/send", `{"personalizations":[{"to":[{"email":"a@x"}],"substitutions":{"-a-":"x\r\nBcc: e@x"}}],"subject":"-a-","from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"T"}]}`, "personalizations[0].substitutions"},
		{"/v3/mail/send", `{"personalizations":[{"to":[{"email":"a@x"}]}],"from":{"email":"s@example.com"},"content":[{"type":"text/calendar","value":"T"}]}`, "content[0].type"},
		{"/v3/mail/send", `{"personalizations":[{"to":[{"email":"a@x"}]}],"from":{"email":"s@example.com"}}`, "content"},
		{"/email", postmark(`"TemplateAlias":"x"`), "TemplateId"},
		{"/email", postmark(`"Attachments":[{"Name":"x","Content":"!"}]`), "Attachments[0].Content"},
		{"/email", postmark(`"Whatever":1`), "Whatever"},
		{"/email", `{"From":"a@example.com","To":"a@x.example","Metadata":{"k":{}}}`, "Metadata"},
	} {
		w := newWorld(t)
		rec := w.post(c.path, c.body)
		if rec.Code < 400 || rec.Code >= 500 || len(w.sender.taken) != 0 || !strings.Contains(rec.Body.String(), c.field) {
			t.Errorf("%s %s: %d %s", c.path, c.body, rec.Code, rec.Body)
		}
	}
	for _, c := range []struct{ path, body, note string }{
		{"/v3/mail/send", sendgrid(`"tracking_settings":{"click_tracking":{"enable":true,"enable_text":false},"open_tracking":{"enable":false}}`), "tracking_settings.click_tracking"},
		{"/v3/mail/send", sendgrid(`"mail_settings":{"bypass_list_management":{"enable":true}}`), "bypass"},
		{"/email", postmark(`"TrackOpens":true`), "TrackOpens"},
		{"/email", postmark(`"TrackLinks":"HtmlOnly"`), "TrackLinks"},
		{"/email", postmark(`"InlineCss":true`), "InlineCss"},
	} {
		w := newWorld(t)
		rec := w.post(c.path, c.body)
		notes := rec.Header()["X-Mailout-Note"]
		if rec.Code >= 300 || len(w.sender.taken) != 1 || len(notes) != 1 || !strings.Contains(notes[0], c.note) {
			t.Errorf("%s: %d, notes %q", c.body, rec.Code, notes)
		}
	}
}

// TestProblemsHaveTheFormOfTheClient: for what the endpoint finds, and for what
// is found before it.
func TestProblemsHaveTheFormOfTheClient(t *testing.T) {
	for _, c := range []struct {
		path, body, user string
		status           int
		want             string
	}{
		{"/emails", `{"from":"x@refused.example","to":"a@x.example"}`, "erp", 403, `{"statusCode":403,"name":"invalid_access","message":"from: may not send"}`},
		{"/emails", `{`, "erp", 400, `{"statusCode":400,"name":"validation_error","message":"the request is no JSON: unexpected EOF"}`},
		{"/emails", "{\"from\":\"\xff\"}", "erp", 400, `"message":"the request is not UTF-8"`},
		{"/emails", `{} {}`, "erp", 400, `something stands behind`},
		{"/emails", `{}`, "", 401, `{"statusCode":401,"name":"missing_api_key","message":"sign in`},
		{"/emails/batch", `[{"from":"x@example.com","to":"a@x.example"},{"from":"y@example.com","template":1}]`, "erp", 422, `"message":"[1].template: `},
		{"/emails/batch", `[]`, "erp", 422, `"name":"validation_error"`},
		{"/v3/mail/send", `{"personalizations":[{"to":[{"email":"a@x"}],"from":{"email":"s@example.com"}},{"to":[{"email":"a@x"}],"from":{"email":"x@refused.example"}}],"content":[{"type":"text/plain","value":"T"}]}`,
			"erp", 403, `{"errors":[{"message":"may not send","field":"personalizations[1].from","help":null}]}`},
		{"/v3/mail/send", `{}`, "erp", 400, `"field":"personalizations"`},
		{"/v3/mail/send", `{}`, "", 401, `{"errors":[{"message":"sign in`},
		{"/email", `{"From":"x@refused.example","To":"a@x.example"}`, "erp", 422, `{"ErrorCode":400,"Message":"from: may not send"}`},
		{"/email", `x`, "erp", 422, `{"ErrorCode":402,"Message":"the request is no JSON`},
		{"/email", `{}`, "", 401, `{"ErrorCode":10,"Message":"sign in`},
		{"/email/batch", `[]`, "erp", 422, `"ErrorCode":300`},
	} {
		w := newWorld(t)
		rec := w.post(c.path, c.body, "X-User", c.user)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.want) || len(w.sender.taken) != 0 || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d %s", c.path, c.body, rec.Code, rec.Body)
		}
	}
}

func email(from string) string {
	return `{"from":"` + from + `","From":"` + from + `","to":"a@x.example","To":"a@x.example"}`
}

func TestBatchesTellOfEachMessage(t *testing.T) {
	good, bad := `{"from":"a@example.com","to":"a@x.example"}`, `{"from":"a@refused.example","to":"a@x.example"}`
	w := newWorld(t)
	if rec := w.post("/emails/batch", "["+good+","+bad+"]"); rec.Code != 403 || len(w.sender.taken) != 0 {
		t.Errorf("strict: %d %s, %d taken", rec.Code, rec.Body, len(w.sender.taken))
	}
	if rec := w.post("/emails/batch", "["+good+","+good+"]", "Idempotency-Key", "k"); rec.Code != 200 || !strings.Contains(rec.Body.String(), `{"data":[{"id":"`+idOf(1).String()+`"},{"id":"`+idOf(2).String()+`"}]}`) {
		t.Errorf("strict: %d %s", rec.Code, rec.Body)
	}
	for _, key := range []string{"", "k"} {
		w = newWorld(t)
		rec := w.post("/emails/batch", "["+good+","+bad+`,{"from":"a@example.com","template":1},`+good+"]", "x-batch-validation", "permissive", "Idempotency-Key", key)
		var out resendBatchAnswer
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil || rec.Code != 200 || len(out.Data) != 2 || len(out.Errors) != 2 || out.Errors[0].Index != 1 || out.Errors[1].Index != 2 {
			t.Errorf("permissive, key %q: %d %s", key, rec.Code, rec.Body)
		}
		if key != "" && (len(w.sender.keys) != 2 || w.sender.keys[0] == w.sender.keys[1] || w.sender.keys[0] == "") {
			t.Errorf("the keys are %q", w.sender.keys)
		}
		w = newWorld(t)
		pm := strings.NewReplacer(`"from"`, `"From"`, `"to"`, `"To"`)
		rec = w.post("/email/batch", pm.Replace("["+good+","+bad+","+good+"]"), "Idempotency-Key", key)
		var answers []postmarkAnswer
		if err := json.Unmarshal(rec.Body.Bytes(), &answers); err != nil || rec.Code != 200 || len(answers) != 3 || answers[0].ErrorCode != 0 || answers[1].ErrorCode != 400 || answers[2].MessageID == "" {
			t.Errorf("postmark, key %q: %d %s", key, rec.Code, rec.Body)
		}
	}
}

// TestAHalfTakenRequestSaysSo: who repeats it without a key must know.
func TestAHalfTakenRequestSaysSo(t *testing.T) {
	w := newWorld(t)
	w.sender.fail = 2
	two := `{"personalizations":[{"to":[{"email":"a@x"}]},{"to":[{"email":"b@x"}]}],"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"T"}]}`
	if rec := w.post("/v3/mail/send", two); rec.Code != 507 || !strings.Contains(rec.Body.String(), "message 1 was not taken: full; 1 others were ("+idOf(1).String()+")") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.sender.fail = 0
	rec := w.post("/v3/mail/send", two)
	if rec.Code != 202 || rec.Header().Get("X-Message-Id") != idOf(2).String() || !strings.Contains(rec.Body.String(), idOf(3).String()) {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
}

func TestSandboxSendsNothing(t *testing.T) {
	w := newWorld(t)
	body := `{"personalizations":[{"to":[{"email":"a@x"}]}],"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"T"}],"mail_settings":{"sandbox_mode":{"enable":true}}}`
	if rec := w.post("/v3/mail/send", body); rec.Code != 200 || len(w.sender.taken) != 0 {
		t.Errorf("%d, %d taken", rec.Code, len(w.sender.taken))
	}
}

func TestStatusAsResendTellsIt(t *testing.T) {
	w := newWorld(t)
	id := idOf(7)
	record := func(e mta.Event, rcpt string) {
		w.journal = append(w.journal, &mta.Record{Time: time.UnixMilli(0), Event: e, ID: id, Sender: "s@example.com", Recipient: rcpt, User: "erp"})
	}
	record(mta.EventAccepted, "a@x")
	record(mta.EventAccepted, "b@x")
	for _, step := range []struct {
		event mta.Event
		rcpt  string
		want  string
	}{
		{mta.EventHeld, "a@x", "queued"}, {mta.EventDelivered, "a@x", "queued"}, {mta.EventDeferred, "b@x", "delivery_delayed"},
		{mta.EventDelivered, "b@x", "delivered"}, {mta.EventBounced, "b@x", "delivered"}, {mta.EventFailed, "b@x", "bounced"},
	} {
		record(step.event, step.rcpt)
		rec := w.ask(http.MethodGet, "/emails/"+id.String(), "")
		var out resendStatus
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil || out.LastEvent != step.want || len(out.To) != 2 || out.From != "s@example.com" {
			t.Errorf("after %v of %s: %d %s, want %s", step.event, step.rcpt, rec.Code, rec.Body, step.want)
		}
	}
	for _, path := range []string{"/emails/" + idOf(8).String(), "/emails/no-id"} {
		if rec := w.ask(http.MethodGet, path, ""); rec.Code != 404 || !strings.Contains(rec.Body.String(), `"name":"not_found"`) {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := w.ask(http.MethodGet, "/emails/"+id.String(), "", "X-User", "other"); rec.Code != 404 {
		t.Errorf("another user sees it: %d %s", rec.Code, rec.Body)
	}
}

func TestSpansAsResendWritesThem(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"in 1 min": "2026-03-01T12:01:00Z", "in 2 hours": "2026-03-01T14:00:00Z", "In an hour": "2026-03-01T13:00:00Z", "in 3 days": "2026-03-04T12:00:00Z",
		"2026-03-02T00:00:00Z": "2026-03-02T00:00:00Z", "tomorrow": "", "in -1 hours": "", "in 9999999 days": "", "in 100000 weeks": "2028-11-19T12:00:00Z", "2026-03-02": "",
	} {
		at, after, err := resendTime(text)
		if after > 0 {
			at = now.Add(after)
		}
		if want == "" && err == nil || want != "" && (err != nil || at.Format(time.RFC3339) != want) {
			t.Errorf("%q is %v, %v", text, at, err)
		}
	}
}

// TestAFloodOfMembersIsRefused before it is read: it would take far more memory
// than it has octets.
func TestAFloodOfMembersIsRefused(t *testing.T) {
	n := 1 << 17
	for name, c := range map[string]struct {
		path, body string
	}{
		"emails":           {"/emails/batch", "[" + strings.Repeat("{},", n) + "{}]"},
		"recipients":       {"/emails", `{"from":"a@example.com","to":[` + strings.Repeat(`"",`, n) + `""]}`},
		"numbers":          {"/emails", `{"from":"a@example.com","to":[` + strings.Repeat(`1,`, n) + `1]}`},
		"personalizations": {"/v3/mail/send", `{"personalizations":[` + strings.Repeat("{},", n) + `{}]}`},
		"arguments":        {"/v3/mail/send", `{"custom_args":{` + strings.Repeat(`"":1,`, n) + `"":1}}`},
		"attachments":      {"/email", `{"Attachments":[` + strings.Repeat("{},", n) + `{}]}`},
	} {
		w := newWorld(t)
		if rec := w.post(c.path, c.body); rec.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d %.200s", name, rec.Code, rec.Body)
		}
	}
	var many []string
	for i := range 1000 {
		subst := ""
		for k := range 20 {
			subst += fmt.Sprintf(`"-name%d-":"value %d",`, k, i)
		}
		many = append(many, fmt.Sprintf(`{"to":[{"email":"a%d@x.example","name":"A"}],"substitutions":{%s"-z-":"z"},"custom_args":{"n":%d}}`, i, subst, i))
	}
	w := newWorld(t)
	body := `{"personalizations":[` + strings.Join(many, ",") + `],"from":{"email":"s@example.com"},"subject":"-name1-","content":[{"type":"text/plain","value":"T"}]}`
	if rec := w.post("/v3/mail/send", body); rec.Code != 202 || len(w.sender.taken) != 1000 || w.sender.taken[7].Subject != "value 7" {
		t.Errorf("a thousand personalizations: %d %.200s", rec.Code, rec.Body)
	}
	buffer := `{"from":"a@example.com","to":"a@x","attachments":[{"filename":"f","content":{"type":"Buffer","data":[` + strings.Repeat("255,", n) + `0]}}]}`
	w = newWorld(t)
	if rec := w.post("/emails", buffer); rec.Code != 200 || len(w.sender.taken[0].Attachments[0].Content) != n+1 {
		t.Errorf("a Buffer: %d %.200s", rec.Code, rec.Body)
	}
}

// TestSubstitutionsAreBounded: a small request must not become a large one.
func TestSubstitutionsAreBounded(t *testing.T) {
	long := strings.Repeat("-a- ", 1<<16)
	ask := func(text string, personalizations ...string) *httptest.ResponseRecorder {
		w := newWorld(t)
		rec := w.post("/v3/mail/send", `{"personalizations":[`+strings.Join(personalizations, ",")+`],"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"`+text+`"}]}`)
		if w.sender.held != 0 {
			t.Errorf("%d octets are still held", w.sender.held)
		}
		return rec
	}
	with := func(pairs string) string {
		return `{"to":[{"email":"a@x"}],"substitutions":{` + pairs + `}}`
	}
	if rec := ask(long, with(`"-a-":"`+strings.Repeat("b", 9000)+`"`)); rec.Code != 400 || !strings.Contains(rec.Body.String(), "67108864") {
		t.Errorf("expanded: %d %.300s", rec.Code, rec.Body)
	}
	if rec := ask(long, with(`"-a-":"`+strings.Repeat("b", 100)+`"`)); rec.Code != 202 {
		t.Errorf("long: %d %.300s", rec.Code, rec.Body)
	}
	var many, tags []string
	for i := range 101 {
		tags = append(tags, fmt.Sprintf(`"-%d-":"x"`, i))
	}
	if rec := ask("x", with(strings.Join(tags, ","))); rec.Code != 400 {
		t.Errorf("tags: %d %.300s", rec.Code, rec.Body)
	}
	for range 400 {
		many = append(many, with(strings.Join(tags[:100], ",")))
	}
	if rec := ask(long, many...); rec.Code != 400 {
		t.Errorf("searched: %d %.300s", rec.Code, rec.Body)
	}
	if rec := ask("x", with(`"-a-":"`+strings.Repeat("b", 10_001)+`"`)); rec.Code != 400 {
		t.Errorf("octets: %d %.300s", rec.Code, rec.Body)
	}
	// Other texts than the content are replaced in too, and each personalization
	// has a copy of the lists.
	for field, more := range map[string]string{
		"expanded": `"reply_to":{"email":"r@x","name":"` + long + `"}`, "list": `"reply_to_list":[{"email":"r@x","name":"` + long + `"}]`, "subject": `"subject":"` + long + `"`,
		"headers": `"headers":{` + numbered(`"X-%d":"x"`, 101) + `}`, "custom_args": `"custom_args":{` + numbered(`"a%d":"x"`, 33) + `}`, "reply_to_list": `"reply_to_list":[` + numbered(`{"email":"a%d@x"}`, 101) + `]`,
	} {
		w := newWorld(t)
		rec := w.post("/v3/mail/send", `{"personalizations":[`+with(`"-a-":"`+strings.Repeat("b", 9000)+`"`)+`],"from":{"email":"s@example.com"},"content":[{"type":"text/plain","value":"x"}],`+more+`}`)
		if rec.Code != 400 || w.sender.held != 0 || len(w.sender.taken) != 0 {
			t.Errorf("%s: %d %.300s", field, rec.Code, rec.Body)
		}
	}
}

// numbered is a list of members.
func numbered(format string, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(all, ",")
}
