package submit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// scratch is the memory that drafts hand on to one another.
type scratch struct {
	header header.Header
	out    []byte // the completed header
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxScratch is the header size above which its memory is not kept.
const maxScratch = 32 << 10

// draft is one message on its way in: octets → line ends judged → header
// collected, completed and stored → body stored as it comes. Not safe for
// concurrent use.
type draft struct {
	intake   *Intake
	settings *Settings
	request  *Request
	id       mta.ID
	arrived  time.Time
	claim    mta.ID // of the request, until the draft ends

	content spool.Draft // nil after Commit and Abort
	scratch *scratch    // nil once the header is written
	check   lineCheck
	given   int64 // octets from the door
	inBody  bool
	partial bool // what was stored last is not the end of a line
	mbox    bool // an mbox "From " line was found, and left out
	skip    bool // inside that line
	failed  error

	messageID string
	utf8      bool
	anyTLS    bool     // TLS-Required: No
	tags      []string // of the header, in their order
	head      []byte   // the completed header, when some recipients get no mail
}

// Write implements io.Writer. Its first error stays: later calls and Commit
// return it too, so that a door may read on to the end of the content.
func (d *draft) Write(p []byte) (int, error) {
	if d.failed == nil && d.content == nil {
		d.failed = ownTrouble(errors.New("write to a draft that has ended"))
	}
	if d.failed != nil {
		return 0, d.failed
	}
	d.given += int64(len(p))
	if d.given > d.settings.MaxSize {
		return 0, d.fail(tooLarge(d.settings.MaxSize))
	}
	if err := d.check.next(p, d.take); err != nil {
		return 0, d.fail(err)
	}
	return len(p), nil
}

func (d *draft) fail(err error) error {
	d.failed = err
	d.Abort()
	return err
}

// Abort implements Draft.
func (d *draft) Abort() {
	if d.content != nil {
		d.content.Discard()
		d.content = nil
	}
	d.release()
	d.unclaim()
}

// unclaim lets the request's ID go; a message that was stored has it in the
// journal by then.
func (d *draft) unclaim() {
	d.intake.claims.end(d.claim)
	d.claim = mta.ID{}
}

func (d *draft) release() {
	if s := d.scratch; s != nil {
		d.scratch = nil
		if cap(s.out) <= maxScratch && s.header.Size() <= maxScratch {
			scratches.Put(s)
		}
	}
}

// take receives octets whose line ends are clean.
func (d *draft) take(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	d.partial = p[len(p)-1] != '\n'
	if d.inBody {
		return d.store(p)
	}
	if d.skip {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			return nil
		}
		d.skip = false
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
	h := &d.scratch.header
	n, err := h.Feed(p)
	if err != nil {
		return headerTooLarge()
	}
	if h.End() == header.EndOpen {
		return nil
	}
	if !d.mbox && isMboxLine(h, p[n:]) {
		first := slices.Concat(h.Rest(), p[n:])
		h.Reset(d.settings.Header)
		d.mbox, d.skip = true, true
		return d.take(first)
	}
	if err := d.endHeader(); err != nil {
		return err
	}
	return d.store(p[n:])
}

// isMboxLine reports whether the content begins with the separator line of an
// mbox file. It is no part of the message, and left where it is it would make
// the header a part of the body: it is left out, once.
func isMboxLine(h *header.Header, next []byte) bool {
	if h.End() != header.EndMalformed || h.Len() > 0 {
		return false
	}
	var line [6]byte
	n := copy(line[:], h.Rest())
	n += copy(line[n:], next)
	return bytes.HasPrefix(line[:n], []byte("From ")) || string(line[:n]) == ">From "
}

func (d *draft) store(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := d.content.Write(p); err != nil {
		return storeTrouble(err)
	}
	return nil
}

// endHeader stores the completed header, the empty line, and what of the body
// was looked at.
func (d *draft) endHeader() error {
	s := d.scratch
	out, err := d.complete(s.out[:0], &s.header)
	if err != nil {
		return err
	}
	s.out = out
	if len(d.request.stopped) > 0 {
		d.head = append(bytes.Clone(out), '\r', '\n')
	}
	d.inBody = true
	if err := d.store(append(out, '\r', '\n')); err != nil {
		return err
	}
	if err := d.store(s.header.Rest()); err != nil {
		return err
	}
	d.release()
	return nil
}

// Commit implements Draft.
func (d *draft) Commit(ctx context.Context) (mta.ID, error) {
	if d.failed == nil && d.content == nil {
		d.failed = ownTrouble(errors.New("commit of a draft that has ended"))
	}
	if d.failed != nil {
		return mta.ID{}, d.failed
	}
	if err := d.finish(); err != nil {
		return mta.ID{}, d.fail(err)
	}
	if err := ctx.Err(); err != nil {
		return mta.ID{}, d.fail(ownTrouble(err))
	}
	defer d.unclaim()
	sub := d.submission()
	report, err := d.endStopped(ctx, sub)
	if err != nil {
		return mta.ID{}, d.fail(ownTrouble(err))
	}
	d.content = nil // it is the store's from here on
	// Once begun, storing is not given up: a message that became durable while
	// its sender went away must still reach the queue.
	ctx = context.WithoutCancel(ctx)
	if report == nil {
		err = d.intake.store.Put(ctx, sub)
	} else {
		err = d.intake.store.Put(ctx, sub, report)
	}
	if err != nil {
		d.failed = storeTrouble(err)
		return mta.ID{}, d.failed
	}
	d.failed = errEnded
	d.intake.queue.Add(sub.Deliveries)
	if report != nil {
		d.intake.queue.Add(report.Deliveries)
	}
	return d.id, nil
}

var errEnded = ownTrouble(errors.New("the draft has ended"))

// finish brings the content to its end: what was held back, the last line end,
// and a header that the content ended in.
func (d *draft) finish() error {
	if err := d.check.finish(d.take); err != nil {
		return err
	}
	if d.partial {
		if err := d.take(crlf); err != nil {
			return err
		}
	}
	if d.inBody {
		return nil
	}
	if err := d.scratch.header.Finish(); err != nil {
		return headerTooLarge()
	}
	return d.endHeader()
}

// submission makes the message, its deliveries and the records of acceptance.
func (d *draft) submission() *spool.Submission {
	r := d.request
	stream := r.Stream
	if stream == "" {
		stream = mta.DefaultStream
	}
	m := &mta.Message{
		ID: d.id, Arrived: d.arrived, Size: d.content.Size(), MessageID: d.messageID,
		Stream: stream, EightBit: d.check.eightBit || d.utf8, UTF8: d.utf8,
		AnyTLS: d.anyTLS, Envelope: r.Envelope, Origin: r.Origin,
	}
	d.facts(m)
	sub := &spool.Submission{Message: m, Content: d.content, Reserve: r.Reserve}
	sub.Deliveries = split(m, r.going(), d.settings.MaxPerDelivery)
	sub.Records = accepted(sub, d.intake.arrival())
	return sub
}

func headerTooLarge() *Refusal {
	return refuse(552, mta.Enhanced{Class: 5, Subject: 3, Detail: 4}, "content", "the message's header is too large")
}

// complete appends the header as it is stored, without its empty line:
//
//   - our Received field first (RFC 5321 4.4);
//   - the fields as given and in their order, lines over 998 octets folded
//     where they have white space, without Return-Path (RFC 5321 4.4: ours is
//     not the final delivery), Bcc and Resent-Bcc (RFC 5322 3.6.3), X-Mailout-Tag (ours
//     to read), and a Date, From or Message-ID that has no value;
//   - then those of Date, From and Message-ID that were missing. From is the
//     return path, and for the null return path the daemon's own name.
//
// It refuses a message that has passed too many servers.
func (d *draft) complete(out []byte, h *header.Header) ([]byte, error) {
	var date, from, messageID bool
	var anyTLS relaxed
	out = d.received(out)
	hops := 0
	for i := range h.Len() {
		f := h.Field(i)
		switch f.Known() {
		case header.Received:
			hops++
		case header.ReturnPath, header.Bcc, header.ResentBcc:
			continue
		case header.Date:
			if f.Blank() {
				continue
			}
			date = true
		case header.From:
			if f.Blank() {
				continue
			}
			if err := checkFrom(d.request.User, f); err != nil {
				return nil, err
			}
			from = true
		case header.MessageID:
			if f.Blank() {
				continue
			}
			if !messageID {
				d.messageID = cleanMessageID(f.Text())
			}
			messageID = true
		case header.TLSRequired:
			anyTLS.take(f)
		case header.MailoutTag:
			if err := d.tag(f); err != nil {
				return nil, err
			}
			continue
		}
		out = appendField(out, f)
	}
	if hops > d.settings.MaxHops {
		return nil, refuse(554, mta.Enhanced{Class: 5, Subject: 4, Detail: 6}, "content", fmt.Sprintf("a loop: the message passed %d servers", hops))
	}
	if !from {
		if err := d.checkMadeFrom(); err != nil {
			return nil, err
		}
	}
	if err := d.checkAligned(h, from); err != nil {
		return nil, err
	}
	d.anyTLS = anyTLS.says() && !d.request.Envelope.RequireTLS // RFC 8689 4.1
	out = d.addMissing(out, date, from, messageID)
	// Octets that are no UTF-8 (a header in Latin-1, say) are no case for
	// SMTPUTF8, which promises UTF-8 (RFC 6532 3): such a header goes as it is.
	d.utf8 = header.EightBit(out) && utf8.Valid(out)
	return out, nil
}

// appendField appends a field; nearly all are fine as they are.
func appendField(out []byte, f header.Field) []byte {
	raw := f.Raw()
	if len(raw) <= header.MaxLine && bytes.HasSuffix(raw, crlf) {
		return append(out, raw...)
	}
	return header.AppendMended(out, f)
}

func (d *draft) received(out []byte) []byte {
	r := d.request
	t := header.Trace{
		Helo: r.Origin.Helo, Peer: r.Origin.Peer, By: d.settings.Hostname, With: r.Origin.Protocol,
		UTF8: r.Envelope.SMTPUTF8, ID: d.id.String(), Time: d.arrived,
	}
	if len(r.Recipients) == 1 {
		t.For = r.Recipients[0].Address
	}
	return header.AppendReceived(out, t)
}

func (d *draft) addMissing(out []byte, date, from, messageID bool) []byte {
	if !date {
		out = append(header.AppendDate(append(out, "Date: "...), d.arrived), '\r', '\n')
	}
	if !from {
		out = append(out, "From: "...)
		if sender := d.request.Envelope.Sender; sender != "" && header.Check("From", sender) == nil {
			out = append(out, sender...)
		} else {
			out = append(append(out, daemonName+"@"...), d.settings.Hostname...)
		}
		out = append(out, '\r', '\n')
	}
	if !messageID {
		d.messageID = "<" + d.id.String() + "@" + d.settings.Hostname + ">"
		out = append(append(append(out, "Message-ID: "...), d.messageID...), '\r', '\n')
	}
	return out
}

// daemonName is the local part of mail that we write ourselves.
const daemonName = "MAILER-DAEMON"

// maxMessageID bounds the Message-ID that is kept beside the content.
const maxMessageID = 998

// cleanMessageID makes the field's value fit for records and references.
func cleanMessageID(s string) string { return header.Harmless(s, maxMessageID) }
