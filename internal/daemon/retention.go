package daemon

import (
	"context"
	"log/slog"
	"time"

	"mailout/internal/config"
	"mailout/internal/mta"
)

// records are a store's journal as its retention needs it.
type records interface {
	Prune(ctx context.Context, before time.Time) error
	JournalOver(ctx context.Context, bound int64) (before time.Time, over bool, err error)
	CompactJournal(ctx context.Context) error
}

// retain removes journal records that are older than [journal] keep, and then,
// when what is left takes more than [journal] size, the oldest of it. Records
// of mail that waits stay in any case.
func retain(ctx context.Context, store records, c config.Journal, now time.Time, log *slog.Logger) {
	err := store.Prune(ctx, now.Add(-c.Keep))
	if err == nil && c.Size > 0 {
		err = shrink(ctx, store, c, now, log)
	}
	if err != nil && ctx.Err() == nil {
		log.Error("old journal records could not be removed; trying again in an hour", mta.KeyError, err)
	}
}

func shrink(ctx context.Context, store records, c config.Journal, now time.Time, log *slog.Logger) error {
	before, over, err := store.JournalOver(ctx, c.Size)
	if err != nil || !over {
		return err
	}
	log.Warn("the journal is larger than [journal] size: records are removed before [journal] keep is over",
		mta.KeySize, c.Size, mta.KeySince, mta.FormatTime(before), mta.KeyKept, now.Sub(before).Round(time.Minute).String())
	if err := store.Prune(ctx, before); err != nil {
		return err
	}
	return store.CompactJournal(ctx) // else what was removed is counted again in an hour
}
