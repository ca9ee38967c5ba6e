package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestBodiesOfCommands: what is wrong with a member is told in words of its own.
func TestBodiesOfCommands(t *testing.T) {
	t.Parallel()
	s := everything(TCP{})
	for _, c := range []struct {
		body         string
		status       int
		field, words string
	}{
		{`{"reason":"x","expires":"2h","once":true,"stream":null}`, 200, "", ""},
		{`null`, 200, "", ""},
		{`{"expires":3}`, 400, "expires", "expires: a time span is expected, as text"},
		{`{"reason":["x"]}`, 400, "reason", "reason: text is expected"},
		{`{"dry_run":"yes"}`, 400, "dry_run", "dry_run: true or false is expected"},
		{`{"expire":"2h"}`, 400, "expire", "stream, reason, expires"},
		{`{"` + strings.Repeat("x", 60_000) + `":1}`, 400, strings.Repeat("x", maxNamed), "no such member"},
		{`[]`, 400, "body", "not an object"},
		{`{`, 400, "body", "unexpected EOF"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/queues/example.net/hold", strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, r)
		got := w.Body.String()
		if w.Code != c.status || c.field != "" && !strings.Contains(got, `"field":"`+c.field+`"`) || !strings.Contains(got, c.words) || strings.Contains(got, "Go ") {
			t.Errorf("%.60s: %d %s", c.body, w.Code, got)
		}
	}
}
