package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/doctor"
	"mailout/internal/rest"
)

// Recorder finds the DNS records that direct delivery needs, and whether they
// are published.
type Recorder func(ctx context.Context) ([]doctor.Record, error)

func (s *Server) recordRoutes(api huma.API) {
	rest.Raw[none, answer[[]doctor.Record]](api, rest.Operation(huma.Operation{
		OperationID: "records", Method: http.MethodGet, Path: "/v1/records", Tags: []string{"Identity"},
		Summary:     "The DNS records to publish, and whether they are",
		Description: "The shape of `mailout records --json`. DNS is asked for each request, 20 seconds at most; one request is served at a time.",
	}, account.ScopeRead), s.records)
}

// records answers GET /v1/records. One at a time asks DNS.
func (s *Server) records(w http.ResponseWriter, r *http.Request) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-r.Context().Done():
		return
	}
	out, err := s.opts.Records(r.Context())
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, out)
}
