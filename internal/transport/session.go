package transport

// What a session must fulfil, and what came of it.
//
// The plan's demand (mta.Route.Demand) is obeyed to the letter: clear text is
// spoken only where it says opportunistic, and then on a new connection (trap
// 15). Two things raise it whatever the plan says: a message with REQUIRETLS,
// and credentials.

import (
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"slices"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/smtpclient"
)

// demand is what a session with one of the route's hosts must fulfil for the
// attempt's delivery.
func (at *attempt) demand(h *mta.Host) mta.TLSDemand { return Demand(at.route, h, at.tx.RequireTLS) }

// Demand is what a session with one of the route's hosts must fulfil for a message
// with REQUIRETLS, or without.
func Demand(r *mta.Route, h *mta.Host, requireTLS bool) mta.TLSDemand {
	d := r.Demand(h)
	if d.Requirement.Verifies() {
		return d
	}
	switch {
	case requireTLS: // RFC 8689 2
		d.Origin, d.Why = mta.TLSByMessage, "the message asks for REQUIRETLS (RFC 8689)"
	case r.Auth != nil:
		d.Origin, d.Why = mta.TLSByOperator, "the credentials of "+r.Matched
	default:
		return d
	}
	d.Requirement, d.Audit, d.Mismatch = mta.TLSRequired, false, false
	return d
}

// hostOf is the route's host that a target of an earlier route stands for.
func (at *attempt) hostOf(t *mta.Target) *mta.Host {
	for i := range at.route.Hosts {
		if h := &at.route.Hosts[i]; h.Name == t.Host.Name && h.Socket == t.Host.Socket && at.route.PortOf(h) == at.route.PortOf(&t.Host) {
			return h
		}
	}
	return &t.Host
}

// barred says why a host cannot have the message, before it is connected to.
func (at *attempt) barred(h *mta.Host) *mta.Failure {
	if !at.tx.RequireTLS {
		return nil
	}
	return Barred(at.route, h)
}

// Barred says why one of the route's hosts cannot have a message with REQUIRETLS,
// whatever it offers: nobody vouches that it serves the recipient's domain
// (RFC 8689 2). A router is what the operator says it is. Nil: it can, as far as
// that is concerned.
func Barred(r *mta.Route, h *mta.Host) *mta.Failure {
	if d := r.Demand(h); r.Router != "" || d.Authentic {
		return nil
	}
	f := &mta.Failure{
		Stage: mta.StageRoute, Cause: mta.CauseNeed, NeedEnhanced: notRequired,
		Text: "the message asks for REQUIRETLS, and neither signed DNS nor an MTA-STS policy says that " + h.Name + " is a mail server of " + r.Domain,
	}
	if why := unsure(r); why != "" {
		f.Cause, f.NeedEnhanced = mta.CauseTLSPolicy, mta.Enhanced{}
		f.Text += " for all that is known: " + why
	}
	return f
}

// unsure says why it is not known whether somebody vouches for the route's
// hosts; empty: it is. Trouble of our DNS, or with a policy, is no reason to
// bounce.
func unsure(r *mta.Route) string {
	for i := range r.Policies {
		if p := &r.Policies[i]; p.Trouble != "" {
			return p.Reason
		}
	}
	return r.Unsigned
}

// demandedBy tells with a failure of TLS who wants TLS.
func demandedBy(f *mta.Failure, d *mta.TLSDemand) {
	if f.Stage != mta.StageTLS || !d.Requirement.Insists() || d.Why == "" {
		return
	}
	what := "verified TLS is demanded"
	if d.Requirement == mta.TLSEncrypted {
		what = "TLS is demanded"
	}
	by := " by "
	if d.Origin == mta.TLSByMessage { // Why is a sentence
		by = ", for "
	}
	if f.Text != "" {
		what = "; " + what
	}
	f.Text = cut(f.Text, maxReasonText/2) + what + by + d.Why
}

// certain makes the lack of STARTTLS a fact of a host that was reached: a
// message with REQUIRETLS cannot go there, now or later (RFC 8689 4.2.1). Where
// the domain promises TLS its lack is trouble that passes, or an attack.
func (at *attempt) certain(f *mta.Failure) {
	if at.tx.RequireTLS && f.Stage == mta.StageTLS && f.Cause == mta.CauseNeed && !slices.ContainsFunc(at.route.Policies, promises) {
		f.NeedEnhanced = noStartTLS
	}
}

// forNow gives what a failure means at this route. That a host cannot do
// REQUIRETLS is final; of a router that stands in for the domain's hosts it is not:
// they may be back tomorrow.
func (at *attempt) forNow(f *mta.Failure) *mta.Failure {
	if at.route.Instead == "" || !at.tx.RequireTLS || f.Cause != mta.CauseNeed || f.NeedEnhanced != notRequired && f.NeedEnhanced != noStartTLS {
		return f
	}
	return &mta.Failure{Stage: f.Stage, Cause: mta.CauseTLSPolicy, Text: f.Text, Err: f.Err}
}

// The statuses of RFC 8689 4.2.1: REQUIRETLS, and STARTTLS, are not there.
var notRequired, noStartTLS = enhanced(5, 7, 30), enhanced(5, 7, 10)

// promises reports whether a policy says that the servers do TLS.
func promises(p mta.TLSPolicy) bool {
	return p.Type == "tlsa" || p.Type == "sts" && p.Mode == "enforce"
}

// origin is who is named in the record: nobody where the default decided, or
// nothing was insisted on.
func origin(d *mta.TLSDemand) mta.TLSOrigin {
	if !d.Requirement.Insists() || d.Origin == mta.TLSByDefault {
		return ""
	}
	return d.Origin
}

// resumed keeps TLS sessions apart by all that they were verified by: a ticket
// of one host, address or demand is of no use to another. What the roots are is
// the same for the whole cache.
type resumed struct {
	tls.ClientSessionCache
	prefix string
}

// Get implements tls.ClientSessionCache.
func (r resumed) Get(key string) (*tls.ClientSessionState, bool) {
	return r.ClientSessionCache.Get(r.prefix + key)
}

// Put implements tls.ClientSessionCache.
func (r resumed) Put(key string, s *tls.ClientSessionState) {
	r.ClientSessionCache.Put(r.prefix+key, s)
}

// resume gives the TLS sessions that a new one may resume; nil: none, because
// each must show its certificate anew.
func (s *settings) resume(t *mta.Target, port uint16, d *mta.TLSDemand) tls.ClientSessionCache {
	if d.Audit || d.Requirement == mta.TLSDANE {
		return nil
	}
	prefix, _ := t.IP.AppendText(append(make([]byte, 0, 64), byte('0'+d.Requirement)))
	prefix = binary.BigEndian.AppendUint16(prefix, port)
	return resumed{s.sessions, string(append(append(prefix, t.Host.Name...), 0))}
}

// sight is what was seen of a host while a session with it was opened.
type sight struct {
	local   netip.Addr
	helo    string // what it called itself
	secured bool   // the handshake was made
}

func (s *sight) observe(step *smtpclient.Step) {
	switch {
	case step.TLS.Version != "":
		s.secured = true
	case step.Stage == mta.StageEhlo && step.Reply.Code/100 == 2:
		s.helo = smtp.GreetingHost(step.Reply)
	}
}

// fault gives a failure of TLS its result-type (RFC 8460 4.3.1); nil when TLS is
// not what failed.
func fault(f *mta.Failure) *mta.TLSFault {
	if known, ok := f.Err.(*mta.TLSFault); ok {
		return known
	}
	switch {
	case f.Stage != mta.StageTLS || f.Cause == mta.CauseLocal || f.Reply.Code == 421:
		return nil
	case f.Cause == mta.CauseNeed || f.Cause == mta.CauseReply:
		return &mta.TLSFault{Result: mta.ResultNoSTARTTLS, Text: evidence(f), Err: f}
	}
	return &mta.TLSFault{Result: mta.ResultValidation, Text: evidence(f), Err: f}
}

// verdict is what a session came to that was opened: by the letter of the demand
// it succeeded, and this says whether TLS did. before is why clear text was
// spoken from the start.
func verdict(s *smtpclient.Session, host string, d *mta.TLSDemand, before *mta.TLSFault) *mta.TLSFault {
	switch {
	case before != nil:
		return before
	case s.TLS().Version == "":
		return &mta.TLSFault{Result: mta.ResultNoSTARTTLS, Text: "no STARTTLS"}
	case s.Audit() != nil:
		return s.Audit()
	case d.Audit && d.Mismatch:
		return &mta.TLSFault{Result: mta.ResultValidation, Text: "the MTA-STS policy does not name " + host}
	}
	return nil
}

// secured tells how TLS with a host of the recipient's went; a nil fault is
// success.
func (at *attempt) secured(t *mta.Target, d *mta.TLSDemand, seen *sight, f *mta.TLSFault) {
	tell := at.w.c.opt.Secured
	if tell == nil || at.route.Router != "" || t.Host.Socket != "" || at.route.Protocol != mta.SMTP || d.Requirement == mta.TLSNone {
		return
	}
	o := TLSOutcome{Local: seen.local, Helo: seen.helo, Demand: *d}
	if f != nil {
		o.Result, o.Reason = f.Result, cut(smtp.Harmless(f.Text), maxReasonText)
	}
	tell(at.route, t, o)
}

// passOver tells of the hosts that a policy about TLS keeps the mail from and
// that would have come before a host of that preference. Each is told once an
// attempt.
func (at *attempt) passOver(before int) {
	for ; at.passed < len(at.route.Hosts); at.passed++ {
		h := &at.route.Hosts[at.passed]
		if int(h.Preference) >= before {
			return
		}
		if why := mta.PolicyFault(h, at.route.Policies); why != nil {
			d := at.demand(h)
			at.secured(&mta.Target{Host: *h}, &d, &sight{}, why)
		}
	}
}
