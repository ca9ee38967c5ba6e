package tlsrpt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/submit"
)

// Stream is the stream of reports by mail: they share with no other mail.
const Stream = "tlsrpt"

// door is where they come from, as Message.Origin says it.
const door = "tlsrpt"

// mail hands a report to intake, as a message to one mailbox.
//
// Its return path is ours and nobody wants to know of its failure (NOTIFY=NEVER):
// a report that cannot be delivered stands in the journal and makes no other
// message, so that none goes in a circle. It says TLS-Required: No, for a report
// about a policy must not be stopped by that policy, and its sessions are then
// not counted (RFC 8460 3: they belong into no report; RFC 8689 3).
func (r *Reports) mail(ctx context.Context, m *made, s *Settings, to string, id mta.ID) attempt {
	if why := r.unsigned(s.From); why != "" {
		return attempt{err: errors.New(why)}
	}
	now := r.now()
	content, err := m.message(s, to, id, now)
	if err != nil {
		return attempt{err: err, final: true}
	}
	req := &submit.Request{
		ID: id, Ours: true, Stream: Stream, Origin: mta.Origin{Door: door, Protocol: "LOCAL"},
		Envelope:   mta.Envelope{Sender: s.From},
		Recipients: []mta.Recipient{{Address: to, Notify: mta.NotifyNever}},
		Expires:    now.Add(GiveUp).Truncate(time.Millisecond), DeclaredSize: int64(len(content)),
	}
	draft, err := r.opts.Intake.Begin(ctx, req)
	if err != nil {
		return submitted(id, err)
	}
	defer draft.Abort()
	if _, err := draft.Write(content); err != nil {
		return submitted(id, err)
	}
	if _, err := draft.Commit(ctx); err != nil {
		return submitted(id, err)
	}
	if req.Stopped(to) {
		return attempt{message: id, err: errors.New("the address is on the suppression list"), final: true}
	}
	return attempt{message: id}
}

// submitted is what intake's answer means.
func submitted(id mta.ID, err error) attempt {
	if errors.Is(err, submit.ErrTaken) { // before a crash, or a note that was not written
		return attempt{message: id}
	}
	var refusal *submit.Refusal
	return attempt{err: err, final: errors.As(err, &refusal) && refusal.Reply.Code >= 500}
}

// unsigned says why mail from an address would go out without a signature; empty:
// it has one. Receivers must ignore reports without (RFC 8460 3).
func (r *Reports) unsigned(from string) string {
	if r.opts.Signs == nil || r.opts.Signs(from) {
		return ""
	}
	return "no DKIM key signs mail from " + from + ", and receivers ignore reports that are not signed (`mailout dkim new`)"
}

// message writes the report as a message (RFC 8460 5.3).
func (m *made) message(s *Settings, to string, id mta.ID, now time.Time) ([]byte, error) {
	boundary := "=_" + id.String()
	var top header.Builder
	top.Add("Date", string(header.AppendDate(nil, now)))
	top.AddMailbox("From", s.Organization, s.From)
	top.Add("To", "<"+to+">")
	top.Add("Subject", "Report Domain: "+m.domain+" Submitter: "+m.submitter+" Report-ID: <"+m.id+">")
	top.Add("Message-ID", "<"+id.String()+"@"+s.Hostname+">")
	top.Add("TLS-Report-Domain", m.domain)
	top.Add("TLS-Report-Submitter", m.submitter)
	top.Add("TLS-Required", "No")
	top.Add("Auto-Submitted", "auto-generated")
	top.Add("MIME-Version", "1.0")
	top.Add("Content-Type", `multipart/report; report-type="tlsrpt"; boundary="`+boundary+`"`)
	var part header.Builder
	part.Add("Content-Type", "application/tlsrpt+gzip")
	part.Add("Content-Transfer-Encoding", "base64")
	part.Add("Content-Disposition", `attachment; filename="`+m.filename()+`"`)
	head, err := top.Bytes()
	if err != nil {
		return nil, err
	}
	partHead, err := part.Bytes()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(head)
	fmt.Fprintf(&b, "\r\nThis is a report in MIME format (RFC 8460).\r\n\r\n--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary)
	b.WriteString(m.words(s))
	fmt.Fprintf(&b, "\r\n--%s\r\n%s\r\n", boundary, partHead)
	writeBase64(&b, m.packed)
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes(), nil
}

// words say to people what the report is.
func (m *made) words(s *Settings) string {
	return fmt.Sprintf("This is a report of how TLS went on %s (UTC) in SMTP sessions\r\n"+
		"from %s with the mail servers of\r\n%s\r\n\r\n"+
		"Sessions that kept to the policy: %d\r\nSessions that failed: %d\r\n\r\n"+
		"The record at %s%s\r\nasks for such reports. Questions: %s\r\n",
		dayName(m.day), m.submitter, m.domain, m.success, m.failure, Label, m.domain, s.Contact)
}

// writeBase64 writes lines of 76 characters (RFC 2045 6.8).
func writeBase64(b *bytes.Buffer, data []byte) {
	const octets = 57 // of a line
	for len(data) > 0 {
		n := min(len(data), octets)
		b.WriteString(base64.StdEncoding.EncodeToString(data[:n]))
		b.WriteString("\r\n")
		data = data[n:]
	}
}
