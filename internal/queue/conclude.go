package queue

import (
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
	"mailout/internal/spool"
)

// What an attempt comes to. Everything in this file is pure: results, schedule
// and now go in, the settlement and the reports that are owed come out.

// expiredStatus and delayedStatus are RFC 3463's "delivery time expired".
var (
	expiredStatus = mta.Enhanced{Class: 5, Subject: 4, Detail: 7}
	delayedStatus = mta.Enhanced{Class: 4, Subject: 4, Detail: 7}
)

// conclusion is what a conclusion is drawn from.
type conclusion struct {
	d        *mta.Delivery
	a        *mta.Attempt // nil: the delivery merely waited past its notice or expiry
	now      time.Time
	arrived  time.Time // as notices and expiry count it (gate.go); zero: the message's arrival
	schedule retry.Schedule
	jitter   float64
	hostname string
	// blame is what the site said last, for a delivery that merely waited and
	// has no reply of its own.
	blame mta.Last
	// trouble is why the reports that are owed could not be made: failures then
	// stay open, so that nobody's mail ends in silence.
	trouble error
}

// concluded is the result: a settlement without its reports, and what they are
// to say.
type concluded struct {
	settlement *spool.Settlement
	requests   []ReportRequest
	uncertain  int  // recipients whose final reply was lost
	deferred   bool // for the sake of the host or site: a success there releases it
	elsewhere  bool // due now, by another route
}

// drawing is a conclusion being drawn.
type drawing struct {
	conclusion
	open    []mta.Recipient
	openRes []mta.Result
	failed  ReportRequest
	relayed ReportRequest
	expired bool
	out     concluded
}

// conclude decides each recipient's fate.
func conclude(c conclusion) concluded {
	c.now = c.now.UTC().Truncate(time.Millisecond)
	if c.arrived.IsZero() {
		c.arrived = c.d.Message.Start()
	}
	g := &drawing{conclusion: c}
	g.out.settlement = &spool.Settlement{Delivery: c.d.Key(), Message: c.d.Message}
	g.expired = c.schedule.Expired(c.now, c.arrived)
	for i, rcpt := range c.d.Recipients {
		res := g.result(i)
		switch {
		case res.Class == mta.ClassDelivered:
			g.delivered(rcpt, res)
		case res.Class == mta.ClassPermanent && c.trouble == nil:
			g.record(failedEvent(res), rcpt, res)
			g.report(&g.failed, mta.NotifyFailure, rcpt, res)
		case g.expired && c.trouble == nil:
			g.expire(rcpt, res)
		default:
			g.open = append(g.open, rcpt)
			g.openRes = append(g.openRes, res)
		}
		if res.Class == mta.ClassUncertain && c.a != nil {
			g.out.uncertain++
		}
	}
	if len(g.open) > 0 {
		g.deferOpen()
	}
	g.request(&g.failed, ReportFailure)
	g.request(&g.relayed, ReportSuccess)
	return g.out
}

// result is the i-th recipient's, with a stand-in for one that is missing.
func (g *drawing) result(i int) mta.Result {
	switch {
	case g.a == nil:
		r := g.lastWords().Result
		if r.Class != mta.ClassUncertain { // it may have arrived: the report must say so
			r.Class = mta.ClassTemporary
		}
		r.RetryAfter = 0
		return r
	case i < len(g.a.Results) && goesElsewhere(g.a.Results[i]):
		return g.detour(g.a.Results[i])
	case i < len(g.a.Results):
		return g.a.Results[i]
	}
	return mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "the attempt gave no result for this recipient"}
}

// failedEvent is how the journal calls a recipient's failure.
func failedEvent(res mta.Result) mta.Event {
	if res.Suppressed {
		return mta.EventSuppressed
	}
	return mta.EventFailed
}

// maxRow is how many attempts of a delivery another route may follow at once.
// Beyond that it waits as the schedule says: routes that send it to and fro must
// not keep it going for ever.
const maxRow = 16

// goesElsewhere reports whether another route is to take a recipient. One whose
// content may have arrived is not tried sooner because of that.
func goesElsewhere(r mta.Result) bool {
	return r.Elsewhere && r.Class != mta.ClassDelivered && r.Class != mta.ClassUncertain
}

// detour is a result that another route is to better: temporary, whatever it was.
func (g *drawing) detour(r mta.Result) mta.Result {
	r.Class = mta.ClassTemporary
	if g.expired {
		return r
	}
	say := mta.DetourWords
	if g.d.Row >= maxRow {
		say = "other routes have been tried, the retry schedule follows"
	}
	if r.Reason != "" {
		say = r.Reason + "; " + say
	}
	r.Reason = say
	g.out.elsewhere = g.out.elsewhere || g.d.Row < maxRow
	return r
}

// lastWords is the last thing heard: the delivery's own last result, or, when
// it was never attempted, what its site said to others.
func (g *drawing) lastWords() mta.Last {
	if g.d.Last.Result.Reply.Code != 0 || g.d.Last.Result.Reason != "" {
		last := g.d.Last
		last.Result.Reason = strings.TrimSuffix(last.Result.Reason, "; "+mta.DetourWords) // it is over
		return last
	}
	if g.blame.Result.Reason != "" || g.blame.Result.Reply.Code != 0 {
		return g.blame
	}
	return mta.Last{Time: g.d.Last.Time, Result: mta.Result{Scope: mta.ScopeLocal, Reason: "no attempt was possible in time"}}
}

func (g *drawing) delivered(rcpt mta.Recipient, res mta.Result) {
	if !res.Relayed {
		g.record(mta.EventDelivered, rcpt, res)
		return
	}
	g.record(mta.EventRelayed, rcpt, res)
	// A host that does DSN reports itself (RFC 3461 5.2.2).
	if g.trouble == nil && !res.DSN {
		g.report(&g.relayed, mta.NotifySuccess, rcpt, res)
	}
}

// expire ends a recipient whose time is over; the report shows the last real
// reply (RFC 3464 2.3.6) with the status 5.4.7.
func (g *drawing) expire(rcpt mta.Recipient, res mta.Result) {
	if res.Reply.Code == 0 {
		res.Reply = g.d.Last.Result.Reply
	}
	res.Enhanced = expiredStatus
	reason := "gave up after " + g.now.Sub(g.d.Message.Start()).Round(time.Second).String()
	if res.Reason != "" {
		reason += "; last: " + res.Reason
	}
	res.Reason = reason
	g.record(mta.EventExpired, rcpt, res)
	g.report(&g.failed, mta.NotifyFailure, rcpt, res)
}

// report adds a recipient to a report, when its NOTIFY wants it.
func (g *drawing) report(r *ReportRequest, event mta.Notify, rcpt mta.Recipient, res mta.Result) {
	if rcpt.Notify.Wants(event) {
		r.Recipients = append(r.Recipients, rcpt)
		r.Results = append(r.Results, res)
	}
}

func (g *drawing) request(r *ReportRequest, kind ReportKind) {
	if len(r.Recipients) == 0 {
		return
	}
	r.Kind, r.Delivery, r.Now = kind, g.d, g.now
	r.Host, r.LastTry = g.host()
	r.RetryUntil = g.schedule.Deadline(g.arrived)
	g.out.requests = append(g.out.requests, *r)
}

// host is who gave the replies, and when.
func (g *drawing) host() (string, time.Time) {
	if g.a != nil && (g.a.Host != "" || g.d.Last.Host == "") {
		return g.a.Host, g.ended()
	}
	if g.a != nil {
		return g.d.Last.Host, g.ended()
	}
	last := g.lastWords()
	return last.Host, last.Time
}

// ended is when the attempt ended.
func (g *drawing) ended() time.Time {
	if g.a == nil || g.a.End.IsZero() {
		return g.now
	}
	return g.a.End.UTC().Truncate(time.Millisecond)
}

// deferOpen plans the next attempt for the recipients that stay open.
func (g *drawing) deferOpen() {
	next := *g.d // Message is shared and never changed
	next.Recipients = g.open
	next.State = mta.Deferred
	if g.a == nil {
		g.waitOn(&next)
	} else {
		next.Attempts++
		next.Last = g.last()
		g.plan(&next)
	}
	g.out.deferred = !g.out.elsewhere && deferredFor(next.Last)
	first := len(g.out.settlement.Records)
	for i, rcpt := range g.open {
		if g.a != nil {
			g.record(mta.EventDeferred, rcpt, g.openRes[i])
		}
	}
	for _, r := range g.out.settlement.Records[first:] {
		r.Next = next.Due
	}
	g.notice(&next)
	g.out.settlement.Next = &next
}

// plan says when the next attempt is due: now when it is by another route.
func (g *drawing) plan(next *mta.Delivery) {
	if g.out.elsewhere {
		next.Row++
		next.Detours++
		next.Due = g.now
		return
	}
	next.Row = 0
	next.Due = g.nextDue(max(next.Attempts-int(next.Detours), 1))
}

// nextDue is when the next attempt is due. A message with an expiry of its own
// ends at that moment, so its last attempt comes a little earlier.
func (g *drawing) nextDue(attempts int) time.Time {
	due := g.schedule.Next(attempts, g.now, g.arrived, g.hint(), g.jitter)
	if end := g.d.Message.Expires; !end.IsZero() && !due.Before(end) {
		if last, left := retry.LastChance(g.now, g.arrived, end); left {
			return last
		}
	}
	return due
}

// forSite reports whether a result was for the sake of the site, so that a
// success there releases the delivery. One whose content may have arrived keeps
// its time: trying it sooner would only make the duplicate sooner.
func forSite(r mta.Result) bool {
	return r.Class != mta.ClassUncertain && (r.Scope == mta.ScopeHost || r.Scope == mta.ScopeSite)
}

// deferredFor reports whether a delivery was deferred for the sake of the site
// that Last names: also when our own trouble with it was, as with a router that
// refuses our credentials.
func deferredFor(l mta.Last) bool {
	return l.Site != "" && (forSite(l.Result) || l.Result.Class != mta.ClassUncertain && l.Result.Scope == mta.ScopeLocal)
}

// waitOn keeps a delivery that was not attempted as it is; after a report that
// could not be made it comes back at the next interval.
func (g *drawing) waitOn(next *mta.Delivery) {
	next.State = g.d.State
	if g.trouble != nil {
		next.State = mta.Deferred
		next.Due = g.schedule.Next(next.Attempts, g.now, g.arrived, 0, g.jitter)
		next.Last.Result.Reason = g.trouble.Error()
	}
}

// last is what the delivery remembers: of its open recipients the result of
// the narrowest scope (so that a greylisted one is not taken for the site's
// trouble), with the last real reply, and the host that gave it.
func (g *drawing) last() mta.Last {
	pick := 0
	for i, r := range g.openRes {
		if r.Scope < g.openRes[pick].Scope {
			pick = i
		}
	}
	l := mta.Last{Time: g.ended(), Site: g.a.Site, Host: g.a.Host, IP: g.a.IP, Result: g.openRes[pick]}
	if g.trouble != nil {
		l.Result.Reason = g.trouble.Error()
	}
	if before := g.d.Last; l.Result.Reply.Code == 0 && before.Result.Reply.Code != 0 {
		l.Result.Reply = before.Result.Reply
		l.Host, l.IP = before.Host, before.IP
	}
	return l
}

// hint is the longest wait that a receiver asked for.
func (g *drawing) hint() time.Duration {
	seconds := 0
	for _, r := range g.openRes {
		seconds = max(seconds, r.RetryAfter)
	}
	return time.Duration(min(seconds, int(retry.MaxWait/time.Second))) * time.Second
}

// notice owes the delay notice, once.
func (g *drawing) notice(next *mta.Delivery) {
	if g.trouble != nil || !g.schedule.NoticeDue(g.now, g.arrived, g.d.DelaySent) {
		return
	}
	next.DelaySent = true
	var r ReportRequest
	for i, rcpt := range g.open {
		res := g.openRes[i]
		if res.Reply.Code == 0 {
			res.Reply = g.d.Last.Result.Reply
		}
		res.Enhanced = delayedStatus
		g.report(&r, mta.NotifyDelay, rcpt, res)
	}
	g.request(&r, ReportDelay)
}

// record writes one journal record.
func (g *drawing) record(event mta.Event, rcpt mta.Recipient, res mta.Result) {
	m := g.d.Message
	r := &mta.Record{
		Time: g.now, Event: event, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream,
		Sender: m.Envelope.Sender, Recipient: rcpt.Address, Destination: g.d.Destination.Domain,
		Attempt: g.d.Attempts, Code: res.Reply.Code, Reply: res.Reply.String(),
		Class: res.Class.String(), Scope: res.Scope.String(), Reason: res.Reason,
		Uncertain: res.Class == mta.ClassUncertain, Size: m.Size, BounceClass: res.Bounce,
	}
	status := res.Enhanced
	if status.IsZero() {
		status = res.Reply.Enhanced
	}
	r.Enhanced = status.String()
	if a := g.a; a != nil {
		r.Attempt = g.d.Attempts + 1
		r.Site, r.Host, r.IP, r.Source, r.Helo, r.TLS = a.Site, a.Host, a.IP, a.Source, a.Helo, a.TLS
		if r.Helo == "" && a.Host != "" {
			r.Helo = g.hostname
		}
		r.DKIM = res.Signed // of no earlier attempt, and of no other message
		r.Durations = a.Durations
		// One try that delivered says nothing that the record does not.
		if len(a.Tries) > 1 || res.Class != mta.ClassDelivered {
			r.Tries = a.Tries
		}
	} else {
		last := g.lastWords()
		r.Site, r.Host, r.IP = last.Site, last.Host, last.IP
	}
	g.out.settlement.Records = append(g.out.settlement.Records, r)
}

// nameReport notes on the records of the recipients concerned which message
// told the sender of the delay or of the success.
func nameReport(records []*mta.Record, q ReportRequest, report mta.ID) {
	if q.Kind == ReportFailure {
		return // bounced records tell it
	}
	for _, rcpt := range q.Recipients {
		for _, r := range records {
			if r.Recipient == rcpt.Address && (r.Event == mta.EventDeferred || r.Event == mta.EventRelayed) {
				r.Report = report
			}
		}
	}
}

// bounced are the records that name the report made for a request.
func bounced(q ReportRequest, report *mta.Message) []*mta.Record {
	if q.Kind != ReportFailure {
		return nil
	}
	m := q.Delivery.Message
	list := make([]*mta.Record, 0, len(q.Recipients))
	for i, rcpt := range q.Recipients {
		res := q.Results[i]
		list = append(list, &mta.Record{
			Time: q.Now, Event: mta.EventBounced, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream,
			Sender: m.Envelope.Sender, Recipient: rcpt.Address, Destination: q.Delivery.Destination.Domain,
			Code: res.Reply.Code, Enhanced: res.Enhanced.String(), Reply: res.Reply.String(),
			Reason: "reported to " + reportedTo(report), Size: m.Size, Report: report.ID,
		})
	}
	return list
}

func reportedTo(report *mta.Message) string {
	if report.Kind == mta.KindNotice {
		return "the operator"
	}
	return "the sender"
}

// mood is what an attempt says about its site.
type mood uint8

const (
	moodNeutral mood = iota
	moodGood         // it answered as a site should
	moodBad          // it, its hosts or our own network failed
	moodHurried      // it took too many messages already
	moodCrowded      // it refused a connection before anything was said
)

// rateLimited is the bounce class of a receiver that counts messages.
const rateLimited = "rate_limited"

// hurries reports that a site counts messages and has enough; not that one
// mailbox has (4.2.x), or one transaction its recipients (4.5.3).
func hurries(r *mta.Result) bool {
	e := r.Enhanced
	return r.Class == mta.ClassTemporary && r.Bounce == rateLimited && e.Subject != 2 && (e.Subject != 5 || e.Detail != 3)
}

// judge reads an attempt's results for the site's controller: one reply about
// a recipient or the message shows that the site is alive.
func judge(a *mta.Attempt) (mood, mta.Result) {
	m, worst, early := moodNeutral, mta.Result{}, beforeMail(a)
	for i := range a.Results {
		if !early && hurries(&a.Results[i]) {
			return moodHurried, a.Results[i]
		}
	}
	for _, r := range a.Results {
		switch {
		case r.Suppressed: // nobody was asked
		case r.Class == mta.ClassDelivered, r.Scope == mta.ScopeRecipient, r.Scope == mta.ScopeMessage:
			if r.Class != mta.ClassUncertain {
				return moodGood, r
			}
			m, worst = moodBad, r
		case r.Class != mta.ClassPermanent:
			m, worst = moodBad, r
		}
	}
	if m == moodBad && early && worst.Scope != mta.ScopeLocal {
		m = moodCrowded
	}
	return m, worst
}

// beforeMail reports whether an attempt ended before its session was ready for
// mail.
func beforeMail(a *mta.Attempt) bool {
	n := len(a.Tries)
	return !a.Reused && n > 0 && a.Tries[n-1].Stage < mta.StageTLS
}

// complaint is a bad result in words.
func complaint(r mta.Result) string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Reply.Code != 0:
		return r.Reply.String()
	}
	return "the attempt failed"
}
