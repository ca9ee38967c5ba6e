package dsn

import (
	"bytes"
	"io"
	"strings"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Action is what became of a recipient (RFC 3464 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed" // handed to a host that does not report
	Expanded  Action = "expanded"
)

// Bounds on what a report carries.
const (
	// DefaultFull is the size in octets up to which a failure report carries
	// the whole message when RET does not say.
	DefaultFull = 100_000
	// MaxFull is the size up to which it does so for RET=FULL; a larger
	// message is returned as its header.
	MaxFull = 10_000_000
	// MaxHeaders is how many octets of a header are returned; fields beyond
	// are left out.
	MaxHeaders = 128_000
	// maxDiagnostic bounds a reply inside a report.
	maxDiagnostic = 2000
	// maxNamed is how many recipients the text for people lists.
	maxNamed = 50
)

// Recipient is one recipient of the message that is reported.
type Recipient struct {
	Address     string // the final recipient, canonical
	Original    string // ORCPT, "type;address" decoded; empty when none was given
	Action      Action
	Status      mta.Enhanced // zero: 5.0.0, 4.0.0 or 2.0.0 as the action is
	Remote      string       // the host that gave the reply; empty when none did
	Reply       mta.Reply    // Code 0: there was none
	Reason      string       // a sentence for people
	LastAttempt time.Time    // zero: unknown
	RetryUntil  time.Time    // with Delayed: when we give up; zero: unknown
	// Uncertain says that a server took the whole message and its answer was
	// lost: it may have arrived all the same.
	Uncertain bool
}

// Report is what a notification tells.
type Report struct {
	ID         mta.ID    // of the report itself: gives Message-ID and boundary
	Date       time.Time // of the report
	Hostname   string    // ours: Reporting-MTA, From, Message-ID
	Postmaster string    // the operator, named for questions; may be empty
	To         string    // where the report goes
	// Notice says that To is the operator, because the message has no return
	// path, or none that can be used.
	Notice bool

	Sender     string    // the return path of the message reported
	MessageID  string    // its Message-ID with angle brackets; may be empty
	Arrived    time.Time // when it came to us
	EnvelopeID string    // ENVID decoded; empty when none was given
	Ret        mta.Ret
	// HeadersOnly forbids the whole message whatever Ret says (RFC 8689 5 for
	// REQUIRETLS).
	HeadersOnly bool
	FullLimit   int64 // see DefaultFull, which 0 means
	Recipients  []Recipient
}

// Facts are what the writer learned about the report, for its envelope.
type Facts struct {
	EightBit bool // it has octets above 127
	UTF8     bool // its own header has
}

// Write writes the report of a message. The original's content may be nil:
// then the report says that it could not be read. Errors are those of the
// writer and the reader, and *header.UnsafeError for an address that no
// grammar would have let through.
func (r *Report) Write(w io.Writer, original io.ReaderAt, size int64) (Facts, error) {
	att, err := r.attach(original, size)
	if err != nil {
		return Facts{}, err
	}
	global := r.needsGlobal()
	text := r.text(att)
	status, err := r.status(global)
	if err != nil {
		return Facts{}, err
	}
	boundary, err := r.boundary(att, text, status)
	if err != nil {
		return Facts{}, err
	}
	top, err := r.top(boundary)
	if err != nil {
		return Facts{}, err
	}
	var b bytes.Buffer
	b.Write(top)
	b.WriteString("\r\nThis is a report in MIME format (RFC 3464).\r\n")
	writePart(&b, boundary, text)
	writePart(&b, boundary, status)
	if att.kind != attachNone {
		b.WriteString("\r\n--" + boundary + "\r\n")
		b.Write(att.head)
		b.WriteString("\r\n")
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return Facts{}, err
	}
	if err := att.copyTo(w); err != nil {
		return Facts{}, err
	}
	_, err = io.WriteString(w, "\r\n--"+boundary+"--\r\n")
	eight := header.EightBit(b.Bytes()) || att.eightBit
	return Facts{EightBit: eight, UTF8: header.EightBit(top)}, err
}

// part is one body part: its header and its content.
type part struct{ head, body []byte }

func writePart(b *bytes.Buffer, boundary string, p part) {
	b.WriteString("\r\n--" + boundary + "\r\n")
	b.Write(p.head)
	b.WriteString("\r\n")
	b.Write(p.body)
}

// top is the report's own header.
func (r *Report) top(boundary string) ([]byte, error) {
	var h header.Builder
	h.Add("Date", string(header.AppendDate(nil, r.Date)))
	h.AddMailbox("From", "Mail Delivery System", "MAILER-DAEMON@"+r.Hostname)
	h.Add("To", "<"+r.To+">")
	h.AddText("Subject", r.subject())
	h.Add("Message-ID", "<"+r.ID.String()+"@"+r.Hostname+">")
	if id := usableMessageID(r.MessageID); id != "" {
		h.Add("In-Reply-To", id)
		h.Add("References", id)
	}
	h.Add("Auto-Submitted", r.autoSubmitted())
	h.Add("MIME-Version", "1.0")
	h.Add("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	return h.Bytes()
}

// autoSubmitted is the value of RFC 3834 5: a report answers a message; a
// notice to the operator answers nobody.
func (r *Report) autoSubmitted() string {
	if r.Notice {
		return "auto-generated"
	}
	return "auto-replied"
}

// usableMessageID gives a Message-ID that may be referred to: one pair of
// angle brackets, printable ASCII inside, no white space.
func usableMessageID(id string) string {
	if len(id) < 3 || len(id) > 900 || id[0] != '<' || strings.IndexByte(id, '>') != len(id)-1 {
		return ""
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return ""
		}
	}
	return id
}

// needsGlobal reports whether an address is not ASCII, so that the status part
// is the one of RFC 6533.
func (r *Report) needsGlobal() bool {
	for i := range r.Recipients {
		if !isASCII(r.Recipients[i].Address) || !isASCII(r.Recipients[i].Original) {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > 127 {
			return false
		}
	}
	return true
}

// status is the machine's part (RFC 3464 2; RFC 6533 4 when global).
func (r *Report) status(global bool) (part, error) {
	head := "Content-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n"
	if global {
		head = "Content-Description: Delivery report\r\nContent-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"
	}
	var b header.Builder
	b.Add("Reporting-MTA", "dns; "+r.Hostname)
	if r.EnvelopeID != "" {
		// The value as it was before xtext (RFC 3461 4.4).
		b.Add("Original-Envelope-Id", header.Harmless(r.EnvelopeID, 100))
	}
	if !r.Arrived.IsZero() {
		b.Add("Arrival-Date", string(header.AppendDate(nil, r.Arrived)))
	}
	out, err := b.Bytes()
	for i := range r.Recipients {
		if err != nil {
			break
		}
		var group []byte
		group, err = r.Recipients[i].fields(global)
		out = append(append(out, '\r', '\n'), group...)
	}
	return part{[]byte(head), out}, err
}

// fields is the group of one recipient (RFC 3464 2.3).
func (rc *Recipient) fields(global bool) ([]byte, error) {
	var b header.Builder
	if rc.Original != "" {
		b.Add("Original-Recipient", originalRecipient(rc.Original, global))
	}
	if isASCII(rc.Address) {
		b.Add("Final-Recipient", "rfc822; "+rc.Address)
	} else {
		b.Add("Final-Recipient", "utf-8; "+string(smtp.AppendUTF8Address(nil, rc.Address, global)))
	}
	b.Add("Action", string(rc.Action))
	b.Add("Status", rc.status().String())
	if rc.Remote != "" {
		b.Add("Remote-MTA", "dns; "+header.Harmless(rc.Remote, 255))
	}
	if d := rc.diagnostic(); d != "" {
		b.Add("Diagnostic-Code", d)
	}
	if !rc.LastAttempt.IsZero() {
		b.Add("Last-Attempt-Date", string(header.AppendDate(nil, rc.LastAttempt)))
	}
	if rc.Action == Delayed && !rc.RetryUntil.IsZero() {
		b.Add("Will-Retry-Until", string(header.AppendDate(nil, rc.RetryUntil)))
	}
	return b.Bytes()
}

func originalRecipient(orcpt string, global bool) string {
	kind, address, _ := strings.Cut(orcpt, ";")
	kind = header.Harmless(kind, 100)
	if strings.EqualFold(kind, "utf-8") {
		return kind + "; " + string(smtp.AppendUTF8Address(nil, address, global))
	}
	if !isASCII(address) { // no other type may be (RFC 3461 4.2)
		address = header.Harmless(address, 500)
	}
	return kind + "; " + header.Harmless(address, 500)
}

// status is the status to write: one whose class fits the action.
func (rc *Recipient) status() mta.Enhanced {
	if !rc.Status.IsZero() {
		return rc.Status
	}
	switch rc.Action {
	case Failed:
		return mta.Enhanced{Class: 5}
	case Delayed:
		return mta.Enhanced{Class: 4}
	}
	return mta.Enhanced{Class: 2}
}

// diagnostic is the reply as it was given, made ASCII, or our own words where
// no server said anything (RFC 3464 2.3.6).
func (rc *Recipient) diagnostic() string {
	kind, text := "smtp; ", rc.Reply.String()
	if rc.Reply.Code == 0 {
		kind, text = "x-mailout; ", rc.Reason
	}
	if text == "" {
		return ""
	}
	return kind + spaced(header.Harmless(text, maxDiagnostic))
}

// spaced puts a space into words too long for a line, so that the field can be
// folded.
func spaced(s string) string {
	const limit = 200
	var b strings.Builder
	run := 0
	for i := range len(s) {
		if s[i] == ' ' {
			run = 0
		} else if run++; run > limit {
			b.WriteByte(' ')
			run = 1
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
