package smtpclient

import (
	"bytes"
	"io"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Content is the octets of a message: CRLF-clean, not dot-stuffed.
type Content interface {
	io.ReaderAt
	Size() int64
	// Bytes is the whole content when it is in memory, else nil.
	Bytes() []byte
}

// Transaction is one message for some recipients.
type Transaction struct {
	Sender     string // return path without angle brackets; empty for the null path
	Recipients []mta.Recipient
	// Prefix goes out before Content: header fields that are added on the way, each
	// line with its CRLF.
	Prefix     []byte
	Content    Content
	EightBit   bool // declare BODY=8BITMIME where it is offered
	UTF8       bool // SMTPUTF8 is needed (RFC 6531)
	RequireTLS bool // REQUIRETLS is needed (RFC 8689)
	Ret        mta.Ret
	EnvID      string
	// MaxRecipients bounds the RCPTs of this transaction; 0 means no bound
	// but the server's.
	MaxRecipients int
}

// Fate is what became of one recipient in a transaction.
type Fate uint8

// The fates.
const (
	Untried   Fate = iota // goes into the next transaction
	Delivered             // the server took responsibility: see Outcome.Reply
	Failed                // see the Failure
)

// Verdict is the fate of one recipient.
type Verdict struct {
	Fate    Fate
	Failure *mta.Failure // with Failed
	Reply   mta.Reply    // with Delivered over LMTP: the recipient's own
}

// Outcome is what a transaction came to.
type Outcome struct {
	// Verdicts has one entry a recipient, in order. It is valid until the next
	// Send. Unless Broken is set at least one is not Untried.
	Verdicts []Verdict
	Reply    mta.Reply     // the reply that took the message
	Broken   *mta.Failure  // what broke the session, if something did
	Envelope time.Duration // until the last answer before the content's
	Content  time.Duration // from there to the final answer
}

// ReplyTo is the reply that took the message for a recipient that is Delivered.
func (o *Outcome) ReplyTo(i int) mta.Reply {
	if r := o.Verdicts[i].Reply; r.Code != 0 {
		return r
	}
	return o.Reply
}

// Needs states what the server lacks for the transaction, or nil. What is
// known from EHLO costs no round trip.
func (s *Session) Needs(t *Transaction) *mta.Failure {
	lacks := func(e mta.Enhanced, text string) *mta.Failure {
		return &mta.Failure{Stage: mta.StageMail, Cause: mta.CauseNeed, NeedEnhanced: e, Text: text}
	}
	switch {
	case !t.clean():
		return &mta.Failure{Stage: mta.StageMail, Cause: mta.CauseLocal, Text: "an address of the message has a line end in it"}
	case t.UTF8 && !s.caps.SMTPUTF8:
		return lacks(mta.Enhanced{Class: 5, Subject: 6, Detail: 7}, "the message needs SMTPUTF8, which is not offered")
	case t.RequireTLS && !(s.verified && s.caps.RequireTLS):
		return lacks(mta.Enhanced{Class: 5, Subject: 7, Detail: 30}, "the message asks for REQUIRETLS, which is not offered over verified TLS")
	case len(t.Prefix) > 0 && !bytes.HasSuffix(t.Prefix, lineEnd):
		return &mta.Failure{Stage: mta.StageMail, Cause: mta.CauseLocal, Text: "the fields added to the message do not end with a line end"}
	case s.caps.Size > 0 && t.size() > s.caps.Size:
		return lacks(mta.Enhanced{Class: 5, Subject: 3, Detail: 4}, "the message is larger than the limit stated in SIZE")
	}
	return nil
}

// size is how many octets the message has as it goes out.
func (t *Transaction) size() int64 { return int64(len(t.Prefix)) + t.Content.Size() }

var lineEnd = []byte("\r\n")

// clean reports that no address could end a command. The doors see to that;
// a command must not be born here all the same.
func (t *Transaction) clean() bool {
	dirty := strings.ContainsAny(t.Sender, "\r\n\x00")
	for i := range t.Recipients {
		dirty = dirty || strings.ContainsAny(t.Recipients[i].Address, "\r\n\x00")
	}
	return !dirty
}

// mail makes the MAIL command with what the server offers.
func (s *Session) mail(t *Transaction) smtp.Mail {
	m := smtp.Mail{Sender: mailbox(t.Sender), SMTPUTF8: t.UTF8, RequireTLS: t.RequireTLS}
	if s.caps.HasSize {
		m.Size = t.size()
	}
	if t.EightBit && s.caps.EightBitMIME {
		m.Body = smtp.Body8BitMIME
	}
	if s.caps.DSN {
		m.Ret, m.EnvID = t.Ret, t.EnvID
	}
	return m
}

func (s *Session) rcpt(r *mta.Recipient) smtp.Rcpt {
	c := smtp.Rcpt{Recipient: mailbox(r.Address)}
	if s.caps.DSN {
		c.Notify, c.ORcpt = r.Notify, r.ORcpt
	}
	return c
}

// mailbox takes a canonical address apart; it is written as it was.
func mailbox(address string) smtp.Mailbox {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return smtp.Mailbox{Local: address}
	}
	return smtp.Mailbox{Local: address[:i], Domain: address[i+1:]}
}

// tooMany reports whether a reply to RCPT says that the transaction is full,
// whatever the recipient (RFC 5321 section 4.5.3.1.10: 452, and in old servers
// 552). A full mailbox (x.2.2) or disk (4.3.1) is something else.
func tooMany(r mta.Reply) bool {
	bare := r.Enhanced.IsZero()
	full := r.Enhanced.Subject == 5 && r.Enhanced.Detail == 3
	return (r.Code == 452 || r.Code == 552) && bare || r.Code/100 == 4 && full || r.Code == 552 && full
}
