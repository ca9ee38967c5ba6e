package admin

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/control"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/rest"
	"mailout/internal/spool"
)

// everything is a server with every part that the API can have.
func everything(tcp TCP) *Server {
	return New(Options{
		TCP: tcp, Store: mixed(), History: bookless{mixed()}, Queue: ordered{}, Intake: intake{}, Doctor: &watchman{}, Control: commander{},
		Explain: func(context.Context, ExplainRequest) (*Explanation, error) { return &Explanation{}, nil },
		Records: func(context.Context) ([]doctor.Record, error) { return []doctor.Record{}, nil },
		Reload:  func(context.Context) (*Reload, error) { return &Reload{}, nil },
		Logger:  slog.New(slog.DiscardHandler),
	})
}

// ordered is a queue with an order of each kind.
type ordered struct{ scheduler }

func (ordered) Summary(context.Context) (queue.Summary, error) {
	at := time.Unix(1e9, 0)
	return queue.Summary{
		Holds:    []queue.Hold{{Destination: "example.net", Since: at, Expires: at}, {Destination: "example.net", Stream: "s", By: "b", Reason: "r", Since: at}},
		Reroutes: []queue.Reroute{{Destination: "example.net", By: "b", Since: at, To: "direct"}},
	}, nil
}

// commander does nothing.
type commander struct{}

func (commander) Preview(context.Context, control.Request) (int64, []*mta.Delivery, error) {
	return 0, nil, nil
}

func (commander) Run(context.Context, control.Request, func(control.Result)) (control.Result, error) {
	return control.Result{}, nil
}

// mixed is a spool with a message of erp, one of shop and one of nobody.
func mixed() *owned {
	s := &owned{}
	for i, user := range []string{"erp", "shop", ""} {
		d := delivery(byte(i+1), user+"@example.com")
		d.Message.Origin.User = user
		s.list = append(s.list, d)
	}
	return s
}

// owned is a store whose messages have users.
type owned struct{ store }

func (s *owned) Get(_ context.Context, id mta.ID) ([]*mta.Delivery, error) {
	for _, d := range s.list {
		if d.Message.ID == id {
			return []*mta.Delivery{d}, nil
		}
	}
	return nil, spool.ErrNotFound
}

// Records gives two records of each message; only the first names the user.
func (s *owned) Records(_ context.Context, filter spool.RecordFilter, f func(*mta.Record) bool) error {
	for _, event := range []mta.Event{mta.EventAccepted, mta.EventDeferred} {
		for _, d := range s.list {
			r := &mta.Record{ID: d.Message.ID, Event: event}
			if event == mta.EventAccepted {
				r.User = d.Message.Origin.User
			}
			if (filter.ID.IsZero() || filter.ID == r.ID) && !f(r) {
				return nil
			}
		}
	}
	return nil
}

func (s *owned) Destinations(context.Context, func(spool.Pending) bool) error { return nil }

// recorder is a mux that knows its patterns.
type recorder struct {
	*http.ServeMux
	patterns []string
}

func (r *recorder) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	r.patterns = append(r.patterns, pattern)
	r.ServeMux.HandleFunc(pattern, handler)
}

// operations gives "METHOD /path" of every operation in a document.
func operations(api *huma.OpenAPI) map[string]*huma.Operation {
	out := map[string]*huma.Operation{}
	for path, item := range api.Paths {
		for method, op := range map[string]*huma.Operation{
			"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete,
			"HEAD": item.Head, "OPTIONS": item.Options, "TRACE": item.Trace,
		} {
			if op != nil {
				out[method+" "+path] = op
			}
		}
	}
	return out
}

// TestTheDocumentIsTheAPI: every route is in the document, everything in the
// document is served, and each says who may use it and what it is.
func TestTheDocumentIsTheAPI(t *testing.T) {
	t.Parallel()
	s := everything(TCP{})
	mux := &recorder{ServeMux: http.NewServeMux()}
	s.mux = mux.ServeMux
	api := rest.New(mux, "1")
	s.register(api)
	ops := operations(api.OpenAPI())
	for _, pattern := range mux.patterns {
		if ops[pattern] == nil {
			t.Errorf("%s is served and not in the document", pattern)
		}
	}
	if len(ops) < 20 || len(ops) != len(mux.patterns) {
		t.Errorf("%d operations, %d routes", len(ops), len(mux.patterns))
	}
	for name, most := range map[string]int{"POST /v1/deliveries/hold": 12, "POST /v1/messages/{id}/cancel": 12, "GET /v1/deliveries": 6, "GET /v1/trace": 2} {
		if n := len(ops[name].Parameters); n < most {
			t.Errorf("%s has %d parameters in the document", name, n)
		}
	}
	for name, op := range ops {
		if _, ok := rest.Scopes(op); !ok {
			t.Errorf("%s says nothing of scopes", name)
		}
		if op.Summary == "" || op.OperationID == "" || len(op.Tags) != 1 {
			t.Errorf("%s is not described: %+v", name, op)
		}
		method, path, _ := strings.Cut(name, " ")
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest(method, fill(path), nil))
		if strings.Contains(w.Body.String(), "is not part of this API") || w.Code == http.StatusUnauthorized {
			t.Errorf("%s is in the document and not served: %d %s", name, w.Code, w.Body)
		}
	}
}

// fill puts values into a path's parameters.
func fill(path string) string {
	return strings.NewReplacer("{id}", (mta.ID{15: 1}).String(), "{destination}", "example.net").Replace(path)
}

// TestNoOtherRoutes: routes are made in one way only, so that none is missing
// from the document, or without a scope.
func TestNoOtherRoutes(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{"register": "what is not found", "rest.New": ""}
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	deeper, _ := filepath.Glob("../*/*/*.go")
	for _, path := range append(files, deeper...) {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "mtatest") || strings.Contains(path, "/acme/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if ok && (sel.Sel.Name == "HandleFunc" || sel.Sel.Name == "Handle" && len(call.Args) == 2 && isString(call.Args[0])) && allowed[fn.Name.Name] == "" {
					t.Errorf("%s: %s makes a route without the document", path, fn.Name.Name)
				}
				return true
			})
		}
	}
}

func isString(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Kind == token.STRING
}

// TestAnswersAreAsDocumented: what is answered is what the document says.
func TestAnswersAreAsDocumented(t *testing.T) {
	t.Parallel()
	s := everything(TCP{})
	s.opts.Doctor = &watchman{last: examined(), learned: []doctor.Learned{}, held: []Hold{{Reason: "x"}}}
	schemas, checked := s.api.OpenAPI().Components.Schemas, 0
	for name, op := range operations(s.api.OpenAPI()) {
		method, path, _ := strings.Cut(name, " ")
		w := httptest.NewRecorder()
		target := fill(path) + "?address=a@example.net&query=a@example.net&all=true&from=&to=a@example.net"
		if strings.Contains(path, "/messages/") || strings.Contains(path, "/queues/") {
			target = fill(path)
		}
		if strings.HasPrefix(path, "/v1/deliveries/") {
			target = fill(path) + "?all=true"
		}
		s.routes().ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if w.Code >= 300 {
			continue // the document has the problem's shape, tested elsewhere
		}
		kind := w.Header().Get("Content-Type")
		response := op.Responses[http200(w.Code)]
		if response == nil {
			t.Errorf("%s: answers %d, which the document does not know: %v", name, w.Code, op.Responses)
			continue
		}
		base, _, _ := strings.Cut(kind, ";")
		content := response.Content[base]
		if content == nil {
			t.Errorf("%s: answers %s, the document says %v", name, kind, slices.Collect(keys(response.Content)))
			continue
		}
		for line := range strings.Lines(w.Body.String()) {
			if content.Schema == nil || !strings.HasSuffix(base, "json") {
				break
			}
			var v any
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(name, err, line)
			}
			checked++
			res := &huma.ValidateResult{}
			huma.Validate(schemas, content.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
			for _, err := range res.Errors {
				t.Errorf("%s: %v in %s", name, err, line)
			}
		}
	}
	if checked < 15 {
		t.Error("only", checked, "answers were looked at")
	}
}

func http200(code int) string {
	b, _ := json.Marshal(code)
	return string(b)
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestUsersSeeTheirOwn: everywhere, and in the same words as if the others'
// messages were not there.
func TestUsersSeeTheirOwn(t *testing.T) {
	t.Parallel()
	s := everything(TCP{})
	ask := func(u *account.User, method, target string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, target, nil)
		s.mux.ServeHTTP(w, r.WithContext(account.WithUser(r.Context(), u)))
		return w
	}
	erp := &account.User{Name: "erp", Scopes: []account.Scope{account.ScopeSend, account.ScopeRead, account.ScopeControl}}
	op := &account.User{Name: "op", Scopes: []account.Scope{account.ScopeAdmin}}
	own, other, none := mta.ID{15: 1}, mta.ID{15: 2}, mta.ID{15: 9}

	for _, c := range []struct {
		u      *account.User
		target string
		lines  int
	}{
		{erp, "/v1/deliveries", 1}, {op, "/v1/deliveries", 3},
		{erp, "/v1/trace?query=a@example.net", 2}, {op, "/v1/trace?query=a@example.net", 6},
		{erp, "/v1/trace?query=" + own.String(), 2}, {erp, "/v1/trace?query=" + other.String(), 0}, {op, "/v1/trace?query=" + other.String(), 2},
		{&account.User{Name: "nobody"}, "/v1/deliveries", 0}, {&account.User{}, "/v1/deliveries", 0}, {&account.User{}, "/v1/trace?query=a@example.net", 0},
	} {
		w := ask(c.u, http.MethodGet, c.target)
		if n := strings.Count(w.Body.String(), "\n"); w.Code != http.StatusOK || n != c.lines {
			t.Errorf("%s %s: %d, %d lines", c.u.Name, c.target, w.Code, n)
		}
	}
	for _, c := range []struct {
		u              *account.User
		method, target string
		status         int
	}{
		{erp, "GET", "/v1/messages/" + own.String(), 200}, {erp, "GET", "/v1/messages/" + other.String(), 404}, {op, "GET", "/v1/messages/" + other.String(), 200},
		{erp, "POST", "/v1/messages/" + own.String() + "/hold", 200}, {erp, "POST", "/v1/messages/" + other.String() + "/hold", 404},
		{op, "POST", "/v1/messages/" + other.String() + "/cancel", 200},
		{erp, "POST", "/v1/queues/example.net/hold", 403}, {op, "POST", "/v1/queues/example.net/hold", 200},
		{erp, "POST", "/v1/deliveries/cancel?all=true", 403}, {erp, "POST", "/v1/deliveries/cancel?id=" + own.String(), 403},
		{erp, "GET", "/v1/explain?address=a@example.net", 200}, {erp, "GET", "/v1/explain?address=a@example.net&probe=true", 403}, {erp, "GET", "/v1/explain?address=a@example.net&rcpt=1", 403},
		{op, "GET", "/v1/explain?address=a@example.net&probe=true", 200},
		{erp, "POST", "/v1/doctor", 403}, {erp, "POST", "/v1/config/reload", 403}, {erp, "POST", "/v1/handover", 403}, {op, "POST", "/v1/handover", 403},
	} {
		if w := ask(c.u, c.method, c.target); w.Code != c.status {
			t.Errorf("%s %s %s: %d %s", c.u.Name, c.method, c.target, w.Code, w.Body)
		}
	}
	if a, b := ask(erp, "GET", "/v1/messages/"+other.String()), ask(erp, "GET", "/v1/messages/"+none.String()); a.Body.String() != b.Body.String() {
		t.Errorf("a user learns that there is a message: %s, %s", a.Body, b.Body)
	}
}
