package smtpclient

// One transaction as a sequence of commands with a window.
//
// Goal: as few round trips as the server's extensions allow, with one code
// path for all of them. Method: the commands RSET?, MAIL, RCPT × n, DATA or
// BDAT form a queue. A window of them is written, then all their answers are
// read, so that neither side ever waits to write to the other (RFC 2920 section
// 3.1). Without PIPELINING the window is one. The commands that would follow a
// refusal are left out once it is known.
//
//	PIPELINING and CHUNKING, small:  [RSET MAIL RCPT… BDAT LAST content]   1 round trip
//	PIPELINING:                      [RSET MAIL RCPT… DATA] [content .]    2
//	neither:                         one a command
//
// Rejected: a goroutine that reads (a context switch for each message), and
// BDAT for large messages (they would be sent before any recipient is known
// to be accepted, or save nothing).

import (
	"time"

	"mailout/internal/mta"
)

// exchange is the state of the transaction in hand.
type exchange struct {
	t *Transaction
	n int // recipients taken into this transaction

	next     step // the command to be written next
	asked    int  // RCPTs written
	answered int  // RCPTs answered
	pending  int  // commands without an answer
	octets   int  // of pending commands, as far as this flight
	chunked  bool // BDAT with the content in the flight

	reading  step         // the command whose answer comes next
	mail     *mta.Failure // MAIL refused, or RSET
	closing  *mta.Failure // a 421 or nonsense after which answers were still read
	accepted int
	full     bool // the server takes no more recipients in this transaction
	go354    bool // DATA was answered 354
	content  *mta.Failure
	final    bool // the final answer is in
	reply    mta.Reply

	verdicts []Verdict
}

type step uint8

const (
	stepReset step = iota
	stepMail
	stepRcpt
	stepData
	stepDone
)

// Send carries one transaction. Afterwards Usable tells whether the session
// can carry another. When the session breaks, recipients that were refused
// keep their own replies, those accepted or not yet answered get the failure
// that broke it, and those never asked stay Untried.
func (s *Session) Send(t *Transaction) Outcome {
	x := &s.x
	verdicts := x.verdicts[:0]
	*x = exchange{t: t, n: s.recipients(t)}
	for range t.Recipients {
		verdicts = append(verdicts, Verdict{})
	}
	x.verdicts = verdicts
	if f := s.Needs(t); f != nil {
		return x.all(f)
	}
	start := time.Now()
	x.begin(s, start)
	f := x.envelope(s)
	middle := time.Now()
	if f == nil {
		f = x.body(s)
	}
	o := x.outcome(f)
	o.Broken = f
	s.last = time.Now()
	o.Envelope, o.Content = middle.Sub(start), s.last.Sub(middle)
	return o
}

// recipients is how many of the transaction's recipients may go at once.
func (s *Session) recipients(t *Transaction) int {
	n := len(t.Recipients)
	if t.MaxRecipients > 0 {
		n = min(n, t.MaxRecipients)
	}
	if s.caps.RcptMax > 0 {
		n = min(n, s.caps.RcptMax)
	}
	return n
}

// all gives every recipient the same failure.
func (x *exchange) all(f *mta.Failure) Outcome {
	for i := range x.verdicts {
		x.verdicts[i] = Verdict{Fate: Failed, Failure: f}
	}
	return Outcome{Verdicts: x.verdicts}
}

func (x *exchange) begin(s *Session, now time.Time) {
	x.next, x.reading = stepMail, stepMail
	if s.dirty {
		x.next, x.reading = stepReset, stepReset
	}
	s.dirty = true
	s.messages++
	x.chunked = !s.opt.LMTP && s.caps.Pipelining && s.caps.Chunking &&
		x.t.size() <= oneFlight &&
		x.n < flightCommands/2 &&
		now.Sub(s.last) < staleAfter
}

// envelope writes the commands and reads their answers. It returns a failure
// when the session broke.
func (x *exchange) envelope(s *Session) *mta.Failure {
	window := 1
	if s.caps.Pipelining {
		window = flightCommands
	}
	for x.more() || x.pending > 0 {
		if f := x.write(s, window); f != nil {
			return f
		}
		for x.pending > 0 {
			if f := x.read(s); f != nil {
				return f
			}
		}
		x.octets = 0
	}
	return nil
}

// more reports whether a command is left to write, given the answers so far.
func (x *exchange) more() bool {
	if x.mail != nil {
		return false
	}
	switch x.next {
	case stepRcpt:
		if x.asked == x.n || x.full {
			x.next = stepData
			return x.more()
		}
	case stepData:
		return x.accepted > 0 || x.answered < x.asked
	}
	return x.next != stepDone
}

// write fills one flight and sends it.
func (x *exchange) write(s *Session, window int) *mta.Failure {
	stage := x.next.stage()
	if f := s.outOfStep(stage); f != nil {
		return f
	}
	for x.more() && x.pending < window && x.octets < flightOctets {
		b := s.buf()
		before := len(b.b)
		if f := x.append(s, b); f != nil {
			return f
		}
		if x.next != stepDone {
			x.octets += len(b.b) - before
		}
		x.pending++
	}
	if s.out == nil {
		return nil
	}
	if err := s.flush(s.opt.cap(waitBlock)); err != nil {
		if s.aborted.Load() {
			return s.failure(stage, err)
		}
		x.chunked = false // its end has not left: nothing is uncertain
	}
	return nil
}

// outOfStep finds an answer that is there before its command was sent. From here
// on each answer would be taken for its neighbour's, and a refused recipient for
// a delivered one. A 421 may come at any time (RFC 5321 section 3.8); it is read
// as the answer to what follows.
func (s *Session) outOfStep(stage mta.Stage) *mta.Failure {
	n := s.br.Buffered()
	if n == 0 {
		return nil
	}
	if head, _ := s.br.Peek(min(n, 3)); string(head) == "421" {
		return nil
	}
	s.broken = true
	return &mta.Failure{Stage: stage, Cause: mta.CauseProtocol, Text: "an answer came before its command was sent"}
}

// append adds the next command to the flight.
func (x *exchange) append(s *Session, b *buffer) *mta.Failure {
	switch x.next {
	case stepReset:
		b.b = append(b.b, "RSET\r\n"...)
		x.next = stepMail
	case stepMail:
		m := s.mail(x.t)
		b.b = m.Append(b.b)
		x.next = stepRcpt
	case stepRcpt:
		r := s.rcpt(&x.t.Recipients[x.asked])
		b.b = r.Append(b.b, x.t.UTF8)
		x.asked++
	case stepData:
		x.next = stepDone
		// Content goes along only in the first flight: a small envelope.
		if x.chunked = x.chunked && x.reading <= stepMail; x.chunked {
			return x.appendChunk(s, b)
		}
		b.b = append(b.b, "DATA\r\n"...)
	}
	return nil
}

// read takes one answer.
func (x *exchange) read(s *Session) *mta.Failure {
	stage := x.reading.stage()
	if x.reading == stepRcpt && x.answered == x.asked {
		x.reading, stage = stepData, mta.StageData
	}
	wait := waitCommand
	if x.reading == stepData {
		wait = waitData
		if x.chunked {
			stage, wait = mta.StageFinal, waitFinal
		}
	}
	r, err := s.reply(s.opt.cap(wait))
	if err != nil {
		return x.lost(s, stage, err)
	}
	x.pending--
	if s.opt.Observe != nil {
		s.observe(stage, x.command(), r)
	}
	f := x.take(s, stage, r)
	if f != nil && x.pending > 0 && x.mayBeTaken() {
		// The whole message has left, and the server may yet take it for
		// those it accepted: only its last answer or the end tells.
		x.closing, f = f, nil
	}
	return f
}

// lost is the failure of an answer that did not come. With the content already
// gone, the recipients may have got it.
func (x *exchange) lost(s *Session, stage mta.Stage, err error) *mta.Failure {
	f := s.failure(stage, err)
	if x.closing != nil && x.closing.Reply.Code == 421 && f.Cause == mta.CauseIO {
		return x.closing // it said that it would go
	}
	f.Sent = x.mayBeTaken()
	return f
}

// mayBeTaken reports whether the server has the whole message and may yet take
// it for somebody.
func (x *exchange) mayBeTaken() bool {
	return x.chunked && x.mail == nil && (x.accepted > 0 || x.answered < x.asked)
}

// take applies one answer. It returns a failure when the session must end.
func (x *exchange) take(s *Session, stage mta.Stage, r mta.Reply) *mta.Failure {
	switch x.reading {
	case stepReset:
		x.reading = stepMail
		if r.Code/100 != 2 {
			s.broken = true
			return refused(stage, r)
		}
	case stepMail:
		x.reading = stepRcpt
		if r.Code/100 != 2 {
			if x.closing != nil {
				// RSET was refused, so this answer is about the transaction
				// before: it is the session's trouble and not this message's.
				x.mail = x.closing
				return x.mail
			}
			x.mail = refused(stage, r)
			if ends(r) {
				s.broken = true
				return x.mail
			}
		}
	case stepRcpt:
		return x.takeRcpt(s, r)
	case stepData:
		x.reading = stepDone
		return x.takeData(s, stage, r)
	}
	return nil
}

func (x *exchange) takeRcpt(s *Session, r mta.Reply) *mta.Failure {
	v := &x.verdicts[x.answered]
	x.answered++
	switch {
	case x.mail != nil: // its answer says only that there was no MAIL
		return nil
	case r.Code/100 == 2:
		x.accepted++
		v.Fate = Delivered // if the content is taken
		return nil
	}
	*v = Verdict{Fate: Failed, Failure: refused(mta.StageRcpt, r)}
	if tooMany(r) && x.accepted > 0 {
		x.full = true
	}
	if ends(r) {
		s.broken = true
		return v.Failure
	}
	return nil
}

// ends reports whether a reply ends the session: the server closes it, or asks
// for something that no command of ours goes on with.
func ends(r mta.Reply) bool { return r.Code == 421 || r.Code/100 == 3 }

func (x *exchange) takeData(s *Session, stage mta.Stage, r mta.Reply) *mta.Failure {
	if x.chunked {
		return x.takeFinal(s, r)
	}
	switch {
	case r.Code == 354:
		x.go354 = true
	case r.Code/100 == 2 || r.Code/100 == 3:
		// No octet of the message goes to a server that answers DATA so
		// (trap 9); what it expects next is unknown.
		s.broken = true
		x.content = refused(stage, r)
	default:
		x.content = refused(stage, r)
	}
	if s.broken {
		return x.content
	}
	return nil
}

// takeFinal applies the answer to the content.
func (x *exchange) takeFinal(s *Session, r mta.Reply) *mta.Failure {
	x.final = true
	switch r.Code / 100 {
	case 2:
		x.reply, s.dirty = r, false
	case 3:
		s.broken = true
		x.content = &mta.Failure{Stage: mta.StageFinal, Cause: mta.CauseProtocol, Sent: true, Text: "the message was answered " + r.String()}
	default:
		x.content = refused(mta.StageFinal, r)
	}
	if s.broken {
		return x.content
	}
	return nil
}

// outcome settles every recipient. f, when set, broke the session.
func (x *exchange) outcome(f *mta.Failure) Outcome {
	if f == nil {
		f = x.content
	}
	if x.mail != nil {
		f = x.mail
	}
	if f == nil && x.accepted > 0 && !x.final { // cannot be; but nothing is delivered without its answer
		f = &mta.Failure{Stage: mta.StageData, Cause: mta.CauseProtocol, Text: "the message was never answered"}
	}
	asked := x.verdicts[:x.asked]
	if x.mail != nil || x.asked == 0 && f != nil {
		asked = x.verdicts // refused before any recipient was named
	}
	for i := range asked {
		v := &asked[i]
		switch {
		case v.Failure != nil && f == nil && x.accepted > 0 && !v.Failure.Each && tooMany(v.Failure.Reply):
			*v = Verdict{}
		case v.Failure != nil: // keeps its own reply (trap 6)
		case v.Reply.Code != 0: // LMTP took it, whatever came after
		case f != nil:
			*v = Verdict{Fate: Failed, Failure: f}
		}
	}
	return Outcome{Verdicts: x.verdicts, Reply: x.reply}
}

func (p step) stage() mta.Stage {
	switch p {
	case stepReset:
		return mta.StageReset
	case stepMail:
		return mta.StageMail
	case stepRcpt:
		return mta.StageRcpt
	}
	return mta.StageData
}

// command is the command whose answer was just read, for an observer.
func (x *exchange) command() string {
	switch x.reading {
	case stepReset:
		return "RSET"
	case stepMail:
		return "MAIL FROM:<" + x.t.Sender + ">"
	case stepRcpt:
		return "RCPT TO:<" + x.t.Recipients[x.answered].Address + ">"
	}
	if x.chunked {
		return "BDAT"
	}
	return "DATA"
}
