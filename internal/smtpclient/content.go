package smtpclient

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"mailout/internal/mta"
)

// blocks are for content that is not in memory.
var blocks = sync.Pool{New: func() any { return new([block]byte) }}

// appendChunk adds "BDAT n LAST" and the content (RFC 3030 section 2).
func (x *exchange) appendChunk(s *Session, b *buffer) *mta.Failure {
	b.b = append(b.b, "BDAT "...)
	b.b = strconv.AppendInt(b.b, x.t.size(), 10)
	b.b = append(b.b, " LAST\r\n"...)
	if err := eachBlock(x.t, func(p []byte) error {
		b.b = append(b.b, p...)
		return nil
	}); err != nil {
		s.out.free() // nothing of this flight has left
		s.out = nil
		return s.unreadable(err)
	}
	return nil
}

// body sends the content after 354 and reads the final answer.
func (x *exchange) body(s *Session) *mta.Failure {
	if !x.go354 {
		return nil
	}
	if x.accepted == 0 || x.mail != nil {
		return x.lonelyDot(s)
	}
	if f := x.data(s); f != nil {
		return f
	}
	if s.opt.LMTP {
		return x.finals(s)
	}
	r, err := s.reply(s.opt.cap(waitFinal))
	if err != nil {
		if s.mute != nil {
			return s.failure(mta.StageData, err)
		}
		f := s.failure(mta.StageFinal, err)
		f.Sent = true
		return f
	}
	s.observe(mta.StageFinal, "", r)
	if s.mute != nil && r.Code/100 < 4 {
		// A yes to a message of which not everything could be written.
		return s.failure(mta.StageData, s.mute)
	}
	return x.takeFinal(s, r)
}

// lonelyDot ends the data of a transaction that has no recipient, which a
// server may have allowed to begin (RFC 2920 section 3.1).
func (x *exchange) lonelyDot(s *Session) *mta.Failure {
	if s.opt.LMTP {
		s.broken = true // no recipient, no answer (RFC 2033 4.2)
		return nil
	}
	s.add(".\r\n")
	wait := s.opt.cap(waitCommand)
	_ = s.flush(wait)
	if _, err := s.reply(wait); err != nil {
		s.broken = true // nobody's mail depends on it
	}
	return nil
}

// data writes the dot-stuffed content with its end. A failure of writing is
// not reported here: the server may have said why it stopped reading, and the
// reader of the final answer finds out. What is reported is that the content
// cannot be read or that we are stopping.
func (x *exchange) data(s *Session) *mta.Failure {
	wait := s.opt.cap(waitBlock)
	s.dots.Reset((*flight)(&s.wire))
	err := eachBlock(x.t, func(p []byte) error {
		if _, err := s.dots.Write(p); err != nil || s.out == nil || len(s.out.b) < block {
			return err
		}
		return s.flush(wait)
	})
	switch {
	case err != nil && s.mute == nil:
		return s.unreadable(err)
	case err == nil:
		_ = s.dots.Close()
		err = s.flush(wait)
	}
	if err != nil && s.aborted.Load() {
		return s.failure(mta.StageData, err)
	}
	return nil
}

// unreadable ends the session, since a message cannot be taken back after its
// beginning was sent.
func (s *Session) unreadable(err error) *mta.Failure {
	s.broken = true
	return &mta.Failure{Stage: mta.StageData, Cause: mta.CauseLocal, Text: "the stored message cannot be read: " + err.Error(), Err: err}
}

// flight is the wire as a writer into its flight.
type flight wire

// Write implements io.Writer for smtp.DotWriter.
func (f *flight) Write(p []byte) (int, error) {
	b := (*wire)(f).buf()
	b.b = append(b.b, p...)
	return len(p), nil
}

var errShort = errors.New("it ends early")

// eachBlock calls f for the prefix and the content in order, in pieces of at most
// block octets.
func eachBlock(t *Transaction, f func([]byte) error) error {
	if len(t.Prefix) > 0 {
		if err := eachSlice(t.Prefix, f); err != nil {
			return err
		}
	}
	c := t.Content
	if all := c.Bytes(); all != nil {
		return eachSlice(all, f)
	}
	p := blocks.Get().(*[block]byte)
	defer blocks.Put(p)
	for at, size := int64(0), c.Size(); at < size; {
		want := p[:min(block, size-at)]
		n, err := c.ReadAt(want, at)
		if n < len(want) {
			if err == nil || errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: %d of %d octets", errShort, at+int64(n), size)
			}
			return err
		}
		if err := f(want); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func eachSlice(all []byte, f func([]byte) error) error {
	for len(all) > block {
		if err := f(all[:block]); err != nil {
			return err
		}
		all = all[block:]
	}
	return f(all)
}
