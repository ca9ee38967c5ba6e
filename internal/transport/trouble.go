package transport

// What every failure means, decided here and nowhere else.
//
// Goal: one table, read from the top; the first row that matches decides.
// Class says whether trying again can help, scope how far the trouble reaches,
// onward whether another host of the same attempt may be asked.
//
// Principles: unknown means temporary. The basic code's first digit wins over
// an enhanced code that contradicts it (RFC 3463 section 2). Our own trouble
// never bounces mail. A message whose last octet may have been taken is never
// offered to another host in the same attempt: it is uncertain. What a
// recipient or a message is refused for is not asked again at the next host (a
// greylisting answer or an unknown user is the site's word); what speaks of
// the host alone is.
//
// Rejected: deciding at the place where the error occurs (the same failure
// then means different things in different stages), and judging by text
// (text decides only what no code tells: greylisting, and IPv6 without PTR).

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Place is where a failure happened; it gives the reason its subject. The zero
// Place is our own house.
type Place struct {
	Host   string     // the host's name
	IP     netip.Addr // its address; zero when none was chosen yet
	Router bool       // the host is a router of the operator's
}

// Judge says what a failure means for the recipients it struck. The reason is
// one sentence; the reply's text is cut at 4,096 octets, the reason at about
// 500.
func Judge(f *mta.Failure, at Place) mta.Result { return judge(f, at).Result }

// judgment is a result and what the attempt does next.
type judgment struct {
	mta.Result
	// onward: the next host of this attempt may be asked.
	onward bool
	// only4: the next host may be asked, over IPv4 (trap 33).
	only4 bool
}

func judge(f *mta.Failure, at Place) judgment {
	r := find(f, at)
	j := judgment{
		Result: mta.Result{
			Class:    r.class,
			Scope:    r.scope,
			Reply:    f.Reply,
			Enhanced: status(f, r),
		},
		onward: r.onward,
		only4:  r.only4,
	}
	j.Reply.Text = cut(j.Reply.Text, maxReplyText)
	j.Reason = reason(f, at, r.says)
	j.Bounce = string(r.bounce)
	if f.Cause == mta.CauseNeed && r.bounce == "" {
		j.Bounce = string(lacking(f.NeedEnhanced))
	}
	if r.hint && j.Class == mta.ClassTemporary {
		j.RetryAfter = retryHint(f.Reply.Text)
	}
	if f.RetryAfter > 0 && j.Class == mta.ClassTemporary {
		j.RetryAfter = f.RetryAfter
	}
	return j
}

// lacking is the class of a message that no host can take, by the status that
// is reported.
func lacking(e mta.Enhanced) bounce.Class {
	switch e {
	case enhanced(5, 3, 4):
		return bounce.MessageTooLarge
	case enhanced(5, 7, 10), enhanced(5, 7, 30):
		return bounce.TLSRequired // RFC 8689
	}
	return bounce.Other
}

// JudgeRoute makes the attempt of a routing failure: no host was reached, and
// all n recipients get the same result. The times of the attempt are the
// caller's to fill.
func JudgeRoute(f *mta.Failure, n int) *mta.Attempt {
	result := Judge(f, Place{})
	a := &mta.Attempt{Results: make([]mta.Result, n)}
	for i := range a.Results {
		a.Results[i] = result
	}
	return a
}

const (
	maxReplyText  = 4096 // octets of a reply's text kept in a result
	maxReasonText = 400  // octets of a reply quoted in a reason
)

// row is one case. Empty conditions match everything.
type row struct {
	name string

	stages stages // bit set of mta.Stage
	cause  mta.Cause
	each   bool   // the reply is about one recipient (LMTP)
	needs  bool   // the failure names the status to report (Failure.NeedEnhanced)
	sent   bool   // the last octet of the content may have arrived
	code   string // "421", "45x", "5xx"
	status string // "x.7.1", "4.7.28", "x.3.x"; a code that contradicts the reply matches nothing
	router bool   // only at a router
	text   func(lower string) bool

	class  mta.Class
	scope  mta.Scope
	report mta.Enhanced // the status reported when the peer gave none
	onward bool
	only4  bool
	hint   bool // the text may say when to come back
	says   string
	// bounce is what a failure without a reply means, as classes of replies have
	// it; empty where none is evident. Replies are classified (bounced).
	bounce bounce.Class
}

type stages uint16

func at(list ...mta.Stage) stages {
	var s stages
	for _, stage := range list {
		s |= 1 << stage
	}
	return s
}

func (s stages) has(stage mta.Stage) bool { return s == 0 || s&(1<<stage) != 0 }

func enhanced(class, subject, detail uint16) mta.Enhanced {
	return mta.Enhanced{Class: class, Subject: subject, Detail: detail}
}

const (
	temporary = mta.ClassTemporary
	permanent = mta.ClassPermanent
	uncertain = mta.ClassUncertain

	ofRecipient = mta.ScopeRecipient
	ofMessage   = mta.ScopeMessage
	ofHost      = mta.ScopeHost
	ofSite      = mta.ScopeSite
	ofUs        = mta.ScopeLocal
)

// stages used in rows.
var (
	greeting = at(mta.StageBanner, mta.StageEhlo)
	connect  = at(mta.StageConnect)
	starttls = at(mta.StageTLS)
	auth     = at(mta.StageAuth)
	mail     = at(mta.StageMail)
	rcpt     = at(mta.StageRcpt)
	content  = at(mta.StageData, mta.StageFinal)
	anyMail  = at(mta.StageMail, mta.StageRcpt, mta.StageData, mta.StageFinal)
)

// table is read from the top.
var table = []row{
	// The final reply was lost: the one way to a duplicate (DESIGN promise 3).
	{name: "connection lost after the content", sent: true, cause: mta.CauseIO, class: uncertain, scope: ofHost, report: enhanced(4, 4, 2), says: "took the whole message, then the connection broke before its reply", bounce: bounce.NetworkError},
	{name: "time-out after the content", sent: true, cause: mta.CauseTimeout, class: uncertain, scope: ofHost, report: enhanced(4, 4, 2), says: "took the whole message, but did not answer in time", bounce: bounce.NetworkError},
	{name: "protocol error after the content", sent: true, cause: mta.CauseProtocol, class: uncertain, scope: ofHost, report: enhanced(4, 5, 0), says: "took the whole message, then answered what cannot be understood", bounce: bounce.SystemError},
	{name: "TLS failure after the content", sent: true, cause: mta.CauseTLS, class: uncertain, scope: ofHost, report: enhanced(4, 7, 5), says: "took the whole message, then its TLS stream broke before its reply", bounce: bounce.NetworkError},
	{name: "stopped after the content", sent: true, cause: mta.CauseLocal, class: uncertain, scope: ofUs, report: enhanced(4, 3, 2), says: "took the whole message, but mailout stopped before its reply"},

	// What routing found out.
	{name: "no such domain", cause: mta.CauseNoDomain, class: permanent, scope: ofSite, report: enhanced(5, 1, 2), says: "the recipient's domain does not exist", bounce: bounce.DomainUnknown},
	{name: "no mail server and no address", cause: mta.CauseNoAddress, class: permanent, scope: ofSite, report: enhanced(5, 4, 4), says: "the recipient's domain has neither a mail server nor an address", bounce: bounce.DomainUnknown},
	{name: "null MX", cause: mta.CauseNullMX, class: permanent, scope: ofSite, report: enhanced(5, 1, 10), says: "the recipient's domain takes no mail (null MX)", bounce: bounce.DomainUnknown},
	{name: "mail loops back", cause: mta.CauseLoop, class: permanent, scope: ofSite, report: enhanced(5, 4, 6), says: "mail for the recipient's domain loops back to this machine", bounce: bounce.NetworkError},
	{name: "only forbidden addresses", cause: mta.CauseForbiddenAddr, class: permanent, scope: ofSite, report: enhanced(5, 4, 4), says: "the recipient's domain names only addresses that mail must not go to", bounce: bounce.NetworkError},
	{name: "site suspended", cause: mta.CauseSuspended, class: temporary, scope: ofSite, report: enhanced(4, 7, 0), says: "nothing is sent to the recipient's mail servers for a while"},
	{name: "refused by a rule", cause: mta.CauseRule, class: permanent, scope: ofMessage, report: enhanced(5, 7, 1), says: "the rules of this server refuse the message"},
	{name: "forbidden by a policy about TLS", cause: mta.CauseTLSPolicy, class: temporary, scope: ofHost, report: enhanced(4, 7, 0), onward: true, says: "a policy about TLS keeps the message back", bounce: bounce.TLSRequired},
	{name: "DNS trouble", cause: mta.CauseDNS, class: temporary, scope: ofUs, report: enhanced(4, 4, 3), says: "DNS gave no answer about the recipient's domain", bounce: bounce.NetworkError},

	// Our own house.
	{name: "source cannot be used", cause: mta.CauseSource, class: temporary, scope: ofUs, report: enhanced(4, 3, 5), onward: true, says: "cannot be connected to from this source"},
	{name: "local trouble at connecting", cause: mta.CauseLocal, stages: connect, class: temporary, scope: ofUs, report: enhanced(4, 3, 0), onward: true, says: "cannot be connected to from this machine"},
	{name: "local trouble", cause: mta.CauseLocal, class: temporary, scope: ofUs, report: enhanced(4, 3, 0), says: "this machine could not carry on"},
	{name: "no credentials for the router", cause: mta.CauseRouter, stages: auth, class: temporary, scope: ofUs, report: enhanced(4, 7, 0), says: "could not be signed in to"},
	{name: "router trouble", cause: mta.CauseRouter, class: temporary, scope: ofUs, report: enhanced(4, 3, 5), says: "the router cannot be used"},
	{name: "router refuses credentials", cause: mta.CauseReply, stages: auth, code: "5xx", class: temporary, scope: ofUs, report: enhanced(5, 7, 8), says: "refused our credentials"},
	{name: "router closes at AUTH", cause: mta.CauseReply, stages: auth, code: "421", class: temporary, scope: ofHost, report: enhanced(4, 3, 2), onward: true, hint: true, says: "closed the session"},
	{name: "authentication deferred", cause: mta.CauseReply, stages: auth, class: temporary, scope: ofUs, report: enhanced(4, 7, 0), onward: true, says: "could not check our credentials"},
	{name: "router cannot check our credentials", cause: mta.CauseNeed, stages: auth, class: temporary, scope: ofUs, report: enhanced(4, 7, 4), onward: true, says: "cannot be signed in to"},
	{name: "router does not prove itself", cause: mta.CauseProtocol, stages: auth, class: temporary, scope: ofUs, report: enhanced(4, 7, 0), onward: true, says: "broke the protocol when asked to know us"},
	{name: "router wants authentication", cause: mta.CauseReply, router: true, stages: anyMail, code: "530", class: temporary, scope: ofUs, report: enhanced(5, 7, 0), says: "wants authentication or TLS before mail"},
	{name: "router forgot us", cause: mta.CauseReply, router: true, stages: anyMail, code: "535", class: temporary, scope: ofUs, report: enhanced(5, 7, 8), says: "refused our credentials"},
	{name: "router wants encryption", cause: mta.CauseReply, router: true, stages: anyMail, code: "538", class: temporary, scope: ofUs, report: enhanced(5, 7, 11), says: "wants encryption before mail"},
	{name: "router closed to strangers", cause: mta.CauseReply, router: true, stages: greeting, code: "5xx", class: temporary, scope: ofUs, report: enhanced(5, 3, 2), onward: true, says: "refused the session"},

	// Before the mail transaction: the host's trouble.
	{name: "no connection", cause: mta.CauseIO, stages: connect, class: temporary, scope: ofHost, report: enhanced(4, 4, 1), onward: true, says: "cannot be connected to", bounce: bounce.NetworkError},
	{name: "connection timed out", cause: mta.CauseTimeout, stages: connect, class: temporary, scope: ofHost, report: enhanced(4, 4, 1), onward: true, says: "did not answer the connection in time", bounce: bounce.NetworkError},
	{name: "TLS failed", cause: mta.CauseTLS, class: temporary, scope: ofHost, report: enhanced(4, 7, 5), onward: true, says: "failed at TLS", bounce: bounce.TLSRequired},
	{name: "connection broke", cause: mta.CauseIO, class: temporary, scope: ofHost, report: enhanced(4, 4, 2), onward: true, says: "broke the connection", bounce: bounce.NetworkError},
	{name: "no answer in time", cause: mta.CauseTimeout, class: temporary, scope: ofHost, report: enhanced(4, 4, 2), onward: true, says: "did not answer in time", bounce: bounce.NetworkError},
	{name: "protocol broken", cause: mta.CauseProtocol, class: temporary, scope: ofHost, report: enhanced(4, 5, 0), onward: true, says: "broke the protocol", bounce: bounce.SystemError},
	// REQUIRETLS bounces where no host can do it (RFC 8689 4.2.1).
	{name: "no TLS for REQUIRETLS", cause: mta.CauseNeed, stages: starttls, needs: true, class: permanent, scope: ofHost, report: enhanced(5, 7, 10), onward: true, says: "does not offer the TLS that the message requires", bounce: bounce.TLSRequired},
	{name: "TLS wanted and not offered", cause: mta.CauseNeed, stages: starttls, class: temporary, scope: ofHost, report: enhanced(4, 7, 4), onward: true, says: "does not offer the TLS that is required", bounce: bounce.TLSRequired},
	{name: "lacks what the message needs", cause: mta.CauseNeed, class: permanent, scope: ofHost, report: enhanced(5, 5, 1), onward: true, says: "cannot take this message"},

	// Replies that mean the same at every stage.
	{name: "unusual rate", cause: mta.CauseReply, stages: anyMail, code: "4xx", status: "4.7.28", class: temporary, scope: ofSite, report: enhanced(4, 7, 28), hint: true, says: "finds our rate too high"},
	{name: "service closing", cause: mta.CauseReply, code: "421", class: temporary, scope: ofHost, report: enhanced(4, 3, 2), onward: true, hint: true, says: "closed the session"},
	// Greeting and EHLO: all hosts must say no before mail fails (trap 4).
	{name: "greeted with 4xx", cause: mta.CauseReply, stages: greeting, code: "4xx", class: temporary, scope: ofHost, report: enhanced(4, 3, 2), onward: true, hint: true, says: "takes no mail now"},
	{name: "greeted with 5xx", cause: mta.CauseReply, stages: greeting, code: "5xx", class: permanent, scope: ofHost, report: enhanced(5, 3, 2), onward: true, says: "refused the session"},
	{name: "STARTTLS refused", cause: mta.CauseReply, stages: starttls, class: temporary, scope: ofHost, report: enhanced(4, 7, 0), onward: true, says: "refused the TLS that is required"},

	// Over IPv6 only: the same mail may pass over IPv4 (trap 33).
	{name: "IPv6 without PTR, in the status", cause: mta.CauseReply, code: "5xx", status: "5.7.25", class: permanent, scope: ofMessage, report: enhanced(5, 7, 25), only4: true, says: "refused our address for its reverse DNS"},
	{name: "IPv6 without PTR, in the text", cause: mta.CauseReply, code: "5xx", status: "5.7.x", text: blamesIPv6PTR, class: permanent, scope: ofMessage, report: enhanced(5, 7, 1), only4: true, says: "refused our IPv6 address for its reverse DNS"},

	// The host's state, told at any command of the transaction.
	{name: "host out of storage", cause: mta.CauseReply, stages: anyMail, code: "452", status: "4.3.x", class: temporary, scope: ofHost, report: enhanced(4, 3, 1), onward: true, hint: true, says: "is short of storage"},
	{name: "host in trouble", cause: mta.CauseReply, stages: anyMail, code: "4xx", status: "4.3.x", class: temporary, scope: ofHost, report: enhanced(4, 3, 0), onward: true, hint: true, says: "is in trouble"},

	// Greylisting is said in the text; the next host would say the same.
	{name: "greylisted recipient", cause: mta.CauseReply, stages: rcpt, code: "4xx", text: greylists, class: temporary, scope: ofRecipient, report: enhanced(4, 7, 1), hint: true, says: "greylists us"},
	{name: "greylisted message", cause: mta.CauseReply, stages: anyMail, code: "4xx", text: greylists, class: temporary, scope: ofMessage, report: enhanced(4, 7, 1), hint: true, says: "greylists us"},
	{name: "asked to come back", cause: mta.CauseReply, stages: rcpt, code: "45x", status: "4.7.1", text: namesTime, class: temporary, scope: ofRecipient, report: enhanced(4, 7, 1), hint: true, says: "asks us to come back later (greylisting)"},

	// MAIL: without an enhanced code 451 and 452 speak of the host.
	{name: "MAIL: local error", cause: mta.CauseReply, stages: mail, code: "451", status: "none", class: temporary, scope: ofHost, report: enhanced(4, 0, 0), onward: true, hint: true, says: "is in trouble"},
	{name: "MAIL: out of storage", cause: mta.CauseReply, stages: mail, code: "452", status: "none", class: temporary, scope: ofHost, report: enhanced(4, 3, 1), onward: true, hint: true, says: "is short of storage"},
	{name: "sender deferred", cause: mta.CauseReply, stages: mail, code: "4xx", class: temporary, scope: ofMessage, report: enhanced(4, 0, 0), hint: true, says: "does not take mail from this sender now"},
	{name: "host wants more", cause: mta.CauseReply, stages: anyMail, code: "530", class: permanent, scope: ofHost, report: enhanced(5, 7, 0), onward: true, says: "wants authentication or TLS before mail"},
	{name: "too large by MAIL", cause: mta.CauseReply, stages: mail, code: "552", class: permanent, scope: ofMessage, report: enhanced(5, 3, 4), says: "finds the message too large"},
	{name: "sender refused", cause: mta.CauseReply, stages: mail, code: "5xx", class: permanent, scope: ofMessage, report: enhanced(5, 0, 0), says: "refused the sender"},

	// RCPT: each recipient has its own answer.
	{name: "mailbox full, for now", cause: mta.CauseReply, stages: rcpt, code: "4xx", status: "4.2.2", class: temporary, scope: ofRecipient, report: enhanced(4, 2, 2), hint: true, says: "says the mailbox is full"},
	{name: "too many recipients", cause: mta.CauseReply, stages: rcpt, code: "4xx", status: "4.5.3", class: temporary, scope: ofRecipient, report: enhanced(4, 5, 3), says: "takes no more recipients"},
	{name: "recipient deferred", cause: mta.CauseReply, stages: rcpt, code: "4xx", class: temporary, scope: ofRecipient, report: enhanced(4, 0, 0), hint: true, says: "does not take the recipient now"},
	{name: "mailbox full", cause: mta.CauseReply, stages: rcpt, code: "5xx", status: "5.2.2", class: permanent, scope: ofRecipient, report: enhanced(5, 2, 2), says: "says the mailbox is full"},
	// RFC 5321 section 4.5.3.1.10: a 552 to RCPT is the old word for 452.
	{name: "too many recipients, in old words", cause: mta.CauseReply, stages: rcpt, code: "552", status: "none", class: temporary, scope: ofRecipient, report: enhanced(4, 5, 3), says: "takes no more recipients"},
	{name: "too many recipients, as 5.5.3", cause: mta.CauseReply, stages: rcpt, code: "552", status: "5.5.3", class: temporary, scope: ofRecipient, report: enhanced(4, 5, 3), says: "takes no more recipients"},
	{name: "recipient refused", cause: mta.CauseReply, stages: rcpt, code: "5xx", class: permanent, scope: ofRecipient, report: enhanced(5, 0, 0), says: "refused the recipient"},

	// LMTP answers the content for each recipient (RFC 2033 4.2).
	{name: "LMTP: recipient deferred", cause: mta.CauseReply, each: true, stages: content, code: "4xx", class: temporary, scope: ofRecipient, report: enhanced(4, 0, 0), hint: true, says: "does not take the message for the recipient now"},
	{name: "LMTP: mailbox full", cause: mta.CauseReply, each: true, stages: content, code: "5xx", status: "5.2.2", class: permanent, scope: ofRecipient, report: enhanced(5, 2, 2), says: "says the mailbox is full"},
	{name: "LMTP: recipient refused", cause: mta.CauseReply, each: true, stages: content, code: "5xx", class: permanent, scope: ofRecipient, report: enhanced(5, 0, 0), says: "refused the message for the recipient"},

	// DATA, BDAT and the final reply: all recipients accepted in this
	// transaction share it.
	{name: "out of storage for the content", cause: mta.CauseReply, stages: content, code: "452", status: "none", class: temporary, scope: ofHost, report: enhanced(4, 3, 1), onward: true, hint: true, says: "is short of storage"},
	{name: "message deferred", cause: mta.CauseReply, stages: content, code: "4xx", class: temporary, scope: ofMessage, report: enhanced(4, 0, 0), hint: true, says: "does not take the message now"},
	{name: "too large", cause: mta.CauseReply, stages: content, code: "552", status: "none", class: permanent, scope: ofMessage, report: enhanced(5, 3, 4), says: "finds the message too large"},
	{name: "message refused", cause: mta.CauseReply, stages: content, code: "5xx", class: permanent, scope: ofMessage, report: enhanced(5, 0, 0), says: "refused the message"},

	// Anything else: unknown means temporary.
	{name: "unknown 4xx", cause: mta.CauseReply, code: "4xx", class: temporary, scope: ofHost, report: enhanced(4, 0, 0), onward: true, hint: true, says: "answered"},
	{name: "unknown reply", cause: mta.CauseReply, class: temporary, scope: ofHost, report: enhanced(4, 5, 0), onward: true, says: "gave an answer that fits no command"},
}

// nothing is the answer when no row matches, which only a new cause can bring
// about.
var nothing = row{name: "unknown", class: temporary, scope: ofHost, report: enhanced(4, 0, 0), onward: true, says: "failed"}

func find(f *mta.Failure, at Place) *row {
	lower := ""
	for i := range table {
		r := &table[i]
		if !r.matches(f, at) {
			continue
		}
		if r.text == nil {
			return r
		}
		if lower == "" {
			lower = strings.ToLower(f.Reply.Text)
		}
		if r.text(lower) && !(r.only4 && !at.IP.Is6()) {
			return r
		}
	}
	return &nothing
}

func (r *row) matches(f *mta.Failure, at Place) bool {
	return r.cause == f.Cause &&
		(!r.sent || f.Sent) &&
		(!r.each || f.Each) &&
		(!r.needs || !f.NeedEnhanced.IsZero()) &&
		r.stages.has(f.Stage) &&
		(!r.router || at.Router) &&
		matchCode(r.code, f.Reply.Code) &&
		matchStatus(r.status, usable(f.Reply))
}

// matchCode compares a three-digit code with a pattern like "45x".
func matchCode(pattern string, code int) bool {
	for i, divisor := 0, 100; i < len(pattern); i, divisor = i+1, divisor/10 {
		if pattern[i] != 'x' && int(pattern[i]-'0') != code/divisor%10 {
			return false
		}
	}
	return pattern == "" || 100 <= code && code <= 999
}

// matchStatus compares an enhanced code with a pattern like "4.3.x"; "none"
// matches its absence.
func matchStatus(pattern string, e mta.Enhanced) bool {
	switch {
	case pattern == "":
		return true
	case pattern == "none":
		return e.IsZero()
	case e.IsZero():
		return false
	}
	if head, ok := strings.CutSuffix(pattern, "x"); ok {
		return strings.HasPrefix(e.String(), head)
	}
	return e.String() == pattern
}

// usable is the reply's enhanced code, unless it contradicts the basic code
// (450 5.1.1): then the basic code stands alone.
func usable(r mta.Reply) mta.Enhanced {
	if int(r.Enhanced.Class) != r.Code/100 {
		return mta.Enhanced{}
	}
	return r.Enhanced
}

// status is the enhanced code to report. A peer's own stands, else the row's;
// one that is not of the class of the result is never reported as its word,
// except where our own trouble keeps a 5xx from bouncing: there the reply is
// the better evidence.
func status(f *mta.Failure, r *row) mta.Enhanced {
	if f.Cause == mta.CauseNeed && !f.NeedEnhanced.IsZero() {
		return f.NeedEnhanced
	}
	if f.Cause != mta.CauseReply {
		return r.report
	}
	e := usable(f.Reply)
	if e.IsZero() || r.class == temporary && r.scope != ofUs && e.Class == 5 {
		return r.report
	}
	return e
}

// reason makes the sentence: who did what, and the words it used.
func reason(f *mta.Failure, at Place, says string) string {
	var b strings.Builder
	if f.Stage != mta.StageRoute && at.Host != "" {
		b.WriteString(at.Host)
		if at.IP.IsValid() && at.Host != at.IP.String() {
			b.WriteString(" [")
			b.WriteString(at.IP.String())
			b.WriteString("]")
		}
		b.WriteString(" ")
	}
	b.WriteString(says)
	if words := evidence(f); words != "" {
		b.WriteString(": ")
		b.WriteString(cut(words, maxReasonText))
	}
	return b.String()
}

// evidence is the reply, or what else is known.
func evidence(f *mta.Failure) string {
	switch {
	case f.Reply.Code != 0 && (f.Stage == mta.StageAuth || f.Stage == mta.StageTLS) && f.Text != "":
		return f.Reply.String() + " (" + f.Text + ")" // the mechanism, and what it said; who demands TLS
	case f.Reply.Code != 0:
		return f.Reply.String()
	case f.Text != "":
		return f.Text
	case f.Err != nil:
		return smtp.Harmless(f.Err.Error())
	}
	return ""
}

// cut shortens s to at most n octets at a rune's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
