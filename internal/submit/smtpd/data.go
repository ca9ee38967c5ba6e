package smtpd

import (
	"strconv"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// sink takes the content of one message. Whatever goes wrong, it goes on
// taking octets, so that the session stays in step with the peer; the first
// error is the message's fate.
type sink struct {
	draft submit.Draft // nil once it has ended
	size  int64
	limit int64
	err   error
}

// errTooLarge is the refusal of content beyond the limit (RFC 1870 6.3).
var errTooLarge = &submit.Refusal{
	Reply: mta.Reply{Code: 552, Enhanced: mta.Enhanced{Class: 5, Subject: 3, Detail: 4}, Text: "Message larger than the limit"},
	Field: "content",
}

// Write implements io.Writer and never fails.
func (k *sink) Write(p []byte) (int, error) {
	if k.err != nil {
		return len(p), nil
	}
	if k.size += int64(len(p)); k.size > k.limit {
		k.fail(errTooLarge)
	} else if _, err := k.draft.Write(p); err != nil {
		k.fail(err)
	}
	return len(p), nil
}

func (k *sink) fail(err error) {
	if k.err == nil {
		k.err = err
	}
	k.abort()
}

func (k *sink) abort() {
	if k.draft != nil {
		k.draft.Abort()
		k.draft = nil
	}
}

// openSink begins a message's content. A refusal of intake is the sink's
// error. It fails with errStopping when the server is.
func (s *session) openSink() (*sink, error) {
	if !s.setBusy() {
		return nil, errStopping
	}
	k := &sink{limit: s.set.Limits.MessageSize}
	s.tx.sink = k // whatever ends the transaction now ends the draft and the business
	if s.user != nil {
		if wait := s.user.Spend(time.Now()); wait > 0 {
			k.err = overRate(s.user, wait)
			return k, nil
		}
	}
	draft, err := s.server.opts.Acceptor.Begin(s.server.base, s.tx.request)
	if err != nil {
		k.err = err
	} else {
		k.draft = draft
	}
	return k, nil
}

// noRecipients answers DATA or BDAT without a transaction that has recipients;
// it reports false when there is one.
func (s *session) noRecipients() (string, bool) {
	switch {
	case s.tx.request == nil:
		return replyNoMail, true
	case len(s.tx.request.Recipients) == 0 && s.tx.refused > 0:
		return replyNoneValid, true
	case len(s.tx.request.Recipients) == 0:
		return replyNoRecipient, true
	}
	return "", false
}

// data obeys DATA (RFC 5321 4.1.1.4).
func (s *session) data(arg []byte) error {
	if s.tx.sink != nil { // RFC 3030 2: DATA and BDAT do not mix
		return s.fault(replyInChunks)
	}
	if len(arg) > 0 {
		return s.fault(replyDataArgument)
	}
	if reply, none := s.noRecipients(); none {
		return s.fault(reply)
	}
	k, err := s.openSink()
	if err != nil {
		return err
	}
	if k.err != nil {
		s.finish(k)
		return nil
	}
	s.out = append(s.out, replyGoAhead...)
	if err := s.receive(k); err != nil {
		return err
	}
	s.finish(k)
	return nil
}

// receive reads content up to CRLF "." CRLF.
func (s *session) receive(k *sink) error {
	scan := smtp.DotScanner{Repair: s.set.LineEnds == submit.RepairBare}
	s.in.grow()
	for {
		used, done, _ := scan.Scan(s.in.buffered(), k)
		s.in.consume(used)
		if done {
			return nil
		}
		if err := s.fill(s.set.Limits.DataTime); err != nil {
			return err
		}
	}
}

// finish commits the content and answers; the transaction has ended. The ID is
// given only when Commit gave it: the message is on stable storage.
func (s *session) finish(k *sink) {
	defer s.reset()
	if k.err != nil {
		s.refuse(k.err)
		return
	}
	id, err := k.draft.Commit(s.server.base)
	k.draft = nil
	if err != nil {
		s.refuse(err)
		return
	}
	c := &s.server.counters
	c.messages.Add(1)
	c.recipients.Add(int64(len(s.tx.request.Recipients)))
	c.octets.Add(k.size)
	s.errors, s.commands = 0, 0
	s.out = append(s.out, replyQueued...)
	s.out = append(s.out, id.String()...)
	s.out = append(s.out, "\r\n"...)
}

// bdat obeys BDAT (RFC 3030 2). The chunk's octets follow at once and are
// always read, also when the command is refused.
func (s *session) bdat(arg string) error {
	size, last, err := smtp.ParseBdat(arg)
	if err != nil {
		if err := s.syntax(err); err != nil {
			return err
		}
		if arg != "" && '0' <= arg[0] && arg[0] <= '9' {
			// Octets of unknown number follow; reading them as commands would
			// let content command us.
			return errLimit
		}
		return nil
	}
	k := s.tx.sink
	if k == nil {
		if reply, none := s.noRecipients(); none {
			if err := s.chunk(&sink{err: errTooLarge}, size); err != nil {
				return err
			}
			return s.fault(reply)
		}
		if k, err = s.openSink(); err != nil {
			return err
		}
	}
	if k.err == nil && size > k.limit-k.size {
		k.fail(errTooLarge)
	}
	if err := s.chunk(k, size); err != nil {
		return err
	}
	s.endChunk(k, size, last)
	return nil
}

// chunk reads size octets of content.
func (s *session) chunk(k *sink, size int64) error {
	if size > int64(len(s.in.buffered())) {
		s.in.grow()
	}
	for size > 0 {
		b := s.in.buffered()
		if len(b) == 0 {
			if err := s.fill(s.set.Limits.DataTime); err != nil {
				return err
			}
			continue
		}
		b = b[:min(int64(len(b)), size)]
		k.Write(b)
		s.in.consume(len(b))
		size -= int64(len(b))
	}
	return nil
}

// endChunk answers a chunk. After a refusal the further chunks of the message,
// which the client may have sent already, get the same answer up to the last
// one or RSET.
func (s *session) endChunk(k *sink, size int64, last bool) {
	switch {
	case last:
		s.finish(k)
	case k.err != nil:
		s.refuse(k.err)
	default:
		s.out = append(s.out, "250 2.0.0 "...)
		s.out = strconv.AppendInt(s.out, size, 10)
		s.out = append(s.out, " octets received\r\n"...)
	}
}
