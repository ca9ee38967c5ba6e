package pebble

import (
	"bytes"
	"math"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/mta"
)

// TestWordsKeepTheirPlaces: the places are on disk; a word may only be
// appended. The hash changes with any other edit.
func TestWordsKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	const known, hash = 100, 0x6a8d7328
	if got := addressHash(strings.Join(words[:known], "\x00")); got != hash || len(words) != known {
		t.Errorf("%d words, hash %#x of the first %d; on disk it is %#x (append only, then change this test)", len(words), got, known, uint32(hash))
	}
	seen := map[string]bool{}
	for _, w := range words {
		if seen[w] {
			t.Errorf("%q is there twice", w)
		}
		seen[w] = true
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   time.Time
		want uint64
	}{
		{time.Time{}, 0}, {time.Unix(-5, 0), 0}, {time.UnixMilli(1), 1}, {time.UnixMilli(1700000000123), 1700000000123},
		{time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), maxDueMS}, {time.Unix(math.MaxInt32*1000, 0), min(math.MaxInt32*1000*1000, maxDueMS)},
	} {
		if got := dueMS(c.in); got != c.want {
			t.Errorf("dueMS(%v) = %d, want %d", c.in, got, c.want)
		}
	}
	if !dueTime(0).IsZero() {
		t.Error("no due time")
	}
}

// TestIndexKeys: keys go there and back, and sort by destination, due time,
// message and number.
func TestIndexKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawIndex(t), drawIndex(t)
		ka, kb := a.append(nil), b.append(nil)
		if got, ok := parseIndex(ka); !ok || got != a {
			t.Fatalf("%+v came back as %+v", a, got)
		}
		if a.dest == b.dest && a.held == b.held {
			want := compareIndex(&a, &b)
			if got := bytes.Compare(ka, kb); got != want {
				t.Fatalf("%+v and %+v compare %d, want %d", a, b, got, want)
			}
		}
		if bytes.HasPrefix(ka, destPrefix(nil, ka[0], b.dest)) != (a.dest == b.dest) {
			t.Fatalf("prefixes of %v and %v", a.dest, b.dest)
		}
	})
}

func compareIndex(a, b *index) int {
	if a.due != b.due {
		return map[bool]int{true: -1, false: 1}[a.due < b.due]
	}
	if c := bytes.Compare(a.key.Message[:], b.key.Message[:]); c != 0 {
		return c
	}
	return int(min(max(int64(a.key.N)-int64(b.key.N), -1), 1))
}

func drawIndex(t *rapid.T) index {
	x := index{
		dest: mta.Destination{
			Domain: rapid.SampledFrom([]string{"a", "a.b", "ab", "[192.0.2.1]", "b.example"}).Draw(t, "domain"),
			Stream: rapid.SampledFrom([]string{mta.DefaultStream, "alerts", "a"}).Draw(t, "stream"),
			Via:    rapid.SampledFrom([]string{"", "", "direct", "relay.example:587"}).Draw(t, "via"),
		},
		held: rapid.Bool().Draw(t, "held"),
		key:  mta.DeliveryKey{N: rapid.Uint32().Draw(t, "n")},
	}
	copy(x.key.Message[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	if !x.held {
		x.due = rapid.Uint64Range(0, maxDueMS).Draw(t, "due")
	}
	return x
}

func drawAddr(t *rapid.T) netip.Addr {
	return rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}).Draw(t, "addr")
}

func drawTime(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "zero") {
		return time.Time{}
	}
	return time.UnixMilli(rapid.Int64Range(-1e12, 1e14).Draw(t, "ms")).UTC()
}

func drawText(t *rapid.T) string {
	return rapid.OneOf(rapid.SampledFrom(words[:]), rapid.StringN(0, 40, 80), rapid.SampledFrom([]string{"mx.one.example", "mx.one.example,mx.two.example", "a@one.example", "b@two.example", "one.example", "one.example/alerts"})).Draw(t, "text")
}

func drawRecord(t *rapid.T) *mta.Record {
	r := &mta.Record{
		Time: drawTime(t), Event: mta.Event(rapid.IntRange(0, int(mta.LastEvent)).Draw(t, "event")),
		MessageID: drawText(t), Stream: drawText(t), Sender: drawText(t), User: drawText(t), Recipient: drawText(t), Destination: drawText(t),
		Site: drawText(t), Host: drawText(t), IP: drawAddr(t), Source: drawAddr(t), Helo: drawText(t),
		TLS:     mta.TLSFacts{Version: drawText(t), Cipher: drawText(t), Verified: drawText(t), Origin: mta.TLSOrigin(drawText(t))},
		Attempt: rapid.IntRange(0, 1e6).Draw(t, "attempt"), Code: rapid.IntRange(0, 999).Draw(t, "code"),
		Enhanced: drawText(t), Reply: drawText(t), Class: drawText(t), Scope: drawText(t), Reason: drawText(t), BounceClass: drawText(t),
		Uncertain: rapid.Bool().Draw(t, "uncertain"), Size: rapid.Int64().Draw(t, "size"), Next: drawTime(t),
		Durations: mta.Durations{Route: rapid.Int64().Draw(t, "route"), Total: rapid.Int64Range(0, 1e6).Draw(t, "total")},
	}
	for range rapid.IntRange(0, 2).Draw(t, "keys") {
		r.DKIM += mta.KeyNames(" " + rapid.SampledFrom([]string{"m1", "m1._domainkey.one.example", "x._domainkey.y"}).Draw(t, "selector") + keysOf(rapid.SampledFrom([]string{r.Sender, "a@one.example"}).Draw(t, "signer")))
	}
	if strings.Contains(string(r.DKIM), "@") { // in no name
		r.DKIM = ""
	}
	if rapid.Bool().Draw(t, "report") {
		r.Report = mta.ID{1, 15: 2}
	}
	if rapid.Bool().Draw(t, "facts") {
		r.Tags = []string{"a", drawText(t)}
		r.Metadata = map[string]string{"k": drawText(t), "l": ""}
	}
	for range rapid.IntRange(0, 2).Draw(t, "tries") {
		r.Tries = append(r.Tries, mta.Try{Host: drawText(t), IP: drawAddr(t), Stage: mta.StageRcpt, Reply: drawText(t), MS: 5})
	}
	return r
}

// TestEntriesRoundTrip: any records go there and back, in any company.
func TestEntriesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		recs := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 4).Draw(t, "records")
		id := mta.ID{7}
		low := watermarkOf(0, recs)
		b := appendEntryHead(nil, entryPlain, id, low, 0, len(recs))
		p := &mta.Record{}
		for _, r := range recs {
			r.ID = id
			b = appendRecord(b, r, p, low, 0)
			p = r
		}
		e, err := openEntry(seal(b, 0))
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		if err := e.records(nil, func(got *mta.Record) bool {
			if !reflect.DeepEqual(*got, *recs[i]) {
				t.Fatalf("record %d\ngot  %+v\nwant %+v", i, *got, *recs[i])
			}
			i++
			return true
		}); err != nil || i != len(recs) {
			t.Fatal(i, err)
		}
	})
}

// TestDeliveriesRoundTrip: any delivery goes there and back.
func TestDeliveriesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := &mta.Delivery{
			N: rapid.Uint32().Draw(t, "n"), Destination: mta.Destination{Domain: "one.example", Stream: drawText(t), Via: rapid.SampledFrom([]string{"", "direct"}).Draw(t, "via")},
			State: mta.State(rapid.IntRange(0, 2).Draw(t, "state")), Due: dueTime(rapid.Uint64Range(0, maxDueMS).Draw(t, "due")),
			Attempts: rapid.IntRange(0, 1e9).Draw(t, "attempts"), DelaySent: rapid.Bool().Draw(t, "delay"), HeldBy: drawText(t),
		}
		if marked(d.Destination.Stream) {
			return
		}
		var places []uint32
		for range rapid.IntRange(1, 4).Draw(t, "recipients") {
			d.Recipients = append(d.Recipients, mta.Recipient{Address: drawText(t), ORcpt: drawText(t), Notify: mta.Notify(rapid.Byte().Draw(t, "notify"))})
			places = append(places, rapid.Uint32().Draw(t, "place"))
		}
		if rapid.Bool().Draw(t, "last") {
			d.Last = mta.Last{Time: drawTime(t), Site: drawText(t), Host: drawText(t), IP: drawAddr(t), Result: mta.Result{
				Class: mta.ClassPermanent, Scope: mta.ScopeHost, Reply: mta.Reply{Code: 550, Enhanced: mta.Enhanced{Class: 5, Subject: 7, Detail: 26}, Text: drawText(t)},
				Enhanced: mta.Enhanced{Subject: rapid.Uint16().Draw(t, "subject")}, Reason: drawText(t), Relayed: true, RetryAfter: -1,
			}}
		}
		if rapid.Bool().Draw(t, "more") {
			d.ByRule, d.Released = rapid.Bool().Draw(t, "by rule"), rapid.Bool().Draw(t, "released")
			d.Row, d.Detours = rapid.Uint8().Draw(t, "row"), rapid.Uint32().Draw(t, "detours")
			d.Last.Result.Bounce = rapid.SampledFrom([]string{"", "mailbox_full", "of later"}).Draw(t, "bounce")
		}
		h := headOf(d, 77, 88)
		h.multi = rapid.Bool().Draw(t, "multi")
		v := appendDelivery(nil, &h, d, places)
		got, gotHead, err := decodeDelivery(mta.DeliveryKey{N: d.N}, v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, d) || gotHead != h {
			t.Fatalf("got  %+v %+v\nwant %+v %+v", got, gotHead, d, h)
		}
		_, _, _, r, _ := decodeHead(v)
		stored := decodeRecipients(&r, nil)
		for i := range stored {
			if !stored[i].is(d.Recipients[i].Address, h.dest.Domain) || stored[i].is(d.Recipients[i].Address+"x", h.dest.Domain) || stored[i].place != places[i] {
				t.Fatalf("recipient %d", i)
			}
		}
	})
}

// TestOldRecordsAreRead: what was stored before deliveries and records had more
// fields is read as it was, octet for octet.
func TestOldRecordsAreRead(t *testing.T) {
	t.Parallel()
	old := []byte("\x81\x02\x01b\x05\x02\x01\x03\x00\x01\x00\x00\x03a\x00" + "\x00\x00\x04mx.b\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00")
	d, _, err := decodeDelivery(mta.DeliveryKey{Message: mta.ID{1}}, seal(slices.Clone(old), 0), nil)
	want := &mta.Delivery{Destination: mta.Destination{Domain: "b", Stream: "default"}, State: mta.Deferred, Due: dueTime(5), Attempts: 2,
		Recipients: []mta.Recipient{{Address: "a@b"}}, Last: mta.Last{Time: time.UnixMilli(0).UTC(), Host: "mx.b", Result: mta.Result{Scope: mta.ScopeHost}}}
	if err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v (%v)", d, want, err)
	}
	h := headOf(want, 1, 3)
	if got := unsealed(appendDelivery(nil, &h, want, []uint32{0})); !bytes.Equal(got, old) {
		t.Errorf("a delivery without the new fields is stored as %q, not as before", got)
	}
	// A record of a session whose TLS nobody demanded, as before there were origins.
	plain := &mta.Record{Destination: "/", TLS: mta.TLSFacts{Version: "TLS1.3", Cipher: "x", Verified: "pkix"}, Time: time.UnixMilli(0).UTC()}
	oldRecord := []byte("\x00" + "\x80\x01" + "\x00" + "\x16\x03x\x30")
	if got := appendRecord(nil, plain, &mta.Record{Destination: "/"}, 0, 0); !bytes.Equal(got, oldRecord) {
		t.Errorf("a record without the new fields is stored as %q, not as before", got)
	}
	rec := mta.Record{Destination: "/"}
	r := reader{b: oldRecord}
	if r.record(&rec, 0, nil); r.bad || !reflect.DeepEqual(&rec, plain) {
		t.Errorf("got  %+v\nwant %+v", &rec, plain)
	}
}

// FuzzDecodeMessage, FuzzDecodeDelivery and FuzzDecodeEntry: whatever lies on
// the disk gives an error or a record that encodes to the same octets; never
// a panic, never memory beyond the value's size.
func FuzzDecodeMessage(f *testing.F) {
	m := &mta.Message{ID: mta.ID{1}, Size: 5, Stream: "default", MessageID: "<x@y>", Envelope: mta.Envelope{Sender: "a@b"}, Origin: mta.Origin{Door: "smtp", Peer: netip.MustParseAddr("192.0.2.1")}}
	f.Add(unsealed(appendMessage(nil, &facts{msg: m, accepted: 3}, 2)))
	m.Tags, m.Metadata, m.NotBefore = []string{"t"}, map[string]string{"k": "v"}, time.UnixMilli(99).UTC()
	f.Add(unsealed(appendMessage(nil, &facts{msg: m, accepted: 3}, 2)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, v []byte) {
		got, err := decodeMessage(mta.ID{1}, seal(slices.Clone(v), 0))
		if err != nil {
			return
		}
		again, err := decodeMessage(mta.ID{1}, appendMessage(nil, got, got.msg.Deliveries))
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v\n%+v\n%v", got, again, err)
		}
	})
}

// FuzzDecodeDelivery: see FuzzDecodeMessage.
func FuzzDecodeDelivery(f *testing.F) {
	d := &mta.Delivery{Message: &mta.Message{ID: mta.ID{1}}, Destination: mta.Destination{Domain: "b", Stream: "default"}, Recipients: []mta.Recipient{{Address: "a@b"}, {Address: "x"}}, Last: mta.Last{Host: "h"}}
	h := headOf(d, 1, 2)
	f.Add(unsealed(appendDelivery(nil, &h, d, []uint32{1, 2})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, v []byte) {
		key := mta.DeliveryKey{Message: mta.ID{1}}
		sealed := seal(slices.Clone(v), 0)
		got, gotHead, err := decodeDelivery(key, sealed, nil)
		if err != nil {
			return
		}
		again, _, err := decodeDelivery(key, appendDelivery(nil, &gotHead, got, make([]uint32, len(got.Recipients))), nil)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v\n%+v\n%v", got, again, err)
		}
	})
}

// FuzzDecodeEntry: see FuzzDecodeMessage.
func FuzzDecodeEntry(f *testing.F) {
	r := &mta.Record{Time: time.UnixMilli(5), Recipient: "a@b", Site: "x,y", Host: "y", Tries: []mta.Try{{Host: "h"}}}
	b := appendRecord(appendEntryHead(nil, entryPlain, mta.ID{1}, 5, 0, 1), r, &mta.Record{}, 5, 0)
	f.Add(b)
	f.Add(appendRecord(appendEntryHead(nil, entryLater, mta.ID{1}, 5, 9, 1), r, &mta.Record{}, 5, 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, v []byte) {
		e, err := openEntry(seal(slices.Clone(v), 0))
		if err != nil {
			return
		}
		o := &origin{id: e.id, rec: mta.Record{Sender: "s"}, recipients: []string{"a@b"}}
		_ = e.records(o, func(*mta.Record) bool { return true })
		_, _ = originOf(&e)
	})
}

func unsealed(v []byte) []byte { return v[:len(v)-4] }

// TestFuzzSeeds: a fuzz target without seeds tests nothing in a normal run.
func TestFuzzSeeds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"FuzzDecodeMessage", "FuzzDecodeDelivery", "FuzzDecodeEntry"} {
		if files, err := os.ReadDir("testdata/fuzz/" + name); err != nil || len(files) == 0 {
			t.Errorf("%s has no seeds: %v", name, err)
		}
	}
}
