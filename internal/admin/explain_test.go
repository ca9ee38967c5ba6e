package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestExplainAnswers(t *testing.T) {
	t.Parallel()
	var asked ExplainRequest
	var failure error
	s := New(Options{Logger: slog.New(slog.DiscardHandler), Explain: func(_ context.Context, r ExplainRequest) (*Explanation, error) {
		asked = r
		return &Explanation{Recipient: r.Address.String()}, failure
	}})
	w := get(s, "/v1/explain", url.Values{"address": {" <A@Example.NET> "}, "rcpt": {"true"}})
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"recipient":"A@example.net"`) || !asked.Probe || !asked.Rcpt {
		t.Errorf("%d %s, %+v", w.Code, w.Body, asked)
	}
	get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, "probe": {"maybe"}})
	if asked.Probe || asked.Rcpt {
		t.Errorf("%+v", asked)
	}
	for _, bad := range []string{"", "a", "a@b", "a@-x.example"} {
		w := get(s, "/v1/explain", url.Values{"address": {bad}})
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"field":"recipient"`) {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	failure = errors.New("no")
	if w := get(s, "/v1/explain", url.Values{"address": {"a@example.net"}}); w.Code != http.StatusInternalServerError {
		t.Errorf("%d", w.Code)
	}
	if w := get(newServer(&store{}), "/v1/explain", url.Values{"address": {"a@example.net"}}); w.Code != http.StatusNotFound {
		t.Errorf("without an explainer: %d", w.Code)
	}
}
