package transport

// One attempt: one visit of a delivery to its hosts.
//
// Every recipient is pending until it has an answer that no other host may
// change. A failure that speaks of the host alone leaves it pending, with the
// result it gets if no host does better. The open session is asked first, when
// it fits; then the route's addresses in order, until no recipient is pending.
//
// The same address is visited again at once, without a word to the sender, when
// a reused session turns out dead, or when a session has reached its limits
// with recipients left. Each such visit settles a recipient or was the one free
// try of a reused session, so the loop ends.

import (
	"math"
	"slices"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtpclient"
	"mailout/internal/spool"
)

// attempt is the state of one attempt. It belongs to its worker.
type attempt struct {
	w       *worker
	d       *mta.Delivery
	route   *mta.Route
	a       *mta.Attempt
	utf8    bool // only hosts with SMTPUTF8 can take it
	content spool.Content
	seven   smtpclient.Content // the content converted, once it was

	tx     smtpclient.Transaction
	states []state // of the recipients
	left   int     // recipients that are not done
	here   []int   // the recipients of the transaction in hand, by index
	some   []mta.Recipient
	only4  bool // no more IPv6 (trap 33)
	taken  bool // some host took the message for somebody: it stands in the record
	routed routed
	made   made // the fields in front of the content
	passed int  // hosts of the route that passOver has seen
}

// state is where a recipient stands in the attempt.
type state uint8

const (
	open   state = iota // no host has said anything yet
	asking              // to be asked at this host; hosts before failed
	struck              // this host failed; the next may be asked
	done                // has its final result
)

// attempt carries one delivery and says what it came to.
func (w *worker) attempt(d *mta.Delivery, route *mta.Route) *mta.Attempt {
	at := &w.att
	at.reset(w, d, route)
	if at.spare(); at.left == 0 {
		return at.end()
	}
	if f := at.open(); f != nil {
		at.strikeAll(f, nil)
		return at.end()
	}
	defer at.close()
	if w.session != nil && !w.fits(route, at) {
		w.quit()
	}
	if w.session == nil {
		at.visitAll(nil, false)
		return at.end()
	}
	at.a.Reused = true
	again := at.carry(true)
	if at.left > 0 {
		target := w.key.target
		at.visitAll(&target, again)
	}
	return at.end()
}

func (at *attempt) reset(w *worker, d *mta.Delivery, route *mta.Route) {
	m := d.Message
	w.delivery = d.Key()
	*at = attempt{
		w: w, d: d, route: route,
		a:      &mta.Attempt{Start: time.Now(), Site: route.Site, Results: make([]mta.Result, len(d.Recipients))},
		utf8:   needsUTF8(d),
		states: at.states[:0],
		left:   len(d.Recipients),
		here:   at.here[:0],
		some:   at.some[:0],
		tx: smtpclient.Transaction{
			Sender:        m.Envelope.Sender,
			EightBit:      m.EightBit,
			RequireTLS:    m.Envelope.RequireTLS,
			Ret:           m.Envelope.Ret,
			EnvID:         m.Envelope.EnvID,
			MaxRecipients: route.Limits.RecipientsPerMessage,
		},
	}
	if at.tx.MaxRecipients <= 0 {
		at.tx.MaxRecipients = DefaultRecipientsPerMessage
	}
	at.made.apart = w.c.opt.Apart != nil && w.c.opt.Apart(d)
	for range d.Recipients {
		at.states = append(at.states, open)
	}
}

// needsUTF8 reports whether a host without SMTPUTF8 cannot take the delivery:
// an address in use has octets above 127, or a header field has and the client
// asked for SMTPUTF8 (trap 24). Raw octets in the header of an application that
// never heard of SMTPUTF8 only profit from it: see fill, and
// docs/decisions/0004.
func needsUTF8(d *mta.Delivery) bool {
	env := &d.Message.Envelope
	if d.Message.UTF8 && env.SMTPUTF8 || !ascii(env.Sender) {
		return true
	}
	return slices.ContainsFunc(d.Recipients, func(r mta.Recipient) bool { return !ascii(r.Address) })
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// open gets the content.
func (at *attempt) open() *mta.Failure {
	content, err := at.w.c.opt.Content.Open(at.w.abandon, at.d.Message.ID)
	if err != nil {
		return &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseLocal, Text: "the stored message cannot be opened: " + err.Error(), Err: err}
	}
	at.content = content
	return nil
}

func (at *attempt) close() {
	at.content.Close()
	at.content, at.seven, at.tx.Content = nil, nil, nil
	at.tx.Prefix, at.made = nil, made{}
}

// visitAll tries the route's addresses. One that was asked already goes first
// when it is to be asked again, and is left out otherwise.
func (at *attempt) visitAll(asked *mta.Target, again bool) {
	targets := at.route.Targets(at.w.c.opt.Shuffle)
	if asked != nil {
		targets = slices.DeleteFunc(targets, func(t mta.Target) bool { return at.w.key.is(at.route, &t) })
	}
	if again {
		targets = slices.Insert(targets, 0, *asked)
	} else if asked != nil {
		at.turn()
	}
	for i := 0; i < len(targets) && at.left > 0; {
		t := &targets[i]
		switch {
		case at.w.opening.Err() != nil:
			at.strikeAll(stopping(mta.StageConnect), t)
			return
		case at.only4 && t.IP.Unmap().Is6():
			i++
		case !at.visit(t):
			at.turn()
			i++
		}
	}
	if at.left > 0 {
		at.unresolved(len(targets) == 0 && asked == nil)
	}
}

// turn goes on to the next host.
func (at *attempt) turn() {
	for i := range at.states {
		if at.states[i] == struck {
			at.states[i] = asking
		}
	}
}

// unresolved judges for the recipients left the hosts whose addresses are not
// known: nobody can say that they would have refused too. When there was no
// address at all, that is the failure.
func (at *attempt) unresolved(none bool) {
	at.turn()
	at.passOver(math.MaxInt)
	if f := Undecided(at.route); f != nil {
		at.strikeAll(f, nil)
		return
	}
	if !none {
		return
	}
	var permanent *mta.Failure
	if i := slices.IndexFunc(at.route.Hosts, func(h mta.Host) bool { return h.Failure != nil }); i >= 0 {
		permanent = at.route.Hosts[i].Failure
	} else {
		permanent = &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseLocal, Text: "no address of " + at.route.Site + " can be reached from this machine's addresses"}
	}
	at.strikeAll(permanent, nil)
}

// Undecided is why it is not known yet of one of the route's hosts whether it would
// take mail; nil: there is no such host.
func Undecided(r *mta.Route) *mta.Failure {
	for i := range r.Hosts {
		if f := r.Hosts[i].Failure; f != nil && Judge(f, Place{}).Class == mta.ClassTemporary {
			return f
		}
	}
	return nil
}

// visit tries one address and reports whether it is to be visited again.
func (at *attempt) visit(t *mta.Target) (again bool) {
	at.w.quit()
	at.passOver(int(t.Host.Preference))
	f := at.w.connect(at, t)
	at.routed.met(f)
	if f != nil {
		at.strikeAll(f, t)
		return false
	}
	at.a.Reused = false
	return at.carry(false)
}

// carry sends the delivery over the worker's session, in as many transactions
// as it takes. It reports whether the same address deserves a new session: one
// that had been used was dead, or one has reached its limits with recipients
// left.
func (at *attempt) carry(reused bool) (again bool) {
	w := at.w
	w.route = at.route
	for at.fill() {
		if f := at.prepare(); f != nil {
			at.strikeHere(f)
			continue
		}
		s := w.session
		start := time.Now()
		o := s.Send(&at.tx)
		if reused && at.forgotten(&o) {
			w.quit()
			return true
		}
		at.a.Durations.Mail += o.Envelope.Milliseconds()
		at.a.Durations.Data += o.Content.Milliseconds()
		died := reused && o.Broken != nil && renewable(o.Broken)
		at.apply(&o, died, start)
		if died {
			w.drop()
			return true
		}
		if o.Broken != nil {
			return false
		}
		// A session can end with a transaction that it answered in full. At least
		// one recipient was settled.
		if s.Broken() || w.spent(at.route) {
			return at.asksMore()
		}
		// A receiver that takes few messages a session says so to the next
		// transaction of the same delivery, too: that is no word about its
		// recipients. Each new session settles at least one of them.
		reused = true
	}
	return false
}

// asksMore reports whether a recipient has not been asked for at this host.
func (at *attempt) asksMore() bool {
	return slices.ContainsFunc(at.states, func(s state) bool { return s < struck })
}

// renewable reports whether a failure on a reused session says only that it
// had come to its end: nothing of the message can have been taken.
func renewable(f *mta.Failure) bool {
	return !f.Sent && (f.Cause == mta.CauseIO || f.Stage == mta.StageReset || f.Cause == mta.CauseReply && f.Reply.Code == 421)
}

// fill makes the transaction of the recipients to be asked for here, in the
// form that the server takes. It reports false when there is none.
func (at *attempt) fill() bool {
	at.here = at.here[:0]
	for i, s := range at.states {
		if s < struck {
			at.here = append(at.here, i)
		}
	}
	if len(at.here) == 0 {
		return false
	}
	if at.made.apart {
		at.here = at.here[:1]
	}
	at.tx.Recipients = at.d.Recipients
	if len(at.here) < len(at.d.Recipients) {
		at.some = at.some[:0]
		for _, i := range at.here {
			at.some = append(at.some, at.d.Recipients[i])
		}
		at.tx.Recipients = at.some
	}
	at.tx.Sender = at.sender()
	at.tx.UTF8 = at.utf8 || at.d.Message.UTF8 && at.w.session.Capabilities().SMTPUTF8
	at.tx.Content, at.tx.EightBit = at.content, at.d.Message.EightBit
	if at.tx.EightBit && !at.w.session.Capabilities().EightBitMIME {
		at.convert()
	}
	return true
}

// apply settles recipients by the verdicts of a transaction. With died the
// recipients that the session's end struck stay as they were.
func (at *attempt) apply(o *smtpclient.Outcome, died bool, start time.Time) {
	t := &at.w.key.target
	var told *mta.Failure // the failure that the try is told by
	delivered := false
	unasked := neverAsked(o.Broken)
	for k, i := range at.here {
		v := &o.Verdicts[k]
		f := v.Failure
		if v.Fate == smtpclient.Untried {
			f = unasked
		}
		if f != nil && told == nil {
			told = f
			at.routed.refused(f)
		}
		switch {
		case v.Fate == smtpclient.Delivered:
			at.a.Results[i] = at.delivered(o.ReplyTo(k), &at.d.Recipients[i])
			at.finish(i)
			delivered = true
		case f != nil && !(died && (f == o.Broken || f == unasked)):
			at.strike(i, f, t)
		}
	}
	if delivered {
		at.taken = true
		at.stand(t)
	}
	switch {
	case told != nil:
		at.try(t, told, start)
	case delivered && len(at.a.Tries) > 0: // the one that answered, after others
		at.a.Tries = append(at.a.Tries, mta.Try{Host: t.Host.Name, IP: t.IP.Unmap(), Stage: mta.StageFinal, Reply: o.Reply.String(), MS: time.Since(start).Milliseconds()})
	}
}

// neverAsked is what broke a session as it concerns recipients whose turn had not
// come: nothing of theirs can have arrived.
func neverAsked(broken *mta.Failure) *mta.Failure {
	if broken == nil || !broken.Sent && broken.Stage < mta.StageData {
		return broken
	}
	f := *broken
	f.Sent, f.Stage = false, mta.StageRcpt
	return &f
}

func (at *attempt) finish(i int) {
	if at.states[i] != done {
		at.states[i] = done
		at.left--
	}
}

// delivered is the result of a recipient for whom the message was taken.
func (at *attempt) delivered(r mta.Reply, rcpt *mta.Recipient) mta.Result {
	dsn := at.w.session.Capabilities().DSN
	result := mta.Result{
		Class:    mta.ClassDelivered,
		Reply:    r,
		Enhanced: r.Enhanced,
		DSN:      dsn,
		Signed:   at.made.prefix.Signed,
		// Who speaks LMTP is the mailbox's own (RFC 2033 1).
		Relayed: at.route.Router != "" && at.route.Protocol != mta.LMTP || !dsn && rcpt.Notify.Wants(mta.NotifySuccess),
	}
	if result.Enhanced.IsZero() {
		result.Enhanced = enhanced(2, 0, 0)
	}
	return result
}

// strikeAll judges one failure for all that are not done. A nil target is our
// own house.
func (at *attempt) strikeAll(f *mta.Failure, t *mta.Target) {
	for i := range at.states {
		if at.states[i] != done {
			at.strike(i, f, t)
		}
	}
}

// strike gives a recipient the result of a failure; it is done when no other
// host may be asked.
func (at *attempt) strike(i int, f *mta.Failure, t *mta.Target) {
	var here Place
	if t != nil {
		here = place(at.route, t)
	}
	if f.Cause == mta.CauseSource {
		at.a.SourceTrouble = f.Text
	}
	j := judge(at.forNow(f), here)
	if f.Sent || f.Stage == mta.StageFinal {
		j.Signed = at.made.prefix.Signed
	}
	final := !j.onward
	if j.only4 && here.IP.Is6() {
		at.only4, final = true, false
	}
	if final && j.Scope != mta.ScopeLocal || at.states[i] == open || better(&j.Result, &at.a.Results[i]) {
		if j.Signed == "" { // an earlier host had the content
			j.Signed = at.a.Results[i].Signed
		}
		at.a.Results[i] = j.Result
		if t != nil && !at.taken {
			at.stand(t)
		}
	}
	at.states[i] = struck
	if final {
		at.finish(i)
	}
}

// better reports whether a failure at a further host tells more than what the
// hosts before it came to. All must refuse before mail is refused, so a
// temporary result beats a permanent one; among the temporary ones a reply
// beats silence, and the later reply the earlier.
func better(next, before *mta.Result) bool {
	switch {
	case next.Class != before.Class:
		return next.Class != mta.ClassPermanent
	case next.Class == mta.ClassPermanent:
		return false
	}
	return next.Reply.Code != 0 || before.Reply.Code == 0 && next.Scope != mta.ScopeLocal
}

// stand makes a target the one that the record names.
func (at *attempt) stand(t *mta.Target) {
	a := at.a
	demand := at.demand(at.hostOf(t))
	a.Host, a.IP, a.Source, a.Helo, a.TLS = t.Host.Name, t.IP.Unmap(), t.Source.IP, t.Source.Hostname, mta.TLSFacts{}
	if s := at.w.session; s != nil && at.w.key.is(at.route, t) {
		a.TLS = s.TLS()
		if local := s.Local(); local.IsValid() {
			a.Source = local
		}
	}
	a.TLS.Origin = origin(&demand)
}

// try records one address tried without success.
func (at *attempt) try(t *mta.Target, f *mta.Failure, start time.Time) {
	at.a.Tries = append(at.a.Tries, mta.Try{
		Host: t.Host.Name, IP: t.IP.Unmap(), Stage: f.Stage,
		Reply: cut(evidence(f), maxReasonText),
		MS:    time.Since(start).Milliseconds(),
	})
}

// end closes the record.
func (at *attempt) end() *mta.Attempt {
	a := at.a
	at.w.c.settings.Load().bounced(a)
	at.routed.tell(at.w.c.opt.Routed, at.route)
	a.End = time.Now()
	a.Durations.Total = a.End.Sub(a.Start).Milliseconds()
	at.a, at.d, at.route = nil, nil, nil
	return a
}
