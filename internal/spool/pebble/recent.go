package pebble

import (
	"bytes"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
)

// recentIDs is how many IDs one generation of recent remembers.
const recentIDs = 8192

// recent remembers the IDs of the messages put last, in two generations, so
// that a new ID need not be looked for in the store: what is greater than
// every ID that was put before the older generation began was put in these
// two, or never. The commit lock guards it.
type recent struct {
	older, younger map[mta.ID]struct{}
	floor          mta.ID // the greatest ID from before older
	nextFloor      mta.ID // the greatest ID from before younger
	greatest       mta.ID
}

// start begins behind the greatest ID in the store.
func (r *recent) start(db *pdb.DB) error {
	r.older, r.younger = make(map[mta.ID]struct{}), make(map[mta.ID]struct{})
	it, err := db.NewIter(&pdb.IterOptions{LowerBound: []byte{tableMessages}, UpperBound: []byte{tableMessages + 1}})
	if err != nil {
		return fmt.Errorf("read the messages: %w", err)
	}
	defer it.Close()
	for ok := it.Last(); ok; ok = it.Prev() {
		if len(it.Key()) >= messageKeyLen {
			r.greatest = mta.ID(it.Key()[1:])
			break
		}
	}
	if pdb.IsCorruptionError(it.Error()) {
		// Unknown: every ID is looked for until this run has put enough.
		for i := range r.greatest {
			r.greatest[i] = 0xff
		}
	} else if err := it.Error(); err != nil {
		return fmt.Errorf("read the messages: %w", err)
	}
	r.floor, r.nextFloor = r.greatest, r.greatest
	return nil
}

// has reports whether the answer is known here, and the answer.
func (r *recent) has(id mta.ID) (known, used bool) {
	if _, ok := r.younger[id]; ok {
		return true, true
	}
	if _, ok := r.older[id]; ok {
		return true, true
	}
	return bytes.Compare(id[:], r.floor[:]) > 0, false
}

func (r *recent) add(id mta.ID) {
	if len(r.younger) >= recentIDs {
		clear(r.older)
		r.older, r.younger = r.younger, r.older
		r.floor, r.nextFloor = r.nextFloor, r.greatest
	}
	r.younger[id] = struct{}{}
	if bytes.Compare(id[:], r.greatest[:]) > 0 {
		r.greatest = id
	}
}

// remove takes IDs back whose batch was given up.
func (r *recent) remove(ids []mta.ID) {
	for _, id := range ids {
		delete(r.younger, id)
		delete(r.older, id)
	}
}
