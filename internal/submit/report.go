package submit

import (
	"context"
	"fmt"

	"mailout/internal/dsn"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// BounceStream is the stream of the reports we write. They have one of their
// own, so that a flood of bounces (a mailing to a stale list, or forged mail)
// takes one stream's fair share of a site and no more, and the stream whose
// mail failed does not lose its own share to its reports.
const BounceStream = "bounces"

// Reporter makes the reports that the queue asks for. It shares store, clock
// and settings with intake, and implements queue.Reporter.
//
// To whom a report goes, so that none can go in a circle (RFC 3464 2, RFC 5321
// 6.1): a report goes from <> to the return path. A failure without a usable
// return path, which every report of ours is, goes to the operator's
// postmaster once, as a notice; a failed notice makes nothing, and neither does
// a delay or a success without a return path.
type Reporter struct{ intake *Intake }

var _ queue.Reporter = (*Reporter)(nil)

// NewReporter makes the reporter that belongs to an intake.
func NewReporter(in *Intake) *Reporter { return &Reporter{intake: in} }

// Report implements queue.Reporter. The submission's content is complete; it
// is not stored. nil, nil says that no report is owed.
func (rp *Reporter) Report(ctx context.Context, r queue.ReportRequest) (*spool.Submission, error) {
	return rp.make(ctx, r, nil)
}

// make makes a report. A head is the header of the message reported, which is
// returned then; nil: the store has the message.
func (rp *Reporter) make(ctx context.Context, r queue.ReportRequest, head spool.Content) (*spool.Submission, error) {
	s := rp.intake.settings.Load()
	to, kind := addressee(&r)
	if kind == mta.KindMail {
		return nil, nil
	}
	rep := rp.describe(&r, s, kind)
	if len(rep.Recipients) == 0 {
		return nil, nil
	}
	if kind == mta.KindNotice {
		var err error
		if to, err = smtp.ParseMailbox(s.Postmaster, true); err != nil {
			return nil, fmt.Errorf("the notice to postmaster %q cannot be made: %w", s.Postmaster, err)
		}
	}
	rep.To = to.String()
	id, err := rp.intake.newID(rep.Date)
	if err != nil {
		return nil, err
	}
	rep.ID = id
	var content spool.Draft
	var facts dsn.Facts
	if head != nil {
		rep.HeadersOnly = true
		content, facts, err = rp.writeWith(rep, head)
	} else {
		content, facts, err = rp.write(ctx, rep, r.Delivery.Message.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("report about %s: %w", r.Delivery.Message.ID, err)
	}
	return rp.submission(rep, r.Delivery.Message, kind, to, content, facts), nil
}

// addressee tells to whom the report goes: KindBounce with the return path,
// KindNotice for the operator, KindMail when there is nobody to tell.
func addressee(r *queue.ReportRequest) (smtp.Mailbox, mta.Kind) {
	m := r.Delivery.Message
	if m.Kind == mta.KindNotice {
		return smtp.Mailbox{}, mta.KindMail
	}
	if m.Envelope.Sender != "" {
		if to, err := smtp.ParseMailbox(m.Envelope.Sender, true); err == nil {
			return to, mta.KindBounce
		}
	}
	if r.Kind == queue.ReportFailure {
		return smtp.Mailbox{}, mta.KindNotice
	}
	return smtp.Mailbox{}, mta.KindMail
}

// describe puts the request into the words of a report. NOTIFY is looked at
// once more for the sender's sake; the operator is told of what was asked.
func (rp *Reporter) describe(r *queue.ReportRequest, s *Settings, kind mta.Kind) *dsn.Report {
	m := r.Delivery.Message
	rep := &dsn.Report{
		Date: rp.intake.arrival(), Hostname: s.Hostname, Postmaster: s.Postmaster, Notice: kind == mta.KindNotice,
		Sender: m.Envelope.Sender, MessageID: m.MessageID, Arrived: m.Arrived, EnvelopeID: m.Envelope.EnvID,
		Ret: m.Envelope.Ret, HeadersOnly: m.Envelope.RequireTLS, FullLimit: s.DSNFull,
	}
	event := [...]mta.Notify{mta.NotifyFailure, mta.NotifyDelay, mta.NotifySuccess}[r.Kind]
	for i := range r.Recipients {
		if kind == mta.KindBounce && !r.Recipients[i].Notify.Wants(event) {
			continue
		}
		rep.Recipients = append(rep.Recipients, describeRecipient(r, i))
	}
	return rep
}

func describeRecipient(r *queue.ReportRequest, i int) dsn.Recipient {
	rcpt, res := &r.Recipients[i], &r.Results[i]
	d := dsn.Recipient{
		Address: rcpt.Address, Original: rcpt.ORcpt, Status: res.Enhanced,
		Reply: res.Reply, Reason: res.Reason, LastAttempt: r.LastTry, Uncertain: res.Class == mta.ClassUncertain,
	}
	if res.Reply.Code != 0 {
		d.Remote = r.Host
	}
	switch {
	case r.Kind == queue.ReportFailure:
		d.Action = dsn.Failed
	case r.Kind == queue.ReportDelay:
		d.Action, d.RetryUntil = dsn.Delayed, r.RetryUntil
	case res.Relayed:
		d.Action = dsn.Relayed
	default:
		d.Action = dsn.Delivered
	}
	return d
}

// write makes the report's content. When the original cannot be read the
// report is made without it: a sender who knows less is better than one who
// knows nothing.
func (rp *Reporter) write(ctx context.Context, rep *dsn.Report, original mta.ID) (spool.Draft, dsn.Facts, error) {
	c, err := rp.intake.store.Open(ctx, original)
	if err != nil {
		return rp.writeWith(rep, nil)
	}
	defer c.Close()
	draft, facts, err := rp.writeWith(rep, c)
	if err != nil {
		return rp.writeWith(rep, nil)
	}
	return draft, facts, nil
}

func (rp *Reporter) writeWith(rep *dsn.Report, original spool.Content) (spool.Draft, dsn.Facts, error) {
	draft, err := rp.intake.store.Draft()
	if err != nil {
		return nil, dsn.Facts{}, err
	}
	var facts dsn.Facts
	if original != nil {
		facts, err = rep.Write(draft, original, original.Size())
	} else {
		facts, err = rep.Write(draft, nil, 0)
	}
	if err != nil {
		draft.Discard()
		return nil, dsn.Facts{}, err
	}
	return draft, facts, nil
}

// submission wraps the report up as a message: one recipient, from the null
// return path (RFC 3461 6.1), and never less protected than the original
// (RFC 8689 5).
func (rp *Reporter) submission(rep *dsn.Report, original *mta.Message, kind mta.Kind, to smtp.Mailbox, content spool.Draft, facts dsn.Facts) *spool.Submission {
	m := &mta.Message{
		ID: rep.ID, Arrived: rep.Date, Size: content.Size(), MessageID: "<" + rep.ID.String() + "@" + rep.Hostname + ">",
		Stream: BounceStream, Kind: kind, EightBit: facts.EightBit, UTF8: facts.UTF8, Deliveries: 1,
		Envelope: mta.Envelope{SMTPUTF8: facts.UTF8, RequireTLS: original.Envelope.RequireTLS},
		Origin:   mta.Origin{Door: "bounce", Protocol: "LOCAL"},
	}
	d := fresh(m, 0, to.Domain, []mta.Recipient{{Address: to.String()}})
	sub := &spool.Submission{Message: m, Content: content, Deliveries: []*mta.Delivery{d}}
	sub.Records = accepted(sub, rep.Date)
	sub.Records[0].Report = original.ID
	return sub
}
