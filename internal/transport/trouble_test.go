package transport

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"mailout/internal/mta"
)

var (
	v4     = Place{Host: "mx.example.net", IP: netip.MustParseAddr("192.0.2.1")}
	v6     = Place{Host: "mx.example.net", IP: netip.MustParseAddr("2001:db8::1")}
	router = Place{Host: "relay.example.net", IP: netip.MustParseAddr("192.0.2.9"), Router: true}
)

// said is a failure of a reply, "450 4.7.1 text" taken apart by hand.
func said(stage mta.Stage, code int, e mta.Enhanced, text string) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: mta.CauseReply, Reply: mta.Reply{Code: code, Enhanced: e, Text: text}}
}

func caused(stage mta.Stage, cause mta.Cause) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: cause, Err: errors.New("the cause")}
}

func afterContent(cause mta.Cause) *mta.Failure {
	return &mta.Failure{Stage: mta.StageFinal, Cause: cause, Sent: true}
}

// each is the answer of an LMTP server to the content, for one recipient.
func each(code int, e mta.Enhanced, text string) *mta.Failure {
	f := said(mta.StageFinal, code, e, text)
	f.Each = true
	return f
}

func needs(stage mta.Stage, e mta.Enhanced) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: mta.CauseNeed, NeedEnhanced: e, Text: "SMTPUTF8 is not offered"}
}

var none mta.Enhanced

type judged struct {
	row    string // the row that must decide
	f      *mta.Failure
	at     Place
	class  mta.Class
	scope  mta.Scope
	status string
	onward bool
	only4  bool
	retry  int
}

var judgements = []judged{
	{row: "connection lost after the content", f: afterContent(mta.CauseIO), at: v4, class: uncertain, scope: ofHost, status: "4.4.2"},
	{row: "time-out after the content", f: afterContent(mta.CauseTimeout), at: v4, class: uncertain, scope: ofHost, status: "4.4.2"},
	{row: "protocol error after the content", f: afterContent(mta.CauseProtocol), at: v4, class: uncertain, scope: ofHost, status: "4.5.0"},
	{row: "TLS failure after the content", f: afterContent(mta.CauseTLS), at: v4, class: uncertain, scope: ofHost, status: "4.7.5"},
	{row: "stopped after the content", f: afterContent(mta.CauseLocal), at: v4, class: uncertain, scope: ofUs, status: "4.3.2"},

	{row: "no such domain", f: caused(mta.StageRoute, mta.CauseNoDomain), class: permanent, scope: ofSite, status: "5.1.2"},
	{row: "no mail server and no address", f: caused(mta.StageRoute, mta.CauseNoAddress), class: permanent, scope: ofSite, status: "5.4.4"},
	{row: "null MX", f: caused(mta.StageRoute, mta.CauseNullMX), class: permanent, scope: ofSite, status: "5.1.10"},
	{row: "mail loops back", f: caused(mta.StageRoute, mta.CauseLoop), class: permanent, scope: ofSite, status: "5.4.6"},
	{row: "only forbidden addresses", f: caused(mta.StageRoute, mta.CauseForbiddenAddr), class: permanent, scope: ofSite, status: "5.4.4"},
	{row: "refused by a rule", f: caused(mta.StageRoute, mta.CauseRule), class: permanent, scope: ofMessage, status: "5.7.1"},
	{row: "site suspended", f: caused(mta.StageRoute, mta.CauseSuspended), class: temporary, scope: ofSite, status: "4.7.0"},
	{row: "forbidden by a policy about TLS", f: caused(mta.StageRoute, mta.CauseTLSPolicy), class: temporary, scope: ofHost, status: "4.7.0", onward: true},
	{row: "DNS trouble", f: caused(mta.StageRoute, mta.CauseDNS), class: temporary, scope: ofUs, status: "4.4.3"},

	{row: "source cannot be used", f: caused(mta.StageConnect, mta.CauseSource), at: v4, class: temporary, scope: ofUs, status: "4.3.5", onward: true},
	{row: "LMTP: recipient deferred", f: each(451, none, "later"), at: router, class: temporary, scope: ofRecipient, status: "4.0.0"},
	{row: "LMTP: recipient deferred", f: each(452, enhanced(4, 2, 2), "over quota"), at: router, class: temporary, scope: ofRecipient, status: "4.2.2"},
	{row: "host in trouble", f: each(451, enhanced(4, 3, 0), "no disk"), at: router, class: temporary, scope: ofHost, status: "4.3.0", onward: true},
	{row: "LMTP: mailbox full", f: each(552, enhanced(5, 2, 2), "full"), at: router, class: permanent, scope: ofRecipient, status: "5.2.2"},
	{row: "LMTP: recipient refused", f: each(552, none, "full"), at: router, class: permanent, scope: ofRecipient, status: "5.0.0"},
	{row: "LMTP: recipient refused", f: each(550, enhanced(5, 1, 1), "unknown"), at: router, class: permanent, scope: ofRecipient, status: "5.1.1"},
	{row: "local trouble at connecting", f: caused(mta.StageConnect, mta.CauseLocal), at: v4, class: temporary, scope: ofUs, status: "4.3.0", onward: true},
	{row: "local trouble", f: caused(mta.StageData, mta.CauseLocal), at: v4, class: temporary, scope: ofUs, status: "4.3.0"},
	{row: "router trouble", f: caused(mta.StageRoute, mta.CauseRouter), class: temporary, scope: ofUs, status: "4.3.5"},
	{row: "router refuses credentials", f: said(mta.StageAuth, 535, enhanced(5, 7, 8), "no"), at: router, class: temporary, scope: ofUs, status: "5.7.8"},
	{row: "router refuses credentials", f: said(mta.StageAuth, 535, none, "no"), at: router, class: temporary, scope: ofUs, status: "5.7.8"},
	{row: "router refuses credentials", f: said(mta.StageAuth, 534, enhanced(5, 7, 9), "too weak"), at: router, class: temporary, scope: ofUs, status: "5.7.9"},
	{row: "router refuses credentials", f: said(mta.StageAuth, 538, none, "encryption needed"), at: router, class: temporary, scope: ofUs, status: "5.7.8"},
	{row: "router refuses credentials", f: said(mta.StageAuth, 530, none, "what"), at: router, class: temporary, scope: ofUs, status: "5.7.8"},
	{row: "no credentials for the router", f: caused(mta.StageAuth, mta.CauseRouter), at: router, class: temporary, scope: ofUs, status: "4.7.0"},
	{row: "router cannot check our credentials", f: caused(mta.StageAuth, mta.CauseNeed), at: router, class: temporary, scope: ofUs, status: "4.7.4", onward: true},
	{row: "router does not prove itself", f: caused(mta.StageAuth, mta.CauseProtocol), at: router, class: temporary, scope: ofUs, status: "4.7.0", onward: true},
	{row: "router closes at AUTH", f: said(mta.StageAuth, 421, none, "too many"), at: router, class: temporary, scope: ofHost, status: "4.3.2", onward: true},
	{row: "router forgot us", f: said(mta.StageMail, 535, none, "who?"), at: router, class: temporary, scope: ofUs, status: "5.7.8"},
	{row: "router wants encryption", f: said(mta.StageMail, 538, none, "encrypt"), at: router, class: temporary, scope: ofUs, status: "5.7.11"},
	{row: "sender refused", f: said(mta.StageMail, 550, enhanced(5, 7, 1), "sender not owned by user"), at: router, class: permanent, scope: ofMessage, status: "5.7.1"},
	{row: "recipient refused", f: said(mta.StageRcpt, 554, enhanced(5, 7, 1), "relay access denied"), at: router, class: permanent, scope: ofRecipient, status: "5.7.1"},
	{row: "authentication deferred", f: said(mta.StageAuth, 454, enhanced(4, 7, 0), "no"), at: router, class: temporary, scope: ofUs, status: "4.7.0", onward: true},
	{row: "router wants authentication", f: said(mta.StageMail, 530, enhanced(5, 7, 0), "authenticate"), at: router, class: temporary, scope: ofUs, status: "5.7.0"},
	{row: "router closed to strangers", f: said(mta.StageBanner, 554, none, "go away"), at: router, class: temporary, scope: ofUs, status: "5.3.2", onward: true},

	{row: "no connection", f: caused(mta.StageConnect, mta.CauseIO), at: v4, class: temporary, scope: ofHost, status: "4.4.1", onward: true},
	{row: "connection timed out", f: caused(mta.StageConnect, mta.CauseTimeout), at: v4, class: temporary, scope: ofHost, status: "4.4.1", onward: true},
	{row: "TLS failed", f: caused(mta.StageTLS, mta.CauseTLS), at: v4, class: temporary, scope: ofHost, status: "4.7.5", onward: true},
	{row: "connection broke", f: caused(mta.StageRcpt, mta.CauseIO), at: v4, class: temporary, scope: ofHost, status: "4.4.2", onward: true},
	{row: "connection broke", f: caused(mta.StageData, mta.CauseIO), at: v4, class: temporary, scope: ofHost, status: "4.4.2", onward: true},
	{row: "no answer in time", f: caused(mta.StageBanner, mta.CauseTimeout), at: v4, class: temporary, scope: ofHost, status: "4.4.2", onward: true},
	{row: "protocol broken", f: caused(mta.StageEhlo, mta.CauseProtocol), at: v4, class: temporary, scope: ofHost, status: "4.5.0", onward: true},
	{row: "no TLS for REQUIRETLS", f: needs(mta.StageTLS, enhanced(5, 7, 10)), at: v4, class: permanent, scope: ofHost, status: "5.7.10", onward: true},
	{row: "TLS wanted and not offered", f: needs(mta.StageTLS, none), at: v4, class: temporary, scope: ofHost, status: "4.7.4", onward: true},
	{row: "lacks what the message needs", f: needs(mta.StageMail, enhanced(5, 6, 7)), at: v4, class: permanent, scope: ofHost, status: "5.6.7", onward: true},
	{row: "lacks what the message needs", f: needs(mta.StageMail, enhanced(5, 3, 4)), at: v4, class: permanent, scope: ofHost, status: "5.3.4", onward: true},

	{row: "unusual rate", f: said(mta.StageRcpt, 421, enhanced(4, 7, 28), "unusual rate"), at: v4, class: temporary, scope: ofSite, status: "4.7.28"},
	{row: "service closing", f: said(mta.StageRcpt, 421, none, "bye"), at: v4, class: temporary, scope: ofHost, status: "4.3.2", onward: true},
	{row: "service closing", f: said(mta.StageBanner, 421, enhanced(4, 7, 0), "too many connections, retry in 2 minutes"), at: v4, class: temporary, scope: ofHost, status: "4.7.0", onward: true, retry: 120},
	{row: "service closing", f: said(mta.StageFinal, 421, none, "bye"), at: v4, class: temporary, scope: ofHost, status: "4.3.2", onward: true},
	{row: "IPv6 without PTR, in the status", f: said(mta.StageFinal, 550, enhanced(5, 7, 25), "no"), at: v6, class: permanent, scope: ofMessage, status: "5.7.25", only4: true},
	{row: "IPv6 without PTR, in the text", f: said(mta.StageFinal, 550, enhanced(5, 7, 1), "does not meet IPv6 sending guidelines regarding PTR records"), at: v6, class: permanent, scope: ofMessage, status: "5.7.1", only4: true},
	{row: "message refused", f: said(mta.StageFinal, 550, enhanced(5, 7, 1), "does not meet IPv6 sending guidelines regarding PTR records"), at: v4, class: permanent, scope: ofMessage, status: "5.7.1"},

	{row: "greeted with 4xx", f: said(mta.StageBanner, 450, none, "later"), at: v4, class: temporary, scope: ofHost, status: "4.3.2", onward: true},
	{row: "greeted with 4xx", f: said(mta.StageEhlo, 451, none, "later"), at: v4, class: temporary, scope: ofHost, status: "4.3.2", onward: true},
	{row: "greeted with 5xx", f: said(mta.StageBanner, 554, none, "no SMTP service here"), at: v4, class: permanent, scope: ofHost, status: "5.3.2", onward: true},
	{row: "greeted with 5xx", f: said(mta.StageEhlo, 550, enhanced(5, 7, 1), "blocked"), at: v4, class: permanent, scope: ofHost, status: "5.7.1", onward: true},
	{row: "greeted with 5xx", f: said(mta.StageBanner, 554, enhanced(5, 7, 25), "no PTR"), at: v4, class: permanent, scope: ofHost, status: "5.7.25", onward: true},
	{row: "service closing", f: said(mta.StageBanner, 421, enhanced(4, 7, 28), "unusual rate"), at: v4, class: temporary, scope: ofHost, status: "4.7.28", onward: true},
	{row: "STARTTLS refused", f: said(mta.StageTLS, 454, enhanced(4, 7, 0), "not now"), at: v4, class: temporary, scope: ofHost, status: "4.7.0", onward: true},
	{row: "STARTTLS refused", f: said(mta.StageTLS, 502, enhanced(5, 5, 1), "never"), at: v4, class: temporary, scope: ofHost, status: "4.7.0", onward: true},

	{row: "host out of storage", f: said(mta.StageFinal, 452, enhanced(4, 3, 1), "full"), at: v4, class: temporary, scope: ofHost, status: "4.3.1", onward: true},
	{row: "host in trouble", f: said(mta.StageRcpt, 451, enhanced(4, 3, 0), "local error"), at: v4, class: temporary, scope: ofHost, status: "4.3.0", onward: true},
	{row: "greylisted recipient", f: said(mta.StageRcpt, 450, enhanced(4, 2, 0), "Greylisted, see http://postgrey.example/"), at: v4, class: temporary, scope: ofRecipient, status: "4.2.0"},
	{row: "greylisted recipient", f: said(mta.StageRcpt, 451, enhanced(4, 7, 1), "Greylisting in action, please come back in 00:05:00"), at: v4, class: temporary, scope: ofRecipient, status: "4.7.1", retry: 300},
	{row: "greylisted recipient", f: said(mta.StageRcpt, 450, none, "greylisted for 300 seconds"), at: v4, class: temporary, scope: ofRecipient, status: "4.7.1", retry: 300},
	{row: "greylisted message", f: said(mta.StageData, 451, none, "graylisted - try again in 10 min"), at: v4, class: temporary, scope: ofMessage, status: "4.7.1", retry: 600},
	{row: "asked to come back", f: said(mta.StageRcpt, 450, enhanced(4, 7, 1), "please try again in 5 minutes"), at: v4, class: temporary, scope: ofRecipient, status: "4.7.1", retry: 300},

	{row: "MAIL: local error", f: said(mta.StageMail, 451, none, "error"), at: v4, class: temporary, scope: ofHost, status: "4.0.0", onward: true},
	{row: "MAIL: out of storage", f: said(mta.StageMail, 452, none, "full"), at: v4, class: temporary, scope: ofHost, status: "4.3.1", onward: true},
	{row: "sender deferred", f: said(mta.StageMail, 450, enhanced(4, 1, 8), "sender domain not found"), at: v4, class: temporary, scope: ofMessage, status: "4.1.8"},
	{row: "host wants more", f: said(mta.StageMail, 530, enhanced(5, 7, 0), "must issue STARTTLS first"), at: v4, class: permanent, scope: ofHost, status: "5.7.0", onward: true},
	{row: "too large by MAIL", f: said(mta.StageMail, 552, none, "too big"), at: v4, class: permanent, scope: ofMessage, status: "5.3.4"},
	{row: "sender refused", f: said(mta.StageMail, 550, enhanced(5, 1, 8), "no such sender"), at: v4, class: permanent, scope: ofMessage, status: "5.1.8"},
	{row: "sender refused", f: said(mta.StageMail, 553, none, "no"), at: v4, class: permanent, scope: ofMessage, status: "5.0.0"},

	{row: "mailbox full, for now", f: said(mta.StageRcpt, 452, enhanced(4, 2, 2), "over quota"), at: v4, class: temporary, scope: ofRecipient, status: "4.2.2"},
	{row: "too many recipients", f: said(mta.StageRcpt, 452, enhanced(4, 5, 3), "too many"), at: v4, class: temporary, scope: ofRecipient, status: "4.5.3"},
	{row: "recipient deferred", f: said(mta.StageRcpt, 450, none, "busy, try again in 5 seconds"), at: v4, class: temporary, scope: ofRecipient, status: "4.0.0", retry: 5},
	{row: "recipient deferred", f: said(mta.StageRcpt, 450, enhanced(5, 1, 1), "contradicts itself"), at: v4, class: temporary, scope: ofRecipient, status: "4.0.0"},
	{row: "mailbox full", f: said(mta.StageRcpt, 552, enhanced(5, 2, 2), "over quota"), at: v4, class: permanent, scope: ofRecipient, status: "5.2.2"},
	{row: "too many recipients, in old words", f: said(mta.StageRcpt, 552, none, "too many recipients"), at: v4, class: temporary, scope: ofRecipient, status: "4.5.3"},
	{row: "too many recipients, as 5.5.3", f: said(mta.StageRcpt, 552, enhanced(5, 5, 3), "too many recipients"), at: v4, class: temporary, scope: ofRecipient, status: "4.5.3"},
	{row: "recipient refused", f: said(mta.StageRcpt, 550, enhanced(5, 1, 1), "unknown"), at: v4, class: permanent, scope: ofRecipient, status: "5.1.1"},
	{row: "recipient refused", f: said(mta.StageRcpt, 550, none, "unknown"), at: v4, class: permanent, scope: ofRecipient, status: "5.0.0"},
	{row: "recipient refused", f: said(mta.StageRcpt, 550, enhanced(4, 1, 1), "contradicts itself"), at: v4, class: permanent, scope: ofRecipient, status: "5.0.0"},

	{row: "out of storage for the content", f: said(mta.StageFinal, 452, none, "full"), at: v4, class: temporary, scope: ofHost, status: "4.3.1", onward: true},
	{row: "message deferred", f: said(mta.StageFinal, 451, enhanced(4, 7, 1), "scan again"), at: v4, class: temporary, scope: ofMessage, status: "4.7.1"},
	{row: "too large", f: said(mta.StageFinal, 552, none, "too big"), at: v4, class: permanent, scope: ofMessage, status: "5.3.4"},
	{row: "message refused", f: said(mta.StageData, 503, enhanced(5, 5, 1), "no recipients"), at: v4, class: permanent, scope: ofMessage, status: "5.5.1"},
	{row: "message refused", f: said(mta.StageFinal, 554, none, "spam"), at: v4, class: permanent, scope: ofMessage, status: "5.0.0"},

	{row: "unknown 4xx", f: said(mta.StageReset, 450, none, "what"), at: v4, class: temporary, scope: ofHost, status: "4.0.0", onward: true},
	{row: "unknown reply", f: said(mta.StageData, 250, none, "what"), at: v4, class: temporary, scope: ofHost, status: "4.5.0", onward: true},
	{row: "unknown reply", f: said(mta.StageBanner, 354, none, "what"), at: v4, class: temporary, scope: ofHost, status: "4.5.0", onward: true},
}

func TestTroubleTable(t *testing.T) {
	t.Parallel()
	decided := map[string]bool{}
	for _, c := range judgements {
		decided[c.row] = true
		t.Run(c.row+"/"+c.f.Error(), func(t *testing.T) {
			t.Parallel()
			if r := find(c.f, c.at); r.name != c.row {
				t.Fatalf("row %q decided, want %q", r.name, c.row)
			}
			j := judge(c.f, c.at)
			if j.Class != c.class || j.Scope != c.scope || j.Enhanced.String() != c.status ||
				j.onward != c.onward || j.only4 != c.only4 || j.RetryAfter != c.retry {
				t.Errorf("got %v %v %v onward=%v only4=%v retry=%d (%s), want %+v", j.Class, j.Scope, j.Enhanced, j.onward, j.only4, j.RetryAfter, j.Reason, c)
			}
			if j.Reply != c.f.Reply || j.Reason == "" {
				t.Errorf("reply %v, reason %q", j.Reply, j.Reason)
			}
		})
	}
	for _, r := range table {
		if !decided[r.name] {
			t.Errorf("no test for row %q", r.name)
		}
	}
}

func TestTrap03_EnhancedThatContradicts(t *testing.T) {
	t.Parallel()
	r := Judge(said(mta.StageRcpt, 450, enhanced(5, 1, 1), "no such user"), v4)
	if r.Class != temporary || r.Enhanced.Class != 4 {
		t.Errorf("450 5.1.1 judged %v %v", r.Class, r.Enhanced)
	}
}

// Every cause at every stage, with every first digit, has a defined meaning,
// and what is not a clear 5xx or a fact about the domain never bounces.
func TestJudgeNeverBouncesTheUnknown(t *testing.T) {
	t.Parallel()
	for stage := mta.StageRoute; stage <= mta.StageQuit; stage++ {
		for cause := mta.CauseReply; cause <= mta.CauseRouter; cause++ {
			for code := range 1000 {
				if cause != mta.CauseReply && code > 0 {
					break
				}
				for _, sent := range []bool{false, true} {
					checkJudgement(t, &mta.Failure{Stage: stage, Cause: cause, Sent: sent, Reply: mta.Reply{Code: code}})
				}
			}
		}
	}
}

func checkJudgement(t *testing.T, f *mta.Failure) {
	j := judge(f, v6)
	mayFail := f.Reply.Code/100 == 5
	switch f.Cause {
	case mta.CauseNoDomain, mta.CauseNoAddress, mta.CauseNullMX, mta.CauseLoop, mta.CauseForbiddenAddr, mta.CauseNeed:
		mayFail = true
	}
	if j.Class == permanent && !mayFail {
		t.Errorf("%v is permanent", f)
	}
	if j.Class == mta.ClassDelivered {
		t.Errorf("%v is delivered", f)
	}
	if j.Class == permanent && j.Scope == ofUs {
		t.Errorf("%v: our own trouble bounces", f)
	}
	if j.Class == uncertain && (!f.Sent || j.onward || j.only4) {
		t.Errorf("%v: uncertain, onward %v", f, j.onward)
	}
	if j.Enhanced.IsZero() {
		t.Errorf("%v: no status", f)
	}
}

func TestReasonIsOneBoundedSentence(t *testing.T) {
	t.Parallel()
	r := Judge(said(mta.StageRcpt, 550, enhanced(5, 1, 1), "no such\nuser"), v4)
	if want := "mx.example.net [192.0.2.1] refused the recipient: 550 5.1.1 no such user"; r.Reason != want {
		t.Errorf("reason %q, want %q", r.Reason, want)
	}
	long := Judge(said(mta.StageRcpt, 550, none, strings.Repeat("é", 32<<10)), v4)
	if len(long.Reason) > 500 || len(long.Reply.Text) > maxReplyText || !utf8.ValidString(long.Reason) || !utf8.ValidString(long.Reply.Text) {
		t.Errorf("reason of %d octets, text of %d", len(long.Reason), len(long.Reply.Text))
	}
	at := Place{Host: "192.0.2.7", IP: netip.MustParseAddr("192.0.2.7")}
	if r := Judge(caused(mta.StageConnect, mta.CauseIO), at); r.Reason != "192.0.2.7 cannot be connected to: the cause" {
		t.Errorf("reason %q", r.Reason)
	}
	if r := Judge(caused(mta.StageRoute, mta.CauseNullMX), Place{}); r.Reason != "the recipient's domain takes no mail (null MX): the cause" {
		t.Errorf("reason %q", r.Reason)
	}
}

func TestJudgeRoute(t *testing.T) {
	t.Parallel()
	a := JudgeRoute(caused(mta.StageRoute, mta.CauseNoDomain), 3)
	if len(a.Results) != 3 || a.Results[2].Class != permanent || a.Results[2].Enhanced.String() != "5.1.2" || a.Host != "" {
		t.Errorf("%+v", a)
	}
}

func TestRetryHint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"try again in 5 minutes":                  300,
		"Please try again in 300 seconds":         300,
		"Greylisted for 300s":                     300,
		"retry in 00:05:00":                       300,
		"Greylisting, retry in 1:30:00.":          5400,
		"please wait 10 min":                      600,
		"come back in 2 hours":                    7200,
		"in 15 minutes, try again":                900,
		"wait 1 second":                           minHint,
		"try again in 3 weeks":                    0,
		"try again in 99999999999999999999 hours": maxHint,
		"retry after 30 h":                        maxHint,
		"try again later":                         0,
		"":                                        0,
		"300 seconds":                             0,
		"too many messages, 100 per day":          0,
		"retry: code 4.7.1 5 minutes":             300,
		"try later, in 1h2m":                      3600,
		"retry in 99:99:99:99":                    0,
		"wait":                                    0,
		"retry in 5":                              0,
		"Greylisted, see http://x.example/h?t=300s; 5 mins": 300,
	} {
		if got := retryHint(text); got != want {
			t.Errorf("retryHint(%q) = %d, want %d", text, got, want)
		}
	}
}

func FuzzRetryHint(f *testing.F) {
	for _, s := range []string{"try again in 5 minutes", "retry in 00:05:00", "wait 1s", "later 9:", "again 1:2", "greylisted 00:00:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n := retryHint(s); n != 0 && (n < minHint || n > maxHint) {
			t.Errorf("hint %d out of bounds", n)
		}
	})
}
