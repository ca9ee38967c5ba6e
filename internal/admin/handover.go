package admin

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/drop"
)

// Accepted is the answer to a message that was taken: it is on stable storage.
type Accepted struct {
	ID         mta.ID           `json:"id"`
	Recipients []RecipientState `json:"recipients"`
}

// handover takes an entry: an envelope with the message's ID, and the content.
// The same entry may come again, when its answer was lost; it is taken once and
// answered 202 each time.
func (s *Server) handover(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != drop.ContentType {
		writeProblem(w, &Problem{Status: http.StatusUnsupportedMediaType, Detail: "the content must be " + drop.ContentType})
		return
	}
	request, content, err := drop.Read(r.Body)
	if errors.Is(err, drop.ErrForm) {
		err = &Problem{Status: http.StatusBadRequest, Detail: err.Error()}
	}
	if err == nil {
		err = s.takeEntry(r, request, content)
	}
	if err != nil && !errors.Is(err, submit.ErrTaken) {
		writeProblem(w, problemOf(err))
		return
	}
	out := Accepted{ID: request.ID}
	for _, rcpt := range request.Recipients {
		out.Recipients = append(out.Recipients, RecipientState{Address: rcpt.Address, State: mta.Queued.String()})
	}
	writeJSON(w, http.StatusAccepted, out)
}

func (s *Server) takeEntry(r *http.Request, request *submit.Request, content io.Reader) error {
	if peer := peerOf(r.Context()); peer != "" {
		request.Origin.User = peer // whatever the entry says
	}
	request.Origin.User = mta.LocalUser(request.Origin.User)
	draft, err := s.opts.Intake.Begin(r.Context(), request)
	if err != nil {
		return err
	}
	defer draft.Abort()
	if _, err := io.Copy(draft, content); err != nil {
		return err
	}
	_, err = draft.Commit(r.Context())
	return err
}

func withoutBrackets(text string) string {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		return strings.TrimSuffix(inner, ">")
	}
	return text
}
