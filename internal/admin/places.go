package admin

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"mailout/internal/account"
)

// How many listings are read at once on TCP: each holds a snapshot of the spool
// for as long as its reader takes.
const (
	maxListings     = 32
	maxUserListings = 8
)

// places counts what is open at once, in all and for each user.
type places struct {
	most, each int

	mu struct {
		sync.Mutex
		all    int
		byUser map[string]int
	}
}

// enter takes a place for a user; false when there is none.
func (s *places) enter(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.all >= s.most || s.mu.byUser[user] >= s.each {
		return false
	}
	if s.mu.byUser == nil {
		s.mu.byUser = make(map[string]int)
	}
	s.mu.all++
	s.mu.byUser[user]++
	return true
}

func (s *places) leave(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.all--
	if s.mu.byUser[user]--; s.mu.byUser[user] == 0 {
		delete(s.mu.byUser, user)
	}
}

// bounded is the middleware that lets so many listings be read at once.
func (s *Server) bounded(ctx huma.Context, next func(huma.Context)) {
	u := account.UserOf(ctx.Context())
	if u == nil || !lists(ctx.Operation()) {
		next(ctx)
		return
	}
	if !s.reading.enter(u.Name) {
		_, w := humago.Unwrap(ctx)
		writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Detail: "too many listings are being read", Retry: time.Second})
		return
	}
	defer s.reading.leave(u.Name)
	next(ctx)
}

// lists reports whether an operation may read the whole spool: it answers in
// lines, or looks for a destination among all.
func lists(op *huma.Operation) bool {
	answer := op.Responses["200"]
	return answer != nil && answer.Content["application/x-ndjson"] != nil || op.OperationID == "destination" || op.OperationID == "messages"
}

// healthFor is how long an answer of /readyz is good for, which anybody may ask.
const healthFor = time.Second

// health remembers whether mail can be taken.
type health struct {
	mu struct {
		sync.Mutex
		at  time.Time
		err error
	}
}

// ask gives what check says, or said just now. One asks at a time.
func (h *health) ask(ctx context.Context, check func(context.Context) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.mu.at.IsZero() || now.Sub(h.mu.at) >= healthFor || now.Before(h.mu.at) {
		err := check(ctx)
		if ctx.Err() != nil {
			return err // of who asked, not of the server
		}
		h.mu.at, h.mu.err = now, err
	}
	return h.mu.err
}
