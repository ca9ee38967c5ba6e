package suppress

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mailout/internal/account"
	"mailout/internal/rest"
)

// serve makes an API with the list, for the Unix socket.
func serve(w *world) http.Handler {
	mux := http.NewServeMux()
	Register(rest.New(mux, "1"), w.List)
	return mux
}

func TestAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	mux := serve(w)
	ask := func(method, target, body string) (int, string) {
		t.Helper()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r.WithContext(rest.WithLocal(r.Context())))
		return rec.Code, strings.TrimSpace(rec.Body.String())
	}
	const path = "/v1/suppressions"
	for _, c := range []struct {
		method, target, body string
		status               int
		answer               string
	}{
		{"GET", path, "", 200, `{"suppressions":[]}`},
		{"POST", path, `{"address":"Ann@Example.com","reason":"unsubscribed","stream":"news"}`, 200, `{"added":1,"changed":0}`},
		{"POST", path, `{"suppressions":[{"address":"bob@example.com"},{"address":"ann@example.com","stream":"news","reason":"complained"}]}`, 200, `{"added":1,"changed":1}`},
		{"GET", path + "?stream=news", "", 200, `{"suppressions":[{"address":"ann@example.com","stream":"news","reason":"complained","since":"2026-01-10T12:00:00.000Z"}]}`},
		{"GET", path + "?stream=", "", 200, `{"suppressions":[{"address":"bob@example.com","reason":"manual","since":"2026-01-10T12:00:00.000Z"}]}`},
		{"POST", path, `{"suppressions":[{"address":"cid@example.com"},{"address":"nobody"}]}`, 422, `"field":"suppressions[1].address"`},
		{"POST", path, `{"suppressions":[{"address":"cid@example.com","expires":"tomorrow"}]}`, 422, `"field":"suppressions[0].expires"`},
		{"POST", path, `{"address":"cid@example.com","reason":"odd"}`, 422, `"field":"reason"`},
		{"POST", path, `{"address":"cid@example.com","suppressions":[]}`, 422, `"field":"suppressions"`},
		{"POST", path, `{}`, 422, `"field":"address"`},
		{"POST", path, `{"adress":"x"}`, 400, "the body is not what is asked for"},
		{"POST", path, "[", 400, "the body is not what is asked for"},
		{"POST", path, `{"suppressions":[` + strings.Repeat(`{"address":"a@example.com"},`, MaxBatch) + `{"address":"a@example.com"}]}`, 422, "at most 1000 are taken"},
		{"POST", path, `{"reply":"` + strings.Repeat("x", maxBody) + `"}`, 413, "octets"},
		{"GET", path + "?limit=0", "", 400, `"field":"limit"`},
		{"GET", path + "?limit=1001", "", 400, `"field":"limit"`},
		{"GET", path + "?cursor=!", "", 400, `"field":"cursor"`},
		{"GET", path + "?reason=x", "", 400, `"field":"reason"`},
		{"GET", path + "?odd=x", "", 400, `"field":"odd"`},
		{"GET", path + "?address=nobody", "", 422, `"field":"address"`},
		{"DELETE", path + "?address=BOB@example.com", "", 200, `{"removed":1}`},
		{"DELETE", path + "?address=ann@example.com&stream=", "", 200, `{"removed":0}`},
		{"DELETE", path + "?address=ann@example.com&stream=news", "", 200, `{"removed":1}`},
		{"DELETE", path, "", 422, `"field":"address"`},
	} {
		status, answer := ask(c.method, c.target, c.body)
		if status != c.status || !strings.Contains(answer, c.answer) {
			t.Errorf("%s %s %.60s: %d %.300s", c.method, c.target, c.body, status, answer)
		}
	}
}

func TestAPIPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	for _, a := range []string{"a", "b", "c"} {
		w.must(w.Add(t.Context(), Entry{Address: a + "@example.com"}))
	}
	mux := serve(w)
	cursor, got := "", ""
	for range 5 {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/v1/suppressions?limit=2&cursor="+cursor, nil)
		mux.ServeHTTP(rec, r.WithContext(rest.WithLocal(r.Context())))
		var l Listing
		if err := json.Unmarshal(rec.Body.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		for _, s := range l.Suppressions {
			got += s.Address[:1]
		}
		if cursor = l.Cursor; cursor == "" {
			break
		}
	}
	if got != "abc" || cursor != "" {
		t.Error(got, cursor)
	}
}

// TestScope: only users with the scope suppress, or admin, may.
func TestScope(t *testing.T) {
	t.Parallel()
	mux := serve(newWorld(t, Settings{Sure: 1}))
	for scope, want := range map[account.Scope]int{
		account.ScopeSuppress: 200, account.ScopeAdmin: 200, account.ScopeSend: 403, account.ScopeRead: 403, account.ScopeControl: 403,
	} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/v1/suppressions", nil)
		mux.ServeHTTP(rec, r.WithContext(account.WithUser(r.Context(), &account.User{Name: "u", Scopes: []account.Scope{scope}})))
		if rec.Code != want {
			t.Errorf("%s: %d", scope, rec.Code)
		}
	}
}
