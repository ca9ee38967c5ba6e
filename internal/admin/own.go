package admin

import (
	"context"

	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/spool"
)

// maxOwners bounds what one listing remembers of whose message is whose.
const maxOwners = 4096

// view is what one caller may see: everything, or the messages that were handed
// over under its name. It serves one request.
type view struct {
	store spool.Store
	user  string
	all   bool
	known map[mta.ID]bool // of messages met in records: whether they are the user's
}

// viewOf gives the view of who asks.
func (s *Server) viewOf(ctx context.Context) *view {
	user, all := rest.All(ctx)
	return &view{store: s.opts.Store, user: user, all: all}
}

// message reports whether a message may be seen.
func (v *view) message(m *mta.Message) bool {
	return v.all || v.user != "" && m.Origin.User == v.user
}

// record reports whether a journal record may be seen. Only the record of a
// message's arrival says whose it is, so that is looked up for others.
func (v *view) record(ctx context.Context, r *mta.Record) (bool, error) {
	if v.all {
		return true, nil
	}
	mine, known := v.known[r.ID]
	if known {
		return mine, nil
	}
	owner, err := ownerOf(ctx, v.store, r.ID)
	if err != nil {
		return false, err
	}
	if v.known == nil || len(v.known) >= maxOwners {
		v.known = make(map[mta.ID]bool)
	}
	mine = v.user != "" && owner == v.user
	v.known[r.ID] = mine
	return mine, nil
}

// ownerOf is the user of a message's first record; empty when nobody had signed
// in, or when the journal does not go back so far.
func ownerOf(ctx context.Context, store spool.Store, id mta.ID) (owner string, err error) {
	err = store.Records(ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		if r.Event == mta.EventAccepted {
			owner = r.User
		}
		return false // the first is the oldest
	})
	return owner, err
}
