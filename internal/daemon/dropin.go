package daemon

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/submit/dropin"
)

// dropinDoor registers the endpoints for clients of other providers.
func (d *Daemon) dropinDoor(sender dropin.Sender) func(huma.API) {
	return func(api huma.API) {
		dropin.Register(api, dropin.Options{Sender: sender, Journal: func(ctx context.Context, id mta.ID, each func(*mta.Record) bool) error {
			return journal.Trace(ctx, d.store, id.String(), time.Time{}, each)
		}})
	}
}
