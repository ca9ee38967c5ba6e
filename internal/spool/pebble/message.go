package pebble

import (
	"encoding/binary"
	"strings"

	"mailout/internal/mta"
)

// The flags of a message record.
const (
	flagEightBit = 1 << iota
	flagUTF8
	flagSMTPUTF8
	flagRequireTLS
	flagBody8Bit
	flagBodyFile // content is in a file of its own
	flagFacts    // the application's facts follow (facts.go)
	flagAnyTLS
)

// facts are a message with what only the store knows of it.
type facts struct {
	msg      *mta.Message
	bodyFile bool
	bodyCRC  uint32
	accepted uint64 // sequence number of the accepted entry
}

// appendMessage encodes a message record: everything but the ID, which is the
// key. deliveries is how many are stored.
func appendMessage(b []byte, f *facts, deliveries int) []byte {
	from := len(b)
	m := f.msg
	var flags byte
	for i, on := range [...]bool{m.EightBit, m.UTF8, m.Envelope.SMTPUTF8, m.Envelope.RequireTLS, m.Envelope.Body8Bit, f.bodyFile, hasFacts(m), m.AnyTLS} {
		if on {
			flags |= 1 << i
		}
	}
	b = append(b, flags, byte(m.Kind), byte(m.Envelope.Ret))
	b = appendTime(b, m.Arrived, m.ID.Time().UnixMilli())
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = binary.AppendUvarint(b, uint64(deliveries))
	b = binary.AppendUvarint(b, f.accepted)
	b = binary.LittleEndian.AppendUint32(b, f.bodyCRC)
	b = appendString(b, m.MessageID)
	b = appendWord(b, m.Stream)
	b = appendString(b, m.Envelope.Sender)
	b = appendString(b, m.Envelope.EnvID)
	b = appendWord(b, m.Origin.Door)
	b = appendWord(b, m.Origin.Protocol)
	b = appendAddr(b, m.Origin.Peer)
	b = appendString(b, m.Origin.Helo)
	b = appendString(b, m.Origin.User)
	if flags&flagFacts != 0 {
		b = appendFacts(b, m)
	}
	return seal(b, from)
}

// decodeMessage reads a message record.
func decodeMessage(id mta.ID, v []byte) (*facts, error) {
	v, ok := unseal(v)
	if !ok {
		return nil, errDamaged
	}
	r := reader{b: v}
	m := &mta.Message{ID: id}
	f := &facts{msg: m}
	flags := r.byte()
	m.EightBit, m.UTF8 = flags&flagEightBit != 0, flags&flagUTF8 != 0
	m.Envelope.SMTPUTF8, m.Envelope.RequireTLS = flags&flagSMTPUTF8 != 0, flags&flagRequireTLS != 0
	m.Envelope.Body8Bit, f.bodyFile = flags&flagBody8Bit != 0, flags&flagBodyFile != 0
	m.AnyTLS = flags&flagAnyTLS != 0
	m.Kind, m.Envelope.Ret = mta.Kind(r.byte()), mta.Ret(r.byte())
	m.Arrived = r.time(id.Time().UnixMilli())
	m.Size = int64(r.uvarint())
	m.Deliveries = int(r.uvarint())
	f.accepted = r.uvarint()
	if crc := r.bytes(4); !r.bad {
		f.bodyCRC = binary.LittleEndian.Uint32(crc)
	}
	m.MessageID = r.string()
	m.Stream = r.word()
	m.Envelope.Sender = r.string()
	m.Envelope.EnvID = r.string()
	m.Origin.Door, m.Origin.Protocol = r.word(), r.word()
	m.Origin.Peer = r.addr()
	m.Origin.Helo, m.Origin.User = r.string(), r.string()
	if flags&flagFacts != 0 {
		r.facts(m)
	}
	if r.bad || len(r.b) != 0 || m.Size < 0 || m.Deliveries < 0 || m.Kind > mta.KindNotice || m.Envelope.Ret > mta.RetHeaders {
		return nil, errDamaged
	}
	return f, nil
}

// The flags of a delivery record, beside the state in its low two bits.
const (
	flagState     = 3
	flagRewritten = 4 << iota // the key was set more than once: DEL, not SINGLEDEL
	flagMulti                 // the message has other deliveries, counted in table r
	flagFile                  // its content is in a file
	flagDelaySent
	flagLast
)

// flagMore, the bit between, says that what few deliveries have follows at the
// end (more.go).
const flagMore = 4

// head is the front of a delivery record: what Settle needs of the old one.
type head struct {
	state     mta.State
	rewritten bool
	multi     bool
	bodyFile  bool
	dest      mta.Destination
	due       uint64
	attempts  uint64
	size      uint64
	accepted  uint64
}

func (h *head) index(key mta.DeliveryKey) index {
	x := index{dest: h.dest, held: h.state == mta.Held, key: key}
	if !x.held {
		x.due = h.due
	}
	return x
}

// appendDelivery encodes a delivery record. places gives, for each recipient,
// its place among the records of the accepted entry plus one, or 0.
func appendDelivery(b []byte, h *head, d *mta.Delivery, places []uint32) []byte {
	from := len(b)
	flags := byte(h.state) & flagState
	hasLast := d.Last != mta.Last{}
	for i, on := range [...]bool{h.rewritten, h.multi, h.bodyFile, d.DelaySent, hasLast} {
		if on {
			flags |= flagRewritten << i
		}
	}
	more := moreOf(d)
	if more != 0 {
		flags |= flagMore
	}
	b = append(b, flags)
	b = appendWord(b, label(&h.dest))
	b = appendString(b, h.dest.Domain)
	b = binary.AppendUvarint(b, h.due)
	b = binary.AppendUvarint(b, h.attempts)
	b = binary.AppendUvarint(b, h.size)
	b = binary.AppendUvarint(b, h.accepted)
	b = appendString(b, d.HeldBy)
	b = binary.AppendUvarint(b, uint64(len(d.Recipients)))
	for i := range d.Recipients {
		b = binary.AppendUvarint(b, uint64(places[i]))
		b = appendRecipient(b, &d.Recipients[i], h.dest.Domain)
	}
	if hasLast {
		b = appendLast(b, &d.Last)
	}
	if more != 0 {
		b = appendMore(b, more, d)
	}
	return seal(b, from)
}

// appendRecipient leaves the domain out when it is the destination's.
func appendRecipient(b []byte, r *mta.Recipient, domain string) []byte {
	b = append(b, byte(r.Notify))
	if n := len(r.Address) - len(domain) - 1; n >= 0 && r.Address[n] == '@' && r.Address[n+1:] == domain {
		b = append(binary.AppendUvarint(b, uint64(n)<<1|1), r.Address[:n]...)
	} else {
		b = append(binary.AppendUvarint(b, uint64(len(r.Address))<<1), r.Address...)
	}
	return appendString(b, r.ORcpt)
}

// storedRecipient is a recipient as it lies in a delivery record.
type storedRecipient struct {
	notify mta.Notify
	local  []byte // the whole address unless short
	short  bool   // the destination's domain was left out
	orcpt  []byte
	place  uint32
}

func (r *reader) recipient() (s storedRecipient) {
	s.place = uint32(r.uvarint())
	s.notify = mta.Notify(r.byte())
	n := r.uvarint()
	s.local, s.short = r.bytes(n>>1), n&1 == 1
	s.orcpt = r.bytes(r.uvarint())
	return s
}

// is reports whether s has the address.
func (s *storedRecipient) is(address, domain string) bool {
	if !s.short {
		return string(s.local) == address
	}
	n := len(s.local)
	return len(address) == n+1+len(domain) && address[:n] == string(s.local) && address[n] == '@' && address[n+1:] == domain
}

func (s *storedRecipient) recipient(domain string) mta.Recipient {
	out := mta.Recipient{Notify: s.notify, ORcpt: string(s.orcpt)}
	if s.short {
		out.Address = string(s.local) + "@" + domain
	} else {
		out.Address = string(s.local)
	}
	return out
}

// decodeRecipients appends the recipients of a record whose front was read.
// They point into the record.
func decodeRecipients(r *reader, to []storedRecipient) []storedRecipient {
	r.bytes(r.uvarint()) // the held reason
	n := r.count()
	for range n {
		to = append(to, r.recipient())
	}
	return to
}

func appendLast(b []byte, l *mta.Last) []byte {
	b = appendTime(b, l.Time, 0)
	b = appendString(b, l.Site)
	b = appendString(b, l.Host)
	b = appendAddr(b, l.IP)
	res := &l.Result
	var relayed byte
	if res.Relayed {
		relayed = 1
	}
	b = append(b, byte(res.Class), byte(res.Scope), relayed)
	b = binary.AppendVarint(b, int64(res.Reply.Code))
	b = appendEnhanced(b, res.Reply.Enhanced)
	b = appendString(b, res.Reply.Text)
	b = appendEnhanced(b, res.Enhanced)
	b = appendString(b, res.Reason)
	return binary.AppendVarint(b, int64(res.RetryAfter))
}

func (r *reader) last() (l mta.Last) {
	l.Time = r.time(0)
	l.Site, l.Host = r.string(), r.string()
	l.IP = r.addr()
	res := &l.Result
	res.Class, res.Scope, res.Relayed = mta.Class(r.byte()), mta.Scope(r.byte()), r.byte() == 1
	res.Reply.Code = int(r.varint())
	res.Reply.Enhanced = r.enhanced()
	res.Reply.Text = r.string()
	res.Enhanced = r.enhanced()
	res.Reason = r.string()
	res.RetryAfter = int(r.varint())
	if res.Class > mta.ClassUncertain || res.Scope > mta.ScopeLocal {
		r.fail()
	}
	return l
}

func appendEnhanced(b []byte, e mta.Enhanced) []byte {
	if e.IsZero() {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(e.Class)+1)
	b = binary.AppendUvarint(b, uint64(e.Subject))
	return binary.AppendUvarint(b, uint64(e.Detail))
}

func (r *reader) enhanced() (e mta.Enhanced) {
	class := r.uvarint()
	if class == 0 {
		return e
	}
	return mta.Enhanced{Class: uint16(class - 1), Subject: uint16(r.uvarint()), Detail: uint16(r.uvarint())}
}

// decodeHead checks a delivery record and reads its front; the reader is left
// at the held reason.
func decodeHead(v []byte) (h head, delaySent, hasLast bool, r reader, err error) {
	v, ok := unseal(v)
	if !ok {
		return h, false, false, r, errDamaged
	}
	r = reader{b: v}
	flags := r.byte()
	h.state = mta.State(flags & flagState)
	h.rewritten, h.multi, h.bodyFile = flags&flagRewritten != 0, flags&flagMulti != 0, flags&flagFile != 0
	setLabel(&h.dest, r.word())
	h.dest.Domain = r.string()
	h.due = r.uvarint()
	h.attempts, h.size, h.accepted = r.uvarint(), r.uvarint(), r.uvarint()
	if r.bad || h.state > mta.Held || h.due > maxDueMS || strings.IndexByte(h.dest.Stream, 0) >= 0 || strings.IndexByte(h.dest.Via, 0) >= 0 || strings.IndexByte(h.dest.Domain, 0) >= 0 {
		return h, false, false, r, errDamaged
	}
	return h, flags&flagDelaySent != 0, flags&flagLast != 0, r, nil
}

// decodeDelivery reads a delivery record; m is its message, or nil when the
// caller fills that in.
func decodeDelivery(key mta.DeliveryKey, v []byte, m *mta.Message) (*mta.Delivery, head, error) {
	h, delaySent, hasLast, r, err := decodeHead(v)
	if err != nil {
		return nil, h, err
	}
	d := &mta.Delivery{
		Message: m, N: key.N, Destination: h.dest, State: h.state,
		Due: dueTime(h.due), Attempts: int(h.attempts), DelaySent: delaySent,
	}
	d.HeldBy = r.string()
	n := r.count()
	d.Recipients = make([]mta.Recipient, 0, min(n, 1024))
	for range n {
		s := r.recipient()
		d.Recipients = append(d.Recipients, s.recipient(h.dest.Domain))
	}
	if hasLast {
		d.Last = r.last()
	}
	if v[0]&flagMore != 0 {
		r.more(d)
	}
	if r.bad || len(r.b) != 0 {
		return nil, h, errDamaged
	}
	return d, h, nil
}

// headOf makes the front of the record that d is to have.
func headOf(d *mta.Delivery, size int64, accepted uint64) head {
	return head{
		state: d.State, dest: d.Destination, due: dueMS(d.Due),
		attempts: uint64(max(d.Attempts, 0)), size: uint64(max(size, 0)), accepted: accepted,
	}
}
