package pebble

import (
	"encoding/binary"
	"strings"
	"time"

	"mailout/internal/mta"
)

// A journal entry holds the records of one message in one commit:
//
//	kind, ID, watermark, [accepted], count, count × (event, fields, time, values…), CRC-32C
//
// The watermark is the latest time of any record up to this entry; it never
// falls from entry to entry, so entries can be searched by time. accepted (in
// entries of kind entryLater) is the sequence number of the message's accepted
// entry. fields has a bit for each field whose value follows. A field without
// its bit has the value of the base: for the first record of an accepted
// entry nothing, for other records the one before them, except that in later
// entries MessageID, Stream, Sender, Size, Tags and Metadata come from the
// accepted record; the last two always.
const (
	entryAccepted = 1 + iota // written by Put; indexed by recipient
	entryLater               // written by Settle; refers to the accepted entry
	entryPlain               // stands alone; indexed by recipient
)

// The fields of a record, in the order in which their values follow. Only ever
// append.
const (
	hasRecipientPlace = 1 << iota // place in the accepted entry, instead of hasRecipient
	hasAttempt
	hasSite
	hasHost // differs from the site
	hasIP
	hasSource
	hasHelo
	hasTLS
	hasCode
	hasEnhanced
	hasReply
	hasClass
	hasScope
	hasReason
	isUncertain // the value itself, not a difference
	hasNext
	hasTries
	hasReport
	hasDurations
	hasMessageID
	hasStream
	hasSender
	hasRecipient
	hasDestination // differs from the recipient's domain and stream
	hasSize
	hasHostPlace // place in the site's comma-separated names, instead of hasHost
	hasUser
	hasTags
	hasMetadata
	hasBounceClass
	hasTLSOrigin
	hasDKIM
	allFields = 1<<iota - 1
)

// destinationOf is the destination that a record most likely has.
func destinationOf(recipient, stream string) string {
	return mta.Destination{Domain: recipient[strings.LastIndexByte(recipient, '@')+1:], Stream: stream}.String()
}

// isDestinationOf is r.Destination == destinationOf(r.Recipient, r.Stream)
// without making the string.
func isDestinationOf(r *mta.Record) bool {
	domain := r.Recipient[strings.LastIndexByte(r.Recipient, '@')+1:]
	if r.Stream == mta.DefaultStream {
		return r.Destination == domain
	}
	n := len(domain)
	return len(r.Destination) == n+1+len(r.Stream) && r.Destination[:n] == domain && r.Destination[n] == '/' && r.Destination[n+1:] == r.Stream
}

// differs gives the fields of r that differ from those of p.
func differs(r, p *mta.Record) (fields uint64) {
	for i, on := range [...]bool{
		false, r.Attempt != p.Attempt, r.Site != p.Site, r.Host != r.Site, r.IP != p.IP, r.Source != p.Source,
		r.Helo != p.Helo, !sameTLS(&r.TLS, &p.TLS), r.Code != p.Code, r.Enhanced != p.Enhanced, r.Reply != p.Reply,
		r.Class != p.Class, r.Scope != p.Scope, r.Reason != p.Reason, r.Uncertain, !r.Next.Equal(p.Next),
		!sameTries(r.Tries, p.Tries), r.Report != p.Report, r.Durations != p.Durations, r.MessageID != p.MessageID,
		r.Stream != p.Stream, r.Sender != p.Sender, r.Recipient != p.Recipient, !isDestinationOf(r), r.Size != p.Size,
	} {
		if on {
			fields |= 1 << i
		}
	}
	if r.User != p.User {
		fields |= hasUser
	}
	if r.BounceClass != p.BounceClass {
		fields |= hasBounceClass
	}
	if r.TLS.Origin != p.TLS.Origin {
		fields |= hasTLSOrigin
	}
	if r.DKIM != p.DKIM {
		fields |= hasDKIM
	}
	return fields | differentFacts(r, p)
}

// sameTLS leaves out the origin, which has a bit of its own.
func sameTLS(a, b *mta.TLSFacts) bool {
	return a.Version == b.Version && a.Cipher == b.Cipher && a.Verified == b.Verified
}

func sameTries(a, b []mta.Try) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// appendEntryHead begins an entry.
func appendEntryHead(b []byte, kind byte, id mta.ID, watermark int64, accepted uint64, count int) []byte {
	b = append(append(b, kind), id[:]...)
	b = binary.AppendVarint(b, watermark)
	if kind == entryLater {
		b = binary.AppendUvarint(b, accepted)
	}
	return binary.AppendUvarint(b, uint64(count))
}

// appendRecord encodes r against p. place is the recipient's place among the
// accepted ones plus one, or 0 when it is not known.
func appendRecord(b []byte, r, p *mta.Record, watermark int64, place uint32) []byte {
	return appendFields(b, differs(r, p), r, watermark, place)
}

// appendFields encodes the given fields of r.
func appendFields(b []byte, f uint64, r *mta.Record, watermark int64, place uint32) []byte {
	if f&hasRecipient != 0 && place != 0 {
		f = f&^hasRecipient | hasRecipientPlace
	}
	host := -1
	if f&hasHost != 0 {
		if host = placeInSite(r.Host, r.Site); host >= 0 {
			f = f&^hasHost | hasHostPlace
		}
	}
	b = append(b, byte(r.Event))
	b = binary.AppendUvarint(b, f)
	b = appendTime(b, r.Time, watermark)
	if f&hasRecipientPlace != 0 {
		b = binary.AppendUvarint(b, uint64(place-1))
	}
	if f&hasAttempt != 0 {
		b = binary.AppendVarint(b, int64(r.Attempt))
	}
	if f&hasSite != 0 {
		b = appendString(b, r.Site)
	}
	if f&hasHost != 0 {
		b = appendString(b, r.Host)
	}
	if f&hasIP != 0 {
		b = appendAddr(b, r.IP)
	}
	if f&hasSource != 0 {
		b = appendAddr(b, r.Source)
	}
	if f&hasHelo != 0 {
		b = appendString(b, r.Helo)
	}
	if f&hasTLS != 0 {
		b = appendWord(appendWord(appendWord(b, r.TLS.Version), r.TLS.Cipher), r.TLS.Verified)
	}
	if f&hasCode != 0 {
		b = binary.AppendVarint(b, int64(r.Code))
	}
	for i, s := range [...]string{r.Enhanced, r.Reply, r.Class, r.Scope, r.Reason} {
		if f&(hasEnhanced<<i) != 0 {
			b = appendWord(b, s)
		}
	}
	b = appendRecordTail(b, f, r, watermark)
	if f&hasHostPlace != 0 {
		b = binary.AppendUvarint(b, uint64(host))
	}
	if f&hasUser != 0 {
		b = appendString(b, r.User)
	}
	b = appendRecordFacts(b, f, r)
	if f&hasBounceClass != 0 {
		b = appendWord(b, r.BounceClass)
	}
	if f&hasTLSOrigin != 0 {
		b = appendWord(b, string(r.TLS.Origin))
	}
	if f&hasDKIM != 0 {
		b = appendString(b, shortKeys(r.DKIM, r.Sender))
	}
	return b
}

func appendRecordTail(b []byte, f uint64, r *mta.Record, watermark int64) []byte {
	if f&hasNext != 0 {
		b = appendTime(b, r.Next, watermark)
	}
	if f&hasTries != 0 {
		b = appendTries(b, r.Tries)
	}
	if f&hasReport != 0 {
		b = append(b, r.Report[:]...)
	}
	if f&hasDurations != 0 {
		d := &r.Durations
		for _, v := range [...]int64{d.Route, d.Connect, d.TLS, d.Mail, d.Data, d.Total} {
			b = binary.AppendVarint(b, v)
		}
	}
	for i, s := range [...]string{r.MessageID, r.Stream, r.Sender, r.Recipient, r.Destination} {
		if f&(hasMessageID<<i) != 0 {
			b = appendWord(b, s)
		}
	}
	if f&hasSize != 0 {
		b = binary.AppendVarint(b, r.Size)
	}
	return b
}

func appendTries(b []byte, tries []mta.Try) []byte {
	b = binary.AppendUvarint(b, uint64(len(tries)))
	for i := range tries {
		t := &tries[i]
		b = appendAddr(appendString(b, t.Host), t.IP)
		b = binary.AppendVarint(appendString(append(b, byte(t.Stage)), t.Reply), t.MS)
	}
	return b
}

func (r *reader) tries() []mta.Try {
	n := r.count()
	if n == 0 {
		return nil
	}
	out := make([]mta.Try, 0, min(n, 64))
	for range n {
		t := mta.Try{Host: r.string(), IP: r.addr(), Stage: mta.Stage(r.byte()), Reply: r.string(), MS: r.varint()}
		if t.Stage > mta.StageQuit {
			r.fail()
		}
		out = append(out, t)
	}
	return out
}

// record decodes one record over *rec, which holds its base. accepted are the
// recipients of the accepted entry.
func (r *reader) record(rec *mta.Record, watermark int64, accepted []string) {
	rec.Event = mta.Event(r.byte())
	f := r.uvarint()
	if rec.Event > mta.LastEvent || f > allFields {
		r.fail()
		return
	}
	rec.Time = r.time(watermark)
	if f&hasRecipientPlace != 0 {
		rec.Recipient = ""
		if place := r.uvarint(); place < uint64(len(accepted)) {
			rec.Recipient = accepted[place]
		}
	}
	if f&hasAttempt != 0 {
		rec.Attempt = int(r.varint())
	}
	if f&hasSite != 0 {
		rec.Site = r.string()
	}
	rec.Host = rec.Site
	if f&hasHost != 0 {
		rec.Host = r.string()
	}
	if f&hasIP != 0 {
		rec.IP = r.addr()
	}
	if f&hasSource != 0 {
		rec.Source = r.addr()
	}
	if f&hasHelo != 0 {
		rec.Helo = r.string()
	}
	if f&hasTLS != 0 {
		rec.TLS.Version, rec.TLS.Cipher, rec.TLS.Verified = r.word(), r.word(), r.word()
	}
	if f&hasCode != 0 {
		rec.Code = int(r.varint())
	}
	for i, s := range [...]*string{&rec.Enhanced, &rec.Reply, &rec.Class, &rec.Scope, &rec.Reason} {
		if f&(hasEnhanced<<i) != 0 {
			*s = r.word()
		}
	}
	rec.Uncertain = f&isUncertain != 0
	r.recordTail(rec, f, watermark)
	if f&hasHostPlace != 0 {
		rec.Host = hostInSite(rec.Site, r.uvarint())
	}
	if f&hasUser != 0 {
		rec.User = r.string()
	}
	r.recordFacts(rec, f)
	if f&hasBounceClass != 0 {
		rec.BounceClass = r.word()
	}
	if f&hasTLSOrigin != 0 {
		rec.TLS.Origin = mta.TLSOrigin(r.word())
	}
	if f&hasDKIM != 0 {
		rec.DKIM = longKeys(r.string(), rec.Sender)
	}
}

func (r *reader) recordTail(rec *mta.Record, f uint64, watermark int64) {
	if f&hasNext != 0 {
		rec.Next = r.time(watermark)
	}
	if f&hasTries != 0 {
		rec.Tries = r.tries()
	}
	if f&hasReport != 0 {
		if id := r.bytes(uint64(idLen)); !r.bad {
			rec.Report = mta.ID(id)
		}
	}
	if f&hasDurations != 0 {
		d := &rec.Durations
		for _, v := range [...]*int64{&d.Route, &d.Connect, &d.TLS, &d.Mail, &d.Data, &d.Total} {
			*v = r.varint()
		}
	}
	for i, s := range [...]*string{&rec.MessageID, &rec.Stream, &rec.Sender, &rec.Recipient} {
		if f&(hasMessageID<<i) != 0 {
			*s = r.word()
		}
	}
	if f&hasDestination != 0 {
		rec.Destination = r.word()
	} else {
		rec.Destination = destinationOf(rec.Recipient, rec.Stream)
	}
	if f&hasSize != 0 {
		rec.Size = r.varint()
	}
}

// entry is a decoded journal entry.
type entry struct {
	kind      byte
	id        mta.ID
	watermark int64
	accepted  uint64
	count     int
	rest      reader // at the first record
}

// openEntry checks an entry and reads its front.
func openEntry(v []byte) (entry, error) {
	v, ok := unseal(v)
	if !ok {
		return entry{}, errDamaged
	}
	r := reader{b: v}
	e := entry{kind: r.byte()}
	if id := r.bytes(uint64(idLen)); !r.bad {
		e.id = mta.ID(id)
	}
	e.watermark = r.varint()
	if e.kind == entryLater {
		e.accepted = r.uvarint()
	}
	e.count = r.count()
	if r.bad || e.kind < entryAccepted || e.kind > entryPlain {
		return entry{}, errDamaged
	}
	e.rest = r
	return e, nil
}

// origin is what later entries take from the accepted one: the fields that
// all its records share, and the recipients.
type origin struct {
	id         mta.ID
	rec        mta.Record
	recipients []string
}

// originOf makes the origin of an accepted entry.
func originOf(e *entry) (*origin, error) {
	o := &origin{id: e.id}
	first := true
	err := e.records(nil, func(rec *mta.Record) bool {
		if first {
			o.rec = mta.Record{MessageID: rec.MessageID, Stream: rec.Stream, Sender: rec.Sender, Size: rec.Size, Tags: rec.Tags, Metadata: rec.Metadata}
			first = false
		}
		o.recipients = append(o.recipients, rec.Recipient)
		return true
	})
	return o, err
}

// records decodes the records of an entry; o is nil for an entry that stands
// alone. Each record is a value of its own that f may keep.
func (e *entry) records(o *origin, f func(*mta.Record) bool) error {
	var rec mta.Record
	var accepted []string
	if o != nil {
		rec, accepted = o.rec, o.recipients
	}
	r := e.rest
	for range e.count {
		r.record(&rec, e.watermark, accepted)
		if r.bad {
			return errDamaged
		}
		rec.ID = e.id
		out := rec
		if !f(&out) {
			return nil
		}
	}
	if len(r.b) != 0 {
		return errDamaged
	}
	return nil
}

// watermarkOf is the latest time among the records, and at least low.
func watermarkOf(low int64, recs []*mta.Record) int64 {
	for _, r := range recs {
		if t := recordMS(r.Time); t > low {
			low = t
		}
	}
	return low
}

// recordMS is a record's time in milliseconds; the zero time counts as 1970, before
// all others.
func recordMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
