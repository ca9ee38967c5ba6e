package smtpd

import (
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// transaction is what a session knows between MAIL and the end of the message.
// The zero value is none.
type transaction struct {
	request  *submit.Request
	deadline time.Time // of the whole message
	refused  int       // RCPTs refused
	// known finds recipients that are named again, once there are more than
	// fewRecipients; before that a look through the list is quicker.
	known map[string]int
	// sink is where the content goes; nil before DATA or the first BDAT.
	sink *sink
}

const fewRecipients = 16

// open reports whether content is on its way, so that Stop waits for it.
func (t *transaction) open() bool { return t.sink != nil && t.sink.draft != nil }

func (t *transaction) utf8() bool { return t.request != nil && t.request.Envelope.SMTPUTF8 }

// reset ends the transaction and takes over new settings.
func (s *session) reset() {
	s.forget()
	s.set = s.server.settings.Load()
}

// forget ends the transaction; a draft that is not committed is aborted.
func (s *session) forget() {
	if s.tx.sink != nil {
		s.tx.sink.abort()
		s.setIdle()
	}
	s.tx = transaction{}
}

// mail obeys MAIL (RFC 5321 4.1.1.2).
func (s *session) mail(arg string) error {
	switch {
	case s.helo == "":
		return s.fault(replyNoHello)
	case s.tx.request != nil:
		return s.fault(replyNested)
	}
	s.reset()
	if reply := s.gate(); reply != "" {
		return s.fault(reply)
	}
	m, err := smtp.ParseMail(arg)
	if err != nil {
		return s.syntax(err)
	}
	if m.RequireTLS && !s.secure { // RFC 8689 2: only over TLS
		return s.fault(replyRequireTLS)
	}
	if m.Size > s.set.Limits.MessageSize { // RFC 1870 6.1
		return s.say(replyTooLarge)
	}
	now := time.Now()
	r := s.newRequest(&m)
	if r.NotBefore = m.Release(now); r.NotBefore.Sub(now) > mta.MaxNotBefore {
		return s.say(replyTooFar)
	}
	if s.user != nil {
		if refusal := s.mayMail(r); refusal != nil {
			s.refuse(refusal)
			return nil
		}
	}
	if err := s.server.opts.Acceptor.Check(s.server.base, r); err != nil {
		s.refuse(err)
		return nil
	}
	s.tx.request = r
	s.tx.deadline = now.Add(s.set.Limits.MessageTime)
	return s.say(replySenderOK)
}

func (s *session) newRequest(m *smtp.Mail) *submit.Request {
	return &submit.Request{
		Origin: mta.Origin{Door: "smtp", Protocol: s.protocol(m.SMTPUTF8), Peer: s.peer, Helo: s.helo},
		Envelope: mta.Envelope{
			Sender:   m.Sender.String(),
			Ret:      m.Ret,
			EnvID:    m.EnvID,
			SMTPUTF8: m.SMTPUTF8, RequireTLS: m.RequireTLS,
			Body8Bit: m.Body == smtp.Body8BitMIME,
		},
		Stream:       s.set.Stream,
		LineEnds:     s.set.LineEnds,
		DeclaredSize: m.Size,
	}
}

// rcpt obeys RCPT (RFC 5321 4.1.1.3).
func (s *session) rcpt(arg string) error {
	switch {
	case s.tx.request == nil:
		return s.fault(replyNoMail)
	case s.tx.sink != nil:
		return s.fault(replyInChunks)
	case s.user == nil && !s.set.Everybody && !s.set.trusts(s.peer):
		s.tx.refused++
		return s.denyRelay()
	}
	rcpt, err := smtp.ParseRcpt(arg, s.tx.utf8())
	if err != nil {
		s.tx.refused++
		return s.syntax(err)
	}
	address := rcpt.Recipient.String()
	if rcpt.Recipient.Domain == "" { // RFC 5321 4.5.1
		if address = s.set.Postmaster; address == "" {
			s.tx.refused++
			return s.say(replyNoPostmaster)
		}
	} else if err := smtp.CheckRecipient(rcpt.Recipient); err != nil {
		s.tx.refused++
		return s.syntax(err)
	}
	if c, ok := s.server.opts.Acceptor.(submit.RecipientChecker); ok {
		if err := c.CheckRecipient(s.server.base, s.tx.request, address); err != nil {
			s.tx.refused++
			s.refuse(err)
			return nil
		}
	}
	before := len(s.tx.request.Recipients)
	if !s.tx.add(mta.Recipient{Address: address, ORcpt: rcpt.ORcpt, Notify: rcpt.Notify}, s.set.Limits.Recipients) {
		s.tx.refused++
		return s.say(replyTooMany)
	}
	if len(s.tx.request.Recipients) > before {
		s.commands-- // Limits.Recipients bounds these
	}
	return s.say(replyRecipientOK)
}

// denyRelay answers a peer that is not trusted, with what to change.
func (s *session) denyRelay() error {
	s.server.counters.relayDenied.Add(1)
	peer := "this connection"
	if s.peer.IsValid() {
		peer = s.peer.String()
	}
	s.server.relayLog.Do(func() {
		s.server.log.Warn("mail refused from a network that is not trusted; add it to trusted of this [[listen]] if it may send", mta.KeyPeer, peer)
	})
	text := "Relaying denied: " + peer + " is in no trusted network of this listener ([[listen]] trusted)"
	return s.fault(string(smtp.AppendReply(nil, mta.Reply{Code: 550, Enhanced: mta.Enhanced{Class: 5, Subject: 7, Detail: 1}, Text: text}, false)))
}

// add adds a recipient, or merges it with the same one named before: the first
// stays, with the reports that either asks for. It reports false when there
// are max of them already.
func (t *transaction) add(r mta.Recipient, max int) bool {
	have := t.request.Recipients
	if i := t.find(r.Address); i >= 0 {
		have[i].Notify = mergeNotify(have[i].Notify, r.Notify)
		if have[i].ORcpt == "" {
			have[i].ORcpt = r.ORcpt
		}
		return true
	}
	if len(have) >= max {
		return false
	}
	t.request.Recipients = append(have, r)
	switch n := len(t.request.Recipients); {
	case t.known != nil:
		t.known[r.Address] = n - 1
	case n > fewRecipients:
		t.known = make(map[string]int, 4*fewRecipients)
		for i, h := range t.request.Recipients {
			t.known[h.Address] = i
		}
	}
	return true
}

// find gives the index of a recipient, -1 when it is new. Local parts that
// differ in case are different (RFC 5321 2.4).
func (t *transaction) find(address string) int {
	if t.known != nil {
		if i, ok := t.known[address]; ok {
			return i
		}
		return -1
	}
	for i := range t.request.Recipients {
		if t.request.Recipients[i].Address == address {
			return i
		}
	}
	return -1
}

// mergeNotify is the union of what two RCPTs of one recipient ask for. NEVER
// adds nothing; no NOTIFY asks for failure and delay (RFC 3461 4.1).
func mergeNotify(a, b mta.Notify) mta.Notify {
	if a == b || b == mta.NotifyNever {
		return a
	}
	if a == mta.NotifyNever {
		return b
	}
	const byDefault = mta.NotifyFailure | mta.NotifyDelay
	if a == mta.NotifyDefault {
		a = byDefault
	}
	if b == mta.NotifyDefault {
		b = byDefault
	}
	return a | b
}
