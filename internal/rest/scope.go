package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
)

// open is the scope of what needs none: signed in or not.
const open account.Scope = ""

// scopesKey is where an operation keeps its scopes, in its metadata and in the
// OpenAPI document.
const scopesKey = "x-scopes"

// Operation completes an operation with the scopes that allow it: one of them
// is enough. The scope admin allows everything.
func Operation(op huma.Operation, scopes ...account.Scope) huma.Operation {
	if len(scopes) == 0 {
		panic(op.Method + " " + op.Path + " has no scope")
	}
	return withScopes(op, scopes)
}

// Open completes an operation that asks for no token.
func Open(op huma.Operation) huma.Operation {
	op = withScopes(op, []account.Scope{open})
	op.Security = []map[string][]string{{}}
	return op
}

// Local completes an operation that is served on the Unix socket only.
func Local(op huma.Operation) huma.Operation {
	op = withScopes(op, []account.Scope{})
	op.Security = []map[string][]string{{}}
	op.Description = strings.TrimSpace(op.Description + "\n\nServed on the Unix socket only.")
	return op
}

func withScopes(op huma.Operation, scopes []account.Scope) huma.Operation {
	if op.Metadata == nil {
		op.Metadata = map[string]any{}
	}
	if op.Extensions == nil {
		op.Extensions = map[string]any{}
	}
	op.Metadata[scopesKey] = scopes
	names := make([]string, 0, len(scopes))
	for _, s := range scopes {
		if s != open {
			names = append(names, string(s))
		}
	}
	op.Extensions[scopesKey] = names
	for _, scheme := range []string{schemeKey, schemeBasic, schemePostmark} {
		op.Security = append(op.Security, map[string][]string{scheme: {}})
	}
	if len(names) > 0 {
		op.Description = strings.TrimSpace(op.Description + "\n\nScope: `" + strings.Join(names, "` or `") + "` (or `admin`).")
	}
	return op
}

// Scopes gives the scopes of an operation; false when it has not been through
// Operation, Open or Local.
func Scopes(op *huma.Operation) ([]account.Scope, bool) {
	scopes, ok := op.Metadata[scopesKey].([]account.Scope)
	return scopes, ok
}

type localKey struct{}

// WithLocal marks a request that came by the Unix socket: whoever may open it
// may do everything.
func WithLocal(ctx context.Context) context.Context { return context.WithValue(ctx, localKey{}, true) }

// IsLocal reports whether a request came by the Unix socket.
func IsLocal(ctx context.Context) bool { return ctx.Value(localKey{}) != nil }

// Challenge is what an answer 401 says in WWW-Authenticate.
const Challenge = `Bearer realm="mailout", Basic realm="mailout", charset="UTF-8"`

// mayDo says why a request must not use an operation; nil when it may. What has
// not been through Operation is refused.
func mayDo(ctx context.Context, op *huma.Operation) *Problem {
	scopes, known := Scopes(op)
	if IsLocal(ctx) || known && slices.Contains(scopes, open) {
		return nil
	}
	u := account.UserOf(ctx)
	if u == nil {
		return &Problem{Status: http.StatusUnauthorized, Detail: "sign in with `Authorization: Bearer TOKEN`", Challenge: Challenge}
	}
	switch {
	case known && len(scopes) == 0:
		return &Problem{Status: http.StatusForbidden, Detail: "this is served on the Unix socket only"}
	case !known:
		return &Problem{Status: http.StatusForbidden, Detail: "this is not served here"}
	case slices.ContainsFunc(scopes, u.May):
		return nil
	}
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return &Problem{
		Status:    http.StatusForbidden,
		Detail:    "the user " + u.Name + " has not the scope " + strings.Join(names, " or ") + " ([[user]] scopes)",
		Challenge: `Bearer realm="mailout", error="insufficient_scope", scope="` + strings.Join(names, " ") + `"`, // RFC 6750 3.1
	}
}

// All reports whether the caller may see everybody's mail; if not, only
// messages that user has handed over.
func All(ctx context.Context) (user string, all bool) {
	u := account.UserOf(ctx)
	if u == nil {
		return "", IsLocal(ctx)
	}
	return u.Name, u.May(account.ScopeAdmin)
}

// Sees reports whether the caller may see a message that a user handed over:
// Origin.User of the message, or the User of its accepted record.
func Sees(ctx context.Context, user string) bool {
	name, all := All(ctx)
	return all || name != "" && name == user
}

type stoppingKey struct{}

// WithStopping notes in ctx what tells that the server is about to stop.
func WithStopping(ctx context.Context, stopping <-chan struct{}) context.Context {
	return context.WithValue(ctx, stoppingKey{}, stopping)
}

// Stopping is closed when the server is about to stop: an answer without an end
// of its own, such as a stream of events, must end then. nil: never.
func Stopping(ctx context.Context) <-chan struct{} {
	stopping, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return stopping
}
