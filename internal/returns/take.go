package returns

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/dsn"
	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/smtp"
	"mailout/internal/spool"
	"mailout/internal/suppress"
)

// take does what follows from what came to one address.
func (f *Office) take(ctx context.Context, address string, back *dsn.Returned) error {
	t := f.find(address)
	if t == nil {
		return f.complaint(ctx, back)
	}
	switch back.Outcome {
	case dsn.Failure:
		return f.failure(ctx, t, back)
	case dsn.Complaint:
		return f.complain(ctx, t, back)
	default:
		f.counts.ignored.Add(1)
		return nil
	}
}

// letter is a message of ours of which something came back, as the journal has
// it.
type letter struct {
	id         mta.ID
	recipients []*recipient // in the order of acceptance
}

// recipient is what became of one.
type recipient struct {
	accepted   *mta.Record
	handed     *mta.Record // it was delivered or relayed
	over       bool        // it ended in another way
	back       bool        // it came back before
	complained bool
}

// letter reads the journal; nil when it does not know the message (any more).
func (f *Office) letter(ctx context.Context, id mta.ID) (*letter, error) {
	l := &letter{id: id}
	by := map[string]*recipient{}
	err := f.opts.Store.Records(ctx, spool.RecordFilter{ID: id}, func(r *mta.Record) bool {
		if r.Event == mta.EventAccepted {
			p := &recipient{accepted: r}
			by[r.Recipient] = p
			l.recipients = append(l.recipients, p)
			return true
		}
		p := by[r.Recipient]
		if p == nil {
			return true
		}
		switch r.Event {
		case mta.EventDelivered, mta.EventRelayed:
			p.handed = r
		case mta.EventFailed, mta.EventExpired, mta.EventCancelled, mta.EventSuppressed:
			p.over = true
		case mta.EventComplained:
			p.complained = true
		case mta.EventBounced:
			p.back = p.back || r.CameBack()
		}
		return true
	})
	if err != nil || len(l.recipients) == 0 {
		return nil, err
	}
	return l, nil
}

// of gives the recipients that a tag speaks of. alone: it was made for that one,
// so that nobody else has seen it.
func (l *letter) of(t *tag) (all []*recipient, alone bool) {
	for _, p := range l.recipients {
		switch yes, alone := t.speaksOf(p.accepted.Recipient); {
		case alone:
			return []*recipient{p}, true
		case yes:
			all = append(all, p)
		}
	}
	return all, false
}

// named finds among recipients the one that a report names; or the only one, who
// may be known by other names where the report was made.
func named(all []*recipient, names []string) *recipient {
	for _, name := range names {
		name = canonical(name)
		for _, p := range all {
			if strings.EqualFold(p.accepted.Recipient, name) {
				return p
			}
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return nil
}

func canonical(address string) string {
	if box, err := smtp.ParseMailbox(address, true); err == nil {
		return box.String()
	}
	return address
}

// lane gives the lock under which a message's journal is read and written here:
// of two copies of a report the second finds what the first wrote.
func (f *Office) lane(id mta.ID) *sync.Mutex { return &f.lanes[int(id[len(id)-1])%len(f.lanes)] }

// tagged is the message that a tag names; nil when the journal does not know it
// any more, which is counted.
func (f *Office) tagged(ctx context.Context, t *tag) (*letter, error) {
	l, err := f.letter(ctx, t.id)
	if err == nil && l == nil {
		f.unmatched(t.id, "the journal does not know the message any more")
	}
	return l, err
}

// failure does what follows from a bounce.
func (f *Office) failure(ctx context.Context, t *tag, back *dsn.Returned) error {
	lane := f.lane(t.id)
	lane.Lock()
	defer lane.Unlock()
	l, err := f.tagged(ctx, t)
	if l == nil {
		return err
	}
	all, alone := l.of(t)
	var cases []hit
	for i := range back.Failed {
		r := &back.Failed[i]
		p := named(all, r.Addresses)
		if p == nil {
			continue
		}
		own := p.isCalled(r.Addresses)
		switch c := caseOf(cases, p); {
		case c == nil:
			cases = append(cases, hit{p, f.read(r, back.Reporter), own, !alone})
		case own && !c.own: // said of the recipient, and not of somebody behind it
			c.said, c.own = f.read(r, back.Reporter), true
		}
	}
	if len(cases) == 0 {
		f.unmatched(t.id, "the report names none of its recipients")
		return nil
	}
	var fresh []hit // no copies, and nobody whose end was told
	for _, c := range cases {
		if !c.p.over && !c.p.back {
			fresh = append(fresh, c)
		}
	}
	if err := f.record(ctx, l, t, fresh, back); err != nil {
		return err
	}
	f.counts.bounced.Add(int64(len(fresh)))
	f.learn(ctx, l, fresh)
	return nil
}

// hit is a recipient with what was said of it.
type hit struct {
	p      *recipient
	said   said
	own    bool // it was said of the recipient, and not of an address behind it
	shared bool // other recipients have seen the return path too
}

func caseOf(cases []hit, p *recipient) *hit {
	for i := range cases {
		if cases[i].p == p {
			return &cases[i]
		}
	}
	return nil
}

// isCalled reports whether names may be those of the recipient: none at all, or
// one with the same local part. A member of a list, or the target of a forward,
// has another, and that it is dead says nothing of the list.
func (p *recipient) isCalled(names []string) bool {
	own, _, _ := strings.Cut(p.accepted.Recipient, "@")
	for _, name := range names {
		local, _, _ := strings.Cut(name, "@")
		if strings.EqualFold(local, own) {
			return true
		}
	}
	return len(names) == 0
}

// said is what a report says of one recipient.
type said struct {
	reply  mta.Reply // without a code when none was told
	status mta.Enhanced
	class  bounce.Class
	from   string // who says it
}

func (f *Office) read(r *dsn.Refusal, reporter string) said {
	s := said{status: r.Status, from: r.Remote}
	if s.from == "" {
		s.from = reporter
	}
	s.from = clean(s.from, 255)
	if s.status.Class != 5 {
		s.status = mta.Enhanced{Class: 5}
	}
	s.class = f.reader.Load().Classify(bounce.Reply{Code: r.Code, Enhanced: r.Status.String(), Text: r.Text})
	s.reply = mta.Reply{Code: r.Code, Text: r.Text}
	if r.Code != 0 { // the text begins with the codes as a rule
		rest := strings.TrimPrefix(strings.TrimLeft(r.Text, " "), s.reply.String()[:3])
		rest = strings.TrimLeft(rest, " -")
		if e := r.Status.String(); !r.Status.IsZero() && strings.HasPrefix(rest, e) {
			rest, s.reply.Enhanced = strings.TrimLeft(rest[len(e):], " "), r.Status
		}
		s.reply.Text = rest
	}
	return s
}

// reason says it in one sentence.
func (s *said) reason() string {
	text := "came back"
	if s.from != "" {
		text += " from " + s.from
	}
	if s.reply.Code == 0 && s.reply.Text != "" {
		text += ": " + s.reply.Text
	}
	return text
}

// record writes what came back into the journal, with the report to the sender.
func (f *Office) record(ctx context.Context, l *letter, t *tag, cases []hit, back *dsn.Returned) error {
	if len(cases) == 0 {
		return nil
	}
	now := stamp(f.now())
	report, err := f.report(ctx, l, t, cases, back, now)
	if err != nil {
		return err
	}
	subs := make([]*spool.Submission, 0, 2)
	note, err := f.note(l, now)
	if err != nil {
		discard(report)
		return err
	}
	for _, c := range cases {
		rec := about(c.p, mta.EventBounced, now)
		if rec.Enhanced = c.said.status.String(); c.said.reply.Code != 0 {
			rec.Code, rec.Reply = c.said.reply.Code, c.said.reply.String()
		}
		rec.Class, rec.Scope, rec.Reason, rec.BounceClass = mta.ClassPermanent.String(), mta.ScopeRecipient.String(), c.said.reason(), string(c.said.class)
		if report != nil {
			rec.Report = report.Message.ID
		}
		note.Records = append(note.Records, rec)
	}
	subs = append(subs, note)
	if report != nil {
		subs = append(subs, report)
	}
	if err := f.opts.Store.Put(ctx, subs...); err != nil {
		return err
	}
	if report != nil {
		f.opts.Queue.Add(report.Deliveries)
	}
	return nil
}

func discard(report *spool.Submission) {
	if report != nil && report.Content != nil {
		report.Content.Discard()
	}
}

// note is a submission that only brings records: they are of another message,
// and find their place beside its own.
func (f *Office) note(l *letter, now time.Time) (*spool.Submission, error) {
	var bits [10]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return nil, err
	}
	first := l.recipients[0].accepted
	return &spool.Submission{Message: &mta.Message{ID: mta.NewID(now, bits), Arrived: now, Stream: first.Stream, Kind: mta.KindNotice}}, nil
}

// about is a record of a recipient of a message that left long ago.
func about(p *recipient, event mta.Event, now time.Time) *mta.Record {
	a := p.accepted
	return &mta.Record{
		Time: now, Event: event, ID: a.ID, MessageID: a.MessageID, Stream: a.Stream, Sender: a.Sender, Recipient: a.Recipient,
		Destination: a.Destination, Size: a.Size, Tags: a.Tags, Metadata: a.Metadata,
	}
}

// stamp is a time as records have it.
func stamp(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

// report makes the report that goes on to the sender.
func (f *Office) report(ctx context.Context, l *letter, t *tag, cases []hit, back *dsn.Returned, now time.Time) (*spool.Submission, error) {
	first := l.recipients[0].accepted
	if !f.settings.Load().Forward || t.quiet || first.Sender == "" {
		return nil, nil
	}
	m := &mta.Message{
		ID: l.id, Arrived: first.Time, MessageID: first.MessageID, Stream: first.Stream, Envelope: mta.Envelope{Sender: first.Sender},
	}
	ask := queue.ReportRequest{Kind: queue.ReportFailure, Delivery: &mta.Delivery{Message: m}, LastTry: now, Now: now}
	for _, c := range cases {
		ask.Recipients = append(ask.Recipients, mta.Recipient{Address: c.p.accepted.Recipient})
		ask.Results = append(ask.Results, mta.Result{
			Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Reply: c.said.reply, Enhanced: c.said.status, Reason: c.said.reason(),
		})
		ask.Host = c.said.from
	}
	return f.opts.Reporter.Returned(ctx, ask, original(back.Original, first.MessageID))
}

// original is the header that came back with a report, if it is our message's.
func original(h *header.Header, messageID string) []byte {
	if h == nil || messageID == "" {
		return nil
	}
	field, ok := h.Get("Message-ID")
	if !ok || strings.TrimSpace(field.Text()) != messageID {
		return nil
	}
	var b bytes.Buffer
	for f := range h.All() {
		if f.Known() == header.ReturnPath {
			continue // ours, with its tag
		}
		if raw := f.Raw(); len(raw) <= header.MaxLine && bytes.HasSuffix(raw, []byte("\r\n")) {
			b.Write(raw)
		} else {
			b.Write(header.AppendMended(nil, f))
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// learn lets the suppression list know of dead addresses. What came to a return
// path that several recipients have seen is not sure, for each of them could have
// sent it. A message counts once: a copy of its report on another day is not said
// of another day.
func (f *Office) learn(ctx context.Context, l *letter, cases []hit) {
	for _, c := range cases {
		if !c.own {
			continue
		}
		_, err := f.opts.List.Report(ctx, suppress.Evidence{
			Address: c.p.accepted.Recipient, Stream: c.p.accepted.Stream, Reason: suppress.Dead, Message: l.id, Back: true, Unsure: c.shared,
			Reply: bounce.Reply{Code: c.said.reply.Code, Enhanced: enhanced(c.said), Text: c.said.reply.Text},
		})
		if err != nil {
			// The bounce is in the journal; the address will say so again.
			f.log.Error("an address that came back could not be put on the suppression list", mta.KeyID, l.id.String(), mta.KeyError, err)
		}
	}
}

// enhanced is the status, unless it is one that says nothing.
func enhanced(s said) string {
	if s.status.Subject == 0 && s.status.Detail == 0 {
		return ""
	}
	return s.status.String()
}

func (f *Office) unmatched(id mta.ID, why string) {
	f.counts.unmatched.Add(1)
	f.unread.Do(func() { f.log.Info("what came back could not be assigned", mta.KeyID, id.String(), mta.KeyReason, why) })
}
