package pebble

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync"

	pdb "github.com/cockroachdb/pebble/v2"
)

// scan is an iterator that goes on behind damaged blocks. Values are checked
// when they are asked for.
type scan struct {
	s            *Store
	r            pdb.Reader
	it           *pdb.Iterator
	lower, upper []byte
	last         []byte // the latest key, to go on behind it
}

// newScan makes a scan of the keys from lower up to and without upper.
func (s *Store) newScan(r pdb.Reader, lower, upper []byte) (*scan, error) {
	c := &scan{s: s, r: r, lower: lower, upper: upper, last: bytes.Clone(lower)}
	return c, c.reset()
}

// reset makes the iterator anew: one that met damage may meet it again in a
// seek to a greater key, from where it stood.
func (c *scan) reset() error {
	it, err := c.r.NewIter(&pdb.IterOptions{LowerBound: c.lower, UpperBound: c.upper})
	if err != nil {
		return err
	}
	if c.it != nil {
		_ = c.it.Close()
	}
	c.it = it
	return nil
}

func (c *scan) close() { _ = c.it.Close() }

// first, seek and next move to a key, and report whether there is one.
func (c *scan) first() bool { return c.settle(c.it.First()) }

func (c *scan) seek(k []byte) bool {
	c.last = append(c.last[:0], k...)
	return c.settle(c.it.SeekGE(k))
}

func (c *scan) next() bool { return c.settle(c.it.Next()) }

func (c *scan) settle(ok bool) bool {
	for !ok && pdb.IsCorruptionError(c.it.Error()) {
		to, known := c.s.gaps.find(c.last)
		if !known {
			c.s.damage("a block of the store cannot be read; some records are lost", c.last, c.it.Error())
			if to = c.skip(); to == nil {
				return false
			}
			c.s.gaps.add(c.last, to)
		}
		if bytes.Compare(to, c.last) <= 0 || bytes.Compare(to, c.upper) >= 0 {
			return false
		}
		c.last = append(c.last[:0], to...)
		if c.reset() != nil {
			return false
		}
		ok = c.it.SeekGE(to)
	}
	if ok {
		c.last = append(c.last[:0], c.it.Key()...)
	}
	return ok
}

func (c *scan) key() []byte { return c.it.Key() }

// value gives the value; false when it cannot be read.
func (c *scan) value() ([]byte, bool) {
	v, err := c.it.ValueAndErr()
	if err != nil {
		c.s.damage("a value cannot be read", c.it.Key(), err)
		return nil, false
	}
	return v, true
}

// err is what ended the scan, if it was not the end.
func (c *scan) err() error {
	if err := c.it.Error(); err != nil && !pdb.IsCorruptionError(err) {
		return err
	}
	return nil
}

// skip finds the first readable place behind last, or nil. A damaged block is
// a range of keys at which a seek fails, so bisection finds its end: by eight
// octets at a time, each round inside the last value at which a seek failed. A
// seek that fails costs a thousand times one that does not (pebble looks for
// the flipped bit), so the probes stay near the end known to be good.
func (c *scan) skip() []byte {
	n := 0
	for n < len(c.last) && n < len(c.upper) && c.last[n] == c.upper[n] {
		n++
	}
	prefix := bytes.Clone(c.last[:n])
	rest := c.last[n:]
	hi := eight(c.upper[n:])
	var best []byte
	if c.reset() != nil {
		return nil
	}
	for range 3 {
		lo := eight(rest)
		for hi-lo > 1 {
			mid := hi - max((hi-lo)/32, 1)
			k := binary.BigEndian.AppendUint64(bytes.Clone(prefix), mid)
			c.it.SeekGE(k)
			if c.it.Error() == nil {
				hi, best = mid, k
				continue
			}
			lo = mid
			if c.reset() != nil {
				return best
			}
		}
		prefix = binary.BigEndian.AppendUint64(prefix, lo)
		rest, hi = nil, math.MaxUint64
	}
	return best
}

// eight is the first octets of b as a number.
func eight(b []byte) uint64 {
	var v [8]byte
	copy(v[:], b)
	return binary.BigEndian.Uint64(v[:])
}

// maxGaps bounds what is remembered of damaged blocks.
const maxGaps = 1000

// gaps are the ranges of keys that cannot be read, as far as they were met.
type gaps struct {
	mu struct {
		sync.Mutex
		list []gap
	}
}

type gap struct{ from, to []byte }

// find gives the end of the gap that begins at or before k and ends behind it.
func (g *gaps) find(k []byte) ([]byte, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.mu.list {
		if bytes.Compare(x.from, k) <= 0 && bytes.Compare(k, x.to) < 0 {
			return x.to, true
		}
	}
	return nil, false
}

func (g *gaps) add(from, to []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.mu.list) < maxGaps {
		g.mu.list = append(g.mu.list, gap{bytes.Clone(from), bytes.Clone(to)})
	}
}
