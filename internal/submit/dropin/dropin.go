package dropin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
	"mailout/internal/submit/httpapi"
)

// Sender takes messages: *httpapi.Sender.
type Sender interface {
	ReadJSON(r *http.Request) (content []byte, key string, release func(), err error)
	Hold(ctx context.Context, octets int64) (release func(), err error)
	Send(ctx context.Context, user *account.User, key string, messages ...*httpapi.Message) ([]httpapi.Result, error)
}

// Options are what the endpoints stand on. Both are needed.
type Options struct {
	Sender Sender
	// Journal gives the records of a message, oldest first.
	Journal func(ctx context.Context, id mta.ID, each func(*mta.Record) bool) error
}

// door serves one provider's clients.
type door struct{ opts Options }

// Register puts the endpoints on an API.
func Register(api huma.API, o Options) {
	d := &door{o}
	d.resendRoutes(api)
	d.sendgridRoutes(api)
	d.postmarkRoutes(api)
}

// form is how a provider's clients expect to be told of a problem.
type form func(w http.ResponseWriter, p *rest.Problem)

// formOf knows a provider by its paths; nil: none of ours.
func formOf(path string) form {
	switch {
	case path == "/emails" || strings.HasPrefix(path, "/emails/"):
		return resendProblem
	case path == "/v3" || strings.HasPrefix(path, "/v3/"):
		return sendgridProblem
	case path == "/email" || strings.HasPrefix(path, "/email/"):
		return postmarkProblem
	}
	return nil
}

// Dress makes problems of a request be told as its client expects them, also
// those that are found before the request gets to its endpoint: that the token
// is wrong.
func Dress(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if f := formOf(r.URL.Path); f != nil {
		return &dressed{w, f}
	}
	return w
}

type dressed struct {
	http.ResponseWriter
	form form
}

// WriteProblem implements rest.ProblemWriter.
func (d *dressed) WriteProblem(p *rest.Problem) {
	for name, values := range p.GetHeaders() {
		d.Header()[name] = values
	}
	d.form(d.ResponseWriter, p)
}

// Unwrap is for http.ResponseController.
func (d *dressed) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// answer writes JSON; nil is no body.
func answer(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the peer went away: nobody to tell
}

// fail tells an error in the form of the request's client.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	rest.WriteProblem(Dress(w, r), rest.ProblemOf(err))
}

// invalid is a problem of a field of the request.
func invalid(field, text string, args ...any) *rest.Problem {
	return &rest.Problem{Status: http.StatusUnprocessableEntity, Field: field, Detail: fmt.Sprintf(text, args...)}
}

// request is one that is being translated.
type request struct {
	door  *door
	w     http.ResponseWriter
	r     *http.Request
	key   string // the client's Idempotency-Key; empty: none
	notes []string
}

// begin reads the JSON of a request into v. release gives its memory back, when
// the messages are taken; it is never nil.
func (d *door) begin(w http.ResponseWriter, r *http.Request, v any) (q *request, release func(), err error) {
	content, key, release, err := d.opts.Sender.ReadJSON(r)
	if err == nil {
		err = decode(content, v)
	}
	return &request{door: d, w: w, r: r, key: key}, release, err
}

// note tells what was asked for and is left out.
func (q *request) note(text string, args ...any) {
	const most = 16 // of the same kind are enough
	if text = fmt.Sprintf(text, args...); len(q.notes) < most {
		for _, n := range q.notes {
			if n == text {
				return
			}
		}
		q.notes = append(q.notes, text)
	}
}

// send hands messages over.
func (q *request) send(key string, messages ...*httpapi.Message) ([]httpapi.Result, error) {
	q.w.Header().Del("X-Mailout-Note")
	for _, n := range q.notes {
		q.w.Header().Add("X-Mailout-Note", smtp.Harmless(n))
	}
	ctx := httpapi.WithOrigin(q.r)
	return q.door.opts.Sender.Send(ctx, account.UserOf(ctx), key, messages...)
}

// each hands messages over one by one, so that one that is refused does not
// keep the others back. Each has a key of its own under the client's.
func (q *request) each(messages []*httpapi.Message, problems []error) []httpapi.Result {
	out := make([]httpapi.Result, len(messages))
	if q.key == "" && allNil(problems) {
		if results, err := q.send("", messages...); err == nil {
			return results
		} // which of them is at fault is found out below; none was taken
	}
	for i, m := range messages {
		if problems[i] != nil {
			out[i].Err = problems[i]
			continue
		}
		results, err := q.send(q.keyOf(i), m)
		if err != nil {
			out[i].Err = err
			continue
		}
		out[i] = results[0]
	}
	return out
}

// keyOf is the key of one message of several. It is a hash, so that it is never
// longer than a key may be.
func (q *request) keyOf(i int) string {
	if q.key == "" {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%d of %s", i, q.key)))
}

func allNil(errs []error) bool {
	for _, err := range errs {
		if err != nil {
			return false
		}
	}
	return true
}

// whole gives the IDs of results that are all good. Otherwise its problem names
// those that were taken: who sends them again, without a key, sends them twice.
func whole(results []httpapi.Result) ([]mta.ID, error) {
	var ids []mta.ID
	var failed error
	at := 0
	for i := range results {
		if err := results[i].Err; err != nil {
			if failed == nil {
				failed, at = err, i
			}
			continue
		}
		ids = append(ids, results[i].ID)
	}
	if failed == nil {
		return ids, nil
	}
	p := *rest.ProblemOf(failed)
	const named = 20
	list := make([]string, 0, named)
	for _, id := range ids[:min(len(ids), named)] {
		list = append(list, id.String())
	}
	p.Detail = fmt.Sprintf("message %d was not taken: %s; %d others were (%s), do not send those again", at, p.Detail, len(ids), strings.Join(list, " "))
	return nil, &p
}
