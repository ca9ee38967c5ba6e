package returns

import (
	"context"
	"strings"

	"mailout/internal/dsn"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/suppress"
)

// complaint reads what came to an address for feedback reports: the tag is in
// the report, or in the header of the message that it returns. There is one more
// way for providers that leave our return path out: a Message-ID that we made
// ourselves, of a message that had one recipient. It has 80 random bits that
// only that recipient's side has seen.
func (f *Office) complaint(ctx context.Context, back *dsn.Returned) error {
	if back.Outcome != dsn.Complaint && !back.Feedback.Attached {
		f.counts.ignored.Add(1)
		return nil
	}
	paths := []string{back.Feedback.MailFrom}
	if back.Original != nil {
		for field := range back.Original.All() {
			switch strings.ToLower(field.Name()) {
			case "return-path", "x-original-return-path", "x-env-sender", "x-sender", "sender":
				paths = append(paths, strings.Trim(strings.TrimSpace(field.Text()), "<>"))
			}
		}
	}
	for _, path := range paths {
		if t := f.find(path); t != nil {
			return f.complain(ctx, t, back)
		}
	}
	id, ok := messageOf(back)
	if !ok {
		f.unmatched(mta.ID{}, "a complaint holds no return path and no Message-ID of ours")
		return nil
	}
	lane := f.lane(id)
	lane.Lock()
	defer lane.Unlock()
	l, err := f.byMessageID(ctx, id, back)
	if err != nil {
		return err
	}
	if l == nil {
		f.unmatched(mta.ID{}, "a complaint holds no return path and no Message-ID of ours")
		return nil
	}
	return f.complained(ctx, l, l.recipients[0], back, false)
}

// messageIDOf is the Message-ID of the message that a report returns.
func messageIDOf(back *dsn.Returned) string {
	if back.Original == nil {
		return ""
	}
	field, ok := back.Original.Get("Message-ID")
	if !ok {
		return ""
	}
	return strings.TrimSpace(field.Text())
}

// messageOf is the message that a Message-ID of ours names.
func messageOf(back *dsn.Returned) (mta.ID, bool) {
	text, _, _ := strings.Cut(strings.TrimPrefix(messageIDOf(back), "<"), "@")
	id, err := mta.ParseID(text)
	return id, err == nil && !id.IsZero()
}

// byMessageID finds a message of one recipient by a Message-ID that was made here.
func (f *Office) byMessageID(ctx context.Context, id mta.ID, back *dsn.Returned) (*letter, error) {
	l, err := f.letter(ctx, id)
	if err != nil || l == nil || len(l.recipients) != 1 || l.recipients[0].accepted.MessageID != messageIDOf(back) {
		return nil, err
	}
	return l, nil
}

// complain does what follows from a complaint about a message that a tag names.
func (f *Office) complain(ctx context.Context, t *tag, back *dsn.Returned) error {
	lane := f.lane(t.id)
	lane.Lock()
	defer lane.Unlock()
	l, err := f.tagged(ctx, t)
	if l == nil {
		return err
	}
	names := back.Feedback.Recipients
	if back.Original != nil {
		if field, ok := back.Original.Get("X-HmXmrOriginalRecipient"); ok {
			names = append(names, strings.TrimSpace(field.Text()))
		}
	}
	all, alone := l.of(t)
	p := named(all, names)
	if p == nil {
		f.unmatched(t.id, "the complaint does not say whose it is")
		return nil
	}
	return f.complained(ctx, l, p, back, !alone)
}

// complained writes a complaint into the journal and onto the list: at once, but
// when the return path is shared, which other recipients have seen too (see
// learn).
func (f *Office) complained(ctx context.Context, l *letter, p *recipient, back *dsn.Returned, shared bool) error {
	kind := back.Feedback.Type
	switch kind {
	case "not-spam":
		f.counts.ignored.Add(1)
		return nil
	case "":
		kind = "abuse"
	}
	if !p.complained {
		now := stamp(f.now())
		note, err := f.note(l, now)
		if err != nil {
			return err
		}
		rec := about(p, mta.EventComplained, now)
		rec.Reason = words(kind, back.Reporter)
		note.Records = []*mta.Record{rec}
		if err := f.opts.Store.Put(ctx, []*spool.Submission{note}...); err != nil {
			return err
		}
		f.counts.complained.Add(1)
		if f.opts.Complained != nil && p.handed != nil {
			f.opts.Complained(p.handed)
		}
	}
	if shared && p.complained {
		return nil
	}
	ev := suppress.Evidence{Address: p.accepted.Recipient, Stream: p.accepted.Stream, Reason: suppress.Complained, Message: l.id, Back: true, Unsure: shared}
	ev.Reply.Text = words(kind, back.Reporter)
	if kind == "opt-out" || kind == "opt-out-list" {
		ev.Reason = suppress.Unsubscribed
	}
	_, err := f.opts.List.Report(ctx, ev)
	return err
}

// words says what a complaint is.
func words(kind, reporter string) string {
	text := "complaint (" + clean(kind, 40) + ")"
	if reporter != "" {
		text += " by " + clean(reporter, 255)
	}
	return text
}
