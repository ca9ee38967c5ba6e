package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/doctor"
	"mailout/internal/queue"
)

// watchman is a Doctor that says what it is told.
type watchman struct {
	last    *doctor.Examined
	err     error
	held    []Hold
	learned []doctor.Learned
}

func (w *watchman) Last() *doctor.Examined                        { return w.last }
func (w *watchman) Now(context.Context) (*doctor.Examined, error) { return w.last, w.err }
func (w *watchman) Learned() []doctor.Learned                     { return w.learned }
func (w *watchman) Held() []Hold                                  { return w.held }
func (w *watchman) Updates() (made, failed int64)                 { return 0, 0 }

func (w *watchman) ask(t *testing.T, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	s := New(Options{Doctor: w, Queue: counted{}, Logger: slog.New(slog.DiscardHandler)})
	answer := httptest.NewRecorder()
	s.routes().ServeHTTP(answer, httptest.NewRequest(method, path, nil))
	return answer
}

// counted is a queue with one of each.
type counted struct{ scheduler }

func (counted) Summary(context.Context) (queue.Summary, error) {
	return queue.Summary{Queued: 1, Deferred: 2, Held: 3, Active: 4, Destinations: 5, Sites: 6, OldestS: 7, Uncertain: 8}, nil
}

func examined() *doctor.Examined {
	return &doctor.Examined{At: time.Now().Add(-time.Minute), Report: &doctor.Report{Status: doctor.Fail, Checks: []doctor.Check{
		{ID: "address.record", Subject: "h.example", Status: doctor.Fail}, {ID: "ptr.exists", Subject: "203.0.113.5", Status: doctor.Pass},
	}}}
}

func TestDoctorBeforeTheFirstExamination(t *testing.T) {
	t.Parallel()
	w := &watchman{learned: []doctor.Learned{{Visible: netip.MustParseAddr("203.0.113.5"), From: "mx.example"}}}
	answer := w.ask(t, http.MethodGet, "/v1/doctor")
	var got Examination
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != http.StatusOK {
		t.Fatal(answer.Code, err)
	}
	if got.Status != doctor.Unknown || got.Examined != "" || len(got.Learned) != 1 || got.Learned[0].From != "mx.example" {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(answer.Body.String(), `"checks":[]`) {
		t.Errorf("%s", answer.Body)
	}
	if m := w.ask(t, http.MethodGet, "/metrics"); m.Code != http.StatusOK || strings.Contains(m.Body.String(), "mailout_identity_check") {
		t.Errorf("%d %s", m.Code, m.Body)
	}
}

func TestDoctorShowsTheLastExamination(t *testing.T) {
	t.Parallel()
	hold := doctor.Hold{Hostname: "h.example", Visible: netip.MustParseAddr("203.0.113.5"), Check: doctor.Check{ID: "address.record"}}
	w := &watchman{last: examined(), held: []Hold{{Hold: hold, Reason: "because"}}}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		answer := w.ask(t, method, "/v1/doctor")
		var got Examination
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != http.StatusOK {
			t.Fatal(answer.Code, err)
		}
		if got.Status != doctor.Fail || len(got.Checks) != 2 || got.AgeS != 60 || got.Examined == "" || got.ListsExamined != "" ||
			len(got.Held) != 1 || got.Held[0].Reason != "because" || got.Held[0].Visible != hold.Visible {
			t.Errorf("%s: %+v", method, got)
		}
	}
	w.err = errors.New("the watch has stopped")
	if answer := w.ask(t, http.MethodPost, "/v1/doctor"); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	local := netip.MustParseAddr("192.0.2.10")
	w := &watchman{last: examined(), held: []Hold{{Hold: doctor.Hold{Local: local, Check: doctor.Check{ID: "address.record"}}}}}
	text := w.ask(t, http.MethodGet, "/metrics").Body.String()
	for _, line := range []string{
		`mailout_identity_check{id="address.record",status="fail",subject="h.example"} 1`,
		`mailout_identity_check{id="ptr.exists",status="pass",subject="203.0.113.5"} 1`,
		"mailout_identity_age_seconds 60",
		`mailout_identity_held{check="address.record",source="192.0.2.10"} 1`,
		`mailout_queue_deliveries{state="queued"} 1`, `mailout_queue_deliveries{state="deferred"} 2`, `mailout_queue_deliveries{state="held"} 3`,
		"mailout_queue_active 4", "mailout_queue_destinations 5", "mailout_queue_sites 6", "mailout_queue_oldest_seconds 7", "mailout_uncertain_total 8",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}
