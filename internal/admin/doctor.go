package admin

import (
	"context"
	"net/http"
	"time"

	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/warmup"
)

// Doctor is what the API asks of the watch of the identity.
type Doctor interface {
	// Last is what the last examination found; nil before the first has ended.
	Last() *doctor.Examined
	// Now examines everything and waits for it.
	Now(ctx context.Context) (*doctor.Examined, error)
	// Learned is what receivers said of our addresses lately.
	Learned() []doctor.Learned
	// Held are the sources whose mail is held now.
	Held() []Hold
	// Updates are how many DNS updates of address records were made, and how
	// many failed, since the start.
	Updates() (made, failed int64)
}

// Hold is a source whose mail is held.
type Hold struct {
	doctor.Hold
	Reason string `json:"reason"`
}

// Examination is the answer of GET and POST /v1/doctor: the shape of `mailout
// doctor --json`, and what only a daemon knows.
type Examination struct {
	Status        doctor.Status    `json:"status"` // unknown before the first examination has ended
	Checks        []doctor.Check   `json:"checks"`
	Examined      string           `json:"examined,omitempty"`       // when
	ListsExamined string           `json:"lists_examined,omitempty"` // when the block lists were asked
	AgeS          int64            `json:"age_s"`
	Held          []Hold           `json:"held"`
	Learned       []doctor.Learned `json:"learned"`
	Warmup        []warmup.State   `json:"warmup,omitempty"` // of the sources that are being warmed up
}

// lastDoctor answers GET /v1/doctor.
func (s *Server) lastDoctor(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.examination(s.opts.Doctor.Last()))
}

// doctorNow answers POST /v1/doctor, after an examination.
func (s *Server) doctorNow(w http.ResponseWriter, r *http.Request) {
	e, err := s.opts.Doctor.Now(r.Context())
	if err != nil {
		writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Detail: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, s.examination(e))
}

func (s *Server) examination(e *doctor.Examined) Examination {
	out := Examination{Status: doctor.Unknown, Checks: []doctor.Check{}, Held: s.opts.Doctor.Held(), Learned: s.opts.Doctor.Learned()}
	if m := s.opts.Meters.Warmup; m != nil {
		out.Warmup = m()
	}
	if e == nil {
		return out
	}
	report := e.Report
	if s.opts.Checks != nil {
		report = report.With(s.opts.Checks()...)
	}
	out.Status, out.Examined, out.AgeS = report.Status, mta.FormatTime(e.At), int64(time.Since(e.At)/time.Second)
	out.Checks = append(out.Checks, report.Checks...)
	if !e.Lists.IsZero() {
		out.ListsExamined = mta.FormatTime(e.Lists)
	}
	return out
}
