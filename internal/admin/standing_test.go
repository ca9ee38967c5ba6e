package admin

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailout/internal/standing"
)

// ledger is a Standing with something of each kind.
type ledger struct{}

func (ledger) Standing(site string) []standing.Entry {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	list := []standing.Entry{
		{Site: "mx.example", Kind: standing.KindFallback, Why: "blocked", Since: at, Until: at.Add(time.Hour)},
		{Site: "mx2.example", Source: "192.0.2.1", Kind: standing.KindSlowed, Why: "too fast", Since: at, Factor: 0.25},
	}
	if site == "mx.example" {
		return list[:1]
	}
	return list
}

func (ledger) ClearStanding(site, by string) int { return len(site + by) }

func (ledger) StandingCounts() standing.Counts {
	return standing.Counts{Slowed: 4, Suspensions: 7, Probes: 5, ProbesFailed: 2}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	s := New(Options{Store: &store{}, History: bookless{&store{}}, Queue: scheduler{}, Standing: ledger{}, Logger: slog.New(slog.DiscardHandler)})
	ask := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	code, body := ask(http.MethodGet, "/v1/standing")
	var list StandingList
	if err := json.Unmarshal([]byte(body), &list); code != 200 || err != nil || len(list.Entries) != 2 || list.Entries[0].Until != "2026-03-01T13:00:00.000Z" || list.Entries[1].Factor != 0.25 {
		t.Errorf("%d %s", code, body)
	}
	if code, body := ask(http.MethodGet, "/v1/standing?site=mx.example"); code != 200 || strings.Contains(body, "mx2") {
		t.Errorf("%d %s", code, body)
	}
	for path, want := range map[string]int{"": 422, "?all=false": 422, "?site=mx.example&all=true": 422, "?all=true": 200, "?site=mx.example": 200} {
		if code, body := ask(http.MethodDelete, "/v1/standing"+path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}
