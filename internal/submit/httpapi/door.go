package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/rest"
	"mailout/internal/submit"
)

const (
	typeJSON    = "application/json"
	typeMessage = "message/rfc822"
)

// keyHeader is what both operations take in the header.
type keyHeader struct {
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"A name for this request, such as a UUID. Sent again with the same name and content within 24 hours, it is taken once and answered the same; with another content it is refused." example:"3f0c9b1e-6d0a-4a0e-9c3f-1b8f2f7f4a55"`
}

// sendParams stand beside a message that is whole.
type sendParams struct {
	keyHeader
	From   string   `query:"from" doc:"With message/rfc822: the return path; empty: none."`
	To     []string `query:"to,explode" doc:"With message/rfc822: recipients."`
	Stream string   `query:"stream" doc:"With message/rfc822, as the member stream in JSON."`
	SendAt string   `query:"send_at" doc:"As send_at in JSON."`
	Expire string   `query:"expire" doc:"As expire in JSON."`
	TLS    bool     `query:"require_tls" doc:"As require_tls in JSON."`
	Tag    []string `query:"tag,explode" doc:"As tags in JSON."`
	Meta   []string `query:"meta,explode" doc:"As metadata in JSON: NAME=VALUE."`
}

type answer[T any] struct {
	Replayed bool `header:"Idempotency-Replayed" doc:"true: the message was taken before, with the same key."`
	Body     T
}

// Register puts the operations of the door on an API.
func Register(api huma.API, s *Sender) {
	schema := func(t reflect.Type) *huma.Schema { return api.OpenAPI().Components.Schemas.Schema(t, true, t.Name()) }
	errs := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusConflict, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable,
	}
	rest.Raw[sendParams, answer[Accepted]](api, rest.Operation(huma.Operation{
		OperationID: "send", Method: http.MethodPost, Path: "/v1/messages", Tags: []string{"Messages"}, DefaultStatus: http.StatusAccepted,
		Summary: "Send a message", Errors: errs,
		Description: "The answer 202 is given when the message is on stable storage.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			typeJSON:    {Schema: schema(reflect.TypeFor[messageBody]())},
			typeMessage: {Schema: &huma.Schema{Type: huma.TypeString, Description: "A whole message; its envelope is in the query."}},
		}},
	}, account.ScopeSend), s.serveMessage)
	rest.Raw[keyHeader, answer[acceptedBatch]](api, rest.Operation(huma.Operation{
		OperationID: "sendBatch", Method: http.MethodPost, Path: "/v1/messages/batch", Tags: []string{"Messages"}, DefaultStatus: http.StatusAccepted,
		Summary: "Send a message to many, each with a message of its own", Errors: errs,
		Description: "All are checked before the first is taken. The answer tells of each; it is 202 when one was taken.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{typeJSON: {Schema: schema(reflect.TypeFor[batchBody]())}}},
	}, account.ScopeSend), s.serveBatch)
}

// begin does what both operations begin with: nothing is read while there is no
// room for mail.
func (s *Sender) begin(r *http.Request, kinds ...string) (kind, key string, err error) {
	if kind, err = contentType(r, kinds...); err != nil {
		return "", "", err
	}
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) > 1 || len(keys) == 1 && keys[0] == "" {
		return "", "", &rest.Problem{Status: http.StatusBadRequest, Field: "Idempotency-Key", Detail: "the header is there twice, or empty"}
	}
	if len(keys) == 1 {
		key = keys[0]
		if _, err := hashKey(nil, key); err != nil {
			return "", "", err
		}
	}
	return kind, key, s.opts.Intake.Check(r.Context(), &submit.Request{})
}

// readJSON reads the body of a request; release gives its memory back.
func (s *Sender) readJSON(r *http.Request) (content []byte, release func(), err error) {
	for name := range r.URL.Query() {
		return nil, nil, &rest.Problem{Status: http.StatusBadRequest, Field: shown(name), Detail: "with JSON everything stands in the body, not in the query"}
	}
	b, err := newBody(r, maxBody(s.opts.Limits()))
	if err != nil {
		return nil, nil, err
	}
	return s.readAll(b)
}

// serveMessage answers POST /v1/messages.
func (s *Sender) serveMessage(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(WithOrigin(r))
	kind, key, err := s.begin(r, typeJSON, typeMessage)
	var result Result
	if err == nil && kind == typeJSON {
		result, err = s.sendJSON(r, key)
	} else if err == nil {
		result, err = s.sendWhole(r, key)
	}
	if err != nil {
		rest.WriteProblem(w, problemOf(err))
		return
	}
	writeAccepted(w, result.Repeated, Accepted{ID: result.ID, Recipients: result.Recipients})
}

func (s *Sender) sendJSON(r *http.Request, key string) (Result, error) {
	content, release, err := s.readJSON(r)
	if err != nil {
		return Result{}, err
	}
	defer release()
	m, err := readMessage(content, s.opts.Limits())
	if err != nil {
		return Result{}, err
	}
	results, err := s.Send(r.Context(), account.UserOf(r.Context()), key, m)
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

func (s *Sender) sendWhole(r *http.Request, key string) (Result, error) {
	m, err := readQuery(r.URL.Query())
	if err != nil {
		return Result{}, err
	}
	content, err := newBody(r, s.opts.Limits().MessageSize)
	if err != nil {
		return Result{}, err
	}
	result, err := s.SendWhole(r.Context(), account.UserOf(r.Context()), key, m, content, r.ContentLength)
	if err != nil {
		p := problemOf(err)
		if name, known := parameters[p.Field]; known {
			p.Field = name
		}
		return Result{}, p
	}
	return result, nil
}

// parameters are the names of a message's members in a query.
var parameters = map[string]string{"return_path": "from", "tags": "tag", "metadata": "meta"}

// serveBatch answers POST /v1/messages/batch.
func (s *Sender) serveBatch(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(WithOrigin(r))
	_, key, err := s.begin(r, typeJSON)
	var results []Result
	if err == nil {
		results, err = s.sendBatch(r, key)
	}
	if err != nil {
		rest.WriteProblem(w, problemOf(err))
		return
	}
	out, repeated := acceptedBatch{Messages: make([]batchOutcome, len(results))}, true
	for i, result := range results {
		repeated = repeated && result.Repeated
		if result.Err != nil {
			out.Refused++
			out.Messages[i].Problem = result.Err
			continue
		}
		out.Accepted++
		out.Messages[i] = batchOutcome{ID: result.ID.String(), Recipients: result.Recipients}
	}
	writeAccepted(w, repeated, out)
}

func (s *Sender) sendBatch(r *http.Request, key string) ([]Result, error) {
	content, release, err := s.readJSON(r)
	if err != nil {
		return nil, err
	}
	defer release()
	b, err := readBatch(content, s.opts.Limits())
	if err != nil {
		return nil, err
	}
	b.held = min(memoryFactor*int64(cap(content)), s.memory.total)
	return s.SendBatch(r.Context(), account.UserOf(r.Context()), key, b)
}

func writeAccepted(w http.ResponseWriter, repeated bool, v any) {
	if repeated {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(v) // the peer went away: nobody to tell
}
