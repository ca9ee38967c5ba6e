package dsn

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// kind is what the report is about as a whole: its most serious action.
func (r *Report) kind() Action {
	kind := Delivered
	for i := range r.Recipients {
		switch a := r.Recipients[i].Action; {
		case a == Failed:
			return Failed
		case a == Delayed:
			kind = Delayed
		case a == Relayed && kind == Delivered:
			kind = Relayed
		}
	}
	return kind
}

func (r *Report) subject() string {
	switch kind := r.kind(); {
	case r.Notice:
		return "A message could not be delivered, and its sender cannot be told"
	case kind == Failed:
		return "Your message could not be delivered"
	case kind == Delayed:
		return "Your message is delayed"
	case kind == Relayed:
		return "Your message was passed on"
	}
	return "Your message was delivered"
}

// text is the part for people: what happened, who said what, what to do.
func (r *Report) text(a *attachment) part {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at %s.\n\n", r.Hostname)
	b.WriteString(r.opening())
	for i := range r.Recipients {
		if i == maxNamed {
			fmt.Fprintf(&b, "\nand %d more; the next part of this report names them all.\n", len(r.Recipients)-i)
			break
		}
		r.Recipients[i].describe(&b)
	}
	r.describeMessage(&b, a)
	b.WriteString(r.closing(a))
	return textPart(b.String())
}

func (r *Report) opening() string {
	n := "one address"
	if len(r.Recipients) > 1 {
		n = fmt.Sprintf("%d addresses", len(r.Recipients))
	}
	switch kind := r.kind(); {
	case r.Notice && r.Sender == "":
		return "A message without a return path could not be delivered to " + n + ".\nNobody else is told: this notice is for you, the postmaster.\n"
	case r.Notice:
		return "A message could not be delivered to " + n + ", and its return path\n<" + smtp.Harmless(r.Sender) + "> cannot be used.\nNobody else is told: this notice is for you, the postmaster.\n"
	case kind == Failed:
		return "Your message could not be delivered to " + n + ".\nWe are not trying any more.\n"
	case kind == Delayed:
		return "Your message has not reached " + n + " yet. We keep trying:\nthere is no need to send it again.\n"
	case kind == Relayed:
		return "Your message was passed on for " + n + ", to a mail server that\ndoes not confirm delivery. You will hear of it only if that server reports.\n"
	}
	return "Your message was delivered to " + n + ".\n"
}

// describe writes one recipient.
func (rc *Recipient) describe(b *strings.Builder) {
	fmt.Fprintf(b, "\n  %s\n", smtp.Harmless(rc.Address))
	if rc.Original != "" {
		if _, address, _ := strings.Cut(rc.Original, ";"); address != rc.Address {
			fmt.Fprintf(b, "    (sent to %s)\n", smtp.Harmless(address))
		}
	}
	reason := smtp.Harmless(strings.ReplaceAll(rc.Reason, "\n", " "))
	if rc.Action == Delivered || rc.Action == Relayed {
		reason = ""
	}
	reply := smtp.Harmless(rc.Reply.String())
	switch {
	case rc.Reply.Code == 0 || strings.Contains(reason, reply): // the reason quotes it
	case rc.Remote != "":
		wrap(b, "    ", smtp.Harmless(rc.Remote)+" said: "+clip(reply))
	default:
		wrap(b, "    ", "The mail server said: "+clip(reply))
	}
	if reason != "" {
		wrap(b, "    ", clip(reason))
	}
	if rc.Action == Delayed && !rc.RetryUntil.IsZero() {
		wrap(b, "    ", "We give up on "+forPeople(rc.RetryUntil)+".")
	}
	switch {
	case rc.Action == Failed && rc.Uncertain:
		wrap(b, "    ", "A server took the whole message but its answer was lost: the message may have arrived. Please ask the recipient before you send it again.")
	case rc.Action == Failed && rc.Reply.Code == 0 && rc.Remote == "" && rc.status().Subject == 7:
		wrap(b, "    ", "No other server was asked. Please show this report to your postmaster if the message should have gone out.")
	case rc.Action == Failed:
		wrap(b, "    ", advice(rc.status()))
	}
}

func clip(s string) string {
	if len(s) > maxDiagnostic {
		return strings.ToValidUTF8(s[:maxDiagnostic], "") + " ..."
	}
	return s
}

func forPeople(t time.Time) string { return t.UTC().Format("Monday, 2 January 2006, 15:04 UTC") }

// advices tell what the reader can do, by status (RFC 3463 3). The first row
// that fits is taken; a zero detail fits every one of its subject.
var advices = []struct {
	subject, detail uint16
	text            string
}{
	{1, 1, "Please check the part of the address before the @ for a typing mistake: the receiving server does not know this mailbox."},
	{1, 2, "Please check the part of the address after the @ for a typing mistake: there is no such mail domain."},
	{1, 10, "This domain says of itself that it takes no mail. Please use another address."},
	{1, 6, "The mailbox has moved. Please ask the recipient for the new address."},
	{1, 8, "The receiving server did not like the sender's address. Please check it, and ask your postmaster."},
	{1, 7, "The receiving server did not like the sender's address. Please check it, and ask your postmaster."},
	{1, 0, "Please check the address."},
	{2, 2, "The mailbox is full. Please tell the recipient in another way, and try again later."},
	{2, 3, "The message is larger than the mailbox may receive. Please send it in smaller parts, or send a link."},
	{2, 1, "The mailbox is switched off. Please reach the recipient in another way."},
	{2, 0, "There is trouble with the recipient's mailbox. Please reach the recipient in another way."},
	{3, 4, "The message is too large for the receiving server. Please send it in smaller parts, or send a link."},
	{3, 0, "The receiving server cannot take this message. Please ask its postmaster."},
	{4, 7, "No server would take the message in all this time. Please try again later, or reach the recipient in another way."},
	{4, 6, "The mail servers of this domain send its mail in a circle. Its postmaster has to mend that."},
	{4, 0, "The receiving servers cannot be reached as they should. Please try again later."},
	{6, 7, "The address, or the message's header, needs SMTPUTF8, which the receiving server lacks. Please use an address in plain letters."},
	{6, 0, "The receiving server cannot take the form of this message. Please ask your postmaster."},
	{7, 0, "The receiving server refuses this message by its own rules. If it should be taken, please show this report to the recipient's postmaster, or to yours."},
}

func advice(e mta.Enhanced) string {
	for _, a := range advices {
		if a.subject == e.Subject && (a.detail == e.Detail || a.detail == 0) {
			return a.text
		}
	}
	return "Please show this report to your postmaster if you cannot tell why."
}

// describeMessage names the message, so that its sender knows which it was.
func (r *Report) describeMessage(b *strings.Builder, a *attachment) {
	b.WriteString("\nThe message:\n")
	if r.Notice {
		fmt.Fprintf(b, "  From:       <%s>\n", smtp.Harmless(r.Sender))
	}
	if a.original != nil {
		if f, ok := a.original.Get("Subject"); ok {
			fmt.Fprintf(b, "  Subject:    %s\n", subjectForPeople(f.Text()))
		}
	}
	if !r.Arrived.IsZero() {
		fmt.Fprintf(b, "  Arrived:    %s\n", forPeople(r.Arrived))
	}
	if r.MessageID != "" {
		fmt.Fprintf(b, "  Message-ID: %s\n", header.Harmless(r.MessageID, 300))
	}
}

// subjectForPeople decodes encoded words and bounds the length.
func subjectForPeople(s string) string {
	const limit = 200 // characters
	if d, err := new(mime.WordDecoder).DecodeHeader(s); err == nil {
		s = d
	}
	runes := []rune(smtp.Harmless(s))
	if len(runes) > limit {
		return string(runes[:limit]) + " ..."
	}
	return string(runes)
}

func (r *Report) closing(a *attachment) string {
	var s string
	switch {
	case a.kind == attachFull:
		s = "\nThe message itself is attached.\n"
	case a.kind == attachHeaders && a.cut:
		s = "\nThe beginning of its header is attached.\n"
	case a.kind == attachHeaders:
		s = "\nIts header is attached.\n"
	default:
		s = "\nThe message itself could not be read back and is not attached.\n"
	}
	if r.Postmaster != "" && !r.Notice {
		s += "Questions about this report: " + smtp.Harmless(r.Postmaster) + "\n"
	}
	return s
}

// wrap writes text in lines of at most 72 characters where it has spaces.
func wrap(b *strings.Builder, indent, text string) {
	const width = 72
	col := 0
	for word := range strings.FieldsSeq(text) {
		n := len([]rune(word))
		switch {
		case col == 0:
			b.WriteString(indent)
			col = len(indent)
		case col+1+n > width:
			b.WriteString("\n" + indent)
			col = len(indent)
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += n
	}
	b.WriteByte('\n')
}

// textPart makes the part: ASCII as it is, else quoted-printable, so that it
// passes every server. Lines longer than RFC 5322 allows are encoded too.
func textPart(s string) part {
	long := false
	for line := range strings.SplitSeq(s, "\n") {
		long = long || len(line) > header.MaxLine
	}
	s = strings.ReplaceAll(s, "\n", "\r\n")
	if isASCII(s) && !long {
		return part{[]byte("Content-Type: text/plain; charset=us-ascii\r\n"), []byte(s)}
	}
	var b bytes.Buffer
	q := quotedprintable.NewWriter(&b)
	// A bytes.Buffer takes everything.
	_, _ = q.Write([]byte(s))
	_ = q.Close()
	return part{[]byte("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"), b.Bytes()}
}
