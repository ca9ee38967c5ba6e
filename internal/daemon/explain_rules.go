package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/mta"
)

// plan finds the way of the mail in question, and says which rules led there.
// It gives the first route of the plan; nil when there is none.
func (e *explainer) plan(ctx context.Context, out *admin.Explanation, r admin.ExplainRequest) *mta.Route {
	dest := mta.Destination{Domain: r.Address.Domain, Stream: r.Mail.Stream}
	mail := &mta.Message{
		Stream: dest.Stream, Envelope: mta.Envelope{Sender: r.Mail.Sender}, Origin: mta.Origin{User: r.Mail.User}, Tags: r.Mail.Tags,
	}
	out.PassedOver = []string{}
	trace := e.planner.Trace(mail, dest)
	out.PassedOver = append(out.PassedOver, trace.PassedOver...)
	plan, failure := e.heeded(e.planner.PlanFor(ctx, dest, e.planner.Variant(mail, dest)))
	switch {
	case failure != nil:
		out.Matched, out.Failure = trace.Matched, refusalWords(failure)
		out.Policies = unmetPolicies(failure, time.Now())
		return nil
	case plan.Stop != nil:
		out.Matched, out.Failure = plan.Stop.Matched, stopWords(plan.Stop)
	default:
		e.route(out, plan.Routes[0])
		explainPool(out, plan)
		e.stands(out, plan)
	}
	if strings.HasPrefix(trace.Matched, out.Matched+":") {
		out.Matched = trace.Matched // with the line of a table
	}
	if plan.Stop != nil {
		return nil
	}
	return plan.Routes[0]
}

// stopWords says what becomes of mail that a rule does not send.
func stopWords(s *mta.Stop) string {
	if s.Action == mta.StopHold {
		return fmt.Sprintf("%s (mail is held until somebody releases it)", s.Reason)
	}
	return fmt.Sprintf("%s (mail is cancelled, and the journal alone says so)", s.Reason)
}
