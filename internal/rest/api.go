package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// The security schemes of the OpenAPI document.
const (
	schemeKey      = "token"
	schemeBasic    = "basic"
	schemePostmark = "postmark"
)

// New makes an API on a mux. Every operation registered with it is refused
// unless it has been through Operation, Open or Local and the caller has what
// that asks for.
func New(mux humago.Mux, version string) huma.API {
	ownProblems()
	if version == "" {
		version = "0"
	}
	api := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "mailout", Version: version,
				Description: "Hand mail over, ask what became of it, and give orders about what waits. Errors are problems (RFC 9457).",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					schemeKey:      {Type: "http", Scheme: "bearer", Description: "A key of `mailout config key`, NAME:PASSWORD, or a user's password."},
					schemeBasic:    {Type: "http", Scheme: "basic", Description: "A user's name with password or key."},
					schemePostmark: {Type: "apiKey", In: "header", Name: "X-Postmark-Server-Token", Description: "The same tokens, as clients of Postmark send them."},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{completed},
	})
	api.UseMiddleware(authorize)
	return api
}

// authorize is the middleware of every operation.
func authorize(ctx huma.Context, next func(huma.Context)) {
	if p := mayDo(ctx.Context(), ctx.Operation()); p != nil {
		_, w := humago.Unwrap(ctx)
		WriteProblem(w, p)
		return
	}
	next(ctx)
}

// Raw registers an operation whose handler reads the request and writes the
// answer itself, as listings in lines do. I and O are for the document alone,
// and read as huma.Register reads them; the handler checks the request.
func Raw[I, O any](api huma.API, op huma.Operation, handler http.HandlerFunc) {
	huma.Register(rawAPI{api, handler}, op, func(context.Context, *I) (*O, error) { return nil, nil })
}

// rawAPI lets the library document an operation, and puts a plain handler in
// the place of the library's.
type rawAPI struct {
	huma.API
	handler http.HandlerFunc
}

// Adapter implements huma.API.
func (a rawAPI) Adapter() huma.Adapter { return rawAdapter{a.API.Adapter(), a} }

type rawAdapter struct {
	huma.Adapter
	api rawAPI
}

// Handle implements huma.Adapter.
func (a rawAdapter) Handle(op *huma.Operation, _ func(huma.Context)) {
	a.Adapter.Handle(op, a.api.Middlewares().Handler(op.Middlewares.Handler(func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		a.api.handler(w, r.WithContext(ctx.Context()))
	})))
}

// Lines is the response of a listing: one JSON object of type T a line.
func Lines[T any](api huma.API, description string) map[string]*huma.Response {
	t := reflect.TypeFor[T]()
	return map[string]*huma.Response{"200": {
		Description: description,
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: api.OpenAPI().Components.Schemas.Schema(t, true, t.Name())}},
	}}
}

// Document serves the OpenAPI document as it is when it is first asked for.
func Document(api huma.API) http.HandlerFunc {
	text := sync.OnceValues(func() ([]byte, error) { return json.Marshal(api.OpenAPI()) })
	return func(w http.ResponseWriter, _ *http.Request) {
		doc, err := text()
		if err != nil {
			WriteProblem(w, ProblemOf(err))
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(doc) // the peer went away: nobody to tell
	}
}

// schemaName names a type in the document: those of this API as they are
// called, others after their package too, for several have a type Hold.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	switch of := path.Base(t.PkgPath()); of {
	case ".", "admin", "rest":
		return name
	default:
		return strings.ToUpper(of[:1]) + of[1:] + name
	}
}
