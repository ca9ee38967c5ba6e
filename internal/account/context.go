package account

import (
	"context"
	"slices"
)

// Scope is something that a user may do over HTTP.
type Scope string

// The scopes.
const (
	// ScopeSend hands mail over, and reads what became of it.
	ScopeSend Scope = "send"
	// ScopeRead reads what the server tells of itself (queues, metrics, the
	// identity), and one's own mail.
	ScopeRead Scope = "read"
	// ScopeControl gives orders about one's own mail in the queue.
	ScopeControl Scope = "control"
	// ScopeSuppress reads and changes the suppression list.
	ScopeSuppress Scope = "suppress"
	// ScopeAdmin allows everything, and with everybody's mail.
	ScopeAdmin Scope = "admin"
)

// May reports whether the user has a scope. Who has admin has every one; who has
// none named may send.
func (u *User) May(s Scope) bool {
	if len(u.Scopes) == 0 {
		return s == ScopeSend
	}
	return slices.Contains(u.Scopes, s) || slices.Contains(u.Scopes, ScopeAdmin)
}

type userKey struct{}

// WithUser notes in ctx who has signed in.
func WithUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserOf is who has signed in; nil for a request of the Unix socket, which may
// do everything.
func UserOf(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}
