package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

func TestSuppressions(t *testing.T) {
	t.Parallel()
	var asked []string
	failures := 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.RequestURI()+" "+string(body))
		switch {
		case failures > 0:
			failures--
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Method == http.MethodGet:
			_, _ = io.WriteString(w, `{"suppressions":[{"address":"a@example.com","reason":"dead","hits":2}],"cursor":"x"}`)
		case r.Method == http.MethodPost:
			_, _ = io.WriteString(w, `{"added":1,"changed":0}`)
		default:
			_, _ = io.WriteString(w, `{"removed":3}`)
		}
	}))
	defer server.Close()
	c, err := New(server.URL, "token")
	if err != nil {
		t.Fatal(err)
	}
	c.Wait = time.Nanosecond
	if err := c.Suppress(t.Context(), Suppression{Address: "a@example.com", Reason: "unsubscribed", Stream: "news"}); err != nil {
		t.Fatal(err)
	}
	all := ""
	page, cursor, err := c.Suppressions(t.Context(), SuppressionQuery{Stream: &all, Limit: 5})
	if err != nil || cursor != "x" || len(page) != 1 || page[0].Hits != 2 {
		t.Errorf("%+v %q %v", page, cursor, err)
	}
	if n, err := c.Unsuppress(t.Context(), "a@example.com", nil); n != 3 || err != nil {
		t.Error(n, err)
	}
	const post = `POST /v1/suppressions {"suppressions":[{"address":"a@example.com","stream":"news","reason":"unsubscribed"}]}`
	want := []string{post, post, "GET /v1/suppressions?limit=5&stream= ", "DELETE /v1/suppressions?address=a%40example.com "}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
}
