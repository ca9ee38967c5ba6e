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
		Stream: dest.Stream, Envelope: mta.Envelope{Sender: r.Mail.Sender, RequireTLS: r.Mail.RequireTLS}, Origin: mta.Origin{User: r.Mail.User}, Tags: r.Mail.Tags, AnyTLS: r.Mail.AnyTLS,
	}
	out.PassedOver = []string{}
	trace := e.planner.Trace(mail, dest)
	out.PassedOver = append(out.PassedOver, trace.PassedOver...)
	var first *mta.Route
	plan, failure := e.heeded(e.planner.PlanFor(ctx, dest, e.planner.Variant(mail, dest)))
	switch {
	case failure != nil:
		out.Matched, out.Failure = trace.Matched, refusalWords(failure)
		out.Policies = unmetPolicies(failure, time.Now())
		return nil
	case plan.Stop != nil:
		out.Matched, out.Failure = plan.Stop.Matched, stopWords(plan.Stop)
	default:
		first = e.way(out, plan, r.Mail.RequireTLS)
	}
	if strings.HasPrefix(trace.Matched, out.Matched+":") {
		out.Matched = trace.Matched // with the line of a table
	}
	return first
}

// way tells of the routes of a plan and gives the first; nil when no host of it can
// have mail with REQUIRETLS.
func (e *explainer) way(out *admin.Explanation, plan *mta.Plan, requireTLS bool) *mta.Route {
	first := plan.Routes[0]
	var failure *mta.Failure
	if requireTLS {
		first, failure = vouched(first)
	}
	e.route(out, first, requireTLS)
	explainPool(out, plan)
	e.stands(out, plan)
	if failure != nil {
		out.Failure = refusalWords(failure)
		return nil
	}
	return first
}

// stopWords says what becomes of mail that a rule does not send.
func stopWords(s *mta.Stop) string {
	if s.Action == mta.StopHold {
		return fmt.Sprintf("%s (mail is held until somebody releases it)", s.Reason)
	}
	return fmt.Sprintf("%s (mail is cancelled, and the journal alone says so)", s.Reason)
}
