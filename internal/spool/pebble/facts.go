package pebble

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"mailout/internal/mta"
)

// What an application says of a message beside its content, as it is stored:
// in the message record behind everything else when flagFacts is set, and in
// the first record of the accepted entry. Nearly all mail says nothing, and
// then nothing is stored.

// The parts of the facts, in the order in which they follow their mask. Only
// ever append.
const (
	factTags = 1 << iota
	factMetadata
	factNotBefore
	factExpires
	allFacts = 1<<iota - 1
)

// hasFacts reports whether a message says anything.
func hasFacts(m *mta.Message) bool {
	return len(m.Tags) > 0 || len(m.Metadata) > 0 || !m.NotBefore.IsZero() || !m.Expires.IsZero()
}

func appendFacts(b []byte, m *mta.Message) []byte {
	var mask byte
	for i, on := range [...]bool{len(m.Tags) > 0, len(m.Metadata) > 0, !m.NotBefore.IsZero(), !m.Expires.IsZero()} {
		if on {
			mask |= 1 << i
		}
	}
	b = append(b, mask)
	if mask&factTags != 0 {
		b = appendTags(b, m.Tags)
	}
	if mask&factMetadata != 0 {
		b = appendMetadata(b, m.Metadata)
	}
	for i, t := range [...]time.Time{m.NotBefore, m.Expires} {
		if mask&(factNotBefore<<i) != 0 {
			b = appendTime(b, t, m.ID.Time().UnixMilli())
		}
	}
	return b
}

func (r *reader) facts(m *mta.Message) {
	mask := r.byte()
	if mask == 0 || mask > allFacts {
		r.fail()
		return
	}
	if mask&factTags != 0 {
		m.Tags = r.tags()
	}
	if mask&factMetadata != 0 {
		m.Metadata = r.metadata()
	}
	for i, t := range [...]*time.Time{&m.NotBefore, &m.Expires} {
		if mask&(factNotBefore<<i) != 0 {
			*t = r.time(m.ID.Time().UnixMilli())
		}
	}
}

func appendTags(b []byte, tags []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(tags)))
	for _, t := range tags {
		b = appendString(b, t)
	}
	return b
}

func (r *reader) tags() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	out := make([]string, 0, min(n, mta.MaxTags))
	for range n {
		out = append(out, r.string())
	}
	return out
}

// appendMetadata stores the pairs in the order of their keys, so that the same
// message is always the same octets.
func appendMetadata(b []byte, pairs map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(pairs)))
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		b = appendString(appendString(b, k), pairs[k])
	}
	return b
}

func (r *reader) metadata() map[string]string {
	n := r.count()
	if n == 0 {
		return nil
	}
	out := make(map[string]string, min(n, mta.MaxMetadata))
	for range n {
		k := r.string()
		out[k] = r.string()
	}
	return out
}

// appendRecordFacts encodes what appendRecord found to differ.
func appendRecordFacts(b []byte, f uint64, r *mta.Record) []byte {
	if f&hasTags != 0 {
		b = appendTags(b, r.Tags)
	}
	if f&hasMetadata != 0 {
		b = appendMetadata(b, r.Metadata)
	}
	return b
}

func (r *reader) recordFacts(rec *mta.Record, f uint64) {
	if f&hasTags != 0 {
		rec.Tags = r.tags()
	}
	if f&hasMetadata != 0 {
		rec.Metadata = r.metadata()
	}
}

// differentFacts gives the bits of the facts that r does not share with p.
func differentFacts(r, p *mta.Record) (fields uint64) {
	if len(r.Tags)+len(p.Tags) > 0 && !slices.Equal(r.Tags, p.Tags) {
		fields |= hasTags
	}
	if len(r.Metadata)+len(p.Metadata) > 0 && !maps.Equal(r.Metadata, p.Metadata) {
		fields |= hasMetadata
	}
	return fields
}

// withFacts gives the records of a message whose accepted entry cannot be
// referred to: each tells the facts itself.
func withFacts(recs []*mta.Record, m *mta.Message) []*mta.Record {
	if len(m.Tags)+len(m.Metadata) == 0 {
		return recs
	}
	out := make([]*mta.Record, len(recs))
	for i, r := range recs {
		told := *r
		told.Tags, told.Metadata = m.Tags, m.Metadata
		out[i] = &told
	}
	return out
}
