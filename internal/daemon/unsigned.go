package daemon

import (
	"context"

	"mailout/internal/dns"
)

// unsigned says why nobody here can tell whether DNS answers are signed; empty:
// it can be told.
func unsigned(r *dns.Resolver) func(context.Context) string {
	return func(ctx context.Context) string {
		if state := r.DNSSEC(ctx); !state.On() {
			return state.Why
		}
		return ""
	}
}
