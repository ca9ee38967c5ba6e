package header

import "encoding/binary"

// EightBit reports whether b has an octet above 127. It looks at eight octets
// at a time: all content that is accepted passes here.
func EightBit(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 32 {
		x := binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
			binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
		if x&high != 0 {
			return true
		}
		b = b[32:]
	}
	for _, c := range b {
		if c > 127 {
			return true
		}
	}
	return false
}
