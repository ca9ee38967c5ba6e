package pebble

import (
	"bytes"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Reading ahead for a large batch of settlements. Outcomes of attempts are of
// messages that came a moment ago, and their records are in memory. An
// operator's command is about all that waits: looking each record up through
// all levels of the tree was a third of its time. Neighbours in the table are
// neighbours in the command's batch, so one iterator reads them in the order of
// their keys, mostly without leaving its block.

// aheadFrom is the size of a batch from which an iterator pays.
const aheadFrom = 16

// maxAhead bounds the memory that is kept between batches, in octets.
const maxAhead = 1 << 20

// ahead are the delivery records of a batch, as they were before it.
type ahead struct {
	keys  []mta.DeliveryKey // sorted
	ends  []int             // ends[i] is where the value of keys[i] ends in data; -1: not read
	data  []byte
	valid bool
}

func compareKeys(a, b mta.DeliveryKey) int {
	if c := bytes.Compare(a.Message[:], b.Message[:]); c != 0 {
		return c
	}
	return int(min(max(int64(a.N)-int64(b.N), -1), 1))
}

// read reads the records of the settlements, if there are many. What cannot be
// read is left to a look-up, which tells damage from absence. The commit lock is
// held.
func (a *ahead) read(t *txn, sets []*spool.Settlement) {
	a.valid = false
	if len(sets) < aheadFrom {
		return
	}
	if cap(a.data) > maxAhead {
		a.data = nil
	}
	a.keys, a.ends, a.data = a.keys[:0], a.ends[:0], a.data[:0]
	for _, st := range sets {
		a.keys = append(a.keys, st.Delivery)
	}
	slices.SortFunc(a.keys, compareKeys)
	a.keys = slices.Compact(a.keys)
	it, err := t.s.db.NewIter(&pdb.IterOptions{LowerBound: []byte{tableMessages}, UpperBound: []byte{tableMessages + 1}})
	if err != nil {
		return
	}
	defer it.Close()
	for _, k := range a.keys {
		t.key = deliveryKey(t.key[:0], k)
		end := -1
		if it.SeekGE(t.key) && bytes.Equal(it.Key(), t.key) {
			if v, err := it.ValueAndErr(); err == nil && len(v) > 0 {
				a.data = append(a.data, v...)
				end = len(a.data)
			}
		}
		if it.Error() != nil {
			return // looked up one by one
		}
		a.ends = append(a.ends, end)
	}
	a.valid = true
}

// record gives a record that was read ahead.
func (a *ahead) record(k mta.DeliveryKey) ([]byte, bool) {
	if !a.valid {
		return nil, false
	}
	i, found := slices.BinarySearchFunc(a.keys, k, compareKeys)
	if !found || a.ends[i] < 0 {
		return nil, false
	}
	from := 0
	for j := i - 1; j >= 0; j-- {
		if a.ends[j] >= 0 {
			from = a.ends[j]
			break
		}
	}
	return a.data[from:a.ends[i]], true
}
