package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	pdb "github.com/cockroachdb/pebble/v2"
)

// scan is an iterator that goes on behind damaged blocks. Values are checked
// when they are asked for.
type scan struct {
	s     *Store
	it    *pdb.Iterator
	upper []byte
	last  []byte // the latest key, to go on behind it
}

// newScan makes a scan of the keys from lower up to and without upper.
func (s *Store) newScan(r pdb.Reader, lower, upper []byte) (*scan, error) {
	it, err := r.NewIter(&pdb.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &scan{s: s, it: it, upper: upper, last: bytes.Clone(lower)}, nil
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
	if !ok && errors.Is(c.it.Error(), pdb.ErrCorruption) {
		c.s.damage("a block of the store cannot be read; some records are lost", c.last, c.it.Error())
		ok = c.skip()
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
	if err := c.it.Error(); err != nil && !errors.Is(err, pdb.ErrCorruption) {
		return err
	}
	return nil
}

// skip finds the first readable place behind last. A damaged block is a range
// of keys at which a seek fails, so bisection finds its end: by eight octets
// at a time, each round inside the last value at which a seek failed.
func (c *scan) skip() bool {
	n := 0
	for n < len(c.last) && n < len(c.upper) && c.last[n] == c.upper[n] {
		n++
	}
	prefix := bytes.Clone(c.last[:n])
	var best []byte
	rest := c.last[n:]
	for range 6 {
		lo, hi := eight(rest), uint64(math.MaxUint64)
		if len(best) == 0 {
			hi = eight(c.upper[n:])
		}
		for hi-lo > 1 {
			mid := lo + (hi-lo)/2
			k := binary.BigEndian.AppendUint64(bytes.Clone(prefix), mid)
			c.it.SeekGE(k)
			if c.it.Error() == nil {
				hi, best = mid, k
			} else {
				lo = mid
			}
		}
		prefix = binary.BigEndian.AppendUint64(prefix, lo)
		rest = nil
	}
	return best != nil && c.it.SeekGE(best)
}

// eight is the first octets of b as a number.
func eight(b []byte) uint64 {
	var v [8]byte
	copy(v[:], b)
	return binary.BigEndian.Uint64(v[:])
}
