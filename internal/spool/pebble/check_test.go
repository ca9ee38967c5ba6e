package pebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// audit is a reading of every key of a store.
type audit struct {
	t          testing.TB
	s          *Store
	messages   map[mta.ID]*facts
	deliveries map[mta.DeliveryKey]head
	index      map[mta.DeliveryKey]index
	bodies     map[mta.ID]bool
	extents    map[mta.ID]*extent
	left       map[mta.ID]uint64
	counts     map[string]counters
	entries    map[uint64]entry
	byMessage  map[uint64]mta.ID
}

// checkStore compares every table of a store with every other: nothing half
// done, no count that a recount does not give.
func checkStore(t testing.TB, s *Store) {
	t.Helper()
	a := &audit{
		t: t, s: s, messages: map[mta.ID]*facts{}, deliveries: map[mta.DeliveryKey]head{}, index: map[mta.DeliveryKey]index{},
		bodies: map[mta.ID]bool{}, extents: map[mta.ID]*extent{}, left: map[mta.ID]uint64{}, counts: map[string]counters{}, entries: map[uint64]entry{}, byMessage: map[uint64]mta.ID{},
	}
	a.read()
	a.checkMessages()
	a.checkIndex()
	a.checkJournal()
}

func (a *audit) read() {
	a.t.Helper()
	it, err := a.s.db.NewIter(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		k, v := append([]byte(nil), it.Key()...), append([]byte(nil), it.Value()...)
		a.readOne(k, v)
	}
	if err := it.Error(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *audit) readOne(k, v []byte) {
	a.t.Helper()
	switch k[0] {
	case tableMessages:
		if len(k) == messageKeyLen {
			f, err := decodeMessage(mta.ID(k[1:]), v)
			a.must(err, k)
			a.messages[f.msg.ID] = f
			return
		}
		h, _, _, _, err := decodeHead(v)
		a.must(err, k)
		_, _, err = decodeDelivery(parseDeliveryKey(k), v, nil)
		a.must(err, k)
		a.deliveries[parseDeliveryKey(k)] = h
	case tableDue, tableHeld:
		x, ok := parseIndex(k)
		if !ok {
			a.t.Errorf("index key %q", k)
		}
		h := a.deliveries[x.key]
		if len(v) == 0 || mta.State(v[0]) != h.state {
			a.t.Errorf("index value %q of %v", v, x)
		}
		if _, twice := a.index[x.key]; twice {
			a.t.Errorf("two index entries for %v", x.key)
		}
		a.index[x.key] = x
	case tableBodies:
		a.bodies[mta.ID(k[1:])] = true
		if f := a.messages[mta.ID(k[1:])]; f != nil && f.bodyCRC != crc32.Checksum(v, castagnoli) {
			a.t.Errorf("content of %s", f.msg.ID)
		}
	case tableShared:
		e, ok := decodeExtent(v)
		if !ok {
			a.t.Errorf("extent %q", k)
			return
		}
		a.extents[mta.ID(k[1:])] = e
	case tableRemaining:
		n, _ := binary.Uvarint(v)
		a.left[mta.ID(k[1:])] = n
	case tableCounters:
		c, err := decodeCounters(v)
		a.must(err, k)
		if c != (counters{}) {
			a.counts[string(k)] = c
		}
	case tableJournal:
		e, err := openEntry(v)
		a.must(err, k)
		a.entries[readSeq(k[1:])] = e
	case tableByMessage:
		a.byMessage[readSeq(k[1+idLen:])] = mta.ID(k[1:])
	case tableNotes:
		if _, ok := unseal(v); !ok {
			a.t.Errorf("note %q is damaged", k)
		}
	case tableSetAside:
		a.t.Errorf("%q was set aside", k)
	}
}

func (a *audit) must(err error, k []byte) {
	a.t.Helper()
	if err != nil {
		a.t.Fatalf("%q: %v", k, err)
	}
}

func (a *audit) checkMessages() {
	a.t.Helper()
	have := map[mta.ID]uint64{}
	for k := range a.deliveries {
		have[k.Message]++
		if a.messages[k.Message] == nil {
			a.t.Errorf("delivery %v has no message", k)
		}
	}
	for id, f := range a.messages {
		if have[id] == 0 {
			a.t.Errorf("message %s has no delivery", id)
		}
		if f.msg.Deliveries > 1 && a.left[id] != have[id] {
			a.t.Errorf("message %s: %d deliveries left, counted %d", id, have[id], a.left[id])
		}
		if f.bodyFile {
			if c := a.s.shared.open(id); c != nil {
				if err := checkContent(c, f); err != nil {
					a.t.Errorf("content of %s: %v", id, err)
				}
				_ = c.Close()
				delete(a.extents, id)
			} else if _, err := a.s.fs.Stat(a.s.bodies.path(id)); err != nil {
				a.t.Errorf("message %s: %v", id, err)
			}
		} else if !a.bodies[id] {
			a.t.Errorf("message %s has no content", id)
		}
		delete(a.bodies, id)
		delete(a.left, id)
	}
	if len(a.extents) != 0 {
		a.t.Errorf("places %v without a message", a.extents)
	}
	if len(a.bodies)+len(a.left) != 0 {
		a.t.Errorf("contents %v or counts %v without a message", a.bodies, a.left)
	}
}

func (a *audit) checkIndex() {
	a.t.Helper()
	want := map[string]counters{}
	total := counters{}
	for k, h := range a.deliveries {
		if a.index[k] != h.index(k) {
			a.t.Errorf("delivery %v: index %v, want %v", k, a.index[k], h.index(k))
		}
		key := string(counterKey(nil, h.dest))
		c := want[key]
		c.delivery(h.state, int64(h.size), 1)
		want[key] = c
		total.state[h.state]++
	}
	for _, f := range a.messages {
		total.messages++
		total.octets += f.msg.Size
	}
	if total != (counters{}) {
		want[string([]byte{tableCounters})] = total
	}
	if len(a.index) != len(a.deliveries) || fmt.Sprint(want) != fmt.Sprint(a.counts) {
		a.t.Errorf("%d index entries for %d deliveries; counters %v, want %v", len(a.index), len(a.deliveries), a.counts, want)
	}
}

func (a *audit) checkJournal() {
	a.t.Helper()
	low := int64(0)
	seqs := make([]uint64, 0, len(a.entries))
	for seq := range a.entries {
		seqs = append(seqs, seq)
	}
	sort.Slice(seqs, func(i, j int) bool { return seqs[i] < seqs[j] })
	for _, seq := range seqs {
		e := a.entries[seq]
		if a.byMessage[seq] != e.id {
			a.t.Errorf("entry %d of %s is not in the index", seq, e.id)
		}
		if e.watermark < low {
			a.t.Errorf("the watermark falls at entry %d", seq)
		}
		low = e.watermark
		if o := a.entries[e.accepted]; e.kind == entryLater && o.id != e.id {
			a.t.Errorf("entry %d of %s refers to entry %d of %s", seq, e.id, e.accepted, o.id)
		}
	}
	if len(a.byMessage) != len(a.entries) {
		a.t.Errorf("%d index entries for %d journal entries", len(a.byMessage), len(a.entries))
	}
	for id, f := range a.messages {
		if f.accepted != 0 && a.entries[f.accepted].id != id {
			a.t.Errorf("message %s: no accepted entry %d", id, f.accepted)
		}
	}
}

// dump is the whole state of a store as a caller sees it.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var b strings.Builder
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.List(t.Context(), spool.Filter{}, func(d *mta.Delivery) bool {
		fmt.Fprintf(&b, "%s/%d %v %s %v %d %v\n", d.Message.ID, d.N, d.Destination, d.State, d.Due.UnixMilli(), d.Attempts, d.Recipients)
		c, err := s.Open(t.Context(), d.Message.ID)
		must(err)
		h := crc32.NewIEEE()
		_, err = io.Copy(h, io.NewSectionReader(c, 0, c.Size()))
		must(err)
		fmt.Fprintf(&b, "  %d octets %x\n", c.Size(), h.Sum32())
		must(c.Close())
		return true
	}))
	must(s.Records(t.Context(), spool.RecordFilter{}, func(r *mta.Record) bool {
		fmt.Fprintf(&b, "%s %s %s %s\n", r.ID, r.Event, r.Sender, r.Recipient)
		return true
	}))
	st, err := s.Stats(t.Context())
	must(err)
	fmt.Fprintf(&b, "%+v\n", st)
	return b.String()
}
