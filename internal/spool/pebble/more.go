package pebble

import (
	"encoding/binary"

	"mailout/internal/mta"
)

// What few deliveries have, as it is stored behind everything else when flagMore
// is set. Records from before it are read as if it were not there.

// The parts, in the order in which they follow their mask. Only ever append.
const (
	moreByRule   = 1 << iota // the value itself
	moreReleased             // the same
	moreRow
	moreDetours
	moreBounce // of the last result
	allMore    = 1<<iota - 1
)

func moreOf(d *mta.Delivery) (mask byte) {
	for i, on := range [...]bool{d.ByRule, d.Released, d.Row != 0, d.Detours > 0, d.Last.Result.Bounce != ""} {
		if on {
			mask |= 1 << i
		}
	}
	return mask
}

func appendMore(b []byte, mask byte, d *mta.Delivery) []byte {
	b = append(b, mask)
	if mask&moreRow != 0 {
		b = append(b, d.Row)
	}
	if mask&moreDetours != 0 {
		b = binary.AppendUvarint(b, uint64(d.Detours))
	}
	if mask&moreBounce != 0 {
		b = appendWord(b, d.Last.Result.Bounce)
	}
	return b
}

func (r *reader) more(d *mta.Delivery) {
	mask := r.byte()
	if mask == 0 || mask > allMore {
		r.fail()
		return
	}
	d.ByRule, d.Released = mask&moreByRule != 0, mask&moreReleased != 0
	if mask&moreRow != 0 {
		d.Row = r.byte()
	}
	if mask&moreDetours != 0 {
		d.Detours = uint32(r.uvarint())
	}
	if mask&moreBounce != 0 {
		d.Last.Result.Bounce = r.word()
	}
}
