package dsn

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"regexp"
	"strconv"
	"strings"

	"mailout/internal/header"
	"mailout/internal/mta"
)

// What comes back to a return path: delivery status notifications, reports of
// other forms, feedback reports, and answers of machines and people. ReadReturn
// tells which, and what it says of recipients. It believes nothing: whether the
// report may speak of a message at all is for the caller to know.

// Outcome is what a returned message tells.
type Outcome uint8

// The outcomes.
const (
	Nothing   Outcome = iota // no report: somebody's answer, or spam
	Failure                  // mail could not be delivered
	Delay                    // not yet
	Success                  // it was delivered, relayed or expanded
	AutoReply                // the recipient is away, or the like
	Complaint                // a feedback report (RFC 5965)
)

// String gives the outcome's word.
func (o Outcome) String() string {
	return [...]string{"nothing", "failure", "delay", "success", "auto-reply", "complaint"}[o]
}

// Returned is a message that came back, as it was read.
type Returned struct {
	Outcome  Outcome
	Failed   []Refusal      // with Failure: what is said of each recipient
	Reporter string         // who reports, a host name as a rule; may be empty
	Original *header.Header // the header of our message; nil when it did not come along
	Feedback FeedbackFields // with Complaint
}

// Refusal is what a report says of one recipient.
type Refusal struct {
	// Addresses are the names of the recipient: as the reporter had it and, when
	// it is another, as we gave it. Empty: the report names none.
	Addresses []string
	Status    mta.Enhanced // zero: none was given
	Code      int          // of the reply; 0: none was given
	Text      string       // the reply, or a sentence, without line ends
	Remote    string       // the host that gave the reply
}

// FeedbackFields are those of a feedback report (RFC 5965 3).
type FeedbackFields struct {
	Type       string // abuse, fraud, virus, opt-out, not-spam, other; lower case
	MailFrom   string // Original-Mail-From, without angle brackets
	Recipients []string
	Attached   bool // there is no feedback report, but a message is attached
}

// The bounds of ReadReturn.
const (
	maxText    = 32 << 10 // octets of text that are looked at
	maxMarkup  = 4 * maxText
	maxWords   = 4 << 10 // octets of a Subject or From that are looked at
	maxSaid    = 1000    // octets of what is said of a recipient
	maxFailed  = 1000    // recipients of one report
	maxAddress = 320
)

// ReadReturn reads a message that came back. It never fails.
func ReadReturn(content []byte) *Returned {
	w := &walker{parts: maxParts}
	w.entity(content, 0)
	r := &Returned{Original: w.original, Feedback: w.feedback}
	if w.top == nil {
		return r
	}
	r.Reporter = reporter(w.top)
	if w.isFeedback {
		r.Outcome = Complaint
		return r
	}
	if _, report := w.top.Get("TLS-Report-Domain"); report { // of somebody's daily counts (RFC 8460 5.3), whose words mean nothing here
		return r
	}
	r.Feedback.Attached = w.attached
	if n, err := Parse(content); err == nil {
		r.notification(n)
		return r
	}
	r.plain(w)
	return r
}

// notification takes what a delivery status notification says.
func (r *Returned) notification(n *Notification) {
	if n.ReportingMTA.Value != "" {
		r.Reporter = n.ReportingMTA.Value
	}
	for i := range n.Statuses {
		s := &n.Statuses[i]
		switch {
		case s.failed():
			r.Outcome = Failure
			if len(r.Failed) < maxFailed {
				r.Failed = append(r.Failed, s.said())
			}
		case r.Outcome == Failure:
		case s.Action == Delayed || s.Status.Class == 4:
			r.Outcome = Delay
		case r.Outcome == Nothing:
			r.Outcome = Success
		}
	}
}

// failed reports whether a status is a failure; some writers leave Action out.
func (s *Status) failed() bool {
	if s.Action == "" {
		return s.Status.Class == 5
	}
	return s.Action == "failed" || s.Action == "failure"
}

// said puts a status into words.
func (s *Status) said() Refusal {
	f := Refusal{Status: s.Status, Remote: s.Remote.Value, Text: oneLine(s.Diagnostic.Value)}
	for _, a := range []string{s.Final.Value, s.Original.Value} {
		if a = plainAddress(a); a != "" && (len(f.Addresses) == 0 || f.Addresses[0] != a) {
			f.Addresses = append(f.Addresses, a)
		}
	}
	f.code()
	return f
}

// replyStart is a refusal at the beginning of a text, or behind what hosts put
// before one.
var replyStart = regexp.MustCompile(`(?:^|[\s:"'(\[#])([45]\d\d)[ -](?:#?([45]\.\d{1,3}\.\d{1,3})\b)?`)

var statusInText = regexp.MustCompile(`(?:^|[\s(#:\[])([245])\.(\d{1,3})\.(\d{1,3})(?:[\s):\],;]|$)`)

// code finds the codes in the text, where none was given.
func (f *Refusal) code() {
	if m := replyStart.FindStringSubmatch(f.Text); m != nil && f.Code == 0 {
		f.Code, _ = strconv.Atoi(m[1])
		if f.Status.IsZero() {
			f.Status = enhanced(m[2])
		}
	}
	if m := statusInText.FindStringSubmatch(f.Text); m != nil && (f.Status.IsZero() || f.Status.Subject == 0 && f.Status.Detail == 0) {
		f.Status = enhanced(m[1] + "." + m[2] + "." + m[3])
	}
}

// oneLine is a text without line ends and control characters, bounded.
func oneLine(s string) string { return header.Harmless(strings.Join(strings.Fields(s), " "), maxSaid) }

var anAddress = regexp.MustCompile(`[A-Za-z0-9!#$%&'*+/=?^_{|}~.-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z][A-Za-z0-9-]{0,62}`)

// plainAddress takes an address out of what stands around it.
func plainAddress(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxAddress {
		return ""
	}
	if a := anAddress.FindString(s); a != "" {
		return a
	}
	return strings.Trim(s, "<> ")
}

// reporter names who reports, by the From field.
func reporter(h *header.Header) string {
	f, ok := h.Get("From")
	if !ok {
		return ""
	}
	a := anAddress.FindString(head(f.Text(), maxWords))
	return a[strings.LastIndexByte(a, '@')+1:]
}

// walker looks through the parts of a message once.
type walker struct {
	parts      int
	top        *header.Header
	text       strings.Builder // of the first parts of text
	original   *header.Header
	attached   bool
	isFeedback bool
	feedback   FeedbackFields
}

func (w *walker) entity(content []byte, depth int) {
	h, at, err := header.Parse(content, header.Limits{})
	if err != nil {
		return
	}
	if depth == 0 {
		w.top = h
	}
	kind, params := contentType(h)
	body := content[at:]
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		w.multipart(body, params["boundary"], depth)
	case kind == "message/feedback-report":
		w.report(decode(h, body))
	case isOriginal(kind):
		w.attached = w.attached || strings.HasPrefix(kind, "message/")
		if w.original == nil {
			if o, _, err := header.Parse(bytes.TrimLeft(decode(h, body), "\r\n"), header.Limits{}); err == nil && o.Len() > 0 {
				w.original = o
			}
		}
	case strings.HasPrefix(kind, "text/") && w.text.Len() < maxText:
		b := decode(h, body)
		if kind == "text/html" {
			b = b[:min(len(b), maxMarkup)]
			b = tags.ReplaceAll(b, []byte(" "))
		}
		w.text.WriteString(utf8Text(b[:min(len(b), maxText-w.text.Len())], params["charset"]))
		w.text.WriteByte('\n')
	}
}

var tags = regexp.MustCompile(`<[^<>]{0,500}>`)

// utf8Text makes text UTF-8. Reports are UTF-8, or nearly Latin-1.
func utf8Text(b []byte, charset string) string {
	if strings.EqualFold(charset, "iso-8859-1") || strings.EqualFold(charset, "iso-8859-15") || strings.EqualFold(charset, "windows-1252") || !validText(b) {
		out := make([]rune, 0, len(b))
		for _, c := range b {
			out = append(out, rune(c))
		}
		return string(out)
	}
	return string(b)
}

func validText(b []byte) bool { return bytes.Equal(bytes.ToValidUTF8(b, nil), b) }

func (w *walker) multipart(body []byte, boundary string, depth int) {
	if boundary == "" || depth >= maxNesting {
		return
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for w.parts > 0 {
		raw, err := r.NextRawPart()
		if err != nil {
			return
		}
		w.parts--
		content, _ := io.ReadAll(io.LimitReader(raw, maxStatus)) // one that is cut off is read as far as it goes
		w.entity(rejoin(raw.Header, content), depth+1)
	}
}

// report reads the fields of a feedback report.
func (w *walker) report(body []byte) {
	h, _, err := header.Parse(bytes.TrimLeft(body, "\r\n"), header.Limits{})
	if err != nil {
		return
	}
	for f := range h.All() {
		text := f.Text()
		switch strings.ToLower(f.Name()) {
		case "feedback-type":
			w.isFeedback = true
			w.feedback.Type = strings.ToLower(strings.TrimSpace(text))
		case "original-mail-from":
			w.feedback.MailFrom = plainAddress(text)
		case "original-rcpt-to", "removal-recipient":
			if a := plainAddress(text); a != "" && len(w.feedback.Recipients) < maxFailed {
				w.feedback.Recipients = append(w.feedback.Recipients, a)
			}
		}
	}
}

var decoder = mime.WordDecoder{}

// words gives the beginning of a field as people read it: what is searched for
// words costs a microsecond an octet.
func words(h *header.Header, name string, max int) string {
	f, ok := h.Get(name)
	if !ok {
		return ""
	}
	raw := head(f.Text(), max)
	if text, err := decoder.DecodeHeader(raw); err == nil {
		return text
	}
	return raw
}

func head(s string, n int) string { return s[:min(len(s), n)] }
