package suppress

import (
	"hash/maphash"
	"sync/atomic"
)

// The filter answers "certainly not listed" for nearly every address without a
// look into the store: a Bloom filter, 16 bits an entry and 6 of them set, so
// that 1 in 1,000 others is looked up in vain when it is full. It only grows:
// what leaves the list stays in it until the filter is made anew, which costs a
// look-up and nothing else. A list of a million takes 4 MB at most.

const (
	filterBits  = 16      // for each entry it has room for
	filterProbe = 6       // bits of an entry
	filterLeast = 4 << 10 // entries of the smallest
	filterMost  = 1 << 24 // entries of the largest, 32 MB; beyond it only grows less sharp
)

var filterSeed = maphash.MakeSeed()

// filter is safe for concurrent use.
type filter struct {
	words []atomic.Uint64
	room  int64 // entries that it was made for
	held  atomic.Int64
}

// newFilter makes a filter with room for twice as many entries as there are.
func newFilter(entries int) *filter {
	room := filterLeast
	for room < 2*entries && room < filterMost {
		room *= 2
	}
	return &filter{words: make([]atomic.Uint64, room*filterBits/64), room: int64(room)}
}

// places gives the bits of an address, one after the other.
type places struct{ at, step, mask uint64 }

func (f *filter) places(address string) places {
	h := maphash.String(filterSeed, address)
	return places{at: h, step: h>>32 | 1, mask: uint64(len(f.words)*64 - 1)}
}

func (p *places) next() (word, bit uint64) {
	at := p.at & p.mask
	p.at += p.step
	return at / 64, 1 << (at % 64)
}

func (f *filter) add(address string) {
	p := f.places(address)
	fresh := false
	for range filterProbe {
		w, bit := p.next()
		if f.words[w].Or(bit)&bit == 0 {
			fresh = true
		}
	}
	if fresh {
		f.held.Add(1)
	}
}

// may reports whether an address could have been added.
func (f *filter) may(address string) bool {
	p := f.places(address)
	for range filterProbe {
		if w, bit := p.next(); f.words[w].Load()&bit == 0 {
			return false
		}
	}
	return true
}

// crowded reports whether a larger filter would be sharper.
func (f *filter) crowded() bool { return f.held.Load() > f.room && f.room < filterMost }
