package lookup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
)

// store is a map from keys to small numbers for millions of keys.
//
// Goal: little memory for each key, and nothing for the garbage collector to
// follow. Method: the entries stand one behind the other in chunks of a
// megabyte; an open hash table has their places. An entry is the key's length
// (2 octets), value and line (4 each), and the key. Rejected: Go's map of
// strings, which takes about 60 octets for each key beside the key itself, and
// has the collector look at every one; a sorted file on disk, which would have
// the scheduler's loop wait for a disk.
type store struct {
	seed   maphash.Seed
	chunks [][]byte
	slots  []uint32 // place of the entry + 1; 0: free. A power of two of them
	count  int
}

const (
	chunkBits = 20
	chunkSize = 1 << chunkBits
	maxChunks = 1 << (32 - chunkBits)
	entryHead = 10
	maxKey    = 1 << 15
)

func newStore() *store {
	return &store{seed: maphash.MakeSeed(), slots: make([]uint32, 64)}
}

// put takes in a key. The same key with the same value again is left out.
func (s *store) put(key string, value uint32, line int) error {
	if len(key) > maxKey {
		return errors.New("the key is too long")
	}
	at := s.slot(key)
	if place := s.slots[at]; place != 0 {
		if had, first, _ := s.entry(place - 1); had != value {
			return fmt.Errorf("%q stands on line %d already, with another value", cut(key), first)
		}
		return nil
	}
	place, err := s.append(key, value, line)
	if err != nil {
		return err
	}
	s.slots[at] = place + 1
	s.count++
	if s.count > len(s.slots)/4*3 {
		s.grow()
	}
	return nil
}

func (s *store) append(key string, value uint32, line int) (uint32, error) {
	need := entryHead + len(key)
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last])+need > chunkSize {
		if last+1 == maxChunks {
			return 0, errors.New("the table is too large")
		}
		s.chunks = append(s.chunks, make([]byte, 0, chunkSize))
		last++
	}
	c := s.chunks[last]
	place := uint32(last)<<chunkBits | uint32(len(c))
	c = binary.LittleEndian.AppendUint16(c, uint16(len(key)))
	c = binary.LittleEndian.AppendUint32(c, value)
	c = binary.LittleEndian.AppendUint32(c, uint32(line))
	s.chunks[last] = append(c, key...)
	return place, nil
}

// entry reads what stands at a place.
func (s *store) entry(place uint32) (value uint32, line int, key []byte) {
	e := s.chunks[place>>chunkBits][place&(chunkSize-1):]
	n := int(binary.LittleEndian.Uint16(e))
	return binary.LittleEndian.Uint32(e[2:]), int(binary.LittleEndian.Uint32(e[6:])), e[entryHead : entryHead+n]
}

// slot is where a key is, or would be.
func (s *store) slot(key string) int {
	mask := len(s.slots) - 1
	for at := int(maphash.String(s.seed, key)) & mask; ; at = (at + 1) & mask {
		place := s.slots[at]
		if place == 0 {
			return at
		}
		if _, _, k := s.entry(place - 1); string(k) == key {
			return at
		}
	}
}

func (s *store) get(key string) (value uint32, line int, ok bool) {
	place := s.slots[s.slot(key)]
	if place == 0 {
		return 0, 0, false
	}
	value, line, _ = s.entry(place - 1)
	return value, line, true
}

// grow doubles the slots.
func (s *store) grow() {
	old := s.slots
	s.slots = make([]uint32, 2*len(old))
	mask := len(s.slots) - 1
	for _, place := range old {
		if place == 0 {
			continue
		}
		_, _, key := s.entry(place - 1)
		at := int(maphash.Bytes(s.seed, key)) & mask
		for s.slots[at] != 0 {
			at = (at + 1) & mask
		}
		s.slots[at] = place
	}
}

// close gives back what the last chunk does not need.
func (s *store) close() {
	if last := len(s.chunks) - 1; last >= 0 {
		s.chunks[last] = append(make([]byte, 0, len(s.chunks[last])), s.chunks[last]...)
	}
}
