package admin

import (
	"errors"
	"net/http"

	"mailout/internal/journal"
	"mailout/internal/rest"
)

// Problem is an error as RFC 9457 shows it.
type Problem = rest.Problem

func writeProblem(w http.ResponseWriter, p *Problem) { rest.WriteProblem(w, p) }

// problemOf translates an error into the answer the peer gets.
func problemOf(err error) *Problem {
	if errors.Is(err, journal.ErrQuery) {
		return &Problem{Status: http.StatusBadRequest, Field: "query", Detail: err.Error()}
	}
	return rest.ProblemOf(err)
}
