package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

// Problem is an error as RFC 9457 shows it.
type Problem struct {
	Type   string   `json:"type,omitempty" doc:"A URI that names the kind of problem; absent: the title says it all."`
	Title  string   `json:"title" doc:"The status in words."`
	Status int      `json:"status" doc:"The HTTP status."`
	Detail string   `json:"detail,omitempty" doc:"What is wrong, and what to do about it."`
	Field  string   `json:"field,omitempty" doc:"The part of the request at fault: a parameter, or a path into the body such as to[2].email."`
	Reply  string   `json:"reply,omitempty" doc:"The SMTP reply that says the same."`
	Errors []string `json:"errors,omitempty" doc:"All that is wrong, when it is more than one thing."`

	// Retry is when the same request may succeed; it becomes Retry-After.
	Retry time.Duration `json:"-"`
	// Challenge is what WWW-Authenticate says.
	Challenge string `json:"-"`
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.Retry > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((p.Retry+time.Second-1)/time.Second), 10))
	}
	if p.Challenge != "" {
		h.Set("WWW-Authenticate", p.Challenge)
	}
	return h
}

// ProblemWriter is a response whose peer expects problems in a form of its own.
type ProblemWriter interface {
	http.ResponseWriter
	WriteProblem(p *Problem)
}

// WriteProblem answers with a problem.
func WriteProblem(w http.ResponseWriter, p *Problem) {
	fill(p)
	if own, ok := w.(ProblemWriter); ok {
		own.WriteProblem(p)
		return
	}
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the peer went away: nobody to tell
}

// fill completes a problem.
func fill(p *Problem) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.Retry == 0 && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusInsufficientStorage) {
		p.Retry = retryLater
	}
}

// completed is the library's hook before it writes: a problem that a handler
// gave, or that was made of its error, gets the headers that WriteProblem gives.
func completed(ctx huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*Problem); ok {
		fill(p)
		for name, values := range p.GetHeaders() {
			ctx.SetHeader(name, values[0])
		}
	}
	return v, nil
}

// retryLater is after how long a client may try again when nobody knows.
const retryLater = 30 * time.Second

// ProblemOf translates an error into the answer the peer gets.
func ProblemOf(err error) *Problem {
	var p *Problem
	var refusal *submit.Refusal
	var large *http.MaxBytesError
	var wait *account.WaitError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &refusal):
		p = refusalProblem(refusal)
	case errors.As(err, &wait):
		p = &Problem{Status: http.StatusTooManyRequests, Detail: wait.Error(), Retry: wait.After}
	case errors.As(err, &large):
		p = &Problem{Status: http.StatusRequestEntityTooLarge, Detail: "the request has more than " + strconv.FormatInt(large.Limit, 10) + " octets"}
	case errors.Is(err, spool.ErrNotFound):
		p = &Problem{Status: http.StatusNotFound, Detail: "no such message in the queue"}
	case errors.Is(err, spool.ErrFull):
		p = &Problem{Status: http.StatusInsufficientStorage, Detail: err.Error()}
	default:
		p = &Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	}
	fill(p)
	return p
}

// tooMany is the enhanced code of too many recipients.
var tooMany = mta.Enhanced{Class: 4, Subject: 5, Detail: 3}

// refusalProblem keeps the difference between "never" and "try again": 4xx
// replies become 503 with the reply beside. Too many recipients are 452 in SMTP
// so that the client sends the others in a second transaction (RFC 5321
// 4.5.3.1.10); here the same request would never be taken.
func refusalProblem(r *submit.Refusal) *Problem {
	p := &Problem{Status: http.StatusUnprocessableEntity, Detail: r.Reply.Text, Field: r.Field, Reply: r.Reply.String()}
	switch {
	case r.Reply.Enhanced == tooMany:
		p.Status = http.StatusRequestEntityTooLarge
	case r.Reply.Code < 500:
		p.Status = http.StatusServiceUnavailable
	case r.Reply.Code == 552:
		p.Status = http.StatusRequestEntityTooLarge
	}
	return p
}

// ownProblems makes the library tell its errors as Problems. The library keeps
// that in a variable of its own, so it is set once, before the first API.
var ownProblems = sync.OnceFunc(func() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return libraryProblem(status, message, errs)
	}
})

// maxTold bounds the errors of one problem.
const maxTold = 20

// libraryProblem translates what the library found wrong with a request, or
// what a handler returned. Values are never repeated: they may be secrets, or
// large.
func libraryProblem(status int, message string, errs []error) *Problem {
	if status == http.StatusInternalServerError && len(errs) == 1 {
		return ProblemOf(errs[0])
	}
	p := &Problem{Status: status, Detail: smtp.Harmless(message)}
	for _, err := range errs {
		if err == nil || len(p.Errors) == maxTold {
			continue
		}
		text := err.Error()
		if d, ok := err.(huma.ErrorDetailer); ok {
			detail := d.ErrorDetail()
			text = detail.Message
			if field := fieldOf(detail.Location); field != "" {
				text = field + ": " + text
				if p.Field == "" {
					p.Field = smtp.Harmless(field)
				}
			}
		}
		p.Errors = append(p.Errors, smtp.Harmless(text))
	}
	if len(p.Errors) > 0 {
		p.Detail = p.Errors[0]
	}
	if len(p.Errors) == 1 {
		p.Errors = nil
	}
	fill(p)
	return p
}

// fieldOf gives the field of a location of the library: "body.to[2].email" is
// to[2].email for people.
func fieldOf(location string) string {
	place, field, found := strings.Cut(location, ".")
	switch place {
	case "body", "query", "path", "header", "cookie", "form":
		if !found {
			return place
		}
		return field
	}
	return location
}
