package pebble

import (
	"encoding/binary"
	"io"

	pdb "github.com/cockroachdb/pebble/v2"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// counters are counts or differences of counts.
type counters struct {
	state    [mta.Held + 1]int64 // deliveries queued, deferred and held
	messages int64
	octets   int64
}

func (c *counters) add(o *counters) {
	for i := range c.state {
		c.state[i] += o.state[i]
	}
	c.messages += o.messages
	c.octets += o.octets
}

// delivery counts n deliveries of one destination. There each stands for a
// message of its own.
func (c *counters) delivery(s mta.State, size, n int64) {
	c.state[s] += n
	c.messages += n
	c.octets += n * size
}

func (c *counters) append(b []byte) []byte {
	for _, v := range c.state {
		b = binary.AppendVarint(b, v)
	}
	return binary.AppendVarint(binary.AppendVarint(b, c.messages), c.octets)
}

func decodeCounters(b []byte) (c counters, err error) {
	r := reader{b: b}
	for i := range c.state {
		c.state[i] = r.varint()
	}
	c.messages, c.octets = r.varint(), r.varint()
	if r.bad || len(r.b) != 0 {
		return counters{}, errDamaged
	}
	return c, nil
}

func (c *counters) stats() spool.Stats {
	return spool.Stats{Queued: c.state[mta.Queued], Deferred: c.state[mta.Deferred], Held: c.state[mta.Held], Messages: c.messages, Bytes: c.octets}
}

// counterMerger sums counters. Its name is on disk.
var counterMerger = &pdb.Merger{
	Name: "mailout.counters.1",
	Merge: func(_, value []byte) (pdb.ValueMerger, error) {
		s := &counterSum{}
		return s, s.MergeNewer(value)
	},
}

// counterSum is one sum in the making. A damaged operand counts nothing: a
// wrong count is better than a store whose compactions stop. It leaves sums of
// nothing to Prune: pebble's way for a merger to drop them in a compaction
// (DeletableValueMerger) ends in a panic of its compaction iterator in v2.1.7.
type counterSum struct{ sum counters }

// MergeNewer implements pebble.ValueMerger.
func (s *counterSum) MergeNewer(value []byte) error {
	if c, err := decodeCounters(value); err == nil {
		s.sum.add(&c)
	}
	return nil
}

// MergeOlder implements pebble.ValueMerger.
func (s *counterSum) MergeOlder(value []byte) error { return s.MergeNewer(value) }

// Finish implements pebble.ValueMerger.
func (s *counterSum) Finish(bool) ([]byte, io.Closer, error) {
	return s.sum.append(nil), nil, nil
}
