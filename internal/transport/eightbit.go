package transport

import (
	"bytes"

	"mailout/internal/eightbit"
)

// convert is Options.Convert by default.
func convert(message []byte) ([]byte, bool) {
	r, size := bytes.NewReader(message), int64(len(message))
	if needed, err := eightbit.Needed(r, size); err != nil || !needed {
		return nil, false
	}
	var out bytes.Buffer
	out.Grow(len(message) + len(message)/2)
	if err := eightbit.Convert(&out, r, size); err != nil {
		return nil, false // reader and writer are memory: it does not happen
	}
	return out.Bytes(), true
}

// convert uses the 7-bit form of the content, if it has one and policy allows
// it (trap 23). A message that cannot be read is left for Send to find out.
func (at *attempt) convert() {
	c := at.w.c
	if c.settings.Load().SendEightBit {
		return
	}
	if at.seven == nil {
		at.seven = at.content
		all := at.content.Bytes()
		if all == nil {
			all = make([]byte, at.content.Size())
			if n, _ := at.content.ReadAt(all, 0); n < len(all) {
				return
			}
		}
		if converted, ok := c.opt.Convert(all); ok {
			at.seven = memory(converted)
		}
	}
	at.tx.Content = at.seven
	_, is7 := at.seven.(memory)
	at.tx.EightBit = !is7
}

// memory is converted content.
type memory []byte

// ReadAt is never used: Bytes is there.
func (m memory) ReadAt(p []byte, at int64) (int, error) { return copy(p, m[at:]), nil }
func (m memory) Size() int64                            { return int64(len(m)) }
func (m memory) Bytes() []byte                          { return m }
