package submit

import (
	"context"

	"mailout/internal/mta"
	"mailout/internal/queue"
)

// Refused tells the sender of a message that a door had taken over before
// intake could look at it, and that intake refuses for good: a report as for
// any failure, without the message itself, which was never stored. When it
// returns nil the report is on stable storage, or none is owed: NOTIFY forbids
// it. Calling it again, after a crash say, reports again.
func (rp *Reporter) Refused(ctx context.Context, r *Request, why *Refusal) error {
	in := rp.intake
	now := in.arrival()
	m := &mta.Message{ID: r.ID, Arrived: now, Stream: r.Stream, Envelope: r.Envelope, Origin: r.Origin}
	status := why.Reply.Enhanced
	status.Class = 5 // also of 4.5.3, which asks an SMTP client for a second transaction
	report := queue.ReportRequest{
		Kind: queue.ReportFailure, Delivery: &mta.Delivery{Message: m}, LastTry: now, Now: now,
	}
	for _, rcpt := range r.Recipients[:min(len(r.Recipients), in.settings.Load().MaxRecipients)] {
		report.Recipients = append(report.Recipients, rcpt)
		report.Results = append(report.Results, mta.Result{
			Class: mta.ClassPermanent, Scope: mta.ScopeMessage, Enhanced: status,
			Reason: "the message was not accepted: " + why.Reply.Text,
		})
	}
	sub, err := rp.Report(ctx, report)
	if err != nil || sub == nil {
		return err
	}
	if err := in.store.Put(context.WithoutCancel(ctx), sub); err != nil {
		return err
	}
	in.queue.Add(sub.Deliveries)
	return nil
}
