package submit

import (
	"context"
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// claims holds the IDs that requests brought along while their drafts live, so
// that two doors which are given one message at one moment do not both store
// it: the journal knows of it only after the first. At most one a draft.
type claims struct {
	mu struct {
		sync.Mutex
		ids map[mta.ID]struct{}
	}
}

// begin reports whether the ID was free.
func (c *claims) begin(id mta.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, held := c.mu.ids[id]; held {
		return false
	}
	if c.mu.ids == nil {
		c.mu.ids = make(map[mta.ID]struct{})
	}
	c.mu.ids[id] = struct{}{}
	return true
}

// end frees the ID; the zero ID is nobody's.
func (c *claims) end(id mta.ID) {
	if id.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.ids, id)
}

// identify gives the message's ID: a new one, or that of the request, which is
// claimed then. The claim comes before the look at the journal: whoever held it
// before has written there, or has failed.
func (in *Intake) identify(ctx context.Context, r *Request, arrived time.Time) (mta.ID, error) {
	if r.ID.IsZero() {
		id, err := in.newID(arrived)
		if err != nil {
			return mta.ID{}, ownTrouble(err)
		}
		return id, nil
	}
	if !in.claims.begin(r.ID) {
		return mta.ID{}, refuse(451, mta.Enhanced{Class: 4, Subject: 3, Detail: 0}, "id", "the same message is being taken in at this moment, try again later")
	}
	taken := false
	err := in.store.Records(ctx, spool.RecordFilter{ID: r.ID}, func(*mta.Record) bool {
		taken = true
		return false
	})
	if err == nil && !taken {
		return r.ID, nil
	}
	in.claims.end(r.ID)
	if taken {
		return mta.ID{}, ErrTaken
	}
	return mta.ID{}, storeTrouble(err)
}
