package submit

import (
	"bytes"
	"context"
	"io"

	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// Suppression says who gets no mail. Its answers are quick and never fail.
type Suppression interface {
	// Suppressed says in one sentence why mail of a stream is not sent to a
	// canonical address; empty: nothing is against it. Each answer counts as a
	// recipient who gets no mail.
	Suppressed(ctx context.Context, address, stream string) string
	// Refuses says that a message is not taken for such an address; else it is
	// taken, and the recipient ends at once.
	Refuses() bool
}

// RecipientChecker is an Acceptor that can say about one recipient, before the
// content is asked for, that a message for it is not taken. A message is refused
// by Begin for such a recipient in any case.
type RecipientChecker interface {
	// CheckRecipient gives nil or a *Refusal.
	CheckRecipient(ctx context.Context, r *Request, address string) error
}

var _ RecipientChecker = (*Intake)(nil)

// suppressedStatus is that of a recipient who gets no mail: refused by us.
var suppressedStatus = mta.Enhanced{Class: 5, Subject: 7, Detail: 1}

// stopped is a recipient who gets no mail.
type stopped struct {
	rcpt mta.Recipient
	why  string
}

// Stopped reports whether Begin found that an address of the request gets no
// mail: the recipient has failed when the message is taken.
func (r *Request) Stopped(address string) bool {
	_, is := r.isStopped[address]
	return is
}

// CheckRecipient implements RecipientChecker.
func (in *Intake) CheckRecipient(ctx context.Context, r *Request, address string) error {
	if in.suppression == nil || !in.suppression.Refuses() {
		return nil
	}
	if why := in.suppression.Suppressed(ctx, address, streamOf(r)); why != "" {
		return notWritten(address, why)
	}
	return nil
}

func notWritten(address, why string) *Refusal {
	return refuse(550, suppressedStatus, "recipient", smtp.Harmless(address+": "+why))
}

func streamOf(r *Request) string {
	if r.Stream == "" {
		return mta.DefaultStream
	}
	return r.Stream
}

// stop finds the recipients of a request who get no mail.
func (in *Intake) stop(ctx context.Context, r *Request) error {
	r.stopped, r.isStopped = nil, nil
	if in.suppression == nil {
		return nil
	}
	stream, refuses := streamOf(r), in.suppression.Refuses()
	for i := range r.Recipients {
		why := in.suppression.Suppressed(ctx, r.Recipients[i].Address, stream)
		switch {
		case why == "":
		case refuses:
			return notWritten(r.Recipients[i].Address, why)
		case !r.Stopped(r.Recipients[i].Address):
			r.stopped = append(r.stopped, stopped{r.Recipients[i], why})
			if r.isStopped == nil {
				r.isStopped = map[string]struct{}{}
			}
			r.isStopped[r.Recipients[i].Address] = struct{}{}
		}
	}
	return nil
}

// going are the recipients of a request who get mail.
func (r *Request) going() []mta.Recipient {
	if len(r.stopped) == 0 {
		return r.Recipients
	}
	out := make([]mta.Recipient, 0, len(r.Recipients))
	for i := range r.Recipients {
		if !r.Stopped(r.Recipients[i].Address) {
			out = append(out, r.Recipients[i])
		}
	}
	return out
}

// endStopped adds to a submission the recipients who get no mail: their records,
// and the report to the sender, which is to be stored with it; nil when none is
// owed. Without a return path there is nobody to tell, and the operator, whose
// list it is, is not told of each.
func (d *draft) endStopped(ctx context.Context, sub *spool.Submission) (*spool.Submission, error) {
	r, m := d.request, sub.Message
	if len(r.stopped) == 0 {
		return nil, nil
	}
	now := d.intake.arrival()
	ask := queue.ReportRequest{Kind: queue.ReportFailure, Delivery: &mta.Delivery{Message: m}, LastTry: now, Now: now}
	var accepted, over []*mta.Record
	for i := range r.stopped {
		s := &r.stopped[i]
		first := taken(m, now, s.rcpt.Address, domainOf(s.rcpt.Address))
		end := first
		end.Event, end.User, end.TLS = mta.EventSuppressed, "", mta.TLSFacts{}
		end.Reason, end.Enhanced = s.why, suppressedStatus.String()
		end.Class, end.Scope = mta.ClassPermanent.String(), mta.ScopeRecipient.String()
		accepted, over = append(accepted, &first), append(over, &end)
		ask.Recipients = append(ask.Recipients, s.rcpt)
		ask.Results = append(ask.Results, mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Enhanced: suppressedStatus, Reason: s.why, Suppressed: true})
	}
	sub.Records = append(append(sub.Records, accepted...), over...)
	if m.Envelope.Sender == "" {
		return nil, nil
	}
	report, err := NewReporter(d.intake).make(ctx, ask, &headContent{bytes.NewReader(d.head)})
	if err != nil || report == nil {
		return nil, err
	}
	sub.Records = append(sub.Records, told(ask, report.Message)...)
	return report, nil
}

// Returned makes the report of mail that was handed over and came back later; the
// header of the message is that which came back, nil when none did. nil, nil says
// that no report is owed.
func (rp *Reporter) Returned(ctx context.Context, r queue.ReportRequest, head []byte) (*spool.Submission, error) {
	if len(head) == 0 {
		return rp.make(ctx, r, nil)
	}
	return rp.make(ctx, r, &headContent{bytes.NewReader(head)})
}

// told are the records that name the report of a failure.
func told(ask queue.ReportRequest, report *mta.Message) []*mta.Record {
	m := ask.Delivery.Message
	var out []*mta.Record
	for i := range ask.Recipients {
		if !ask.Recipients[i].Notify.Wants(mta.NotifyFailure) {
			continue
		}
		out = append(out, &mta.Record{
			Time: ask.Now, Event: mta.EventBounced, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream, Sender: m.Envelope.Sender,
			Recipient: ask.Recipients[i].Address, Destination: domainOf(ask.Recipients[i].Address), Size: m.Size, Enhanced: ask.Results[i].Enhanced.String(),
			Reason: "reported to the sender", Report: report.ID, Tags: m.Tags, Metadata: m.Metadata,
		})
	}
	return out
}

// headContent is the header of a message as its content: what a report returns.
type headContent struct{ *bytes.Reader }

var _ spool.Content = (*headContent)(nil)

// Bytes implements spool.Content.
func (h *headContent) Bytes() []byte { return nil }

// Close implements io.Closer.
func (h *headContent) Close() error { return nil }

var _ io.ReaderAt = (*headContent)(nil)
