package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

// Problem is an error as RFC 9457 shows it.
type Problem struct {
	Type   string   `json:"type,omitempty"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail,omitempty"`
	Field  string   `json:"field,omitempty"`  // the part of the request at fault
	Reply  string   `json:"reply,omitempty"`  // the SMTP reply that says the same
	Errors []string `json:"errors,omitempty"` // one a line, with positions
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the peer went away: nobody to tell
}

// problemOf translates an error into the answer the peer gets.
func problemOf(err error) *Problem {
	var p *Problem
	var refusal *submit.Refusal
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refusal):
		return refusalProblem(refusal)
	case errors.Is(err, journal.ErrQuery):
		return &Problem{Status: http.StatusBadRequest, Field: "query", Detail: err.Error()}
	case errors.Is(err, spool.ErrNotFound):
		return &Problem{Status: http.StatusNotFound, Detail: "no such message in the queue"}
	case errors.Is(err, spool.ErrFull):
		return &Problem{Status: http.StatusInsufficientStorage, Detail: err.Error()}
	}
	return &Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
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
