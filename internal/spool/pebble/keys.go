package pebble

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"mailout/internal/mta"
)

// The tables: the first octet of every key. docs/spool.md lists them.
const (
	tableMeta       = '!'
	tableRecipients = 'a'
	tableBodies     = 'b'
	tableCounters   = 'c'
	tableFollowers  = 'e'
	tableShared     = 'f'
	tableHeld       = 'h'
	tableByMessage  = 'i'
	tableJournal    = 'j'
	tableReserved   = 'k'
	tableMessages   = 'm'
	tableNotes      = 'n'
	tableDue        = 'q'
	tableRemaining  = 'r'
	tableSetAside   = 'z'
)

// The keys of the meta table.
var (
	keyVersion = []byte("!version")
	keyRun     = []byte("!run")
	keySeq     = []byte("!seq")
)

const (
	idLen         = len(mta.ID{})
	messageKeyLen = 1 + idLen
	// deliveryKeyLen is the length of a delivery record's key; it differs from
	// a message's, which tells them apart in one table.
	deliveryKeyLen = messageKeyLen + 4
	seqLen         = 6
	dueLen         = 6
	maxSeq         = 1<<48 - 1
	maxDueMS       = 1<<48 - 1
	// bucketBits is how many low bits of a sequence number share a bucket of
	// the recipient index.
	bucketBits = 16
)

func appendSeq(b []byte, v uint64) []byte {
	return append(b, byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func readSeq(b []byte) uint64 {
	_ = b[5]
	return uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | uint64(b[3])<<16 | uint64(b[4])<<8 | uint64(b[5])
}

// dueMS is t as the due index holds it: milliseconds since 1970 in 48 bits;
// the zero time and times before 1970 are 0.
func dueMS(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(min(max(t.UnixMilli(), 0), maxDueMS))
}

// dueTime is the reverse of dueMS.
func dueTime(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// idKey appends table and ID.
func idKey(b []byte, table byte, id mta.ID) []byte {
	return append(append(b, table), id[:]...)
}

func deliveryKey(b []byte, k mta.DeliveryKey) []byte {
	return binary.BigEndian.AppendUint32(idKey(b, tableMessages, k.Message), k.N)
}

func parseDeliveryKey(k []byte) mta.DeliveryKey {
	return mta.DeliveryKey{Message: mta.ID(k[1:messageKeyLen]), N: binary.BigEndian.Uint32(k[messageKeyLen:])}
}

// viaMark stands between a stream and an operator's route, where there is one.
const viaMark = "\x01"

// label is stream and route as one string, as the store has them.
func label(d *mta.Destination) string {
	if d.Via == "" {
		return d.Stream
	}
	return d.Stream + viaMark + d.Via
}

// setLabel is the reverse of label.
func setLabel(d *mta.Destination, s string) {
	d.Stream = s
	if i := strings.IndexByte(s, viaMark[0]); i >= 0 {
		d.Stream, d.Via = s[:i], s[i+1:]
	}
}

// appendDest appends domain and label, each ended by a NUL octet. The default
// stream, which most mail has, is empty here.
func appendDest(b []byte, d mta.Destination) []byte {
	b = append(append(b, d.Domain...), 0)
	if d.Stream != mta.DefaultStream {
		b = append(b, d.Stream...)
	}
	if d.Via != "" {
		b = append(append(b, viaMark...), d.Via...)
	}
	return append(b, 0)
}

// cutDest takes the destination off the front of b.
func cutDest(b []byte) (d mta.Destination, rest []byte, ok bool) {
	domain, rest, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return d, nil, false
	}
	stream, rest, ok := bytes.Cut(rest, []byte{0})
	if !ok {
		return d, nil, false
	}
	d = mta.Destination{Domain: string(domain), Stream: mta.DefaultStream}
	if len(stream) != 0 {
		setLabel(&d, string(stream))
		if d.Stream == "" {
			d.Stream = mta.DefaultStream
		}
	}
	return d, rest, true
}

func counterKey(b []byte, d mta.Destination) []byte { return appendDest(append(b, tableCounters), d) }

func destPrefix(b []byte, table byte, d mta.Destination) []byte {
	return appendDest(append(b, table), d)
}

// index is a place in the due or the held index.
type index struct {
	dest mta.Destination
	held bool
	due  uint64 // milliseconds; 0 in the held index
	key  mta.DeliveryKey
}

func (x *index) append(b []byte) []byte {
	if x.held {
		b = destPrefix(b, tableHeld, x.dest)
	} else {
		b = appendSeq(destPrefix(b, tableDue, x.dest), x.due)
	}
	return binary.BigEndian.AppendUint32(append(b, x.key.Message[:]...), x.key.N)
}

// parseIndex reads a key of the due or held index.
func parseIndex(k []byte) (x index, ok bool) {
	if len(k) == 0 {
		return x, false
	}
	x.held = k[0] == tableHeld
	var rest []byte
	if x.dest, rest, ok = cutDest(k[1:]); !ok {
		return x, false
	}
	if !x.held {
		if len(rest) < dueLen {
			return x, false
		}
		x.due, rest = readSeq(rest), rest[dueLen:]
	}
	if len(rest) != idLen+4 {
		return x, false
	}
	x.key = mta.DeliveryKey{Message: mta.ID(rest), N: binary.BigEndian.Uint32(rest[idLen:])}
	return x, true
}

func journalKey(b []byte, seq uint64) []byte { return appendSeq(append(b, tableJournal), seq) }

func byMessageKey(b []byte, id mta.ID, seq uint64) []byte {
	return appendSeq(idKey(b, tableByMessage, id), seq)
}

// recipientKey is bucket, hash and the rest of the sequence number, so that a
// bucket's entries of one address stand together.
func recipientKey(b []byte, hash uint32, seq uint64) []byte {
	b = binary.BigEndian.AppendUint32(append(b, tableRecipients), uint32(seq>>bucketBits))
	b = binary.BigEndian.AppendUint32(b, hash)
	return binary.BigEndian.AppendUint16(b, uint16(seq))
}

const recipientKeyLen = 1 + 4 + 4 + 2

func parseRecipientKey(k []byte) (hash uint32, seq uint64, ok bool) {
	if len(k) != recipientKeyLen {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(k[5:]), uint64(binary.BigEndian.Uint32(k[1:]))<<bucketBits | uint64(binary.BigEndian.Uint16(k[9:])), true
}

// addressHash is FNV-1a of the address in ASCII lower case.
func addressHash(address string) uint32 {
	h := uint32(2166136261)
	for i := range len(address) {
		c := address[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// after is the first key behind every key with the prefix k.
func after(k []byte) []byte {
	out := bytes.Clone(k)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i] != 0xff {
			out[i]++
			return out[:i+1]
		}
	}
	return nil
}
