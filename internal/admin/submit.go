package admin

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// Accepted is the answer to a message that was taken: it is on stable storage.
type Accepted struct {
	ID         mta.ID           `json:"id"`
	Recipients []RecipientState `json:"recipients"`
}

// maxRecipientArgs bounds the recipients of one request before intake's own
// limit is asked; the request line is bounded by the server's header limit.
const maxRecipientArgs = 20_000

// submit takes a raw MIME message with its envelope in the query.
func (s *Server) submit(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "message/rfc822" {
		writeProblem(w, &Problem{Status: http.StatusUnsupportedMediaType, Detail: "the content must be message/rfc822"})
		return
	}
	request, err := newRequest(r)
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	id, err := s.take(r, request)
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	out := Accepted{ID: id}
	for _, rcpt := range request.Recipients {
		out.Recipients = append(out.Recipients, RecipientState{Address: rcpt.Address, State: mta.Queued.String()})
	}
	writeJSON(w, http.StatusAccepted, out)
}

func newRequest(r *http.Request) (*submit.Request, error) {
	q := r.URL.Query()
	if !q.Has("from") {
		return nil, &Problem{Status: http.StatusBadRequest, Field: "from", Detail: "from is missing (empty means no return path)"}
	}
	to := q["to"]
	if len(to) == 0 || len(to) > maxRecipientArgs {
		return nil, &Problem{Status: http.StatusBadRequest, Field: "to", Detail: "at least one recipient is needed, and at most 20000"}
	}
	sender, err := parseSender(q.Get("from"))
	if err != nil {
		return nil, err
	}
	out := &submit.Request{
		Origin:       mta.Origin{Door: "send", Protocol: "LOCAL"},
		Envelope:     mta.Envelope{Sender: sender},
		Stream:       q.Get("stream"),
		LineEnds:     submit.RepairBare,
		DeclaredSize: max(r.ContentLength, 0),
	}
	seen := make(map[string]bool, len(to))
	for _, text := range to {
		rcpt, err := parseRecipient(text)
		if err != nil {
			return nil, err
		}
		if !seen[rcpt.Address] {
			seen[rcpt.Address] = true
			out.Recipients = append(out.Recipients, rcpt)
		}
	}
	return out, nil
}

func (s *Server) take(r *http.Request, request *submit.Request) (mta.ID, error) {
	if err := s.opts.Intake.Check(r.Context(), request); err != nil {
		return mta.ID{}, err
	}
	draft, err := s.opts.Intake.Begin(r.Context(), request)
	if err != nil {
		return mta.ID{}, err
	}
	defer draft.Abort()
	if _, err := io.Copy(draft, r.Body); err != nil {
		return mta.ID{}, err
	}
	return draft.Commit(r.Context())
}

// parseSender reads a return path: an address, with or without angle brackets;
// nothing is the null return path.
func parseSender(text string) (string, error) {
	text = withoutBrackets(text)
	if text == "" {
		return "", nil
	}
	m, err := smtp.ParseMailbox(text, true)
	if err != nil {
		return "", addressRefusal("sender", text, err)
	}
	return m.String(), nil
}

// parseRecipient reads a recipient by the rules of every door.
func parseRecipient(text string) (mta.Recipient, error) {
	m, err := smtp.ParseMailbox(withoutBrackets(text), true)
	if err == nil {
		err = smtp.CheckRecipient(m)
	}
	if err != nil {
		return mta.Recipient{}, addressRefusal("recipient", text, err)
	}
	return mta.Recipient{Address: m.String()}, nil
}

func withoutBrackets(text string) string {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		return strings.TrimSuffix(inner, ">")
	}
	return text
}

func addressRefusal(field, text string, err error) error {
	reply := mta.Reply{Code: 501, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 3}, Text: err.Error()}
	var syntax *smtp.SyntaxError
	if errors.As(err, &syntax) {
		reply = syntax.Reply()
	}
	reply.Text = smtp.Harmless(text) + ": " + reply.Text
	return &submit.Refusal{Reply: reply, Field: field, Err: err}
}
