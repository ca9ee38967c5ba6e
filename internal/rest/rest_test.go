package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

type order struct {
	Limit int `query:"limit" minimum:"1"`
	Body  struct {
		To []struct {
			Email string `json:"email" minLength:"3"`
		} `json:"to"`
		Secret string `json:"secret,omitempty" maxLength:"4"`
	}
}

type reply struct{ Body struct{} }

// serve asks an API with one operation, whose handler gives err.
func serve(op huma.Operation, err error, ctx context.Context, target, body string) (*httptest.ResponseRecorder, *Problem) {
	mux := http.NewServeMux()
	op.Method, op.Path, op.OperationID = http.MethodPost, "/x", "x"
	huma.Register(New(mux, ""), op, func(context.Context, *order) (*reply, error) { return &reply{}, err })
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, strings.NewReader(body)).WithContext(ctx))
	p := &Problem{}
	if w.Code != http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), p); err != nil {
			panic(w.Body.String())
		}
	}
	return w, p
}

const good = `{"to":[{"email":"a@b"}]}`

// TestLibraryErrorsAreProblems: what the library finds has the shape of every
// other problem, points at the field, and does not repeat what was sent.
func TestLibraryErrorsAreProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target, body  string
		status        int
		field, detail string
		errors        int
	}{
		{"/x", good, 200, "", "", 0},
		{"/x", `{"to":[{"email":"a@b"},{"email":"a"}]}`, 422, "to[1].email", "to[1].email: expected length >= 3", 0},
		{"/x?limit=0", good, 422, "limit", "limit: expected number >= 1", 0},
		{"/x?limit=x", good, 422, "limit", "limit: invalid integer", 0},
		{"/x", `{"to":[],"other":1}`, 422, "other", "other: unexpected property", 0},
		{"/x?limit=0", `{"to":[{"email":"a"}],"secret":"hunter22"}`, 422, "limit", "limit: expected number >= 1", 3},
		{"/x", `{"to"`, 400, "body", "", 0},
		{"/x", ``, 400, "", "request body is required", 0},
		{"/x", `{"to":[` + strings.Repeat(`{"email":""},`, 100) + `{"email":""}]}`, 422, "to[0].email", "to[0].email: expected length >= 3", maxTold},
		{"/x", `{"to":[],"a` + "\x1b" + `\u0000b":1}`, 400, "body", "", 0},
	} {
		w, p := serve(Open(huma.Operation{}), nil, t.Context(), c.target, c.body)
		if w.Code != c.status || c.status != 200 && (p.Status != c.status || p.Title != http.StatusText(c.status) || p.Field != c.field || !strings.HasPrefix(p.Detail, c.detail) || len(p.Errors) != c.errors) {
			t.Errorf("%s %.60s: %d %+v", c.target, c.body, w.Code, p)
		}
		if c.status != 200 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Error(w.Header())
		}
		if s := w.Body.String(); strings.Contains(s, "hunter22") || strings.Contains(s, "\x1b") {
			t.Error("what was sent comes back:", s)
		}
	}
}

// TestErrorsKeepTheirMeaning: what handlers return becomes the same answers as
// from handlers that write themselves.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	refusal := func(code int, e mta.Enhanced) error {
		return &submit.Refusal{Reply: mta.Reply{Code: code, Enhanced: e, Text: "x"}, Field: "to"}
	}
	for _, c := range []struct {
		err    error
		status int
		retry  string
	}{
		{&Problem{Status: http.StatusConflict, Detail: "twice"}, 409, ""},
		{&Problem{Status: http.StatusTooManyRequests, Retry: 1500 * time.Millisecond}, 429, "2"},
		{&account.WaitError{After: time.Minute}, 429, "60"},
		{refusal(452, mta.Enhanced{Class: 4, Subject: 3, Detail: 1}), 503, "30"},
		{refusal(452, mta.Enhanced{Class: 4, Subject: 5, Detail: 3}), 413, ""},
		{refusal(550, mta.Enhanced{Class: 5, Subject: 1, Detail: 1}), 422, ""},
		{refusal(451, mta.Enhanced{Class: 4, Subject: 3}), 503, "30"},
		{refusal(552, mta.Enhanced{Class: 5, Subject: 3, Detail: 4}), 413, ""},
		{refusal(554, mta.Enhanced{Class: 5, Subject: 6}), 422, ""},
		{spool.ErrNotFound, 404, ""},
		{spool.ErrFull, 507, "30"},
		{&http.MaxBytesError{Limit: 5}, 413, ""},
		{errors.New("anything"), 500, ""},
	} {
		w, p := serve(Open(huma.Operation{}), c.err, t.Context(), "/x", good)
		direct := httptest.NewRecorder()
		WriteProblem(direct, ProblemOf(c.err))
		var refused *submit.Refusal
		if errors.As(c.err, &refused) && (p.Reply != refused.Reply.String() || p.Field != "to") {
			t.Errorf("the reply is lost: %+v", p)
		}
		if w.Code != c.status || p.Status != c.status || w.Header().Get("Retry-After") != c.retry {
			t.Errorf("%v: %d %+v %v", c.err, w.Code, p, w.Header())
		}
		if direct.Code != w.Code || direct.Body.String() != w.Body.String() || direct.Header().Get("Retry-After") != c.retry {
			t.Errorf("%v: %s here, %s there", c.err, direct.Body, w.Body)
		}
	}
}

// TestScopesAreAskedFor: nothing is served to whom it is not meant for, and an
// operation that says nothing of scopes is served to nobody on TCP.
func TestScopesAreAskedFor(t *testing.T) {
	t.Parallel()
	as := func(scopes ...account.Scope) context.Context {
		return account.WithUser(t.Context(), &account.User{Name: "erp", Scopes: scopes})
	}
	stranger, local := t.Context(), WithLocal(t.Context())
	send := func() huma.Operation { return Operation(huma.Operation{}, account.ScopeSend, account.ScopeRead) }
	for _, c := range []struct {
		what   string
		op     huma.Operation
		ctx    context.Context
		status int
	}{
		{"stranger", send(), stranger, 401},
		{"local", send(), local, 200},
		{"first scope", send(), as(account.ScopeSend), 200},
		{"second scope", send(), as(account.ScopeControl, account.ScopeRead), 200},
		{"other scope", send(), as(account.ScopeControl), 403},
		{"admin", send(), as(account.ScopeAdmin), 200},
		{"no scope named: send", send(), as(), 200},
		{"open, stranger", Open(huma.Operation{}), stranger, 200},
		{"local only, stranger", Local(huma.Operation{}), stranger, 401},
		{"local only, admin", Local(huma.Operation{}), as(account.ScopeAdmin), 403},
		{"local only, local", Local(huma.Operation{}), local, 200},
		{"forgotten, stranger", huma.Operation{}, stranger, 401},
		{"forgotten, admin", huma.Operation{}, as(account.ScopeAdmin), 403},
	} {
		w, p := serve(c.op, nil, c.ctx, "/x", good)
		if w.Code != c.status {
			t.Errorf("%s: %d %+v", c.what, w.Code, p)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); (w.Code == 401) != strings.Contains(challenge, "Basic") {
			t.Errorf("%s: %q", c.what, challenge)
		}
	}
	_, p := serve(send(), nil, as(account.ScopeControl), "/x", good)
	if !strings.Contains(p.Detail, "send or read") || !strings.Contains(p.Detail, "erp") {
		t.Error(p.Detail)
	}
	defer func() {
		if recover() == nil {
			t.Error("an operation without a scope is taken")
		}
	}()
	Operation(huma.Operation{})
}

// TestSees: one's own mail; everybody's for admin and on the socket; nothing for
// whom nobody knows.
func TestSees(t *testing.T) {
	t.Parallel()
	erp := account.WithUser(t.Context(), &account.User{Name: "erp"})
	admin := account.WithUser(t.Context(), &account.User{Name: "op", Scopes: []account.Scope{account.ScopeAdmin}})
	for _, c := range []struct {
		ctx  context.Context
		user string
		want bool
	}{
		{erp, "erp", true}, {erp, "shop", false}, {erp, "", false}, {admin, "erp", true}, {admin, "", true},
		{WithLocal(t.Context()), "", true}, {t.Context(), "", false}, {t.Context(), "erp", false},
	} {
		if Sees(c.ctx, c.user) != c.want {
			t.Error(c.user, !c.want)
		}
	}
}
