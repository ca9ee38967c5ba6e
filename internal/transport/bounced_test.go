package transport

import (
	"testing"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// TestEveryFailureHasItsClass: a failure without a reply says what it means
// where that is evident, and our own trouble says nothing of the receiver.
func TestEveryFailureHasItsClass(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    mta.Failure
		want bounce.Class
	}{
		{mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseIO}, bounce.NetworkError},
		{mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseTimeout}, bounce.NetworkError},
		{mta.Failure{Stage: mta.StageFinal, Cause: mta.CauseIO, Sent: true}, bounce.NetworkError},
		{mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseTLS}, bounce.TLSRequired},
		{mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseNeed}, bounce.TLSRequired},
		{mta.Failure{Stage: mta.StageMail, Cause: mta.CauseNeed, NeedEnhanced: enhanced(5, 3, 4)}, bounce.MessageTooLarge},
		{mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseNeed, NeedEnhanced: enhanced(5, 7, 30)}, bounce.TLSRequired},
		{mta.Failure{Stage: mta.StageMail, Cause: mta.CauseNeed, NeedEnhanced: enhanced(5, 6, 7)}, bounce.Other},
		{mta.Failure{Stage: mta.StageEhlo, Cause: mta.CauseProtocol}, bounce.SystemError},
		{mta.Failure{Cause: mta.CauseNoDomain}, bounce.DomainUnknown},
		{mta.Failure{Cause: mta.CauseNullMX}, bounce.DomainUnknown},
		{mta.Failure{Cause: mta.CauseLoop}, bounce.NetworkError},
		{mta.Failure{Cause: mta.CauseForbiddenAddr}, bounce.NetworkError},
		{mta.Failure{Cause: mta.CauseDNS}, bounce.NetworkError},
		{mta.Failure{Cause: mta.CauseLocal}, ""},
		{mta.Failure{Cause: mta.CauseRouter}, ""},
	} {
		if got := Judge(&c.f, Place{}).Bounce; got != string(c.want) {
			t.Errorf("%s: %q, want %q", c.f.Error(), got, c.want)
		}
		if a := JudgeRoute(&c.f, 2); a.Results[1].Bounce != string(c.want) {
			t.Errorf("%s at the route: %q", c.f.Error(), a.Results[1].Bounce)
		}
	}
	for i := range table {
		if c := table[i].bounce; c != "" && (!c.Known() || table[i].cause == mta.CauseReply) {
			t.Errorf("%s: class %q", table[i].name, c)
		}
	}
}

// TestRepliesAreClassified: every result that a reply decided has a class, by
// the rules in force; what was delivered has none, and a contradicting enhanced
// code does not count (trap 3).
func TestRepliesAreClassified(t *testing.T) {
	t.Parallel()
	own, err := bounce.New().WithOwn([]bounce.Own{{Class: bounce.UserMoved, Text: "gone fishing", MX: []string{"mx.example.net"}}})
	if err != nil {
		t.Fatal(err)
	}
	reply := func(code int, e mta.Enhanced, text string) mta.Reply {
		return mta.Reply{Code: code, Enhanced: e, Text: text}
	}
	refused := reply(554, enhanced(5, 7, 1), "your address is listed on a block list")
	a := &mta.Attempt{Host: "mx.example.net", Results: []mta.Result{
		{Class: mta.ClassDelivered, Reply: reply(250, enhanced(2, 0, 0), "taken")},
		{Class: mta.ClassPermanent, Reply: refused}, {Class: mta.ClassPermanent, Reply: refused},
		{Class: mta.ClassPermanent, Reply: reply(550, enhanced(5, 1, 1), "no such user")},
		{Class: mta.ClassTemporary, Reply: reply(450, enhanced(5, 1, 1), "")},
		{Class: mta.ClassTemporary, Bounce: string(bounce.NetworkError)},
		{Class: mta.ClassPermanent, Reply: reply(550, mta.Enhanced{}, "gone fishing")},
	}}
	want := []bounce.Class{"", bounce.IPBlocked, bounce.IPBlocked, bounce.UserUnknown, bounce.Greylisted, bounce.NetworkError, bounce.UserMoved}
	compile(Settings{Classifier: own}).bounced(a)
	for i, w := range want {
		if a.Results[i].Bounce != string(w) {
			t.Errorf("%s: %q, want %q", a.Results[i].Reply, a.Results[i].Bounce, w)
		}
	}
	a.Results = a.Results[6:]
	compile(Settings{}).bounced(a)
	if a.Results[0].Bounce == string(bounce.UserMoved) {
		t.Error("the operator's rule is in force without being given")
	}
}
